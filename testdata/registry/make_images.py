"""Writes one small image of every manifest kind into an OCI layout, the same bytes every time.

The images are the tests' oracle, so nothing here comes from imgtools: the formats are written out
by hand from the specifications. `--check` compares what is made with digests.json, `--update`
rewrites that file.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import zlib
from pathlib import Path
from typing import Any

from layers import ZSTD_LAYER, base_layer, gzipped, tar_layer
from layout import OCI_INDEX, Json, Layout, compact, descriptor, digest_of
from schema1 import EMPTY_GZIP_LAYER, signed_schema1

HERE = Path(__file__).parent
CREATED = "2024-02-29T12:00:00Z"

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_EMPTY = "application/vnd.oci.empty.v1+json"
OCI_TAR = "application/vnd.oci.image.layer.v1.tar"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_SCHEMA1 = "application/vnd.docker.distribution.manifest.v1+prettyjws"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_GZIP = "application/vnd.docker.image.rootfs.diff.tar.gzip"
DOCKER_FOREIGN = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"


def config_of(platform: Json, tars: list[bytes], label: str) -> Json:
    """An image configuration for layers that unpack to `tars`."""
    return {
        "created": CREATED,
        "author": "imgtools test data",
        **platform,
        "config": {
            "User": "1000:1000",
            "ExposedPorts": {"8080/tcp": {}},
            "Env": ["PATH=/usr/bin", "GREETING=hello wörld"],
            "Entrypoint": ["/usr/bin/hello"],
            "Cmd": ["--quiet"],
            "WorkingDir": "/tmp",
            "Labels": {"flavour": label, "org.example.empty": ""},
        },
        "rootfs": {"type": "layers", "diff_ids": [digest_of(tar) for tar in tars]},
        "history": [
            *({"created": CREATED, "created_by": f"layer {i}"} for i in range(len(tars))),
            {"created": CREATED, "created_by": "CMD", "empty_layer": True},
        ],
    }


AMD64 = {"architecture": "amd64", "os": "linux"}


def oci_manifest(config: Json, layers: list[Json], **extra: Any) -> Json:
    """An OCI image manifest."""
    head = {"schemaVersion": 2, "mediaType": OCI_MANIFEST}
    return {**head, "config": config, "layers": layers, **extra}


def oci_image(layout: Layout, flavour: str, platform: Json = AMD64, **extra: Any) -> Json:
    """The usual OCI image: a base layer shared by all, one of its own, both gzip."""
    tars = [base_layer(), tar_layer(flavour)]
    config = layout.blob(OCI_CONFIG, compact(config_of(platform, tars, flavour)))
    layers = [layout.blob(OCI_TAR + "+gzip", gzipped(tar)) for tar in tars]
    return layout.manifest(oci_manifest(config, layers, **extra), OCI_MANIFEST)


def docker_image(layout: Layout, flavour: str, platform: Json = AMD64) -> Json:
    """The same as Docker's version 2, schema 2."""
    tars = [base_layer(), tar_layer(flavour)]
    layers = [layout.blob(DOCKER_GZIP, gzipped(tar)) for tar in tars]
    return docker_manifest(layout, config_of(platform, tars, flavour), layers)


def docker_manifest(layout: Layout, config: Json, layers: list[Json]) -> Json:
    """A schema 2 manifest in Docker's own three-space indentation."""
    value = {
        "schemaVersion": 2,
        "mediaType": DOCKER_MANIFEST,
        "config": layout.blob(DOCKER_CONFIG, compact(config)),
        "layers": layers,
    }
    return layout.blob(DOCKER_MANIFEST, json.dumps(value, indent=3).encode())


def single_images(layout: Layout) -> None:
    """One platform, and the ways a layer can be stored."""
    layout.tag("oci", oci_image(layout, "oci"))
    layout.tag("docker", docker_image(layout, "docker"))
    for name, suffix, pack in (
        ("oci-zstd", "+zstd", lambda _tar: ZSTD_LAYER),
        ("oci-uncompressed", "", lambda tar: tar),
    ):
        tar = tar_layer(name.removeprefix("oci-"))
        config = layout.blob(OCI_CONFIG, compact(config_of(AMD64, [tar], name)))
        layers = [layout.blob(OCI_TAR + suffix, pack(tar))]
        layout.tag(name, layout.manifest(oci_manifest(config, layers), OCI_MANIFEST))


def odd_layers(layout: Layout) -> None:
    """Repeated, foreign, empty and no layers at all."""
    tars = [base_layer(), tar_layer("repeated"), base_layer()]
    layers = [layout.blob(OCI_TAR + "+gzip", gzipped(tar)) for tar in tars]
    config = layout.blob(OCI_CONFIG, compact(config_of(AMD64, tars, "repeated")))
    layout.tag("repeated", layout.manifest(oci_manifest(config, layers), OCI_MANIFEST))

    foreign, own = tar_layer("somebody else's"), tar_layer("foreign")
    elsewhere = descriptor(DOCKER_FOREIGN, gzipped(foreign))
    elsewhere["urls"] = [f"https://layers.example.invalid/{elsewhere['digest']}"]
    windows = {"architecture": "amd64", "os": "windows", "os.version": "10.0.20348.2322"}
    layers = [elsewhere, layout.blob(DOCKER_GZIP, gzipped(own))]
    layout.tag(
        "foreign", docker_manifest(layout, config_of(windows, [foreign, own], "foreign"), layers)
    )

    tars = [base_layer(), zlib.decompress(EMPTY_GZIP_LAYER, 31)]
    layers = [
        layout.blob(DOCKER_GZIP, gzipped(tars[0])),
        layout.blob(DOCKER_GZIP, EMPTY_GZIP_LAYER),
    ]
    layout.tag("empty-layer", docker_manifest(layout, config_of(AMD64, tars, "empty"), layers))

    config = layout.blob(OCI_CONFIG, compact(config_of(AMD64, [], "zero layers")))
    layout.tag("zero-layers", layout.manifest(oci_manifest(config, []), OCI_MANIFEST))


def platform_entry(platform: Json, image: Json, **extra: Any) -> Json:
    """An entry of an index."""
    return {**image, "platform": platform, **extra}


def attestation(layout: Layout, about: Json) -> Json:
    """A provenance statement the way BuildKit hangs it into an index."""
    statement = compact(
        {
            "_type": "https://in-toto.io/Statement/v0.1",
            "predicateType": "https://slsa.dev/provenance/v0.2",
            "subject": [{"name": "test", "digest": {"sha256": about["digest"][7:]}}],
            "predicate": {"builder": {"id": "imgtools test data"}},
        }
    )
    kind = {"in-toto.io/predicate-type": "https://slsa.dev/provenance/v0.2"}
    layer = layout.blob("application/vnd.in-toto+json", statement, annotations=kind)
    unknown = {"architecture": "unknown", "os": "unknown"}
    rootfs = {"type": "layers", "diff_ids": [layer["digest"]]}
    config = layout.blob(OCI_CONFIG, compact({**unknown, "config": {}, "rootfs": rootfs}))
    manifest = layout.manifest(oci_manifest(config, [layer]), OCI_MANIFEST)
    reference = {
        "vnd.docker.reference.digest": about["digest"],
        "vnd.docker.reference.type": "attestation-manifest",
    }
    return platform_entry(unknown, manifest, annotations=reference)


def indexes(layout: Layout) -> None:
    """A manifest list, an index with arm variants and an attestation, an index of an index."""
    entries = []
    for architecture, variant in (("amd64", ""), ("arm64", "v8")):
        platform = {"architecture": architecture, "os": "linux"}
        platform |= {"variant": variant} if variant else {}
        image = docker_image(layout, f"docker {architecture}", platform)
        entries.append(platform_entry(platform, image))
    value = {"schemaVersion": 2, "mediaType": DOCKER_LIST, "manifests": entries}
    layout.tag("docker-list", layout.blob(DOCKER_LIST, json.dumps(value, indent=3).encode()))

    entries = []
    for architecture, variant in (("amd64", ""), ("arm", "v6"), ("arm", "v7"), ("arm64", "v8")):
        platform = {"architecture": architecture, "os": "linux"}
        platform |= {"variant": variant} if variant else {}
        image = oci_image(layout, f"index {architecture} {variant}".rstrip(), platform)
        entries.append(platform_entry(platform, image))
    entries.append(attestation(layout, entries[0]))
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}
    inner = layout.tag("index", layout.manifest(index, OCI_INDEX))

    outer = {
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [inner, platform_entry(AMD64, oci_image(layout, "beside the inner index"))],
        "annotations": {"org.example.depth": "2"},
    }
    layout.tag("nested-index", layout.manifest(outer, OCI_INDEX))


def artifacts(layout: Layout) -> None:
    """An artifact, things that refer to the image `oci`, and an annotated image."""
    empty = layout.blob(OCI_EMPTY, b"{}", data="e30=")
    title = {"org.opencontainers.image.title": "hello.txt"}
    layer = layout.blob("text/plain", b"hello, artifact\n", annotations=title)
    kind = "application/vnd.example.greeting.v1"
    value = oci_manifest(empty, [layer], artifactType=kind)
    layout.tag("artifact", layout.manifest(value, OCI_MANIFEST))

    subject = oci_image(layout, "oci")
    layout.tag("referrer-image", oci_image(layout, "referrer", subject=subject))
    sbom = layout.blob("application/spdx+json", b'{"spdxVersion":"SPDX-2.3"}')
    extra = {"subject": subject, "annotations": {"org.opencontainers.image.created": CREATED}}
    value = oci_manifest(empty, [sbom], artifactType="application/spdx+json", **extra)
    layout.tag("referrer-sbom", layout.manifest(value, OCI_MANIFEST))

    notes = {
        "org.opencontainers.image.title": "annotated",
        "org.opencontainers.image.description": 'quotes " and <angles> & ünïcode',
        "org.example.empty": "",
    }
    layout.tag("annotations", oci_image(layout, "annotations", annotations=notes))


def schema1(layout: Layout) -> None:
    """Version 2, schema 1, signed: not for an OCI layout, so a directory as `dir:` has it."""
    layers = [gzipped(tar_layer("schema 1")), EMPTY_GZIP_LAYER, gzipped(base_layer())]
    key = json.loads((HERE / "schema1-key.json").read_bytes())
    signed, payload = signed_schema1(layers, key, created=CREATED)
    directory = layout.directory("schema1")
    (directory / "manifest.json").write_bytes(signed)
    for layer in layers:
        (directory / digest_of(layer)[7:]).write_bytes(layer)
    # The digest of a signed manifest is that of what was signed, not of the file.
    layout.summary["schema1"] = {
        "mediaType": DOCKER_SCHEMA1,
        "digest": digest_of(payload),
        "size": len(signed),
    }


def make(root: Path) -> dict[str, Json]:
    """Write the layout into `root`, a directory that is not there yet; kind -> descriptor."""
    layout = Layout(root)
    for part in (single_images, odd_layers, indexes, artifacts):
        part(layout)
    layout.finish()
    schema1(layout)
    return layout.summary


def main() -> int:
    """Make the images in a directory, or compare them with digests.json."""
    parser = argparse.ArgumentParser(description="make one small image of every manifest kind")
    parser.add_argument("directory", type=Path, nargs="?")
    parser.add_argument("--check", action="store_true", help="compare with digests.json")
    parser.add_argument("--update", action="store_true", help="rewrite digests.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        summary = make(options.directory or Path(scratch) / "layout")
    text = json.dumps(summary, indent=2) + "\n"
    committed = HERE / "digests.json"
    if options.update:
        committed.write_text(text)
    if not options.check:
        return 0
    expected = json.loads(committed.read_text())
    differing = [k for k in {**expected, **summary} if expected.get(k) != summary.get(k)]
    for kind in differing:
        print(f"{kind}: expected {expected.get(kind)}, made {summary.get(kind)}", file=sys.stderr)
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())

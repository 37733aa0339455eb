"""Finished images leave: to registries, layouts and archives, with the layers of their bases as
those were published, and what other tools read of them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from imgtools.build.outputs.base_blobs import base_opener
from imgtools.build.outputs.layer_blobs import LayerBlobs
from imgtools.build.outputs.model import BuiltImage, Family, Form
from imgtools.build.outputs.outgoing import Wanted
from imgtools.build.outputs.places import CopiedOut, Places
from imgtools.build.protocols import BaseImage
from imgtools.errors import Unsupported
from imgtools.spec import media_type as mt
from imgtools.spec.digest import Digest
from imgtools.spec.manifest import Manifest, RawManifest, parse
from imgtools.spec.reference import ImageName
from imgtools.task import Note, Task
from imgtools.testing.registry import ScriptedRegistry
from imgtools.transport.table import TRANSPORTS, Transports
from tests.build.outputs_kit import (
    FROM,
    TO,
    base_image,
    built,
    layer_bytes,
    new_store,
    pinned,
    tar,
)
from tests.build.store_double import StoreDouble
from tests.rig import RegistryServer

Skopeo = Callable[..., subprocess.CompletedProcess[str]]
BASE_TARS = (tar(("etc/", b""), ("etc/os", b"base")), tar(("bin/sh", b"shell" * 500)))
NEW_TAR = tar(("app", b"application" * 1000), ("etc/", b""), ("etc/.wh.os", b""))


@pytest.fixture
def store(tmp_path: Path) -> StoreDouble:
    return new_store(tmp_path)


@pytest.fixture
def transports() -> Iterator[Transports]:
    with Transports() as opened:
        yield opened


class Leaving:
    """Copies images out of a store, and keeps what was warned of."""

    def __init__(self, store: StoreDouble, transports: Transports, layers: LayerBlobs) -> None:
        self.store, self.transports, self.layers = store, transports, layers
        self.warnings: list[str] = []
        self.task = Task(progress=self._note)

    def _note(self, event: object) -> None:
        if isinstance(event, Note):
            self.warnings.append(event.text)

    def __call__(
        self,
        image: BuiltImage,
        name: str,
        *,
        form: Form | None = None,
        family: Family = "oci",
        bases: bool = True,
        wanted: Wanted | None = None,
    ) -> CopiedOut:
        places = Places(
            transports=self.transports,
            layers=self.layers,
            form=form or Form(),
            family=family,
            options=TO,
            open_base=base_opener(self.transports, FROM) if bases else None,
        )
        wanted = wanted or Wanted(images=(image,))
        return places.copy(wanted, ImageName.parse(name, TRANSPORTS), task=self.task)

    def manifest(self, name: str) -> Manifest:
        with self.transports.open_source(name, FROM) as source:
            view = parse(source.top())
        assert isinstance(view, Manifest)
        return view

    def tars(self, name: str) -> list[bytes]:
        """The uncompressed layers at a place."""
        with self.transports.open_source(name, FROM) as source:
            view = parse(source.top())
            assert isinstance(view, Manifest)
            return [layer_bytes(source, layer) for layer in view.layers]


@pytest.fixture
def leaving(store: StoreDouble, transports: Transports) -> Iterator[Leaving]:
    with LayerBlobs(store) as layers:
        yield Leaving(store, transports, layers)


def in_registry(
    registry: ScriptedRegistry, store: StoreDouble, repository: str = "base", **options: bool
) -> BaseImage:
    """A base that the registry has."""
    base, blobs = base_image(store, "base", BASE_TARS, **options)
    for content in blobs.values():
        registry.push_blob(repository, content)
    registry.push_manifest(
        repository, base.manifest.content, base.manifest.media_type, tags=["latest"]
    )
    return pinned(base, f"{registry.host}/{repository}")


@pytest.mark.parametrize(
    ("name", "compression", "layer_type"),
    [
        ("oci:{dir}/out:v1", "", mt.OCI_LAYER_GZIP),
        ("oci:{dir}/out:v1", "zstd", mt.OCI_LAYER_ZSTD),
        ("oci:{dir}/out:v1", "none", mt.OCI_LAYER),
        ("oci-archive:{dir}/out.tar:v1", "", mt.OCI_LAYER_GZIP),
        ("dir:{dir}/out", "", mt.OCI_LAYER),
        ("dir:{dir}/out", "gzip", mt.OCI_LAYER_GZIP),
    ],
)
def test_local_places(
    leaving: Leaving, tmp_path: Path, name: str, compression: str, layer_type: str
) -> None:
    image = built(leaving.store, [BASE_TARS[0], NEW_TAR], annotations={"a": "b"})
    place = name.format(dir=tmp_path)
    done = leaving(image, place, form=Form(compression=compression))  # type: ignore[arg-type]
    manifest = leaving.manifest(place)
    assert {layer.media_type for layer in manifest.layers} == {layer_type}
    assert leaving.tars(place) == [BASE_TARS[0], NEW_TAR]
    assert manifest.annotations == {"a": "b"}
    assert manifest.config.digest == done.outgoing.images[0].config_descriptor.digest
    assert done.top.digest == done.outgoing.top.digest
    assert leaving.warnings == []


def test_levels_are_used_and_equal_images_have_equal_digests(
    leaving: Leaving, store: StoreDouble, transports: Transports, tmp_path: Path
) -> None:
    image = built(store, [NEW_TAR])
    digests = []
    for number, level in enumerate((1, 9, 1)):
        with LayerBlobs(store) as layers:
            leaving.layers = layers
            done = leaving(
                image, f"oci:{tmp_path}/{number}:x", form=Form(compression="gzip", level=level)
            )
            digests.append(done.top.digest)
    assert digests[0] == digests[2] != digests[1]


def test_docker_archive_is_plain_and_docker_family(leaving: Leaving, tmp_path: Path) -> None:
    image = built(leaving.store, [NEW_TAR], Healthcheck={"Test": ["NONE"]})
    place = f"docker-archive:{tmp_path}/out.tar:localhost/app:1"
    leaving(image, place)
    with leaving.transports.open_source(place, FROM) as source:
        manifest = parse(source.top())
        assert isinstance(manifest, Manifest)
        config = json.loads(source.open_blob(manifest.config).read())
    assert config["config"]["Healthcheck"] == {"Test": ["NONE"]}
    assert config["rootfs"]["diff_ids"] == [str(Digest.of(NEW_TAR))]


def test_base_layers_are_mounted_byte_for_byte(leaving: Leaving) -> None:
    with ScriptedRegistry() as registry:
        base = in_registry(registry, leaving.store)
        image = built(leaving.store, [NEW_TAR], base=base)
        registry.forget_requests()
        place = f"docker://{registry.host}/app:1"
        leaving(image, place)
        below = parse(base.manifest)
        assert isinstance(below, Manifest)
        assert leaving.manifest(place).layers[:2] == below.layers
        for layer in below.layers:
            assert registry.count("POST", f"mount={layer.digest}&from=base") == 1
            assert registry.count("GET", f"/v2/base/blobs/{layer.digest}") == 0
        assert leaving.tars(place)[2] == NEW_TAR


def test_base_layers_are_fetched_for_another_registry(leaving: Leaving) -> None:
    with ScriptedRegistry() as first, ScriptedRegistry() as second:
        base = in_registry(first, leaving.store)
        image = built(leaving.store, [NEW_TAR], base=base)
        place = f"docker://{second.host}/app:1"
        leaving(image, place)
        below = parse(base.manifest)
        assert isinstance(below, Manifest)
        assert leaving.manifest(place).layers[:2] == below.layers
        assert leaving.tars(place) == [*BASE_TARS, NEW_TAR]
        assert leaving.warnings == []


def test_base_layers_that_are_gone_are_compressed_anew(leaving: Leaving) -> None:
    with ScriptedRegistry() as first, ScriptedRegistry() as second:
        base = in_registry(first, leaving.store)
        image = built(leaving.store, [NEW_TAR], base=base)
        first.fail(method="GET", path="/v2/base/blobs/", status=404)
        place = f"docker://{second.host}/app:1"
        leaving(image, place)
        assert leaving.tars(place) == [*BASE_TARS, NEW_TAR]
        assert len(leaving.warnings) == 1
        assert "compressed anew" in leaving.warnings[0]


@pytest.mark.parametrize(
    ("form", "kept"),
    [
        (Form(compression="zstd"), True),
        (Form(compression="zstd", force=True), False),
        (Form(compression="gzip", force=True), True),
        (Form(compression="none"), False),
    ],
)
def test_forced_compression_reaches_the_base(leaving: Leaving, form: Form, kept: bool) -> None:
    with ScriptedRegistry() as registry:
        base = in_registry(registry, leaving.store)
        image = built(leaving.store, [NEW_TAR], base=base)
        place = f"docker://{registry.host}/app:1"
        leaving(image, place, form=form)
        manifest = leaving.manifest(place)
        below = parse(base.manifest)
        assert isinstance(below, Manifest)
        assert (manifest.layers[:2] == below.layers) is kept
        assert mt.layer_compression(manifest.layers[2].media_type) == form.compression
        assert leaving.tars(place) == [*BASE_TARS, NEW_TAR]


@pytest.mark.parametrize(
    ("docker_base", "family", "layer_type", "manifest_type"),
    [
        (True, "oci", mt.OCI_LAYER_GZIP, mt.OCI_MANIFEST),
        (False, "docker", mt.DOCKER_LAYER_GZIP, mt.DOCKER_MANIFEST),
        (True, "docker", mt.DOCKER_LAYER_GZIP, mt.DOCKER_MANIFEST),
    ],
)
def test_e92_layer_types_are_of_the_output_format_whatever_the_base_has(
    leaving: Leaving, docker_base: bool, family: Family, layer_type: str, manifest_type: str
) -> None:
    with ScriptedRegistry() as registry:
        base = in_registry(registry, leaving.store, docker=docker_base)
        image = built(leaving.store, [NEW_TAR], base=base)
        place = f"docker://{registry.host}/app:1"
        leaving(image, place, family=family)
        manifest = leaving.manifest(place)
        assert manifest.media_type == manifest_type
        assert {layer.media_type for layer in manifest.layers} == {layer_type}
        below = parse(base.manifest)
        assert isinstance(below, Manifest)
        assert [x.digest for x in manifest.layers[:2]] == [x.digest for x in below.layers]


def test_zstd_is_refused_in_dockers_format(leaving: Leaving, tmp_path: Path) -> None:
    image = built(leaving.store, [NEW_TAR])
    with pytest.raises(Unsupported, match="zstd layers need an OCI manifest"):
        leaving(image, f"dir:{tmp_path}/out", form=Form(compression="zstd"), family="docker")


def test_e95_an_image_without_layers(leaving: Leaving, tmp_path: Path) -> None:
    image = built(leaving.store, [])
    place = f"oci:{tmp_path}/out:empty"
    leaving(image, place)
    assert leaving.manifest(place).layers == ()


def test_real_registry_and_skopeo_read_it(
    leaving: Leaving,
    registry_plain: RegistryServer,
    repository: str,
    skopeo: Skopeo,
    tmp_path: Path,
) -> None:
    image = built(leaving.store, [BASE_TARS[0], NEW_TAR])
    done = leaving(image, f"docker://{registry_plain.host}/{repository}:1")
    said = skopeo("inspect", "--tls-verify=false", f"docker://{registry_plain.host}/{repository}:1")
    assert json.loads(said.stdout)["Digest"] == str(done.top.digest)
    skopeo(
        "copy",
        "--src-tls-verify=false",
        f"docker://{registry_plain.host}/{repository}:1",
        f"dir:{tmp_path}/copied",
    )
    again = leaving(image, f"docker://{registry_plain.host}/{repository}:1")
    assert again.top.digest == done.top.digest


def test_umoci_unpacks_our_layout(leaving: Leaving, tmp_path: Path) -> None:
    image = built(leaving.store, [BASE_TARS[0], NEW_TAR])
    leaving(image, f"oci:{tmp_path}/out:v1")
    subprocess.run(
        ["umoci", "raw", "unpack", "--image", f"{tmp_path}/out:v1", str(tmp_path / "tree")],
        check=True,
        capture_output=True,
    )
    assert (tmp_path / "tree/app").read_bytes() == b"application" * 1000
    assert not (tmp_path / "tree/etc/os").exists()


def test_skopeo_reads_our_docker_archive(leaving: Leaving, skopeo: Skopeo, tmp_path: Path) -> None:
    image = built(leaving.store, [NEW_TAR])
    leaving(image, f"docker-archive:{tmp_path}/out.tar:localhost/app:1")
    said = skopeo("inspect", "--config", f"docker-archive:{tmp_path}/out.tar:localhost/app:1")
    assert json.loads(said.stdout)["rootfs"]["diff_ids"] == [str(Digest.of(NEW_TAR))]


def test_a_source_knows_only_its_own() -> None:
    from imgtools.build.outputs.source import BuiltSource
    from imgtools.errors import BlobNotFound, NotFound

    raw = RawManifest.of(b'{"schemaVersion":2,"manifests":[]}')
    with BuiltSource(raw, {}) as source:
        assert source.manifest(raw.descriptor()) == raw
        other = RawManifest.of(b'{"schemaVersion":2, "manifests":[]}')
        with pytest.raises(NotFound):
            source.manifest(other.descriptor())
        with pytest.raises(BlobNotFound):
            source.open_blob(other.descriptor())

"""A Debian root filesystem as an image of five layers, made with plain tools.

The first layer is what mmdebstrap makes; the others hold what layers get wrong easily: whiteouts,
opaque directories, hard links, extended attributes, set-uid files, long and odd names. Nothing of
imgtools is used, because the image is what imgtools is measured by.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import struct
import subprocess
import tarfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

OCI = "application/vnd.oci.image"
CREATED = "2024-02-29T12:00:00Z"
TIME = 1_709_208_000
# Version 2 of the kernel's struct vfs_cap_data: effective, CAP_NET_BIND_SERVICE permitted.
CAPABILITY = struct.pack("<5I", 0x02000001, 1 << 10, 0, 0, 0)
TAG = "latest"


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """An image: its layout, `dir:` form, uncompressed layers, manifest, config and diff_ids."""

    layout: Path
    directory: Path
    tars: tuple[Path, ...]
    manifest: bytes
    config: bytes
    diff_ids: tuple[str, ...]


def sha256(content: bytes) -> str:
    """A digest as manifests write it."""
    return "sha256:" + hashlib.sha256(content).hexdigest()


def file_digest(path: Path) -> str:
    """The digest of a file."""
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


def apt_options(path: Path) -> Path:
    """What this machine's apt does about its network, for mmdebstrap, which does not look."""
    dump = subprocess.run(
        ["apt-config", "dump"], check=True, capture_output=True, encoding="utf-8"
    ).stdout
    lines = [line for line in dump.splitlines() if line.startswith("Acquire::")]
    path.write_text("\n".join(line for line in lines if "::Languages" not in line) + "\n")
    return path


def root_filesystem(directory: Path) -> Path:
    """Debian's essential packages as a tar file, from this machine's archive."""
    release = dict(
        line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if line
    )
    sources = [Path("/etc/apt/sources.list.d/debian.sources"), Path("/etc/apt/sources.list")]
    tar = directory / "root.tar"
    done = subprocess.run(
        [
            "mmdebstrap",
            "--quiet",
            "--variant=essential",
            f"--aptopt={apt_options(directory / 'apt.conf')}",
            release["VERSION_CODENAME"].strip('"'),
            tar,
            *[path for path in sources if path.exists()][:1],
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, f"mmdebstrap: {done.stderr[-2000:]}"
    return tar


Entry = tuple[str, dict[str, Any], bytes]


def entry(name: str, content: bytes = b"", **attributes: Any) -> Entry:
    """A member of a layer; attributes are those of TarInfo."""
    return name, attributes, content


def directory_entry(name: str, mode: int = 0o755, **attributes: Any) -> Entry:
    """A directory."""
    return entry(name, type=tarfile.DIRTYPE, mode=mode, **attributes)


def write_tar(path: Path, entries: Iterable[Entry]) -> Path:
    """A layer in the PAX format."""
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for name, attributes, content in entries:
            info = tarfile.TarInfo(name)
            info.mode, info.mtime, info.size = 0o644, TIME, len(content)
            for key, value in attributes.items():
                setattr(info, key, value)
            tar.addfile(info, io.BytesIO(content))
    return path


def upper_layers(directory: Path) -> list[Path]:
    """Layers to be put over a root filesystem."""
    xattr = "SCHILY.xattr."
    long = "/".join(
        ["opt/e2e", *[f"a-rather-long-directory-name-number-{n:02d}" for n in range(7)]]
    )
    parents = ["/".join(long.split("/")[: n + 1]) for n in range(len(long.split("/")))]
    added = [
        *(directory_entry(name) for name in parents),
        entry(f"{long}/{'n' * 200}", b"far down"),
        entry("opt/e2e/schön — имя", b"a name", mtime=TIME + 0.25),
        entry("opt/e2e/set-uid", b"#!/bin/true\n" * 99, mode=0o4755),
        entry("opt/e2e/other-name", type=tarfile.LNKTYPE, linkname="opt/e2e/set-uid", mode=0o4755),
        entry("opt/e2e/third-name", type=tarfile.LNKTYPE, linkname="opt/e2e/set-uid", mode=0o4755),
        entry(
            "opt/e2e/capable",
            b"\x7fELF",
            mode=0o755,
            pax_headers={
                f"{xattr}security.capability": CAPABILITY.decode(),
                f"{xattr}user.colour": "grün",
            },
        ),
        entry("opt/e2e/link", type=tarfile.SYMTYPE, linkname="../../etc/passwd", mode=0o777),
        entry("opt/e2e/pipe", type=tarfile.FIFOTYPE, mode=0o600),
        entry("opt/e2e/owned", b"mine", uid=1000, gid=2000, mode=0o640),
        directory_entry("opt/e2e/sticky", 0o3777),
        directory_entry("opt/e2e/opaque"),
        entry("opt/e2e/opaque/below", b"must not be seen"),
        directory_entry("opt/e2e/becomes-file"),
        entry("opt/e2e/becomes-file/inside", b"must go"),
        entry("opt/e2e/becomes-directory", b"a file"),
        entry("opt/e2e/large", bytes(range(256)) * 8192),
    ]
    whiteouts = [
        directory_entry("opt"),
        directory_entry("opt/e2e"),
        entry("opt/e2e/.wh.owned"),
        entry("opt/e2e/.wh.third-name"),
        directory_entry("usr"),
        directory_entry("usr/share"),
        entry("usr/share/.wh.common-licenses"),
        entry("opt/e2e/becomes-file", b"now a file"),
        directory_entry("opt/e2e/becomes-directory"),
        entry("opt/e2e/becomes-directory/inside", b"new"),
    ]
    opaque = [
        directory_entry("opt"),
        directory_entry("opt/e2e"),
        directory_entry("opt/e2e/opaque", 0o750),
        entry("opt/e2e/opaque/.wh..wh..opq"),
        entry("opt/e2e/opaque/above", b"alone here"),
    ]
    last = [directory_entry("etc"), entry("etc/hostname", b"e2e\n"), entry("etc/empty")]
    made = (added, whiteouts, opaque, last)
    return [write_tar(directory / f"upper-{n}.tar", layer) for n, layer in enumerate(made)]


def gzipped(source: Path, target: Path) -> None:
    """gzip, quickly."""
    with source.open("rb") as tar, target.open("wb") as out:
        encoder = zlib.compressobj(1, wbits=31)
        while data := tar.read(1 << 20):
            out.write(encoder.compress(data))
        out.write(encoder.flush())


def put(blobs: Path, content: bytes, media_type: str) -> dict[str, Any]:
    """A blob of a layout, and its descriptor."""
    digest = sha256(content)
    (blobs / digest[7:]).write_bytes(content)
    return {"mediaType": media_type, "digest": digest, "size": len(content)}


def compact(value: Any) -> bytes:
    """JSON as bytes."""
    return json.dumps(value, separators=(",", ":")).encode()


def config_of(platform: dict[str, str], diff_ids: Iterable[str], what: str) -> bytes:
    """An image config."""
    ids = list(diff_ids)
    return compact(
        {
            "created": CREATED,
            **platform,
            "config": {
                "Env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"],
                "Cmd": ["/bin/sh"],
                "Labels": {"org.example.what": what, "empty": ""},
            },
            "rootfs": {"type": "layers", "diff_ids": ids},
            "history": [
                *({"created": CREATED, "created_by": f"layer {n}"} for n in range(len(ids))),
                {"created": CREATED, "created_by": "CMD", "empty_layer": True},
            ],
        }
    )


def image(blobs: Path, tars: Iterable[Path], platform: dict[str, str], what: str) -> dict[str, Any]:
    """An OCI image of gzip layers; the descriptor of its manifest."""
    layers, diff_ids = [], []
    for tar in tars:
        packed = blobs / "packing"
        gzipped(tar, packed)
        digest = file_digest(packed)
        packed.rename(blobs / digest[7:])
        size = (blobs / digest[7:]).stat().st_size
        layers.append(
            {"mediaType": f"{OCI}.layer.v1.tar+gzip", "digest": digest, "size": size},
        )
        diff_ids.append(file_digest(tar))
    config = put(blobs, config_of(platform, diff_ids, what), f"{OCI}.config.v1+json")
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{OCI}.manifest.v1+json",
        "config": config,
        "layers": layers,
        "annotations": {"org.example.what": what},
    }
    # Indented as nobody writes it, so that a manifest that was written anew is noticed.
    content = json.dumps(manifest, indent=5).encode()
    return put(blobs, content, f"{OCI}.manifest.v1+json")


def new_layout(layout: Path) -> Path:
    """An empty layout; its directory of blobs."""
    (layout / "oci-layout").parent.mkdir(parents=True)
    (layout / "oci-layout").write_bytes(b'{"imageLayoutVersion":"1.0.0"}')
    blobs = layout / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    return blobs


def name_it(layout: Path, top: dict[str, Any]) -> None:
    """The layout's one name."""
    named = {**top, "annotations": {"org.opencontainers.image.ref.name": TAG}}
    (layout / "index.json").write_bytes(compact({"schemaVersion": 2, "manifests": [named]}))


def to_directory(layout: Path, directory: Path, top: dict[str, Any]) -> None:
    """The same as a `dir:` image, as skopeo writes it."""
    directory.mkdir()
    (directory / "version").write_bytes(b"Directory Transport Version: 1.1\n")
    content = {path.name: path for path in (layout / "blobs" / "sha256").iterdir()}
    shutil.copy(content.pop(top["digest"][7:]), directory / "manifest.json")
    top_level = json.loads((directory / "manifest.json").read_bytes())
    for child in top_level.get("manifests", []):
        stem = child["digest"][7:]
        shutil.copy(content.pop(stem), directory / f"{stem}.manifest.json")
    for stem, path in content.items():
        shutil.copy(path, directory / stem)


def make_debian(directory: Path) -> Made:
    """The image, below `directory`."""
    tars = [root_filesystem(directory), *upper_layers(directory)]
    layout = directory / "layout"
    blobs = new_layout(layout)
    top = image(blobs, tars, {"architecture": "amd64", "os": "linux"}, "debian")
    return finish(directory, layout, top, tars)


def finish(directory: Path, layout: Path, top: dict[str, Any], tars: Iterable[Path]) -> Made:
    """Name the image and describe it."""
    name_it(layout, top)
    to_directory(layout, directory / "dir", top)
    blobs = layout / "blobs" / "sha256"
    manifest = (blobs / top["digest"][7:]).read_bytes()
    value = json.loads(manifest)
    config = (blobs / value["config"]["digest"][7:]).read_bytes() if "config" in value else b"{}"
    return Made(
        layout=layout,
        directory=directory / "dir",
        tars=tuple(tars),
        manifest=manifest,
        config=config,
        diff_ids=tuple(json.loads(config).get("rootfs", {}).get("diff_ids", [])),
    )


PLATFORMS = (
    {"architecture": "amd64", "os": "linux"},
    {"architecture": "arm64", "os": "linux", "variant": "v8"},
    {"architecture": "arm", "os": "linux", "variant": "v7"},
    {"architecture": "s390x", "os": "linux"},
)


def make_index(directory: Path) -> Made:
    """An index of four platforms that share one layer and have one of their own."""
    layout = directory / "layout"
    blobs = new_layout(layout)
    shared = write_tar(directory / "shared.tar", [entry("shared", b"for all" * 1000)])
    entries, tars = [], [shared]
    for platform in PLATFORMS:
        own = directory / f"{platform['architecture']}.tar"
        write_tar(own, [entry("arch", platform["architecture"].encode() * 500)])
        tars.append(own)
        made = image(blobs, (shared, own), platform, platform["architecture"])
        entries.append({**made, "platform": platform})
    index = {
        "schemaVersion": 2,
        "mediaType": f"{OCI}.index.v1+json",
        "manifests": entries,
        "annotations": {"org.example.what": "four platforms"},
    }
    top = put(blobs, json.dumps(index, indent=5).encode(), f"{OCI}.index.v1+json")
    return finish(directory, layout, top, tars)

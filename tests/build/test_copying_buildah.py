"""The same COPY and ADD lines by buildah and by us, and our layers unpacked by buildah: names,
types, modes, owners, content.

What buildah is known to do otherwise than BuildKit is not in the list: --chmod of directories
that are made and in clauses, wildcards without a match, FIFOs, `.` in archives, set-id bits of
the context (it drops them), names with brackets that a wildcard matches (it takes them for
another wildcard).
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import subprocess
from pathlib import Path

import pytest

from imgtools.blob.compression import Decompressor
from imgtools.blob.tar import Devices, EntryType, UnpackOptions, pack_tree, unpack_tree
from tests.build.copying_rig import Site, listing, member, tar_of

LINES = """
COPY base/ /
COPY a.txt /f1
COPY a.txt b.txt /several/
COPY dir /d1
COPY dir/ /d2/
COPY dir/sub dir/one /d3/
COPY --chown=5:6 a.txt /deep/er/x
COPY --chmod=640 a.txt /real/mode
COPY --chmod=4755 --chown=7:8 b.txt /special
COPY ?.txt /globs/
COPY d*/o* /inner/
COPY ["with space", "/odd/"]
COPY ../../a.txt /./clamped
COPY lnk lnkdir /followed/
COPY a.txt /abs/through
COPY a.txt /rel/more/through
COPY a.txt /gone/through
COPY a.txt /tmp/
COPY dir /tmp
COPY nested/ /
COPY a.txt /etc/replaced
ADD a.txt /added/
ADD plain.tar /unpacked/
ADD packed.whatever /unpacked/gz/
ADD fake.tar.gz empty.tar.gz /fakes/
ADD over.tar /etc/
""".strip().splitlines()


def fill(site: Site) -> None:
    """A context for the lines."""
    texts = ["a.txt", "b.txt", "dir/one", "dir/sub/two", "arr[0].txt", "with space", "fake.tar.gz"]
    texts += ["base/etc/replaced", "base/etc/kept", "base/real/more/f", "nested/etc/new"]
    for name in [*texts, "nested/tmp/n"]:
        path = site.context / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    (site.context / "empty.tar.gz").touch()
    (site.context / "base/tmp").mkdir()
    modes = {
        "base/tmp": 0o1777,
        "base/etc": 0o711,
        "dir": 0o700,
        "dir/sub": 0o750,
        "b.txt": 0o751,
    }
    for name, mode in modes.items():
        (site.context / name).chmod(mode)
    links = {"base/abs": "/real", "base/rel": "real", "base/gone": "/not/there", "lnk": "a.txt"}
    for name, target in {**links, "lnkdir": "dir", "dir/dangling": "../nowhere"}.items():
        (site.context / name).symlink_to(target)
    os.link(site.context / "dir/one", site.context / "dir/sub/again")
    plain = [
        (member("x/y", owner=(11, 12), mode=0o4750), b"data"),
        member("x", EntryType.DIR, mode=0o1700, owner=(13, 14)),
        member("l", EntryType.SYMLINK, mode=0o777, link="x"),
        member("h", EntryType.HARDLINK, link="x/y", owner=(11, 12), mode=0o4750),
    ]
    site.tar("plain.tar", *plain)
    (site.context / "packed.whatever").write_bytes(gzip.compress(tar_of(*plain)))
    site.tar("over.tar", (member("replaced", mode=0o600), b"new"), (member("more/f"), b"f"))


def buildah(site: Site, *words: str) -> str:
    """Run buildah with a store of its own; what it prints."""
    place = [f"--root={site.path}/store", f"--runroot={site.path}/run", "--storage-driver=vfs"]
    run = subprocess.run(["buildah", *place, *words], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


def by_buildah(site: Site) -> dict[str, str]:
    """What buildah makes of the lines."""
    (site.path / "Containerfile").write_text("\n".join(["FROM scratch", *LINES]))
    build = ["build", "-q", "--isolation=chroot", "--layers=false", "-t", "made"]
    buildah(site, *build, "-f", f"{site.path}/Containerfile", str(site.context))
    buildah(site, "push", "-q", "made", f"dir:{site.path}/image")
    image, root = site.path / "image", site.path / "theirs"
    root.mkdir()
    for layer in json.loads((image / "manifest.json").read_text())["layers"]:
        data = (image / layer["digest"].partition(":")[2]).read_bytes()
        options = UnpackOptions(devices=Devices.ALLOW)
        unpack_tree(io.BytesIO(Decompressor(io.BytesIO(data)).read()), str(root), options)
    return listing(root)


def by_us(site: Site) -> dict[str, str]:
    """What we make of them, one layer on the other."""
    for line in LINES:
        verb, rest = line.split(" ", 1)
        words = json.loads(rest) if rest.startswith("[") else rest.split()
        asked: dict[str, object] = {"add": verb == "ADD"}
        while words[0].startswith("--"):
            name, _, value = words.pop(0)[2:].partition("=")
            if name == "chown":
                asked["owner"] = tuple(map(int, value.split(":")))
            else:
                asked[name] = value
        site.base = site.copy(*words, **asked).root
    return listing(site.base)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """The filled context."""
    site = Site(tmp_path)
    fill(site)
    return site


def test_buildah_makes_the_same_tree(site: Site) -> None:
    """Line by line there is no difference."""
    theirs, ours = by_buildah(site), by_us(site)
    differences = {
        path: (theirs.get(path), ours.get(path))
        for path in sorted(theirs.keys() | ours.keys())
        if theirs.get(path) != ours.get(path)
    }
    assert differences == {}


def image_of(directory: Path, *layers: bytes) -> None:
    """An image of `layers` in the form of `dir:`."""
    directory.mkdir()
    kind = "application/vnd.oci.image"

    def put(data: bytes, media_type: str) -> dict[str, object]:
        digest = hashlib.sha256(data).hexdigest()
        (directory / digest).write_bytes(data)
        return {"mediaType": kind + media_type, "digest": f"sha256:{digest}", "size": len(data)}

    found = [put(layer, ".layer.v1.tar") for layer in layers]
    config = {
        "architecture": "amd64",
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [layer["digest"] for layer in found]},
    }
    described = put(json.dumps(config).encode(), ".config.v1+json")
    manifest = {"schemaVersion": 2, "mediaType": f"{kind}.manifest.v1+json"}
    text = json.dumps({**manifest, "config": described, "layers": found})
    (directory / "manifest.json").write_text(text)
    (directory / "version").write_text("Directory Transport Version: 1.1\n")


def test_buildah_makes_our_tree_of_our_layer(site: Site) -> None:
    """With everything that gives way to something else, and directories that stay."""
    for name in ("dir/a/b", "again/gone", "again/kept/gone", "again/file", "tmp/x", "s/t", "file"):
        path = site.base / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("old")
    (site.base / "tmp").chmod(0o1777)
    (site.base / "s").chmod(0o711)
    (site.base / "lnk").symlink_to("dir")
    os.chown(site.base / "s", 5, 6)
    names = ["dir", "file/x", "lnk/x", "again", "again/file", "again/kept/new", "tmp/new", "s/new"]
    members = [(member(name), name.encode()) for name in names]
    members[3:5] = [members[3], (member("again", EntryType.DIR), b""), members[4]]
    members[1:1] = [(member(name, EntryType.DIR), b"") for name in ("file", "lnk")]
    site.tar("gives.tar", *members)
    copied = site.add("gives.tar", "/")
    below = io.BytesIO()
    pack_tree(str(site.base), below.write)
    image_of(site.path / "image", below.getvalue(), copied.layer)
    container = buildah(site, "from", "-q", f"dir:{site.path}/image")
    assert listing(Path(buildah(site, "mount", container))) == listing(copied.root)

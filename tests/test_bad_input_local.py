"""Hostile layouts, directories, archives and layers, read by inspect, diff and copy."""

from __future__ import annotations

import gzip
import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from imgtools.blob.tar.entry import EntryType
from imgtools.errors import LimitExceeded
from imgtools.image.files import FileInfo, FileLimits, TreeBuilder
from imgtools.spec import media_type as mt
from imgtools.testing import images
from tests.bad_input import Layout, cli, everything, tar_of
from tests.local_images import write

SAMPLE = images.random_image("local", layers=1, size=300)
OTHER = images.random_image("other", layers=1, size=300)
SOME = tar_of(("x", b"a"))


def refuses_to_copy(tmp_path: Path, source: str, *words: str, code: int = 1) -> None:
    """The copy fails, and neither a new destination nor an old one has anything of it."""
    for destination in ("oci", "dir", "oci-archive"):
        old = f"{destination}:{tmp_path}/old-{destination}"
        if not (tmp_path / f"old-{destination}").exists():
            write(old, OTHER)
        before = everything(tmp_path)
        for name in (old, f"{destination}:{tmp_path}/new-{destination}"):
            done = cli(tmp_path, "copy", "-q", source, name)
            done.refused(*words, code=code, lines=len(done.err.splitlines()))
        assert everything(tmp_path) == before


# --- documents ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{"schemaVersion":2,"schemaVersion":2}', ["duplicate key 'schemaVersion'"]),
        (b'{"schemaVersion":2,"x":NaN}', ["NaN is not a number"]),
        (b'{"schemaVersion":2,"x":-Infinity}', ["-Infinity is not a number"]),
        (b'{"schemaVersion":2', ["not valid JSON", "line 1 column"]),
        (b"[" * 1000, ["nested deeper than 100"]),
        (b'{"x":' * 1000, ["nested deeper than 100"]),
        (b"\xff\xfe{}", ["not UTF-8"]),
        (b'{"x":' + b"9" * 5000 + b"}", ["not valid JSON"]),
        (b"[]", ["not a JSON object"]),
        (b"{}", ["is not a manifest"]),
        (b"<html></html>", ["not valid JSON"]),
        (b'{"schemaVersion":2,"mediaType":"text/x-thing"}', ["text/x-thing"]),
        (b'{"schemaVersion":3,"layers":[]}', ["unknown schemaVersion 3"]),
        (b'{"schemaVersion":2,"layers":[],"manifests":[]}', ["ambiguous"]),
        (b'{"schemaVersion":2,"layers":[]}', ["has no config"]),
        (b'{"schemaVersion":2,"config":{"digest":"sha256:1","size":1}}', ["invalid digest"]),
        (b'{"schemaVersion":2,"config":{"size":1}}', ["has no digest"]),
        (b'{"schemaVersion":2,"config":{"digest":"x","size":-1}}', ["impossible size"]),
        (b'{"schemaVersion":2,"config":[],"layers":{}}', ["not a list"]),
        (b'{"schemaVersion":1,"fsLayers":[],"history":[]}', ["has no layers"]),
    ],
)
def test_malformed_manifests(tmp_path: Path, content: bytes, words: list[str]) -> None:
    write(f"dir:{tmp_path}/d", SAMPLE)
    (tmp_path / "d" / "manifest.json").write_bytes(content)
    cli(tmp_path, "inspect", f"dir:{tmp_path}/d").refused(*words)
    layout = Layout(tmp_path / "l")
    layout.index([layout.blob(content, mt.OCI_MANIFEST)])
    cli(tmp_path, "inspect", "--files", layout.name).refused()
    refuses_to_copy(tmp_path, f"dir:{tmp_path}/d", *words)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{"manifests":{}}', ["not a list of objects"]),
        (b'{"manifests":[1]}', ["not a list of objects"]),
        (b'{"manifests":[],"manifests":[]}', ["duplicate key"]),
        (b'{"schemaVersion":7,"manifests":[]}', ["schemaVersion is 7"]),
        (b"nonsense", ["index.json is not valid JSON"]),
        (b'{"manifests":[{"digest":"sha256:../../../etc/passwd","size":1}]}', ["invalid digest"]),
    ],
)
def test_malformed_index_json(tmp_path: Path, content: bytes, words: list[str]) -> None:
    layout = Layout.of(tmp_path / "l", SOME)
    (tmp_path / "l" / "index.json").write_bytes(content)
    cli(tmp_path, "inspect", layout.name).refused(*words)
    refuses_to_copy(tmp_path, layout.name, *words)


def test_oversized_documents(tmp_path: Path) -> None:
    write(f"dir:{tmp_path}/d", SAMPLE)
    os.truncate(tmp_path / "d" / "manifest.json", 1 << 40)
    refuses_to_copy(tmp_path, f"dir:{tmp_path}/d", "manifest.json is larger than the limit")
    layout = Layout(tmp_path / "l")
    layout.index([layout.blob(b" " * ((4 << 20) + 1), mt.OCI_MANIFEST)])
    refuses_to_copy(tmp_path, layout.name, "is larger than the limit of 4194304 bytes")
    os.truncate(tmp_path / "l" / "index.json", 1 << 40)
    refuses_to_copy(tmp_path, layout.name, "index.json is larger than the limit")


# --- wrong bytes -------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["config", "layer", "manifest"])
@pytest.mark.parametrize("how", ["flipped", "short", "long", "gone"])
def test_wrong_bytes_in_layouts(tmp_path: Path, which: str, how: str) -> None:
    layout = Layout(tmp_path / "l")
    layer = layout.blob(gzip.compress(SOME), mt.OCI_LAYER_GZIP)
    manifest = layout.image(layer)
    view = json.loads(layout.file(manifest).read_bytes())
    path = layout.file({"config": view["config"], "layer": layer, "manifest": manifest}[which])
    damage(path, how)
    words = {"flipped": "digest mismatch", "short": "size mismatch", "long": "size mismatch"}
    refuses_to_copy(tmp_path, layout.name, words.get(how, path.name))
    cli(tmp_path, "inspect", "--files", layout.name).refused()


@pytest.mark.parametrize("how", ["flipped", "short", "long", "gone"])
def test_wrong_bytes_in_directories(tmp_path: Path, how: str) -> None:
    write(f"dir:{tmp_path}/d", SAMPLE)
    layer = next(d for d in SAMPLE.blobs if mt.kind(d.media_type) == "layer")
    damage(tmp_path / "d" / layer.digest.hex, how)
    words = {"flipped": "digest mismatch", "short": "size mismatch", "long": "size mismatch"}
    refuses_to_copy(tmp_path, f"dir:{tmp_path}/d", words.get(how, "has no blob"))


def test_wrong_bytes_in_archives(tmp_path: Path) -> None:
    write(f"oci-archive:{tmp_path}/a:v1", SAMPLE)
    path = tmp_path / "a"
    layer = next(c for d, c in SAMPLE.blobs.items() if mt.kind(d.media_type) == "layer")
    content = path.read_bytes()
    path.write_bytes(content.replace(layer, layer[:-1] + bytes([layer[-1] ^ 1])))
    refuses_to_copy(tmp_path, f"oci-archive:{path}:v1", "digest mismatch")
    path.write_bytes(content[: len(content) // 2])
    refuses_to_copy(tmp_path, f"oci-archive:{path}:v1", str(path))


def damage(path: Path, how: str) -> None:
    """Change a file in one of the ways in which files are wrong."""
    content = path.read_bytes()
    if how == "gone":
        path.unlink()
        return
    flipped = content[:-1] + bytes([content[-1] ^ 1])
    path.write_bytes({"flipped": flipped, "short": content[:-1], "long": content + b"\0"}[how])


# --- what is no file ---------------------------------------------------------------------------


def fifo(path: Path, secret: Path) -> None:
    os.mkfifo(path)


def directory(path: Path, secret: Path) -> None:
    path.mkdir()


def link(path: Path, secret: Path) -> None:
    path.symlink_to(secret)


def device(path: Path, secret: Path) -> None:
    path.symlink_to("/dev/zero")


def endless(path: Path, secret: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 50)


@pytest.mark.parametrize("trick", [fifo, directory, link, device, endless])
@pytest.mark.parametrize("which", ["layer", "manifest", "index.json", "oci-layout"])
def test_what_is_no_file_in_a_layout(
    tmp_path: Path, trick: Callable[[Path, Path], None], which: str
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("hunter2")
    layout = Layout(tmp_path / "l")
    layer = layout.blob(gzip.compress(SOME), mt.OCI_LAYER_GZIP)
    manifest = layout.image(layer)
    files = {"layer": layout.file(layer), "manifest": layout.file(manifest)}
    path = files.get(which, tmp_path / "l" / which)
    path.unlink()
    try:
        trick(path, secret)
    except OSError:  # a file system that does not take such sizes
        os.truncate(path, 1 << 40)
    for verb in (["inspect", "--files"], ["inspect", "--cat", "/x"]):
        done = cli(tmp_path, *verb, layout.name)
        done.refused(path.name)
        assert b"hunter2" not in done.out + done.err.encode()
    for name in ("dir", "oci", "oci-archive"):
        cli(tmp_path, "copy", "-q", layout.name, f"{name}:{tmp_path}/new").refused(path.name)
        assert not (tmp_path / "new").exists()


def test_linked_directories_in_a_layout(tmp_path: Path) -> None:
    layout = Layout.of(tmp_path / "l", SOME)
    (tmp_path / "l" / "blobs" / "sha256").rename(tmp_path / "elsewhere")
    (tmp_path / "l" / "blobs" / "sha256").symlink_to(tmp_path / "elsewhere")
    cli(tmp_path, "inspect", layout.name).refused("links are not followed")
    done = cli(tmp_path, "copy", f"oci:{tmp_path}/l", f"oci:{tmp_path}/l:again")
    done.refused("links are not followed", lines=len(done.err.splitlines()))


def test_destination_with_links_inside(tmp_path: Path) -> None:
    """What a layout links to is neither read nor written."""
    write(f"oci:{tmp_path}/source:v1", SAMPLE)
    target = tmp_path / "target"
    target.mkdir()
    outside = tmp_path / "outside"
    outside.mkdir()
    (target / "blobs").symlink_to(outside)
    done = cli(tmp_path, "copy", f"oci:{tmp_path}/source:v1", f"oci:{target}:v1")
    done.refused("links are not followed", lines=len(done.err.splitlines()))
    assert everything(outside) == {}


# --- indexes -----------------------------------------------------------------------------------


def nested(layout: Layout, depth: int, width: int) -> None:
    """An index whose levels each name the next one `width` times, and no image anywhere."""
    entry = layout.blob({"schemaVersion": 2, "manifests": []}, mt.OCI_INDEX)
    for level in range(depth):
        entries = [{**entry, "annotations": {"n": f"{level}/{n}"}} for n in range(width)]
        entry = layout.blob({"schemaVersion": 2, "manifests": entries}, mt.OCI_INDEX)
    layout.index([entry])


def test_index_that_multiplies(tmp_path: Path) -> None:
    """A thousand to the power of seven ways lead nowhere; none is gone twice."""
    layout = Layout(tmp_path / "l")
    nested(layout, 7, 1000)
    cli(tmp_path, "inspect", layout.name).refused("no image", "linux/amd64")
    done = cli(tmp_path, "inspect", "--platforms", layout.name)
    assert (done.code, done.err) == (0, "")
    cli(tmp_path, "copy", "-q", layout.name, f"dir:{tmp_path}/new").refused("linux/amd64")
    assert not (tmp_path / "new").exists()


def test_index_too_deep(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "l")
    nested(layout, 40, 1)
    for verb in (["inspect"], ["inspect", "--platforms"], ["copy", "-q", "--all"], ["copy", "-q"]):
        names = [layout.name, *([f"dir:{tmp_path}/new"] if "copy" in verb else [])]
        cli(tmp_path, *verb, *names).refused("nesting of indexes", "8 levels")
    assert not (tmp_path / "new").exists()


def test_many_indexes(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "l")
    entries = [
        layout.blob({"schemaVersion": 2, "manifests": [], "n": n}, mt.OCI_INDEX)
        for n in range(1001)
    ]
    layout.index([layout.blob({"schemaVersion": 2, "manifests": entries}, mt.OCI_INDEX)])
    cli(tmp_path, "inspect", layout.name).refused("number of indexes", "1000")
    cli(tmp_path, "inspect", "--platforms", layout.name).refused("number of indexes", "1000")


def test_layout_with_100000_entries(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "l")
    manifest = layout.image(layout.blob(gzip.compress(SOME), mt.OCI_LAYER_GZIP))
    key = "org.opencontainers.image.ref.name"
    layout.index([{**manifest, "annotations": {key: f"v{n}"}} for n in range(100_000)])
    assert cli(tmp_path, "inspect", f"{layout.name}:v99999").code == 0
    cli(tmp_path, "inspect", f"{layout.name}:none").refused("and 99992 more", code=2)


# --- layers ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "member",
    [("../evil", b"x"), ("a/../../evil", b"x"), ("x", (tarfile.LNKTYPE, "../../etc/passwd"))],
)
def test_names_that_leave_the_root(tmp_path: Path, member: tuple[str, Any]) -> None:
    one = Layout.of(tmp_path / "one", tar_of(member))
    two = Layout.of(tmp_path / "two", SOME)
    for verb in (["--files"], ["--cat", "/x"], ["--cat", "/evil"]):
        cli(tmp_path, "inspect", *verb, one.name).refused("unsafe path", '".."', "layer 0")
    cli(tmp_path, "diff", two.name, one.name).refused("unsafe path", '".."')


@pytest.mark.parametrize(
    ("member", "shown"),
    [
        ("/etc/passwd", (tarfile.SYMTYPE, "/etc/passwd")),
        ("x", (tarfile.SYMTYPE, "../../../../../../etc/passwd")),
        ("etc/x", (tarfile.LNKTYPE, "/etc/passwd")),
        ("x", (tarfile.FIFOTYPE, "")),
        ("x", (tarfile.CHRTYPE, "")),
    ],
)
def test_links_stay_in_the_image(tmp_path: Path, member: str, shown: tuple[bytes, str]) -> None:
    """What they name outside is listed, and never opened."""
    layout = Layout.of(tmp_path / "l", tar_of((member, shown)))
    listed = cli(tmp_path, "inspect", "--files", layout.name)
    assert listed.code == 0
    done = cli(tmp_path, "inspect", "--cat", f"/{member.lstrip('/')}", layout.name)
    done.refused(member.lstrip("/").partition("/")[0])
    assert done.out == b""


def test_absolute_names_are_of_the_image(tmp_path: Path) -> None:
    layout = Layout.of(tmp_path / "l", tar_of(("/etc/passwd", b"nobody of this host\n")))
    done = cli(tmp_path, "inspect", "--cat", "/etc/passwd", layout.name)
    assert (done.code, done.out) == (0, b"nobody of this host\n")


def test_names_that_terminals_obey(tmp_path: Path) -> None:
    layout = Layout.of(tmp_path / "l", tar_of(("\x1b[31mred\n\u202e\x9b", b"x")))
    for flags in ([], ["--json"]):
        out = cli(tmp_path, "inspect", "--files", *flags, layout.name).out.decode()
        assert all(line.isprintable() for line in out.splitlines())
    done = cli(tmp_path, "inspect", "--cat", "/\x1b[31mred\n\u202e\x9b/x", layout.name)
    done.refused("red")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"hello world", "tar archive is cut"),
        (b"hello world" * 100, "tar header"),
        (gzip.compress(SOME)[:-10], "gzip: unexpected end"),
        (gzip.compress(SOME)[:20] + b"\xff" * 30, "gzip"),
        (b"\x28\xb5\x2f\xfd" + b"\xff" * 40, "zstd"),
        (b"\xfd7zXZ\0" + b"\xff" * 40, "xz"),
    ],
)
def test_layers_that_are_none(tmp_path: Path, content: bytes, words: str) -> None:
    layout = Layout(tmp_path / "l")
    layout.image(layout.blob(content, mt.OCI_LAYER_GZIP))
    for verb in (["--files"], ["--cat", "/x"]):
        cli(tmp_path, "inspect", *verb, layout.name).refused(words, "layer 0")
    if not words.startswith("tar"):
        name = f"docker-archive:{tmp_path}/new"
        cli(tmp_path, "copy", "-q", layout.name, name).refused("sha256:")
    assert not (tmp_path / "new").exists()


def test_unknown_media_type(tmp_path: Path) -> None:
    layout = Layout.of(tmp_path / "l", SOME, "application/x-thing")
    cli(tmp_path, "inspect", "--files", layout.name).refused("'application/x-thing'")
    done = cli(tmp_path, "copy", "-q", layout.name, f"docker-archive:{tmp_path}/new")
    done.refused("application/x-thing", "compression is not known")
    assert not (tmp_path / "new").exists()


def test_claim_of_a_petabyte(tmp_path: Path) -> None:
    info = tarfile.TarInfo("x")
    info.size = 1 << 50
    layout = Layout.of(tmp_path / "l", info.tobuf(tarfile.GNU_FORMAT) + b"a" * 512)
    for verb in (["--files"], ["--cat", "/x"]):
        cli(tmp_path, "inspect", *verb, layout.name).refused("cut within the data")


def many(count: int, attribute: bytes, path: str) -> bytes:
    """An archive of `count` empty files with a long path or extended attribute each."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for number in range(count):
            info = tarfile.TarInfo(f"{path}{number}")
            if attribute:
                info.pax_headers = {"SCHILY.xattr.user.x": attribute.decode()}
            archive.addfile(info)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("attribute", "path"), [(b"a" * (900 << 10), ""), (b"", "directory/" * 3000)]
)
def test_bomb_of_names_and_attributes(tmp_path: Path, attribute: bytes, path: str) -> None:
    """Some kilobytes that would be hundreds of megabytes of a tree."""
    count = 160 if attribute else 20
    layout = Layout.of(tmp_path / "l", many(count, attribute, path))
    expected = "names and attributes" if attribute else "depth of a path"
    cli(tmp_path, "inspect", "--files", layout.name).refused(expected)


def test_limit_on_names_counts_everything() -> None:
    builder = TreeBuilder(FileLimits(text=100))
    builder.add("a" * 40, FileInfo(type=EntryType.SYMLINK, linkname="b" * 40))
    builder.add(".wh." + "c" * 6, FileInfo(type=EntryType.FILE))
    with pytest.raises(LimitExceeded, match="names and attributes"):
        builder.add("d", FileInfo(type=EntryType.FILE, xattrs={"k": b"v" * 10}))


def test_archive_bomb_of_members(tmp_path: Path) -> None:
    block = tarfile.TarInfo("x").tobuf(tarfile.USTAR_FORMAT)
    path = tmp_path / "a.tar"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(block * 200_001)
    for transport in ("oci-archive", "docker-archive"):
        cli(tmp_path, "inspect", f"{transport}:{path}").refused("number of tar entries", "200000")
    assert sorted(everything(tmp_path)) == ["a.tar"]


def test_archives_that_link_out(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text('{"hunter2": 1}')
    for target in (str(secret), f"../{secret}", "index.json"):
        path = tmp_path / "a.tar"
        path.write_bytes(
            tar_of(
                ("index.json", (tarfile.SYMTYPE, target)),
                ("manifest.json", (tarfile.SYMTYPE, str(secret))),
                ("oci-layout", b'{"imageLayoutVersion":"1.0.0"}'),
            )
        )
        for transport in ("oci-archive", "docker-archive"):
            done = cli(tmp_path, "inspect", f"{transport}:{path}")
            done.refused("link")
            assert "hunter2" not in done.err

"""Layers read for their files: how much is read, what is verified, what hostile input does."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable
from typing import Any

import pytest

from imgtools.errors import (
    BlobNotFound,
    DigestMismatch,
    Error,
    InvalidArchive,
    InvalidInput,
    InvalidManifest,
    LimitExceeded,
    NotFound,
    SizeMismatch,
    Unsupported,
    Unverified,
)
from imgtools.image.files import FileLimits, compose_all, walk
from imgtools.inspect.contents import copy_file, list_files
from imgtools.inspect.listing import file_json, file_lines
from imgtools.inspect.scan import LayerReader, ScanOptions
from imgtools.inspect.survey import read_image
from imgtools.spec import media_type as mt
from imgtools.spec.digest import Digest
from imgtools.spec.platform import Platform
from imgtools.task import Task
from tests.inspect_doubles import (
    Files,
    MemorySource,
    estargz,
    gzipped,
    plain,
    sha256,
    tar_of,
    xattr,
    zstd_chunked,
)

AMD64 = Platform(os="linux", architecture="amd64")
PACKERS = (plain, gzipped, zstd_chunked, estargz)
Packer = Callable[[MemorySource, Files], dict[str, Any]]

BIG = bytes(range(256)) * 8192
FILES: Files = {
    "etc": None,
    "etc/one": b"1",
    "etc/big": BIG,
    "etc/two": b"22",
    "etc/empty": b"",
    "link": "-> etc/two",
    "hard": "=> etc/one",
}


def cat(source: MemorySource, path: str, *, verify: bool = True) -> bytes:
    """What --cat writes."""
    out: list[bytes] = []
    copy_file(source, AMD64, path, out.append, task=Task(), verify=verify)
    return b"".join(out)


def listed(source: MemorySource, **options: Any) -> list[str]:
    """Paths of --files."""
    return [path for path, _ in list_files(source, AMD64, task=Task(), **options)[1]]


@pytest.mark.parametrize("verify", [True, False])
@pytest.mark.parametrize("pack", PACKERS)
def test_every_packing_gives_the_same_files(pack: Packer, verify: bool) -> None:
    source = MemorySource()
    source.image([pack(source, FILES)])
    expected = sorted(FILES)
    assert listed(source, verify=verify) == expected
    for path, content in (("etc/one", b"1"), ("/etc/big", BIG), ("link", b"22"), ("hard", b"1")):
        assert cat(source, path, verify=verify) == content
    assert cat(source, "etc/empty", verify=verify) == b""


@pytest.mark.parametrize("pack", PACKERS)
def test_sources_without_ranges_are_streamed(pack: Packer) -> None:
    source = MemorySource(ranges=False)
    source.image([pack(source, FILES)])
    paths = [path for path in listed(source) if path != "stargz.index.json"]
    assert paths == sorted(FILES)
    assert cat(source, "etc/big") == BIG


@pytest.mark.parametrize("pack", [zstd_chunked, estargz])
@pytest.mark.parametrize("chunk", [1 << 20, 100_000, 512 * 1024])
def test_a_table_of_contents_saves_reading_the_layer(
    pack: Callable[..., dict[str, Any]], chunk: int
) -> None:
    noise = b"".join(bytes.fromhex(sha256(str(n).encode())[7:]) for n in range(30_000))
    source = MemorySource()
    layer = pack(source, {"a": b"a" * 10, "noise": noise, "z": noise[:300_000]}, chunk=chunk)
    source.image([layer])
    assert listed(source) == ["a", "noise", "z"]
    assert cat(source, "a") == b"a" * 10
    assert source.read_of(layer["digest"], "open") == 0
    assert source.read_of(layer["digest"]) < 30_000
    assert cat(source, "noise") == noise
    assert cat(source, "z") == noise[:300_000]
    assert source.read_of(layer["digest"], "open") == 0


def test_layers_below_are_not_read() -> None:
    source = MemorySource()
    lower, upper = gzipped(source, {"a": b"old", "b": b""}), gzipped(source, {"a": b"new"})
    source.image([lower, upper])
    assert cat(source, "a") == b"new"
    assert source.read_of(lower["digest"]) == 0
    assert source.read_of(upper["digest"]) == upper["size"]


def test_unverified_reading_stops_at_the_file() -> None:
    source = MemorySource()
    noise = b"".join(bytes.fromhex(sha256(str(n).encode())[7:]) for n in range(60_000))
    for pack in (gzipped, plain):
        layer = pack(source, {"first": b"1", "noise": noise, "last": b"2"})
        source.image([layer])
        assert cat(source, "first", verify=False) == b"1"
        assert source.read_of(layer["digest"]) < 1_200_000 < layer["size"]


def test_unverified_listing_skips_the_content_of_uncompressed_layers() -> None:
    source = MemorySource()
    layer = plain(source, {"first": b"1", "zeros": bytes(20_000_000), "last": b"2"})
    source.image([layer])
    assert listed(source, verify=False) == ["first", "last", "zeros"]
    assert source.read_of(layer["digest"]) < 4_000_000


def test_a_file_behind_a_link_in_another_layer_is_read_again() -> None:
    source = MemorySource()
    source.image(
        [
            gzipped(source, {"bin": "-> usr/bin", "usr/bin/a": b"old"}),
            gzipped(source, {"usr/bin/a": b"new"}),
        ]
    )
    assert cat(source, "bin/a") == b"new"


# --- nothing unverified comes out


def spoil(source: MemorySource, layer: dict[str, Any], at: int = -30) -> None:
    """Change one byte of a blob, its digest kept."""
    digest = Digest.parse(layer["digest"])
    content = bytearray(source.blobs[digest])
    content[at] ^= 1
    source.blobs[digest] = bytes(content)


@pytest.mark.parametrize("at", [0, 600, 20_000, -600])
@pytest.mark.parametrize("pack", [plain, gzipped])
def test_spoiled_layers_print_nothing(pack: Packer, at: int) -> None:
    source = MemorySource()
    noise = b"".join(bytes.fromhex(sha256(str(n).encode())[7:]) for n in range(1_000))
    layer = pack(source, {"a": b"content", "noise": noise, "b": b""})
    source.image([layer])
    spoil(source, layer, at)
    out: list[bytes] = []
    with pytest.raises((DigestMismatch, InvalidArchive)):
        copy_file(source, AMD64, "a", out.append, task=Task())
    with pytest.raises((DigestMismatch, InvalidArchive)):
        listed(source)
    assert out == []


@pytest.mark.parametrize("pack", [zstd_chunked, estargz])
def test_spoiled_content_behind_a_table_prints_nothing(pack: Packer) -> None:
    source = MemorySource()
    noise = b"".join(bytes.fromhex(sha256(str(n).encode())[7:]) for n in range(1_000))
    layer = pack(source, {"a": b"content", "noise": noise})
    source.image([layer])
    out: list[bytes] = []
    spoil(source, layer, 20_000)
    with pytest.raises((DigestMismatch, InvalidArchive)):
        copy_file(source, AMD64, "noise", out.append, task=Task())
    assert out == []
    assert cat(source, "a") == b"content"


@pytest.mark.parametrize(("pack", "at"), [(zstd_chunked, -100), (estargz, -100)])
def test_a_spoiled_table_is_refused(pack: Packer, at: int) -> None:
    source = MemorySource()
    layer = pack(source, {f"a{n}": b"content" for n in range(100)})
    source.image([layer])
    spoil(source, layer, at)
    with pytest.raises((DigestMismatch, InvalidArchive)):
        listed(source)


def test_a_table_without_digest_prints_only_unverified() -> None:
    def strip(entries: list[dict[str, Any]]) -> None:
        for entry in entries:
            entry.pop("digest", None)

    source = MemorySource()
    source.image([zstd_chunked(source, {"a": b"content"}, edit=strip)])
    with pytest.raises(Unverified):
        cat(source, "a")
    assert cat(source, "a", verify=False) == b"content"


def edits(**changes: Any) -> Callable[[list[dict[str, Any]]], None]:
    def edit(entries: list[dict[str, Any]]) -> None:
        entries[0].update(changes)

    return edit


@pytest.mark.parametrize(
    "edit",
    [
        edits(offset=0),
        edits(offset=10**9),
        edits(endOffset=10**9),
        edits(offset=-1),
        edits(size="1"),
        edits(size=1 << 64),
        edits(type="socket"),
        edits(name=None),
        edits(name="../a"),
        edits(modtime="yesterday"),
        edits(modtime="2024-02-30T00:00:00Z"),
        edits(digest="sha256:0"),
        edits(xattrs={"a": "%"}),
        edits(xattrs=[1]),
        edits(linkName=3),
        lambda entries: entries.insert(0, {"type": "chunk", "name": "a"}),
        lambda entries: entries.append(3),
    ],
)
def test_malformed_tables_are_refused(edit: Callable[[list[Any]], Any]) -> None:
    source = MemorySource()
    source.image([zstd_chunked(source, {"a": b"content"}, edit=edit)])
    with pytest.raises(InvalidInput):
        listed(source)


def test_a_table_whose_file_is_longer_than_said_or_shorter() -> None:
    source = MemorySource()
    for size in (6, 8):
        source.image([zstd_chunked(source, {"a": b"content"}, edit=edits(size=size))])
        with pytest.raises((DigestMismatch, InvalidArchive)):
            cat(source, "a")


@pytest.mark.parametrize(
    ("annotation", "error"),
    [
        ("1:2:3", InvalidManifest),
        ("0:0:10:1", InvalidManifest),
        ("99999999:10:10:1", InvalidManifest),
        ("1:10:10:2", InvalidManifest),
        (f"8:10:{1 << 40}:1", LimitExceeded),
    ],
)
def test_malformed_positions_are_refused(annotation: str, error: type[Error]) -> None:
    source = MemorySource()
    layer = zstd_chunked(source, {"a": b"content"})
    layer["annotations"]["io.github.containers.zstd-chunked.manifest-position"] = annotation
    source.image([layer])
    with pytest.raises(error):
        listed(source)


def test_extended_attributes_and_devices_of_a_table() -> None:
    source = MemorySource()
    edit = edits(type="char", devMajor=1, devMinor=3, xattrs={"user.a": xattr(b"v")})
    source.image([zstd_chunked(source, {"null": b""}, edit=edit)])
    root, files = list_files(source, AMD64, task=Task())
    lines = list(file_lines(root, files))
    assert lines == ["crw-r--r-- 0/0                1,3 2024-02-29 12:00   0 null"]


# --- limits and malformed layers


def read_all(source: MemorySource, **options: Any) -> list[str]:
    """The files of all layers with scan options."""
    image = read_image(source, AMD64)
    with LayerReader(
        source, image.layers, task=Task(jobs=2), options=ScanOptions(**options)
    ) as reader:
        return [path for path, _ in walk(compose_all(reader.trees()))]


@pytest.mark.parametrize(
    "options",
    [
        {"layer_bytes": 100_000},
        {"entries": 3},
        {"files": FileLimits(nodes=3)},
        {"files": FileLimits(depth=2)},
    ],
)
def test_bombs_are_refused(options: dict[str, Any]) -> None:
    source = MemorySource()
    files = {"a": bytes(1_000_000), "b": b"", "c": b"", "d": b"", "e/f/g/h": b""}
    source.image([gzipped(source, files)])
    with pytest.raises(LimitExceeded):
        read_all(source, **options)


def test_files_of_all_layers_count_together() -> None:
    source = MemorySource()
    source.image([gzipped(source, {f"{n}": b""}) for n in range(5)])
    assert len(read_all(source, files=FileLimits(nodes=5))) == 5
    with pytest.raises(LimitExceeded):
        read_all(source, files=FileLimits(nodes=4))


@pytest.mark.parametrize(
    ("content", "media_type", "error"),
    [
        (b"no tar at all" * 100, mt.OCI_LAYER, InvalidArchive),
        (gzip.compress(tar_of({"a": b"x"}))[:-10], mt.OCI_LAYER_GZIP, InvalidArchive),
        (tar_of({"../a": b"x"}), mt.OCI_LAYER, InvalidInput),
        (b"{}", "application/vnd.in-toto+json", Unsupported),
        (b"", "application/vnd.oci.image.layer.v1.tar+encrypted", Unsupported),
    ],
)
def test_layers_that_are_none(content: bytes, media_type: str, error: type[Error]) -> None:
    source = MemorySource()
    source.image([source.blob(content, media_type)])
    with pytest.raises(error, match=r"^layer 0 "):
        listed(source)


def test_missing_cut_and_long_blobs() -> None:
    source = MemorySource()
    layer = gzipped(source, {"a": b"x"})
    digest = Digest.parse(layer["digest"])
    source.image([layer])
    content = source.blobs.pop(digest)
    with pytest.raises(BlobNotFound):
        listed(source)
    source.blobs[digest] = content[:-4]
    with pytest.raises((InvalidArchive, SizeMismatch)):
        listed(source)
    source.blobs[digest] = content + b"\0\0"
    with pytest.raises(SizeMismatch):
        listed(source)


def test_what_is_no_file_is_not_printed() -> None:
    source = MemorySource()
    source.image([gzipped(source, FILES)])
    for path, error in (("etc", InvalidInput), ("/", InvalidInput), ("nope", NotFound)):
        with pytest.raises(error):
            cat(source, path)


def test_media_types_may_lie_about_compression() -> None:
    source = MemorySource()
    source.image([source.blob(tar_of({"a": b"x"}), mt.OCI_LAYER_GZIP)])
    assert cat(source, "a") == b"x"


# --- listings


def test_paths_below_a_prefix() -> None:
    source = MemorySource()
    source.image([gzipped(source, {"usr/bin/a": b"", "usr/b": b"", "bin": "-> usr/bin"})])

    def below(path: str) -> list[str]:
        return listed(source, path=path)

    assert below("usr") == ["usr", "usr/b", "usr/bin", "usr/bin/a"]
    assert below("/usr/bin/") == ["usr/bin", "usr/bin/a"]
    assert below("bin") == ["bin"]
    assert below("bin/") == ["usr/bin", "usr/bin/a"]
    assert below("bin/a") == ["usr/bin/a"]
    assert below("/") == ["bin", "usr", "usr/b", "usr/bin", "usr/bin/a"]
    with pytest.raises(NotFound):
        below("nope")


def test_nothing_that_a_terminal_obeys_is_shown() -> None:
    source = MemorySource()
    names: Files = {"a\x1b[31m": b"", "b\nc": b"", "d\udcff": b"", "é\u202e": "-> \x1b]0;x\x07"}
    source.image([gzipped(source, names)])
    root, files = list_files(source, AMD64, task=Task())
    lines = list(file_lines(root, files))
    assert [line[line.rindex("  0 ") + 4 :] for line in lines] == [
        "a\\x1b[31m",
        "b\\nc",
        "d\\xff",
        "é\\u202e -> \\x1b]0;x\\x07",
    ]


def test_json_listings_keep_every_byte_of_a_name() -> None:
    source = MemorySource()
    source.image([gzipped(source, {"d\udcff": b"x", "e": "=> d\udcff"})])
    root, files = list_files(source, AMD64, task=Task())
    text = "\n".join(file_json(root, files))
    text.encode()
    value = json.loads(text)
    assert [os.fsencode(item["Path"]) for item in value] == [b"d\xff", b"e"]
    assert value[1]["HardLink"] == value[0]["Path"]
    assert value[0]["ModTime"] == "2024-02-29T12:00:00Z"
    assert list(file_json(root, iter(()))) == ["[]"]

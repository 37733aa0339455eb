"""Tables of contents as data: places, footers, times; anything else is a typed error."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgtools.blob.tar.entry import EntryType
from imgtools.errors import Error, InvalidArchive, InvalidManifest, LimitExceeded
from imgtools.image import toc
from imgtools.image.files import FileInfo, Span, TreeBuilder, compose, walk
from imgtools.image.union import Union
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest

SUM = "sha256:" + "a" * 64


def layer(size: int = 1000, **annotations: str) -> Descriptor:
    return Descriptor(
        media_type="", digest=Digest.parse(SUM), size=size, annotations=dict(annotations)
    )


def chunked(prefix: str, position: str, checksum: str = SUM) -> dict[str, str]:
    return {
        f"{prefix}zstd-chunked.manifest-checksum": checksum,
        f"{prefix}zstd-chunked.manifest-position": position,
    }


@pytest.mark.parametrize("prefix", toc.CHUNKED_PREFIXES)
def test_places(prefix: str) -> None:
    found = toc.place(layer(**chunked(prefix, "100:50:300:1")))
    assert found is not None
    assert (found.format, found.offset, found.length, found.content) == (
        "zstd:chunked",
        100,
        50,
        300,
    )
    assert toc.place(layer()) is None
    assert toc.place(layer(**{f"{prefix}zstd-chunked.manifest-checksum": SUM})) is None
    assert toc.place(layer(51, **{toc.ESTARGZ_DIGEST: SUM})) is None
    found = toc.place(layer(**{toc.ESTARGZ_DIGEST: SUM}))
    assert found is not None
    assert found.format == "estargz"


@pytest.mark.parametrize(
    ("annotations", "error"),
    [
        (chunked("io.containers.", "1:2:3"), InvalidManifest),
        (chunked("io.containers.", "-1:2:3:1"), InvalidManifest),
        (chunked("io.containers.", "990:11:3:1"), InvalidManifest),
        (chunked("io.containers.", "1:0:3:1"), InvalidManifest),
        (chunked("io.containers.", "1:1:99999999999:1"), LimitExceeded),
        (chunked("io.containers.", "1:1:1:1", "md5:x"), InvalidManifest),
        ({toc.ESTARGZ_DIGEST: "x"}, InvalidManifest),
    ],
)
def test_places_that_lie(annotations: dict[str, str], error: type[Error]) -> None:
    with pytest.raises(error):
        toc.place(layer(**annotations))


def footer(offset: bytes) -> bytes:
    return (
        b"\x1f\x8b\x08\x04\0\0\0\0\0\xff\x1a\0SG\x16\0"
        + offset
        + b"STARGZ\x01\0\0\xff\xff"
        + bytes(8)
    )


def test_footers() -> None:
    assert toc.estargz_offset(footer(b"%016x" % 500), layer()) == 500
    for bad in (footer(b"%016x" % 949), footer(b"f" * 16), footer(b"z" * 16), b"", bytes(51)):
        with pytest.raises(InvalidArchive):
            toc.estargz_offset(bad, layer())
    with pytest.raises(LimitExceeded):
        toc.estargz_offset(footer(b"%016x" % 500), layer(1 << 40))


def parsed(*entries: Any, end: int = 1000) -> dict[str, FileInfo]:
    document = json.dumps({"version": 1, "entries": entries}).encode()
    return dict(toc.parse(document, end=end, layer=3))


def reg(name: str, offset: int, **extra: Any) -> dict[str, Any]:
    return {"type": "reg", "name": name, "size": 10, "offset": offset, **extra}


def test_where_content_ends() -> None:
    found = parsed(
        reg("a", 10),
        reg("b", 50, chunkSize=4),
        {"type": "chunk", "name": "b", "offset": 70, "chunkOffset": 4},
        reg("c", 90, innerOffset=7),
        reg("d", 90, endOffset=95),
        {"type": "dir", "name": "e"},
    )
    assert [info.span for info in found.values()] == [
        Span(start=10, end=50),
        Span(start=50, end=90),
        Span(start=90, end=1000, skip=7),
        Span(start=90, end=95),
        None,
    ]
    assert {info.layer for info in found.values()} == {3}


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("2024-02-29T12:00:00Z", 1709208000 * 10**9),
        ("2024-02-29T12:00:00.25+01:00", (1709208000 - 3600) * 10**9 + 250_000_000),
        ("0001-01-01T00:00:00Z", -62135596800 * 10**9),
        ("", 0),
    ],
)
def test_times(text: str, ns: int) -> None:
    assert parsed({"type": "dir", "name": "a", "modtime": text})["a"].mtime_ns == ns


KEYS = st.sampled_from(
    ["type", "name", "size", "offset", "endOffset", "digest", "modtime", "xattrs", "linkName",
     "mode", "uid", "chunkOffset", "innerOffset"]
)  # fmt: skip
VALUES = st.one_of(
    st.none(), st.integers(), st.booleans(), st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(["reg", "chunk", "dir", "symlink", "hardlink", "a", "a/b", "..", SUM]),
    st.text(max_size=5), st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=3), st.text(max_size=4), max_size=2),
)  # fmt: skip


@given(st.lists(st.one_of(st.dictionaries(KEYS, VALUES), VALUES), max_size=5))
def test_any_table_is_read_or_refused(entries: list[Any]) -> None:
    builder = TreeBuilder()
    with contextlib.suppress(Error):
        for path, info in parsed(*entries).items():
            builder.add(path, info)
    list(walk(builder.root))


PATHS = st.text(alphabet="ab./\0\udcff", max_size=12)
KINDS = st.sampled_from([EntryType.FILE, EntryType.DIR, EntryType.SYMLINK, EntryType.HARDLINK])


@given(st.lists(st.tuples(PATHS, KINDS, PATHS), max_size=8), PATHS)
def test_any_names_make_a_tree_or_are_refused(
    members: list[tuple[str, EntryType, str]], path: str
) -> None:
    trees = [TreeBuilder(), TreeBuilder()]
    for number, (name, kind, target) in enumerate(members):
        with contextlib.suppress(Error):
            trees[number % 2].add(name, FileInfo(type=kind, linkname=target))
    lower, upper = (builder.root for builder in trees)
    for found, node in walk(compose(lower, upper)):
        assert ".." not in found.split("/")
        assert node.children is None or node.shown().type is EntryType.DIR
    with contextlib.suppress(Error):
        Union([lambda: lower, lambda: upper]).resolve(path)

"""The tar writer: what it writes comes back, everywhere, and always the same."""

from __future__ import annotations

import io
import subprocess
import tarfile
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgtools.blob.tar import Entry, EntryType, TarReader, TarWriter, header
from imgtools.errors import InvalidArchive, SizeMismatch


def written(*members: tuple[Entry, bytes], subsecond: bool = False) -> bytes:
    out: list[bytes] = []
    writer = TarWriter(out.append, subsecond=subsecond)
    for entry, data in members:
        at = writer.add(entry, data if entry.type is EntryType.FILE else None)
        assert at % 512 == 0
    writer.finish()
    raw = b"".join(out)
    assert len(raw) == writer.offset
    return raw


def read_back(raw: bytes) -> list[tuple[Entry, bytes]]:
    plain = {"stored_size": 0, "header_offset": -1, "data_offset": -1}
    return [(replace(e, **plain), d.read()) for e, d in TarReader(io.BytesIO(raw))]


TEXT = st.binary(min_size=1, max_size=40).map(
    lambda b: b.replace(b"\0", b"0").decode("utf-8", "surrogateescape")
)
PATHS = st.one_of(
    TEXT.map(lambda t: t.rstrip("/") or "x"),
    st.lists(st.sampled_from(["a", "bc", "d" * 60, "é"]), min_size=1, max_size=8).map("/".join),
)
ENTRIES = st.builds(
    Entry,
    path=PATHS,
    type=st.sampled_from([EntryType.FILE, EntryType.HARDLINK, EntryType.SYMLINK, EntryType.FIFO]),
    mode=st.integers(0, 0o7777),
    uid=st.integers(0, 1 << 33),
    gid=st.integers(0, 1 << 33),
    uname=st.one_of(st.just(""), TEXT),
    gname=st.one_of(st.just(""), TEXT),
    mtime_ns=st.integers(-(1 << 62), 1 << 62),
    linkname=PATHS,
    xattrs=st.dictionaries(
        st.sampled_from(["user.a", "security.capability", "user.é"]),
        st.binary(max_size=30),
        max_size=3,
    ),
    pax=st.dictionaries(st.sampled_from(["comment", "vendor.x"]), TEXT, max_size=2),
)


@given(st.lists(st.tuples(ENTRIES, st.binary(max_size=1500)), max_size=4))
@settings(max_examples=150, deadline=None)
def test_round_trip(members: list[tuple[Entry, bytes]]) -> None:
    for entry, data in members:
        entry.size = len(data) if entry.type is EntryType.FILE else 0
    expected = [(e, d if e.type is EntryType.FILE else b"") for e, d in members]
    raw = written(*members, subsecond=True)
    assert read_back(raw) == expected
    assert written(*members, subsecond=True) == raw
    with tarfile.open(fileobj=io.BytesIO(raw), errors="surrogateescape") as archive:
        infos = archive.getmembers()
    assert [i.name for i in infos] == [e.path for e, _ in members]
    assert [(i.uid, i.gid, i.mode) for i in infos] == [(e.uid, e.gid, e.mode) for e, _ in members]


def listing(raw: bytes) -> str:
    command = ["tar", "--numeric-owner", "--full-time", "-tvf", "-"]
    env = {"TZ": "UTC", "LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, input=raw, check=True, capture_output=True, env=env)
    assert done.stderr == b""
    return done.stdout.decode()


def test_gnu_tar_reads_it() -> None:
    raw = written(
        (Entry(path="dir", type=EntryType.DIR, mode=0o1777, uid=5_000_000), b""),
        (Entry(path="p/" * 60 + "q", size=3, mtime_ns=10**18, gid=7), b"abc"),
        (Entry(path="p/" * 180 + "é", size=1, mode=0o4755), b"x"),
        (Entry(path="sym", type=EntryType.SYMLINK, linkname="t" * 120), b""),
        (Entry(path="dev", type=EntryType.CHAR, devmajor=4, devminor=64), b""),
    )
    lines = listing(raw).splitlines()
    assert lines[0].split() == ["drwxrwxrwt", "5000000/0", "0", "1970-01-01", "00:00:00", "dir/"]
    assert lines[1].split()[:5] == ["-rw-r--r--", "0/7", "3", "2001-09-09", "01:46:40"]
    assert lines[2].startswith("-rwsr-xr-x")
    assert lines[3].endswith("sym -> " + "t" * 120)
    assert "4,64" in lines[4]


@pytest.mark.parametrize(
    ("entry", "blocks"),
    [
        (Entry(path="a"), 1),
        (Entry(path="a" * 100), 1),
        (Entry(path="a" * 101), 3),
        (Entry(path="p" * 155 + "/" + "n" * 100), 1),
        (Entry(path="p" * 156 + "/" + "n"), 3),
        (Entry(path="é"), 3),
        (Entry(path="a", uid=0o7777777), 1),
        (Entry(path="a", uid=0o10000000), 3),
        (Entry(path="a", mtime_ns=-1), 3),
        (Entry(path="a", mtime_ns=1_500_000_000), 1),
        (Entry(path="a", type=EntryType.SYMLINK, linkname="l" * 101), 3),
        (Entry(path="a", uname="u" * 32), 1),
        (Entry(path="a", uname="u" * 33), 3),
        (Entry(path="a", size=0o77777777777), 1),
        (Entry(path="a", size=0o100000000000), 3),
        (Entry(path="a", xattrs={"user.x": b""}), 3),
    ],
)
def test_pax_only_when_needed(entry: Entry, blocks: int) -> None:
    raw = header.encode(entry)
    assert len(raw) == blocks * 512
    assert raw[-512 + 257 : -512 + 265] == b"ustar\x0000"


def test_seconds_are_cut_off_downwards_unless_kept() -> None:
    for ns, whole in ((1_999_999_999, 1), (-1, -1)):
        entry = Entry(path="a", mtime_ns=ns)
        assert read_back(written((entry, b"")))[0][0].mtime_ns == whole * 10**9
        assert read_back(written((entry, b""), subsecond=True))[0][0].mtime_ns == ns


def test_end_is_two_blocks() -> None:
    raw = written((Entry(path="a", size=3), b"abc"))
    assert len(raw) == 512 * 4
    assert raw[-1024:] == bytes(1024)
    assert written() == bytes(1024)


@pytest.mark.parametrize(
    "entry",
    [
        Entry(path=""),
        Entry(path="a\0b"),
        Entry(path="a/"),
        Entry(path="a", linkname="\0", type=EntryType.SYMLINK),
        Entry(path="\ud800"),
        Entry(path="a", uid=-1),
        Entry(path="a", type=EntryType.CHAR, devmajor=1 << 22),
        Entry(path="a", pax={"path": "b"}),
        Entry(path="a", pax={"GNU.sparse.map": "0,1"}),
        Entry(path="a", pax={"comment": ""}),
        Entry(path="a", xattrs={"": b""}),
        Entry(path="a", xattrs={"user.a=b": b""}),
    ],
)
def test_refuses_what_no_tar_can_hold(entry: Entry) -> None:
    with pytest.raises(InvalidArchive):
        written((entry, b""))


@pytest.mark.parametrize("actual", [b"", b"ab", b"abcd"])
def test_data_must_be_as_long_as_announced(actual: bytes) -> None:
    for data in (actual, io.BytesIO(actual)):
        with pytest.raises(SizeMismatch):
            TarWriter(lambda _: None).add(Entry(path="a", size=3), data)
    with pytest.raises(SizeMismatch):
        TarWriter(lambda _: None).add(Entry(path="a", size=3))


def test_copies_streams_in_pieces() -> None:
    sizes: list[int] = []
    writer = TarWriter(lambda chunk: sizes.append(len(chunk)))
    data = bytes(3_000_001)
    writer.add(Entry(path="a", size=len(data)), io.BytesIO(data))
    writer.finish()
    assert max(sizes) < 600_000
    assert sum(sizes) == writer.offset == 512 * (1 + 5860 + 2)

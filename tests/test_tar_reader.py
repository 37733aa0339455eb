"""The tar reader against other writers, damage and hostile headers."""

from __future__ import annotations

import base64
import io
import os
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imgtools.blob.tar import (
    Entry,
    EntryType,
    TarLimits,
    TarReader,
    clean_path,
    fields,
    header,
    index_tar,
    pax,
)
from imgtools.errors import Error, InvalidArchive, LimitExceeded, UnsafePath, Unsupported

END = bytes(1024)


def read_all(raw: bytes, limits: TarLimits | None = None) -> list[tuple[Entry, bytes]]:
    return [(e, d.read()) for e, d in TarReader(io.BytesIO(raw), limits=limits)]


def record(key: str, value: bytes) -> tuple[bytes, bytes]:
    return key.encode(), value


def extended(records: list[tuple[bytes, bytes]], flag: bytes = b"x") -> bytes:
    body = pax.format_records(records)
    return special(flag, body)


def special(flag: bytes, body: bytes) -> bytes:
    return header.block(b"special", flag, size=len(body)) + body + bytes(-len(body) % 512)


def member(name: bytes = b"f", data: bytes = b"", flag: bytes = b"0") -> bytes:
    return header.block(name, flag, mode=0o644, size=len(data)) + data + bytes(-len(data) % 512)


def rewritten(block: bytes, at: int, value: bytes) -> bytes:
    """`block` with some bytes replaced and the checksum made right again."""
    raw = block[:at] + value + block[at + len(value) :]
    raw = raw[:148] + b" " * 8 + raw[156:]
    return raw[:148] + b"%06o\0 " % sum(raw[:512]) + raw[156:]


class Trickle(io.RawIOBase):
    """A stream that cannot seek and gives a few bytes at a time."""

    def __init__(self, raw: bytes, step: int) -> None:
        self._raw = io.BytesIO(raw)
        self._step = step

    def read(self, n: int = -1, /) -> bytes:
        return self._raw.read(min(n, self._step))


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tree")
    (root / "dir").mkdir(mode=0o711)
    (root / "empty").touch()
    (root / "small").write_bytes(b"hello")
    (root / "block").write_bytes(os.urandom(1024))
    (root / "big").write_bytes(os.urandom(700_001))
    (root / "dir" / ("n" * 90)).write_bytes(b"x" * 513)
    (root / "sym").symlink_to("small")
    os.link(root / "small", root / "hard")
    os.mkfifo(root / "fifo")
    os.utime(root / "small", ns=(1_600_000_000_123_456_789,) * 2)
    return root


def add_long_names(root: Path) -> None:
    deep = root / ("d" * 120) / ("e" * 120)
    deep.mkdir(parents=True)
    (deep / ("f" * 150)).write_bytes(b"deep")
    (root / "longlink").symlink_to("t" * 300)


def gnu_tar(root: Path, *options: str) -> bytes:
    command = ["tar", *options, "-C", str(root), "-cf", "-", "."]
    return subprocess.run(command, check=True, capture_output=True).stdout


def compare(raw: bytes, found: list[tuple[Entry, bytes]]) -> None:
    """`found` is what Python's tarfile reads from `raw`."""
    with tarfile.open(fileobj=io.BytesIO(raw)) as reference:
        members = reference.getmembers()
        assert [e.path.rstrip("/") for e, _ in found] == [m.name for m in members]
        for info, (entry, data) in zip(members, found, strict=True):
            assert entry.mode == info.mode
            assert (entry.uid, entry.gid) == (info.uid, info.gid)
            assert (entry.uname, entry.gname) == (info.uname, info.gname)
            assert entry.mtime == int(info.mtime)
            assert entry.linkname == info.linkname
            assert (entry.type is EntryType.DIR) == info.isdir()
            assert (entry.type is EntryType.SYMLINK) == info.issym()
            assert (entry.type is EntryType.HARDLINK) == info.islnk()
            if info.isreg():
                extracted = reference.extractfile(info)
                assert extracted is not None
                assert extracted.read() == data
                assert entry.size == len(data)
                assert entry.data_offset == info.offset_data or info.issparse()


@pytest.mark.parametrize("form", ["v7", "oldgnu", "gnu", "ustar", "pax"])
def test_reads_what_gnu_tar_writes(tree: Path, form: str) -> None:
    raw = gnu_tar(tree, f"--format={form}", *(["--exclude=fifo"] if form == "v7" else []))
    compare(raw, read_all(raw))


@pytest.mark.parametrize("form", ["oldgnu", "gnu", "pax"])
def test_reads_long_names_of_gnu_tar(tmp_path: Path, form: str) -> None:
    add_long_names(tmp_path)
    raw = gnu_tar(tmp_path, f"--format={form}", "--owner=:3000000000", "--group=:2097152")
    found = read_all(raw)
    compare(raw, found)
    assert found[-1][0].uid == 3_000_000_000
    assert {e.linkname for e, _ in found} == {"", "t" * 300}


@pytest.mark.parametrize("form", ["USTAR_FORMAT", "GNU_FORMAT", "PAX_FORMAT"])
def test_reads_what_tarfile_writes(form: str) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=getattr(tarfile, form)) as archive:
        for name in ("short", "a/" * 60 + "b", "dé/ü", "x" * 99, "x" * 100):
            info = tarfile.TarInfo(name)
            info.size, info.mtime, info.uid = 3, 1_700_000_000, 1234
            archive.addfile(info, io.BytesIO(b"abc"))
        device = tarfile.TarInfo("dev")
        device.type, device.devmajor, device.devminor = tarfile.CHRTYPE, 5, 259
        archive.addfile(device)
    found = read_all(out.getvalue())
    compare(out.getvalue(), found)
    assert (found[-1][0].devmajor, found[-1][0].devminor) == (5, 259)


@pytest.mark.parametrize(
    "options",
    [
        ["--format=gnu"],
        ["--format=oldgnu"],
        ["--format=pax", "--sparse-version=0.0"],
        ["--format=pax", "--sparse-version=0.1"],
        ["--format=pax", "--sparse-version=1.0"],
    ],
    ids=lambda o: "-".join(o),
)
def test_sparse(tmp_path: Path, options: list[str]) -> None:
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        for at in range(60):  # more runs than the header of the old format holds
            file.seek(at * 16_384)
            file.write(bytes([at + 1]) * 4096)
        file.truncate(2_000_000)
    found = read_all(gnu_tar(tmp_path, "--sparse", *options))
    entry, data = found[-1]
    assert entry.path == "./sparse"
    assert data == path.read_bytes()
    assert entry.sparse is not None
    assert entry.stored_size == sum(length for _, length in entry.sparse) < entry.size


def test_xattrs_of_gnu_tar(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x")
    os.setxattr(tmp_path / "f", "user.note", b"a\0b=\n")
    found = read_all(gnu_tar(tmp_path, "--xattrs", "--format=pax"))
    assert found[-1][0].xattrs == {"user.note": b"a\0b=\n"}


def test_libarchive_xattrs_and_precedence() -> None:
    records = [
        record("LIBARCHIVE.xattr.user.a%20b", base64.b64encode(b"\0one").rstrip(b"=")),
        record("LIBARCHIVE.xattr.user.both", base64.b64encode(b"no")),
        record("SCHILY.xattr.user.both", b"yes"),
        record("comment", b"kept"),
    ]
    entry, _ = read_all(extended(records) + member() + END)[0]
    assert entry.xattrs == {"user.a b": b"\0one", "user.both": b"yes"}
    assert entry.pax == {"comment": "kept"}


def test_extended_records_override_the_header() -> None:
    raw = extended(
        [
            record("path", "dir/ü".encode()),
            record("size", b"3"),
            record("uid", b"4000000000"),
            record("gid", b"-1"),
            record("mtime", b"-1.5"),
            record("uname", b""),
            record("hdrcharset", b"BINARY"),
        ]
    )
    raw += rewritten(member(b"f"), 265, b"owner") + b"abc".ljust(512, b"\0") + END
    entry, data = read_all(raw)[0]
    assert (entry.path, entry.size, data) == ("dir/ü", 3, b"abc")
    assert (entry.uid, entry.gid, entry.mtime_ns) == (4_000_000_000, -1, -1_500_000_000)
    assert (entry.uname, entry.pax) == ("owner", {})


def test_global_records_last_until_deleted() -> None:
    raw = extended([record("uid", b"7"), record("gid", b"8")], b"g")
    raw += member(b"a") + extended([record("uid", b"9")]) + member(b"b")
    raw += extended([record("uid", b"")], b"g") + member(b"c") + END
    assert [(e.path, e.uid, e.gid) for e, _ in read_all(raw)] == [
        ("a", 7, 8),
        ("b", 9, 8),
        ("c", 0, 8),
    ]


def test_base256_numbers() -> None:
    for value in (-1, -(1 << 62), 1 << 40, 0o77777777777):
        raw = rewritten(member(), 136, (value & ((1 << 95) - 1) | 1 << 95).to_bytes(12, "big"))
        assert read_all(raw + END)[0][0].mtime == value


def test_old_conventions() -> None:
    signed = rewritten(member("ü".encode()), 0, b"\xc3\xbc")
    total = sum(b - 256 if b > 127 else b for b in signed[:148] + b" " * 8 + signed[156:512])
    signed = signed[:148] + b"%06o\0 " % total + signed[156:]
    slash = rewritten(member(b"olddir/", flag=b"\0"), 257, bytes(8))
    contiguous = member(b"seven", b"abc", b"7")
    label = member(b"label", flag=b"V")
    found = read_all(label + signed + slash + contiguous + END)
    assert [(e.path, e.type) for e, _ in found] == [
        ("ü", EntryType.FILE),
        ("olddir/", EntryType.DIR),
        ("seven", EntryType.FILE),
    ]
    assert found[2][1] == b"abc"


def test_hard_link_with_and_without_data() -> None:
    link = rewritten(header.block(b"l", b"1", link=b"f"), 124, b"%011o\0" % 3)
    after = member(b"z", b"zz")
    with_data = link + b"abc".ljust(512, b"\0") + after + END
    for raw in (with_data, link + after + END, link + END, link):
        found = read_all(raw)
        assert found[0][0].type is EntryType.HARDLINK
        assert found[0][0].size == 0
        assert [d for _, d in found[1:]] in ([b"zz"], [])


@pytest.mark.parametrize(
    ("tail", "names"),
    [
        (b"", ["f"]),
        (bytes(512), ["f"]),
        (END, ["f"]),
        (END + b"garbage" * 1000, ["f"]),
        (END + member(b"hidden"), ["f"]),
        (bytes(10240), ["f"]),
    ],
)
def test_end_of_archive(tail: bytes, names: list[str]) -> None:
    raw = member(b"f", b"abc") + tail
    assert [e.path for e, _ in read_all(raw)] == names
    assert [e.path for e, _ in index_tar(io.BytesIO(raw))] == names


def test_padding_may_be_missing_at_the_end() -> None:
    assert read_all(member(b"f", b"abc")[:515])[0][1] == b"abc"
    assert read_all(b"") == []


BAD: dict[str, bytes] = {
    "not a tar": b"hello world " * 100,
    "short": b"x" * 100,
    "cut header": member()[:300],
    "cut second header": member() + member()[:100],
    "cut data": member(b"f", b"x" * 1000)[:800],
    "zero block amid": member() + bytes(512) + member(),
    "zero block, then part": member() + bytes(600),
    "checksum": member()[:20] + b"x" + member()[21:],
    "checksum not octal": member()[:148] + b"zzzzzzzz" + member()[156:],
    "size not octal": rewritten(member(), 124, b"0000000000z\0"),
    "size with digit 8": rewritten(member(), 124, b"00000000008\0"),
    "size negative": rewritten(member(), 124, b"\xff" * 12),
    "size huge": rewritten(member(), 124, b"\x80\0\0\0" + b"\x7f" + b"\xff" * 7),
    "size beyond 64 bits": rewritten(member(), 124, b"\xbf" + b"\xff" * 11),
    "uid signed": rewritten(member(), 108, b"-000001\0"),
    "uid underscore": rewritten(member(), 108, b"0_00001\0"),
    "type": member(flag=b"q"),
    "pax length missing": special(b"x", b"path=x\n") + member(),
    "pax length wrong": special(b"x", b"99 path=x\n") + member(),
    "pax length short": special(b"x", b"5 path=x\n") + member(),
    "pax no newline": special(b"x", b"10 path=xx") + member(),
    "pax no equals": special(b"x", b"9 pathxx\n") + member(),
    "pax length zero": special(b"x", b"0 path=xx\n") + member(),
    "pax empty key": special(b"x", b"6 =xx\n") + member(),
    "pax nul in path": extended([record("path", b"a\0b")]) + member(),
    "pax size": extended([record("size", b"1e3")]) + member(),
    "pax size negative": extended([record("size", b"-5")]) + member(),
    "pax size huge": extended([record("size", b"9" * 30)]) + member(),
    "pax mtime": extended([record("mtime", b"1.x")]) + member(),
    "pax mtime empty": extended([record("mtime", b".5")]) + member(),
    "pax cut": extended([record("path", b"a")])[:700],
    "pax body cut": extended([record("path", b"a")])[:515],
    "pax then end": extended([record("path", b"a")]) + END,
    "pax then eof": extended([record("path", b"a")]),
    "xattr base64": extended([record("LIBARCHIVE.xattr.user.a", b"@@@")]) + member(),
    "xattr percent": extended([record("LIBARCHIVE.xattr.a%zz", b"")]) + member(),
    "xattr no name": extended([record("SCHILY.xattr.", b"x")]) + member(),
    "global path": extended([record("path", b"a")], b"g") + member(),
    "sparse old without gnu": member(flag=b"S"),
    "sparse version": extended([record("GNU.sparse.major", b"2")]) + member(),
    "sparse order": special(b"x", b"25 GNU.sparse.numbytes=1\n") + member(),
    "sparse count": extended(
        [record("GNU.sparse.map", b"0,1"), record("GNU.sparse.numblocks", b"2")]
    )
    + member(),
    "sparse outside": extended(
        [
            record("GNU.sparse.map", b"5,3"),
            record("GNU.sparse.numblocks", b"1"),
            record("GNU.sparse.size", b"6"),
        ]
    )
    + member(b"f", b"abc"),
    "sparse overlap": extended(
        [
            record("GNU.sparse.map", b"5,2,6,1"),
            record("GNU.sparse.numblocks", b"2"),
            record("GNU.sparse.size", b"60"),
        ]
    )
    + member(b"f", b"abc"),
    "sparse negative": extended(
        [
            record("GNU.sparse.map", b"-5,3"),
            record("GNU.sparse.numblocks", b"1"),
            record("GNU.sparse.size", b"60"),
        ]
    )
    + member(b"f", b"abc"),
    "sparse 1.0 cut": extended([record("GNU.sparse.major", b"1"), record("GNU.sparse.minor", b"0")])
    + member(b"f", b"abc"),
}


@pytest.mark.parametrize("case", BAD)
def test_malformed(case: str) -> None:
    with pytest.raises(InvalidArchive):
        read_all(BAD[case] + (END if case == "cut" else b""))


@pytest.mark.parametrize("flag", [b"M", b"N", b"X"])
def test_vendor_types_are_unsupported(flag: bytes) -> None:
    with pytest.raises(Unsupported):
        read_all(member(flag=flag))


@pytest.mark.parametrize(
    ("raw", "limits"),
    [
        (member() * 3, TarLimits(entries=2)),
        (extended([record("path", b"x" * 3000)]) + member(), TarLimits(header_bytes=2048)),
        (extended([record("path", b"x" * 3000)]) + member(), TarLimits(path_bytes=2999)),
        (special(b"L", b"x" * 3000) + member(), TarLimits(path_bytes=2999)),
        (special(b"K", b"x" * 3000) + member(), TarLimits(path_bytes=2999)),
        (special(b"L", b"x") * 5 + member(), TarLimits(headers=4)),
        (
            extended([record(f"SCHILY.xattr.user.{i}", b"") for i in range(4)]) + member(),
            TarLimits(xattrs=3),
        ),
        (
            extended([record("GNU.sparse.major", b"1"), record("GNU.sparse.minor", b"0")])
            + member(b"f", b"1000000\n" + b"1\n" * 40_000),
            TarLimits(header_bytes=20_000),
        ),
        (header.block(b"x", b"x", size=1 << 32), TarLimits()),
    ],
)
def test_limits(raw: bytes, limits: TarLimits) -> None:
    with pytest.raises(LimitExceeded):
        read_all(raw, limits)


def sample() -> bytes:
    sparse = [
        record("GNU.sparse.major", b"1"),
        record("GNU.sparse.minor", b"0"),
        record("GNU.sparse.name", b"holes"),
        record("GNU.sparse.realsize", b"5000"),
    ]
    holes = b"2\n0\n3\n4096\n2\n".ljust(512, b"\0") + b"abcde"
    return (
        member(b"f", b"abc" * 400)
        + extended([record("mtime", b"1.25"), record("SCHILY.xattr.user.a", b"\0")])
        + member(b"dir/", flag=b"5")
        + special(b"L", b"long" * 50 + b"\0")
        + header.block(b"l", b"1", link=b"f")
        + extended(sparse)
        + member(b"s", holes)
        + END
    )


def test_sample_is_read_whole_from_any_stream() -> None:
    expected = read_all(sample())
    assert expected[3][1] == b"abc" + bytes(4093) + b"de" + bytes(902)
    for step in (1, 7, 512, 513, 100_000):
        assert [(e, d.read()) for e, d in TarReader(Trickle(sample(), step))] == expected
    offsets = index_tar(io.BytesIO(sample()))
    assert [e for e, _ in offsets] == [e for e, _ in expected]
    assert all(e.data_offset == at for e, at in offsets)
    assert sample()[offsets[0][1] :][:6] == b"abcabc"


def test_index_notices_missing_data() -> None:
    with pytest.raises(InvalidArchive, match="cut"):
        index_tar(io.BytesIO(member(b"f", b"x" * 5000)[:3000]))


def test_data_may_be_left_unread_but_not_read_late() -> None:
    reader = iter(TarReader(Trickle(member(b"a", b"x" * 9000) + member(b"b", b"y"), 100)))
    _, first = next(reader)
    assert first.read(5) == b"xxxxx"
    _, second = next(reader)
    assert second.read() == b"y"
    with pytest.raises(ValueError, match="moved on"):
        first.read(1)


def test_drain_counts_and_limits_what_follows() -> None:
    raw = member() + END + b"x" * 5000
    reader = TarReader(io.BytesIO(raw))
    assert reader.drain() == 5000
    assert reader.offset == len(raw)
    with pytest.raises(LimitExceeded):
        TarReader(Trickle(raw, 100)).drain(limit=4000)


@given(st.lists(st.tuples(st.integers(0, len(sample()) - 1), st.integers(0, 255)), max_size=8))
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
def test_mutations_raise_nothing_else(changes: list[tuple[int, int]]) -> None:
    raw = bytearray(sample())
    for at, value in changes:
        raw[at] = value
    for start in range(0, len(raw) - 512, 512):  # let the change through the checksum
        block = bytes(raw[start : start + 512])
        if any(start <= at < start + 512 for at, _ in changes) and block[257:262] == b"ustar":
            raw[start : start + 512] = rewritten(block, 0, b"")
    check(bytes(raw))


def check(raw: bytes) -> None:
    """Read `raw` in both ways; only imgtools errors may come out."""
    small = TarLimits(entries=100)
    try:
        for _entry, data in TarReader(io.BytesIO(raw), limits=small):
            data.read(1 << 16)
    except Error:
        pass
    try:
        index_tar(io.BytesIO(raw), limits=small)
    except Error:
        pass


@given(st.binary(max_size=3000), st.integers(0, 600))
@settings(max_examples=100, deadline=None)
def test_pax_bodies_raise_nothing_else(body: bytes, cut: int) -> None:
    raw = special(b"x", body) + member(b"f", b"abc")
    check(raw)
    check(raw[: len(raw) - cut])


def test_clean_path() -> None:
    assert clean_path("/./a//b/./c/") == "a/b/c"
    assert clean_path("./") == ""
    with pytest.raises(UnsafePath):
        clean_path("a/../b")


@given(st.integers(-(1 << 62), 1 << 62))
def test_times_round_trip(ns: int) -> None:
    assert pax.parse_time(pax.format_time(ns), "mtime") == ns


@given(st.binary(min_size=512, max_size=512))
def test_byte_sum(block: bytes) -> None:
    assert fields.byte_sum(block) == sum(block)

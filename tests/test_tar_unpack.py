"""Unpacking: hostile archives stay inside, honest ones come out as container runtimes do it."""

from __future__ import annotations

import io
import os
import stat
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imgtools.blob.tar import (
    Devices,
    Entry,
    EntryType,
    TarLimits,
    TarWriter,
    UnpackOptions,
    UnpackResult,
    Whiteouts,
    Xattrs,
    unpack_tree,
)
from imgtools.errors import (
    Error,
    InvalidArchive,
    LimitExceeded,
    StorageError,
    UnsafePath,
    Unsupported,
)


def file(path: str, data: str = "new", mode: int = 0o644) -> tuple[Entry, bytes]:
    entry = Entry(path=path, mode=mode, size=len(data), uid=os.getuid(), gid=os.getgid())
    return entry, data.encode()


def other(
    path: str, kind: EntryType, link: str = "", mode: int = 0o755, mtime_ns: int = 0
) -> tuple[Entry, bytes]:
    entry = Entry(path=path, type=kind, linkname=link, mode=mode, mtime_ns=mtime_ns)
    entry.uid, entry.gid = os.getuid(), os.getgid()
    return entry, b""


def directory(path: str, mode: int = 0o755, mtime_ns: int = 0) -> tuple[Entry, bytes]:
    return other(path, EntryType.DIR, mode=mode, mtime_ns=mtime_ns)


def symlink(path: str, target: str) -> tuple[Entry, bytes]:
    return other(path, EntryType.SYMLINK, target)


def hardlink(path: str, target: str) -> tuple[Entry, bytes]:
    return other(path, EntryType.HARDLINK, target)


def archive(*members: tuple[Entry, bytes]) -> bytes:
    out: list[bytes] = []
    writer = TarWriter(out.append)
    for entry, data in members:
        writer.add(entry, data)
    writer.finish()
    return b"".join(out)


def unpack(
    root: Path, *members: tuple[Entry, bytes], options: UnpackOptions | None = None
) -> UnpackResult:
    return unpack_tree(io.BytesIO(archive(*members)), str(root), options)


def shape(root: Path) -> dict[str, str]:
    """Every path below `root`: a file's text, "-> target" of a link, "dir", "fifo"."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if path.is_symlink():
            found[name] = f"-> {path.readlink()}"
        elif path.is_file():
            found[name] = path.read_text()
        else:
            found[name] = "dir" if path.is_dir() else "fifo"
    return found


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root with a neighbour that nothing may touch."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text("secret")
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


@pytest.fixture(autouse=True)
def outside_untouched(root: Path) -> object:
    yield
    outside = root.parent / "outside"
    assert shape(outside) == {"secret": "secret"}
    assert (outside / "secret").stat().st_nlink == 1
    assert {p.name for p in root.parent.iterdir()} == {"outside", "root"}


REFUSED = {
    "dotdot": ([file("../outside/x")], UnsafePath),
    "dotdot within": ([file("a/../../outside/x")], UnsafePath),
    "dotdot last": ([directory("a/..")], UnsafePath),
    "dotdot whiteout": ([file("../outside/.wh.secret", "")], UnsafePath),
    "hardlink dotdot": ([hardlink("l", "../outside/secret")], UnsafePath),
    "hardlink missing": ([hardlink("l", "nowhere")], InvalidArchive),
    "hardlink missing directory": ([hardlink("l", "no/where")], InvalidArchive),
    "hardlink to root": ([hardlink("l", "/")], InvalidArchive),
    "hardlink to directory": ([directory("d"), hardlink("l", "d")], InvalidArchive),
    "hardlink through symlink": (
        [symlink("s", "../outside"), hardlink("l", "s/secret")],
        InvalidArchive,
    ),
    "parent is a file": ([file("f"), file("f/x")], InvalidArchive),
    "symlink loop": ([symlink("a", "b"), symlink("b", "a"), file("a/x")], UnsafePath),
    "symlink to itself": ([symlink("a", "a"), file("a/x")], UnsafePath),
    "symlink growing": ([symlink("a", "a/a/a/a"), file("a/x")], UnsafePath),
    "long name": ([file("n" * 256)], InvalidArchive),
    "long target": ([symlink("s", "t" * 5000)], InvalidArchive),
    "no name": ([file("./.")], InvalidArchive),
    "device": ([other("d", EntryType.CHAR)], Unsupported),
    "block device": ([other("d", EntryType.BLOCK)], Unsupported),
    "whiteout of nothing": ([file("a/.wh.", "")], InvalidArchive),
    "whiteout of parent": ([directory("a"), file("a/.wh...", "")], InvalidArchive),
    "inside a whiteout": ([file("a/.wh.b/c")], InvalidArchive),
    "symlink without target": ([symlink("s", "")], InvalidArchive),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(root: Path, case: str) -> None:
    members, error = REFUSED[case]
    with pytest.raises(error):
        unpack(root, *members)


STAYS_INSIDE = {
    "absolute": ([file("/etc/x")], {"etc": "dir", "etc/x": "new"}),
    "dots and slashes": ([file(".//a/.//x")], {"a": "dir", "a/x": "new"}),
    "absolute symlink, then through it": (
        [symlink("s", "/outside"), file("s/x")],
        {"s": "-> /outside", "outside": "dir", "outside/x": "new"},
    ),
    "relative symlink, then through it": (
        [symlink("s", "../../outside"), file("s/x")],
        {"s": "-> ../../outside", "outside": "dir", "outside/x": "new"},
    ),
    "symlink chain": (
        [
            directory("usr/lib"),
            symlink("lib", "usr/lib"),
            symlink("usr/lib/x", ".."),
            file("lib/x/f"),
        ],
        {"usr": "dir", "usr/lib": "dir", "lib": "-> usr/lib", "usr/lib/x": "-> ..", "usr/f": "new"},
    ),
    "last component is not followed": (
        [symlink("s", "../outside/secret"), file("s")],
        {"s": "new"},
    ),
    "hardlink to a symlink links the link": (
        [symlink("s", "../outside/secret"), hardlink("l", "s")],
        {"s": "-> ../outside/secret", "l": "-> ../outside/secret"},
    ),
    "hardlink to a symlink, then written": (
        [symlink("s", "../outside/secret"), hardlink("l", "s"), file("l")],
        {"s": "-> ../outside/secret", "l": "new"},
    ),
    "directory over symlink": (
        [symlink("s", "../outside"), directory("s"), file("s/x")],
        {"s": "dir", "s/x": "new"},
    ),
    "symlink over directory": (
        [directory("d"), file("d/x"), symlink("d", "../outside"), file("d/y")],
        {"d": "-> ../outside", "outside": "dir", "outside/y": "new"},
    ),
    "file over directory": ([file("d/e/x"), file("d")], {"d": "new"}),
    "directory over file": ([file("d"), directory("d/")], {"d": "dir"}),
    "file twice": ([file("f", "old"), file("f", "second")], {"f": "second"}),
    "second write leaves the other link": (
        [file("f", "old"), hardlink("l", "f"), file("f", "second")],
        {"f": "second", "l": "old"},
    ),
    "hardlink to itself": ([file("f"), hardlink("f", "./f")], {"f": "new"}),
    "hardlink over file": (
        [file("f"), file("l", "old"), hardlink("l", "/f")],
        {"f": "new", "l": "new"},
    ),
    "fifo": ([other("p", EntryType.FIFO)], {"p": "fifo"}),
    "newline and escape": ([file("a\nb\x1b[0m")], {"a\nb\x1b[0m": "new"}),
    "dangling parent link": (
        [symlink("s", "not/yet"), file("s/x")],
        {"s": "-> not/yet", "not": "dir", "not/yet": "dir", "not/yet/x": "new"},
    ),
    "trailing slash": ([directory("d///"), symlink("s", "d/")], {"d": "dir", "s": "-> d"}),
}


@pytest.mark.parametrize("case", STAYS_INSIDE)
def test_stays_inside(root: Path, case: str) -> None:
    members, expected = STAYS_INSIDE[case]
    unpack(root, *members)
    assert shape(root) == dict(sorted(expected.items()))


def test_deep_nesting(root: Path) -> None:
    deep = "/".join(["d"] * 400)
    unpack(root, file(f"{deep}/f"), file("x"), directory(deep, mode=0o700, mtime_ns=10**18))
    assert (root / deep / "f").read_text() == "new"
    assert (root / deep).stat().st_mtime == 10**9
    unpack(root, file("d"))
    assert shape(root) == {"d": "new", "x": "new"}
    with pytest.raises(LimitExceeded):
        unpack(root, file("/".join(["e"] * 600)))


def test_many_directories_and_links_to_them(root: Path) -> None:
    """More directories than are kept open, left and entered again."""
    names = [f"{i:03}" for i in range(300)]
    deep = "/".join(names[:200])
    unpack(
        root,
        *(file(f"{n}/f", n) for n in names),
        file(f"{deep}/f"),
        *(hardlink(f"{n}/l", f"{deep}/f") for n in names),
        *(hardlink(f"{deep}/{n}", f"{n}/f") for n in names),
    )
    assert (root / "299" / "l").read_text() == "new"
    assert (root / deep / "298").read_text() == "298"


@pytest.mark.parametrize(
    ("limits", "members"),
    [
        (TarLimits(total_bytes=5), [file("a"), file("b")]),
        (TarLimits(entries=1), [file("a"), file("b")]),
        (TarLimits(path_bytes=10), [file("a" * 5 + "/" + "b" * 5 + "/c")]),
        (TarLimits(depth=2), [file("a/b/c")]),
    ],
)
def test_limits(root: Path, limits: TarLimits, members: list[tuple[Entry, bytes]]) -> None:
    with pytest.raises(LimitExceeded):
        unpack(root, *members, options=UnpackOptions(limits=limits))


def test_huge_declared_size_allocates_nothing(root: Path) -> None:
    raw = archive(file("f", "x" * 1000))
    big = raw[:124] + b"77777777777\0" + raw[136:148] + b" " * 8 + raw[156:]
    big = big[:148] + b"%06o\0 " % sum(big[:512]) + big[156:]
    with pytest.raises(InvalidArchive, match="cut"):
        unpack_tree(io.BytesIO(big), str(root))


def test_metadata(root: Path) -> None:
    time = 1_500_000_000_000_000_000
    special = Entry(path="d/s", mode=0o6755, size=1, mtime_ns=time, uid=os.getuid())
    special.gid = os.getgid()
    special.xattrs = {"user.a": b"1", "user.overlay.opaque": b"y", "trusted.overlay.opaque": b"y"}
    result = unpack(
        root,
        directory("d", mode=0o1555, mtime_ns=time),
        (special, b"x"),
        file("d/private", mode=0o600),
        file("d/group", mode=0o666),
        other("d/p", EntryType.FIFO, mode=0o622, mtime_ns=time),
        other("d/l", EntryType.SYMLINK, "s", mtime_ns=time),
        directory("./", mode=0o750, mtime_ns=time),
    )
    modes = {n: stat.S_IMODE((root / n).stat().st_mode) for n in ("", "d", "d/s", "d/p")}
    assert modes == {"": 0o750, "d": 0o1555, "d/s": 0o6755, "d/p": 0o622}
    assert stat.S_IMODE((root / "d/private").stat().st_mode) == 0o600
    assert stat.S_IMODE((root / "d/group").stat().st_mode) == 0o666
    for name in ("", "d", "d/s", "d/p", "d/l"):
        assert (root / name).lstat().st_mtime_ns == time
    assert os.listxattr(root / "d/s") == ["user.a"]
    assert result == UnpackResult(entries=7, size=7, devices_skipped=0, xattrs_skipped=2)


def test_mode_does_not_depend_on_the_umask(root: Path) -> None:
    old = os.umask(0o077)
    try:
        unpack(root, file("d/a", mode=0o666), file("d/b", mode=0o755), file("d/c", mode=0o600))
    finally:
        os.umask(old)
    assert [stat.S_IMODE((root / "d" / n).stat().st_mode) for n in "abc"] == [0o666, 0o755, 0o600]


def test_owner_option_and_map(root: Path) -> None:
    ids = os.getuid(), os.getgid()
    foreign = Entry(path="f", uid=70_000, gid=80_000)
    unpack(root, (foreign, b""), options=UnpackOptions(owner=False))
    assert ((root / "f").stat().st_uid, (root / "f").stat().st_gid) == ids
    seen: list[tuple[int, int]] = []

    def to_self(uid: int, gid: int) -> tuple[int, int]:
        seen.append((uid, gid))
        return ids

    unpack(root, (foreign, b""), options=UnpackOptions(owner=True, map_owner=to_self))
    assert seen == [(70_000, 80_000)]
    with pytest.raises(InvalidArchive, match="owner"):
        huge = Entry(path="g", uid=1 << 32)
        unpack(root, (huge, b""), options=UnpackOptions(owner=True))


def test_times_out_of_range_are_clamped(root: Path) -> None:
    far = Entry(path="f", mtime_ns=(1 << 60) * 10**9, uid=os.getuid(), gid=os.getgid())
    unpack(root, (far, b""))
    assert (root / "f").stat().st_mtime > 10**9


def test_sparse(root: Path, tmp_path: Path) -> None:
    source = root / "source"
    with source.open("wb") as out:
        out.seek(1 << 20)
        out.write(b"x" * 300_000)
        out.truncate(3 << 20)
    content = source.read_bytes()
    command = ["tar", "--sparse", "--format=pax", "-C", str(root), "-c", "source"]
    raw = subprocess.run(command, check=True, capture_output=True).stdout
    source.unlink()
    unpack_tree(io.BytesIO(raw), str(root))
    assert source.read_bytes() == content
    assert source.stat().st_blocks * 512 < 1 << 20


def test_devices_skipped(root: Path) -> None:
    result = unpack(
        root, other("d", EntryType.CHAR), file("f"), options=UnpackOptions(devices=Devices.SKIP)
    )
    assert (result.entries, result.devices_skipped) == (1, 1)
    assert shape(root) == {"f": "new"}


def test_xattrs_not_wanted(root: Path) -> None:
    entry = Entry(path="f", xattrs={"user.a": b"1"}, uid=os.getuid(), gid=os.getgid())
    unpack(root, (entry, b""), options=UnpackOptions(xattrs=Xattrs.NONE))
    assert os.listxattr(root / "f") == []


def test_xattrs_refused_by_the_system(root: Path) -> None:
    entry = Entry(path="f", uid=os.getuid(), gid=os.getgid())
    entry.xattrs = {"security.capability": b"nonsense"}
    assert unpack(root, (entry, b"")).xattrs_skipped == 1
    with pytest.raises(StorageError):
        unpack(root, (entry, b""), options=UnpackOptions(xattrs=Xattrs.REQUIRE))


LOWER = {
    "d": "dir",
    "d/a": "lower",
    "d/e": "dir",
    "d/e/b": "lower",
    "f": "lower",
}


def lower(root: Path) -> None:
    unpack(root, file("d/a", "lower"), file("d/e/b", "lower"), file("f", "lower"))
    assert shape(root) == LOWER


WHITEOUTS = {
    "file": ([file(".wh.f", "")], ("f",), {}),
    "directory": ([file(".wh.d", "")], ("d", "d/a", "d/e", "d/e/b"), {}),
    "missing": ([file(".wh.nothing", ""), file("no/.wh.x", "")], (), {}),
    "metadata": ([file(".wh..wh.plnk", "")], (), {}),
    "inside metadata": ([file(".wh..wh.plnk/1.2")], (), {}),
    "opaque": ([file("d/.wh..wh..opq", "")], ("d/a", "d/e", "d/e/b"), {}),
    "opaque root": ([file(".wh..wh..opq", "")], tuple(LOWER), {}),
    "opaque spares what this layer made, in any order": (
        [file("d/e/new"), file("d/.wh..wh..opq", ""), file("d/late")],
        ("d/a", "d/e/b"),
        {"d/e/new": "new", "d/late": "new"},
    ),
    "opaque twice": (
        [file("d/.wh..wh..opq", ""), file("d/a"), file("d/.wh..wh..opq", "")],
        ("d/e", "d/e/b"),
        {"d/a": "new"},
    ),
    "whiteout spares what this layer made": (
        [directory("d"), file("d/n"), file(".wh.d", ""), file("f"), file(".wh.f", "")],
        ("d/a", "d/e", "d/e/b"),
        {"d/n": "new", "f": "new"},
    ),
    "whiteout, then again": (
        [file(".wh.d", ""), file("d/a")],
        ("d/e", "d/e/b"),
        {"d/a": "new"},
    ),
    "whiteout behind a link": (
        [symlink("s", "d"), file("s/.wh.a", "")],
        ("d/a",),
        {"s": "-> d"},
    ),
}


@pytest.mark.parametrize("case", WHITEOUTS)
def test_whiteouts(root: Path, case: str) -> None:
    members, gone, added = WHITEOUTS[case]
    lower(root)
    unpack(root, *members)
    expected = {k: v for k, v in LOWER.items() if k not in gone} | added
    assert shape(root) == dict(sorted(expected.items()))


def test_whiteout_does_not_follow_links(root: Path) -> None:
    unpack(root, symlink("d/s", "../../outside"), symlink("t", "../outside"))
    unpack(root, file(".wh.d", ""), file(".wh.t", ""))
    assert shape(root) == {}


def test_whiteouts_kept_or_refused(root: Path) -> None:
    unpack(root, file(".wh.f", "x"), options=UnpackOptions(whiteouts=Whiteouts.KEEP))
    assert shape(root) == {".wh.f": "x"}
    with pytest.raises(InvalidArchive, match="whiteout"):
        unpack(root, file(".wh.f", ""), options=UnpackOptions(whiteouts=Whiteouts.REFUSE))


def test_directory_that_is_closed_to_its_owner(root: Path) -> None:
    """Without privileges a layer below with mode 0555 or 0 must not stop the next one."""
    unpack(root, directory("d/e", mode=0), directory("d", mode=0o555), directory("r/x", mode=0o500))
    unpack(root, file("d/e/f"), file("d/g"), file(".wh.r", ""))
    assert [stat.S_IMODE((root / n).stat().st_mode) for n in ("d", "d/e")] == [0o555, 0]
    unpack(root, directory("d"), directory("d/e"))
    assert shape(root) == {"d": "dir", "d/e": "dir", "d/e/f": "new", "d/g": "new"}


def test_stale_metadata_of_a_replaced_directory(root: Path) -> None:
    """A directory's delayed mode must not reach what a link put in its place points to."""
    unpack(root, directory("t", mode=0o755), directory("d", mode=0o700), symlink("d", "t"))
    assert stat.S_IMODE((root / "t").stat().st_mode) == 0o755


def test_source_is_read_to_its_end(root: Path) -> None:
    source = io.BytesIO(archive(file("f")) + bytes(9000))
    unpack_tree(source, str(root))
    assert source.read() == b""


def test_root_by_descriptor_and_missing_root(root: Path) -> None:
    fd = os.open(root, os.O_RDONLY)
    try:
        unpack_tree(io.BytesIO(archive(file("f"))), fd)
    finally:
        os.close(fd)
    assert shape(root) == {"f": "new"}
    with pytest.raises(StorageError):
        unpack(root / "missing", file("f"))


def test_descriptors_are_closed(root: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for members, _ in REFUSED.values():
        with pytest.raises(Error):
            unpack(root, *members)
    unpack(root, *(file(f"{i}/f") for i in range(200)))
    unpack(root, file(".wh..wh..opq", ""))
    assert len(os.listdir("/proc/self/fd")) == before


NAMES = st.sampled_from(
    ["a", "b", "a/b", "b/a", "a/b/c", "/a", "./b", "a/.wh.b", ".wh.a", "b/.wh..wh..opq"]
)
TARGETS = st.sampled_from(
    ["a", "b", "/", "..", "../outside", "/a/b", "a/b", "../../outside/secret"]
)
MEMBERS = st.one_of(
    NAMES.map(file),
    NAMES.map(directory),
    st.builds(symlink, NAMES, TARGETS),
    st.builds(hardlink, NAMES, TARGETS),
)


@given(st.lists(MEMBERS, max_size=12))
@settings(
    max_examples=250,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_any_order_stays_inside(root: Path, members: list[tuple[Entry, bytes]]) -> None:
    try:
        unpack(root, *members)
    except Error:
        pass
    assert shape(root.parent / "outside") == {"secret": "secret"}
    assert (root.parent / "outside" / "secret").stat().st_nlink == 1
    unpack(root, file(".wh..wh..opq", ""))
    assert shape(root) == {}

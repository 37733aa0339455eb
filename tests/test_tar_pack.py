"""Packing trees: reproducible, complete, and what other tools read is the tree."""

from __future__ import annotations

import io
import os
import socket
import subprocess
from pathlib import Path

import pytest

from imgtools.blob.tar import (
    Entry,
    EntryType,
    PackOptions,
    PackResult,
    TarReader,
    TarWriter,
    UnpackOptions,
    Whiteouts,
    attributes,
    pack_tree,
    unpack_tree,
)
from imgtools.errors import Conflict, InvalidInput, StorageError

TIME = 1_500_000_000


def pack(root: Path | int, options: PackOptions | None = None) -> tuple[bytes, PackResult]:
    out: list[bytes] = []
    result = pack_tree(root if isinstance(root, int) else str(root), out.append, options)
    raw = b"".join(out)
    assert result.size == len(raw)
    return raw, result


def entries(raw: bytes) -> dict[str, Entry]:
    return {e.path: e for e, _ in TarReader(io.BytesIO(raw))}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    (root / "a").mkdir(parents=True)
    (root / "a-b").write_bytes(b"")
    (root / "a" / "x").write_bytes(b"hello")
    (root / "a" / "exact").write_bytes(b"y" * 512)
    (root / "big").write_bytes(os.urandom(1_300_000))
    (root / ("long" * 40)).write_bytes(b"l")
    (root / "é").write_bytes(b"e")
    os.mkdir(os.fsencode(root) + b"/\xff")
    (root / "sym").symlink_to("a/x")
    (root / "longsym").symlink_to("t" * 200)
    os.link(root / "a" / "x", root / "z")
    os.mkfifo(root / "fifo")
    (root / "fifo").chmod(0o620)
    (root / "a" / "x").chmod(0o4711)
    os.setxattr(root / "big", "user.note", b"1")
    os.setxattr(root / "a", "user.dir", b"2")
    os.setxattr(root / "a-b", "user.overlay.opaque", b"y")
    for path in [*root.rglob("*"), root]:
        os.utime(path, ns=(TIME * 10**9 + 5,) * 2, follow_symlinks=False)
    return root


def test_order_types_and_links(tree: Path) -> None:
    found = entries(pack(tree)[0])
    names = [name.encode("utf-8", "surrogateescape") for name in found]
    assert names == [
        b"a/",
        b"a/exact",
        b"a/x",
        b"a-b",
        b"big",
        b"fifo",
        b"long" * 40,
        b"longsym",
        b"sym",
        b"z",
        "é".encode(),
        b"\xff/",
    ]
    assert (found["z"].type, found["z"].linkname) == (EntryType.HARDLINK, "a/x")
    assert (found["sym"].type, found["sym"].linkname) == (EntryType.SYMLINK, "a/x")
    assert found["longsym"].linkname == "t" * 200
    assert (found["fifo"].type, found["fifo"].mode) == (EntryType.FIFO, 0o620)
    assert found["a/x"].mode == 0o4711
    assert {e.mtime_ns for e in found.values()} == {TIME * 10**9}
    assert {(e.uid, e.gid, e.uname) for e in found.values()} == {(os.getuid(), os.getgid(), "")}
    assert {n: e.xattrs for n, e in found.items() if e.xattrs} == {
        "a/": {"user.dir": b"2"},
        "big": {"user.note": b"1"},
    }


def test_quick_headers_are_those_of_the_writer(tree: Path) -> None:
    """The hot path formats headers by itself; the general encoder must agree."""
    raw = pack(tree)[0]
    again: list[bytes] = []
    writer = TarWriter(again.append)
    for entry, data in TarReader(io.BytesIO(raw)):
        writer.add(entry, data)
    writer.finish()
    assert b"".join(again) == raw


def test_gnu_tar_finds_no_difference(tree: Path) -> None:
    for path in tree.rglob("*"):
        os.utime(path, (TIME, TIME), follow_symlinks=False)
    raw = pack(tree)[0]
    done = subprocess.run(
        ["tar", "--xattrs", "-df", "-", "-C", str(tree)], input=raw, capture_output=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_round_trip(tree: Path, tmp_path: Path) -> None:
    raw, result = pack(tree, PackOptions(subsecond=True, root_entry=True))
    target = tmp_path / "target"
    target.mkdir()
    unpacked = unpack_tree(io.BytesIO(raw), str(target))
    assert unpacked.entries == result.entries == 13
    assert pack(target, PackOptions(subsecond=True, root_entry=True))[0] == raw
    assert (target / "a" / "x").stat().st_ino == (target / "z").stat().st_ino


def test_same_tree_same_bytes(tree: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-a", str(tree), str(copy)], check=True)
    assert pack(tree)[0] == pack(copy)[0]
    fd = os.open(tree, os.O_RDONLY)
    try:
        assert pack(fd)[0] == pack(tree)[0]
    finally:
        os.close(fd)


def test_times(tree: Path) -> None:
    os.utime(tree / "a-b", (TIME - 100, TIME - 100))
    clamped = entries(pack(tree, PackOptions(mtime_clamp=TIME - 50))[0])
    assert clamped["a-b"].mtime == TIME - 100
    assert {e.mtime for n, e in clamped.items() if n != "a-b"} == {TIME - 50}
    exact = entries(pack(tree, PackOptions(subsecond=True))[0])
    assert exact["big"].mtime_ns == TIME * 10**9 + 5
    for subsecond in (False, True):
        fixed = entries(pack(tree, PackOptions(mtime=7, subsecond=subsecond))[0])
        assert {e.mtime_ns for e in fixed.values()} == {7 * 10**9}
    os.utime(tree / "a-b", (-5, -5))
    assert entries(pack(tree)[0])["a-b"].mtime == -5


def test_owners(tree: Path) -> None:
    found = entries(pack(tree, PackOptions(uid=0, gid=3_000_000))[0])
    assert {(e.uid, e.gid) for e in found.values()} == {(0, 3_000_000)}
    options = PackOptions(map_owner=lambda uid, gid: (uid + 1000, gid + 2000))
    found = entries(pack(tree, options)[0])
    assert {(e.uid, e.gid) for e in found.values()} == {(os.getuid() + 1000, os.getgid() + 2000)}
    import pwd

    found = entries(pack(tree, PackOptions(numeric_only=False))[0])
    assert {e.uname for e in found.values()} == {pwd.getpwuid(os.getuid()).pw_name}
    found = entries(pack(tree, PackOptions(numeric_only=False, uid=987_654_321))[0])
    assert {e.uname for e in found.values()} == {""}


def test_exclude_and_xattrs_off(tree: Path) -> None:
    found = entries(pack(tree, PackOptions(exclude=lambda p: p in ("a", "big")))[0])
    assert not any(n.startswith("a/") or n == "big" for n in found)
    assert found["z"].type is EntryType.FILE
    assert not any(e.xattrs for e in entries(pack(tree, PackOptions(xattrs=False))[0]).values())


def test_sockets_are_left_out(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tree)  # a socket's path may have 107 bytes only
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("sock")
        raw, result = pack(tree)
    assert result.sockets == 1
    assert "sock" not in entries(raw)


def test_whiteout_names(tree: Path, tmp_path: Path) -> None:
    (tree / "a" / ".wh.x").touch()
    with pytest.raises(InvalidInput, match="whiteout"):
        pack(tree)
    raw = pack(tree, PackOptions(whiteouts=True))[0]
    target = tmp_path / "target"
    target.mkdir()
    unpack_tree(io.BytesIO(raw), str(target), UnpackOptions(whiteouts=Whiteouts.KEEP))
    assert (target / "a" / ".wh.x").exists()


def test_links_are_not_followed_out_of_the_tree(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "key").write_text("key")
    (tree / "way").symlink_to(tmp_path / "secret")
    raw = pack(tree)[0]
    assert entries(raw)["way"].type is EntryType.SYMLINK
    assert "way/key" not in entries(raw)


@pytest.mark.parametrize("size", [3, 600_000])
@pytest.mark.parametrize("change", [-1, 1])
def test_file_that_changes_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, change: int
) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"x" * size)
    real = os.fstat

    def stale(fd: int) -> os.stat_result:
        found = real(fd)
        if found.st_size == size:
            os.truncate(path, size + change)
        return found

    monkeypatch.setattr(os, "fstat", stale)
    with pytest.raises(Conflict, match="changed"):
        pack(tmp_path)


def test_missing_root(tmp_path: Path) -> None:
    with pytest.raises(StorageError):
        pack(tmp_path / "missing")


def test_errors_of_write_pass_and_descriptors_are_closed(tree: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))

    def full(_: bytes) -> None:
        raise StorageError("disk is full", path="layer")

    with pytest.raises(StorageError, match="full"):
        pack_tree(str(tree), full)
    pack(tree)
    assert len(os.listdir("/proc/self/fd")) == before


def test_capability_of_a_user_namespace_loses_its_root() -> None:
    revision_2 = bytes.fromhex("0100000200040000000000000000000000000000")
    revision_3 = bytes.fromhex("0100000300040000000000000000000000000000e8030000")
    assert attributes.without_rootid(revision_3) == revision_2
    assert attributes.without_rootid(revision_2) == revision_2


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("security.capability", True),
        ("user.x", True),
        ("system.posix_acl_access", True),
        ("user.overlay.redirect", False),
        ("user.containers.override_stat", False),
        ("trusted.overlay.redirect", False),
        ("security.selinux", False),
    ],
)
def test_kept_attributes(name: str, kept: bool) -> None:
    assert attributes.kept(name) is kept

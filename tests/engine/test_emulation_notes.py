"""What root emulation decides without a container: filters, the forms of calls, notes on disk."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import stat
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.emulation import target
from engine.emulation.attributes import Attribute, Decision, decide, names_others
from engine.emulation.births import born_at
from engine.emulation.calls import Kind, Place, Variant, ids, node, place, variants
from engine.emulation.filters import fake_filter, record_filter
from engine.emulation.notes import (
    MAX_LINE,
    UNCHANGED,
    Note,
    Notes,
    chowned,
    mode_after_chown,
)
from engine.emulation.target import read_memory, read_text, umask
from engine.runtime.seccomp.architectures import RUNNABLE
from engine.runtime.seccomp.filter import FLAG_NEW_LISTENER
from engine.runtime.seccomp.tables import numbers
from engine.storage.options import AS_ON_DISK, Owner
from imgtools.errors import InvalidArchive, LimitExceeded, StorageError
from tests.engine.bpf import ALLOW, ERRNO, NOTIFY, Call, run

SUCCESS = ERRNO
CHARACTER, BLOCK, FIFO = stat.S_IFCHR | 0o600, stat.S_IFBLK | 0o600, stat.S_IFIFO | 0o600


@pytest.mark.parametrize(
    ("name", "args", "fake", "record"),
    [
        ("chown", (), SUCCESS, NOTIFY),
        ("lchown", (), SUCCESS, NOTIFY),
        ("fchown", (), SUCCESS, NOTIFY),
        ("fchownat", (), SUCCESS, NOTIFY),
        ("chown32", (), SUCCESS, NOTIFY),
        ("setuid", (), SUCCESS, SUCCESS),
        ("setgroups32", (), SUCCESS, SUCCESS),
        ("setresgid", (), SUCCESS, SUCCESS),
        ("setfsuid", (), SUCCESS, SUCCESS),
        ("capset", (), SUCCESS, SUCCESS),
        ("setxattr", (), SUCCESS, NOTIFY),
        ("fsetxattr", (), SUCCESS, NOTIFY),
        ("setxattrat", (), SUCCESS, NOTIFY),
        ("lremovexattr", (), ALLOW, NOTIFY),
        ("mknod", (0, CHARACTER, 0x103), SUCCESS, NOTIFY),
        ("mknod", (0, BLOCK, 0), SUCCESS, NOTIFY),
        ("mknod", (0, CHARACTER, 0), ALLOW, ALLOW),
        ("mknod", (0, FIFO, 5), ALLOW, ALLOW),
        ("mknod", (0, 0o644, 0), ALLOW, ALLOW),
        ("mknodat", (0, 0, CHARACTER, 0x103), SUCCESS, NOTIFY),
        ("mknodat", (0, 0, FIFO, 0), ALLOW, ALLOW),
        ("getuid", (), ALLOW, ALLOW),
        ("getgroups", (0, 0), ALLOW, NOTIFY),
        ("chmod", (), ALLOW, ALLOW),
        ("openat", (), ALLOW, ALLOW),
    ],
)
@pytest.mark.parametrize("machine", sorted(RUNNABLE))
def test_filters(machine: str, name: str, args: tuple[int, ...], fake: int, record: int) -> None:
    """On every architecture that has the call."""
    native = RUNNABLE[machine][0]
    for compiled, wanted in ((fake_filter(machine), fake), (record_filter(machine), record)):
        for architecture in RUNNABLE[machine]:
            number = numbers(architecture.table).get(name)
            if number is not None:
                call = Call(number + architecture.offset, architecture.token, (args + (0,) * 6)[:6])
                answer = run(compiled.program, call, big_endian=native.big_endian)
                assert answer == wanted, architecture.name


def test_only_the_recording_filter_has_a_listener() -> None:
    """It needs somebody to answer."""
    assert fake_filter("x86_64").flags == 0
    assert record_filter("x86_64").flags == FLAG_NEW_LISTENER


@pytest.mark.parametrize(
    ("name", "args", "wanted"),
    [
        ("chown", (5, 1, 2), Place(path=5)),
        ("lchown", (5, 1, 2), Place(path=5, follow=False)),
        ("fchown", (5, 1, 2), Place(fd=5)),
        ("fchown", (0xFFFFFFFF, 1, 2), Place(fd=-1)),
        ("fchownat", (0xFFFFFF9C, 5, 1, 2, 0), Place(path=5)),
        ("fchownat", (7, 5, 1, 2, 0x100), Place(dir_fd=7, path=5, follow=False)),
        ("fchownat", (7, 5, 1, 2, 0x1000), Place(dir_fd=7, path=5, empty=True)),
        ("mknod", (5, 0, 0), Place(path=5)),
        ("mknodat", (7, 5, 0, 0), Place(dir_fd=7, path=5)),
        ("lsetxattr", (5, 6), Place(path=5, follow=False)),
        ("fremovexattr", (5, 6), Place(fd=5)),
        ("setxattrat", (7, 5, 0x100, 6), Place(dir_fd=7, path=5, follow=False)),
    ],
)
def test_where_the_file_is(name: str, args: tuple[int, ...], wanted: Place) -> None:
    """Each variant's arguments."""
    assert place(Variant(kind=Kind.CHOWN, name=name), args) == wanted


def test_flags_that_do_not_exist() -> None:
    """EINVAL, as from the kernel; the upper half of the register does not count."""
    variant = Variant(kind=Kind.CHOWN, name="fchownat")
    with pytest.raises(OSError, match=os.strerror(errno.EINVAL)):
        place(variant, (0, 0, 0, 0, 0x400))
    assert place(variant, (0, 0, 0, 0, 1 << 32)).follow


@pytest.mark.parametrize(
    ("name", "narrow", "args", "wanted"),
    [
        ("chown", False, (0, 33, 34), (33, 34)),
        ("chown", False, (0, 0xFFFFFFFFFFFFFFFF, 0xFFFFFFFF), (UNCHANGED, UNCHANGED)),
        ("chown", False, (0, 0x1FFFFFFFF, 70000), (UNCHANGED, 70000)),
        ("chown", True, (0, 0xFFFF, 70000), (UNCHANGED, 4464)),
        ("chown", True, (0, 0xFFFFFFFF, 5), (UNCHANGED, 5)),
        ("fchownat", False, (0, 0, 33, 34), (33, 34)),
    ],
)
def test_ids(name: str, narrow: bool, args: tuple[int, ...], wanted: tuple[int, int]) -> None:
    """-1 in any width means unchanged."""
    assert ids(Variant(kind=Kind.CHOWN, name=name, narrow=narrow), args) == wanted


def test_narrow_ids_are_where_wide_ones_exist() -> None:
    """i386's chown has 16 bits, x86_64's has not."""
    found = variants("x86_64")
    assert found[0x40000003, 182] == Variant(kind=Kind.CHOWN, name="chown", narrow=True)
    assert found[0x40000003, 212] == Variant(kind=Kind.CHOWN, name="chown")
    assert found[0xC000003E, 92] == Variant(kind=Kind.CHOWN, name="chown")
    assert found[0xC000003E, 0x40000000 | 92] == found[0xC000003E, 92]
    assert found[0x40000003, 298].narrow is False


@given(st.integers(0, 0xFFF), st.integers(0, 0xFFFFF))
def test_device_numbers(major: int, minor: int) -> None:
    """As the C library packs them for the kernel."""
    packed = (minor & 0xFF) | major << 8 | (minor & ~0xFF) << 12
    variant = Variant(kind=Kind.MKNOD, name="mknodat")
    assert node(variant, (0, 0, BLOCK, packed)) == (BLOCK, (major, minor))
    assert os.makedev(major, minor) == packed or major > 0xFFF or minor > 0xFFFFF


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (stat.S_IFREG | 0o6755, 0o755),
        (stat.S_IFREG | 0o4755, 0o755),
        (stat.S_IFREG | 0o2745, 0o2745),
        (stat.S_IFREG | 0o2755, 0o755),
        (stat.S_IFREG | 0o1755, 0o1755),
        (stat.S_IFDIR | 0o6755, 0o6755),
    ],
)
def test_mode_after_chown(before: int, after: int) -> None:
    """The kernel's rule."""
    assert stat.S_IMODE(mode_after_chown(before)) == after


def test_chown_takes_capabilities_but_of_directories() -> None:
    """And keeps everything else."""
    owner = Owner(uid=1, gid=2, xattrs={"security.capability": b"c", "trusted.x": b"t"})
    assert chowned(owner, UNCHANGED, 5, stat.S_IFREG) == Owner(
        uid=1, gid=5, xattrs={"trusted.x": b"t"}
    )
    assert chowned(owner, 0, UNCHANGED, stat.S_IFDIR) == Owner(
        uid=0, gid=2, xattrs=dict(owner.xattrs)
    )


def acl(*entries: tuple[int, int, int]) -> bytes:
    """The value of an ACL attribute."""
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *e) for e in entries)


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("security.capability", b"", Decision.NOTE),
        ("security.ima", b"", Decision.NOTE),
        ("trusted.md5sum", b"", Decision.NOTE),
        ("security.selinux", b"", Decision.KERNEL),
        ("user.trusted.x", b"", Decision.KERNEL),
        ("system.posix_acl_access", acl((1, 6, 0xFFFFFFFF), (2, 6, 33)), Decision.NOTE),
        ("system.posix_acl_default", acl((8, 6, 1)), Decision.NOTE),
        ("system.posix_acl_access", acl((1, 6, 0xFFFFFFFF), (2, 6, 0)), Decision.KERNEL),
        ("system.posix_acl_access", b"garbage", Decision.KERNEL),
    ],
)
def test_who_sets_an_attribute(name: str, value: bytes, wanted: Decision) -> None:
    """What the kernel can do it does."""
    assert decide(Attribute(name=name, value=value)) is wanted


def test_overlay_attributes_are_for_nobody() -> None:
    """They would hide or move files of lower layers."""
    with pytest.raises(PermissionError):
        decide(Attribute(name="trusted.overlay.redirect"))


@given(st.binary(max_size=64))
def test_any_acl_is_looked_at(value: bytes) -> None:
    """Whatever its length."""
    assert names_others(value) in (True, False)


IDS = st.integers(0, (1 << 32) - 2)
NAMES = st.text(min_size=1, max_size=20).map(lambda text: f"user.{text}")
OWNERS = st.builds(
    Owner,
    uid=IDS,
    gid=IDS,
    mode=st.sampled_from((AS_ON_DISK, CHARACTER, BLOCK)),
    rdev=st.tuples(IDS, IDS),
    xattrs=st.dictionaries(
        NAMES.filter(lambda name: name.isascii() or name.encode("utf-8", "replace")),
        st.binary(max_size=30),
        max_size=3,
    ),
)
NOTE = st.builds(Note, owner=OWNERS, born=st.integers(0, 1 << 62))
KEYS = st.tuples(st.integers(0, 9), st.integers(0, 9))


@given(st.lists(st.tuples(KEYS, NOTE), max_size=20), st.integers(1, 40))
def test_notes_come_back(
    tmp_path_factory: pytest.TempPathFactory, said: list[tuple[tuple[int, int], Note]], cut: int
) -> None:
    """The last one for each file, also from a file whose end is missing."""
    path = str(tmp_path_factory.mktemp("notes") / "file")
    notes = Notes(path)
    for key, note in said:
        notes.set(key, note)
    notes.close()
    again = Notes(path)
    assert again.by_inode() == {key: note.owner for key, note in said}
    again.close()
    if said:
        os.truncate(path, max(0, os.stat(path).st_size - min(cut, 10)))
        again = Notes(path)
        assert again.by_inode() == {key: note.owner for key, note in said[:-1]}
        again.set(*said[-1])
        again.close()
        again = Notes(path)
        assert again.by_inode() == {key: note.owner for key, note in said}
        again.close()


def test_a_note_is_about_one_file(tmp_path: Path) -> None:
    """Not about the next with its inode number."""
    notes = Notes(str(tmp_path / "notes"))
    notes.set((1, 2), Note(owner=Owner(uid=5, gid=6), born=100))
    assert notes.get((1, 2), 100) == Note(owner=Owner(uid=5, gid=6), born=100)
    assert notes.get((1, 2), 101) is None
    assert notes.current({(1, 2): 101}.get) == {}
    assert notes.current({(1, 2): 100}.get) == {(1, 2): Owner(uid=5, gid=6)}
    notes.close()


@pytest.mark.parametrize(
    "content",
    [
        b"1 2 3 4 5 -\n",
        b"1 2 3 4 5 - 0 x\n",
        b"1 2 3 4 5 9 0 0\n",
        b"1 2 3 4 5 - 0 0 6\n",
        b"1 2 3 4 5 - 0 0 zz=00\n",
        b"\xff\n",
        b"\n",
    ],
)
def test_malformed_notes(tmp_path: Path, content: bytes) -> None:
    """Told with their number; the file stays as it is."""
    path = tmp_path / "notes"
    path.write_bytes(b"1 2 3 4 5 - 0 0\n" + content)
    with pytest.raises(InvalidArchive, match="note 2 is malformed"):
        Notes(str(path))
    assert path.read_bytes().endswith(content)


def test_notes_are_bounded(tmp_path: Path) -> None:
    """A line without end, a file without end, no file at all."""
    path = tmp_path / "notes"
    path.write_bytes(b"1" * (MAX_LINE + 10))
    with pytest.raises(LimitExceeded):
        Notes(str(path))
    os.truncate(path, (1 << 30) + 1)
    with pytest.raises(LimitExceeded):
        Notes(str(path))
    with pytest.raises(StorageError, match="Is a directory"):
        Notes(str(tmp_path))
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(InvalidArchive, match="is not a file"):
        Notes(str(tmp_path / "fifo"))


def test_a_full_disk_notes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program is told, and the file ends where it did."""
    path = tmp_path / "notes"
    notes = Notes(str(path))
    notes.set((1, 1), Note(owner=Owner(uid=1, gid=1)))
    before = path.read_bytes()
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:3]))
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        notes.set((1, 1), Note(owner=Owner(uid=2, gid=2)))
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert notes.by_inode() == {(1, 1): Owner(uid=1, gid=1)}
    notes.close()


@pytest.mark.parametrize("fallback", [False, True])
def test_reading_memory(fallback: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to where it ends, by process_vm_readv(2) and by /proc/PID/mem."""
    if fallback:
        monkeypatch.setattr(target, "_process_vm_readv", lambda *_: refuse())
    page = mmap.PAGESIZE
    (tmp_path / "memory").write_bytes(bytes(3 * page))
    with open(tmp_path / "memory", "r+b") as file:
        memory = mmap.mmap(file.fileno(), 3 * page)
        # Behind the end of the file there is no memory, only addresses.
        file.truncate(2 * page)
    memory[2 * page - 6 : 2 * page] = b"abc\0de"
    end = ctypes.addressof(ctypes.c_char.from_buffer(memory)) + 2 * page
    pid = os.getpid()
    assert read_memory(pid, end - 6, 6) == b"abc\0de"
    assert read_memory(pid, end - 6, 0) == b""
    assert read_memory(pid, end - 6, 100) == b"abc\0de"
    assert read_text(pid, end - 6) == b"abc"
    for address, limit, number in (
        (end - 2, 4096, errno.EFAULT),
        (end - 6, 3, errno.ENAMETOOLONG),
        (8, 4096, errno.EFAULT),
        ((1 << 64) - 1, 4096, errno.EFAULT),
    ):
        with pytest.raises(OSError, match=os.strerror(number)):
            read_text(pid, address, limit)


def refuse() -> int:
    """What a filter around us does to process_vm_readv(2)."""
    ctypes.set_errno(errno.EPERM)
    return -1


def test_birth_and_umask(tmp_path: Path) -> None:
    """A file made later has a later birth, where the file system knows."""
    (tmp_path / "a").touch()
    (tmp_path / "link").symlink_to("a")
    first, second = born_at(str(tmp_path / "a")), born_at(str(tmp_path / "link"))
    assert first == second == 0 or 0 < first <= second
    old = os.umask(0o027)
    try:
        assert umask(os.getpid()) == 0o027
    finally:
        os.umask(old)

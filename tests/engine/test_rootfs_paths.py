"""Paths inside a root that somebody else owns: where links and dots lead, what is made, and
that none of it is outside the root, even while components are exchanged."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine.runtime.kernel.calls import LIBC
from engine.runtime.kernel.paths import (
    PROC_SUPER_MAGIC,
    Stub,
    filesystem_type,
    make_directories,
    make_file,
    open_in_root,
)
from engine.runtime.rootfs.stubs import remove_stubs
from tests.engine.rootfs_driver import fork

RENAME_EXCHANGE = 2
AT_FDCWD = -100


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A directory outside the root that has to stay as it is."""
    path = tmp_path / "victim"
    (path / "sub").mkdir(parents=True)
    (path / "file").write_text("kept")
    return path


@pytest.fixture
def root(tmp_path: Path, victim: Path) -> Iterator[int]:
    """A descriptor of a root with links of all kinds."""
    path = tmp_path / "root"
    (path / "dir").mkdir(parents=True)
    (path / "file").write_text("")
    os.symlink(victim, path / "absolute")
    os.symlink("../../victim", path / "relative")
    os.symlink("/dir/../../../deep/er", path / "dangling")
    os.symlink("loop", path / "loop")
    os.symlink("dir", path / "within")
    os.mkfifo(path / "fifo")
    fd = os.open(path, os.O_PATH | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def place(root: int, fd: int) -> str:
    """Where `fd` is, relative to the root."""
    top = os.readlink(f"/proc/self/fd/{root}")
    found = os.readlink(f"/proc/self/fd/{fd}")
    assert found == top or found.startswith(top + "/"), f"{found} is outside {top}"
    return found[len(top) + 1 :]


def tree(path: Path) -> list[str]:
    return sorted(str(p.relative_to(path)) for p in path.rglob("*"))


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (b"a/b/c", "a/b/c"),
        (b"/a//./b/", "a/b"),
        (b"/", ""),
        (b"", ""),
        (b"../../a", "a"),
        (b"dir/../a", "a"),
        (b"new/../a", "a"),
        (b"within/x/y", "dir/x/y"),
        (b"dangling", "deep/er"),
        (b"dangling/x", "deep/er/x"),
        (b"relative/sub/x", "victim/sub/x"),
        (b"new\nline/\xff\xfe/a,b:c\\d", "new\nline/\udcff\udcfe/a,b:c\\d"),
    ],
)
def test_directories_are_made_where_a_process_in_the_root_would(
    root: int, victim: Path, path: bytes, expected: str
) -> None:
    before = tree(victim)
    made: list[Stub] = []
    fd = make_directories(root, path, made=made)
    assert place(root, fd) == expected
    os.close(fd)
    assert all(not stub.path.startswith(b"/") and b".." not in stub.path for stub in made)
    assert tree(victim) == before


def test_an_absolute_link_means_the_root(root: int, victim: Path) -> None:
    fd = make_directories(root, b"absolute/x")
    assert place(root, fd) == str(victim).lstrip("/") + "/x"
    os.close(fd)
    assert tree(victim) == ["file", "sub"]


@pytest.mark.parametrize(
    ("path", "number"),
    [
        (b"file/x", errno.ENOTDIR),
        (b"file", errno.ENOTDIR),
        (b"fifo", errno.ENOTDIR),
        (b"fifo/x", errno.ENOTDIR),
        (b"loop", errno.ELOOP),
        (b"loop/x", errno.ELOOP),
        (b"x" * 300, errno.ENAMETOOLONG),
        (b"d/" * 3000, errno.ENAMETOOLONG),
    ],
)
def test_what_cannot_be_a_directory_is_an_error(root: int, path: bytes, number: int) -> None:
    with pytest.raises(OSError, match=os.strerror(number)):
        os.close(make_directories(root, path))


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (b"a/b", "a/b"),
        (b"/a/b/", "a/b"),
        (b"file", "file"),
        (b"fifo", "fifo"),
        (b"dir", "dir"),
        (b"dangling", "deep/er"),
        (b"within/f", "dir/f"),
        (b"../../f", "f"),
    ],
)
def test_files_are_made_where_a_process_in_the_root_would(
    root: int, path: bytes, expected: str
) -> None:
    fd = make_file(root, path)
    assert place(root, fd) == expected
    os.close(fd)


def test_a_magic_link_is_refused(root: int) -> None:
    host = os.open("/", os.O_PATH | os.O_DIRECTORY)
    for path in (b"proc/self/root/tmp", b"proc/self/fd/%d/tmp" % root, b"proc/self/cwd/new/x"):
        for make in (open_in_root, make_directories, make_file):
            with pytest.raises(OSError, match="symbolic links") as caught:
                make(host, path)
            assert caught.value.errno == errno.ELOOP
    os.close(host)


def test_the_type_of_a_file_system_is_known() -> None:
    fd = os.open("/proc", os.O_PATH)
    assert filesystem_type(fd) == PROC_SUPER_MAGIC
    os.close(fd)


def exchange_forever(one: bytes, other: bytes) -> None:
    """Swap two names until killed."""
    call = LIBC.renameat2
    call.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
    while True:
        call(AT_FDCWD, one, AT_FDCWD, other, RENAME_EXCHANGE)


@pytest.fixture
def swapped(tmp_path: Path, root: int, victim: Path) -> Iterator[None]:
    """root/swap is in turn a directory and a link that leads outside of the root."""
    base = tmp_path / "root"
    (base / "swap" / "in").mkdir(parents=True)
    # Seen from the host both lead to the victim; inside the root there is no such thing.
    os.symlink("../victim", base / "bait")
    pid = fork()
    if pid == 0:
        signal.alarm(60)
        exchange_forever(os.fsencode(base / "swap"), os.fsencode(base / "bait"))
    yield
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


@pytest.mark.parametrize("make", [make_directories, make_file])
def test_f2_a_component_is_exchanged_all_the_time(
    tmp_path: Path, root: int, victim: Path, swapped: None, make: Callable[..., int]
) -> None:
    end = time.monotonic() + 1.0
    number = done = 0
    seen: set[bool] = set()
    refusals: set[int | None] = set()
    while time.monotonic() < end or len(seen) < 2:
        number += 1
        seen.add((tmp_path / "root" / "swap").is_symlink())
        for path in (b"swap/in/%d/x", b"swap/../swap/%d/y", b"swap/in/../../swap/new%d"):
            try:
                fd = make(root, path % number)
            except OSError as e:
                # The other side may keep us from getting anywhere, but not get anything.
                refusals.add(e.errno)
                continue
            done += 1
            place(root, fd)
            os.close(fd)
    assert done
    assert refusals <= {errno.EAGAIN, errno.ENOENT}
    assert tree(victim) == ["file", "sub"]
    assert (victim / "file").read_text() == "kept"


def test_f6_only_what_was_made_is_taken_away(tmp_path: Path, root: int, victim: Path) -> None:
    base = tmp_path / "root"
    os.utime(base, ns=(1, 10**18))
    made: list[Stub] = []
    for path in (b"etc/hosts", b"run/secrets/one"):
        os.close(make_file(root, path, made=made))
    for path in (b"a/b/c", b"keep/d", b"gone/e"):
        os.close(make_directories(root, path, made=made))
    (base / "keep" / "mine").write_text("the container's")
    (base / "run/secrets/one").write_text("changed")
    (base / "gone" / "e").rmdir()
    (base / "gone").rmdir()
    os.symlink(victim.parent, base / "gone")
    (victim.parent / "e").mkdir()
    removed = remove_stubs(root, tuple(made))
    assert {s.path for s in removed} == {b"etc/hosts", b"etc", b"a/b/c", b"a/b", b"a", b"keep/d"}
    assert tree(victim) == ["file", "sub"]
    assert (victim.parent / "e").is_dir()
    assert (base / "run/secrets/one").read_text() == "changed"
    assert (base / "keep" / "mine").exists()
    assert remove_stubs(root, tuple(made)) == ()


def test_directories_look_untouched_once_stubs_are_gone(tmp_path: Path, root: int) -> None:
    base = tmp_path / "root"
    os.utime(base, ns=(1, 10**18))
    os.utime(base / "dir", ns=(1, 10**18 + 5))
    made: list[Stub] = []
    os.close(make_directories(root, b"one/two", made=made))
    os.close(make_file(root, b"dir/three", made=made))
    os.close(make_file(root, b"four", made=made))
    remove_stubs(root, tuple(made))
    assert os.stat(base).st_mtime_ns == 10**18
    assert os.stat(base / "dir").st_mtime_ns == 10**18 + 5


def test_a_replaced_stub_stays(tmp_path: Path, root: int) -> None:
    base = tmp_path / "root"
    made: list[Stub] = []
    os.close(make_directories(root, b"one", made=made))
    (base / "one").rename(base / "elsewhere")
    (base / "one").mkdir()
    assert remove_stubs(root, tuple(made)) == ()
    assert (base / "one").is_dir()


def test_directories_can_be_moved_away_instead(tmp_path: Path, root: int) -> None:
    base = tmp_path / "root"
    aside = tmp_path / "aside"
    aside.mkdir()
    os.utime(base, ns=(1, 10**18))
    made: list[Stub] = []
    os.close(make_directories(root, b"one/two", made=made))
    os.close(make_directories(root, b"full", made=made))
    os.close(make_file(root, b"three", made=made))
    (base / "full" / "mine").touch()
    fd = os.open(aside, os.O_RDONLY | os.O_DIRECTORY)
    removed = remove_stubs(root, tuple(made), fd)
    os.close(fd)
    assert {stub.path for stub in removed} == {b"one/two", b"one", b"three"}
    assert not (base / "one").exists()
    assert (base / "full" / "mine").exists()
    assert len(os.listdir(aside)) == 2

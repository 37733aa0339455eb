"""Paths inside a root that an attacker owns: openat2(2) with RESOLVE_IN_ROOT, and the making
of files and directories one component at a time.

Whatever is renamed or exchanged meanwhile, what is opened or made is inside the root.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat

from engine.runtime.kernel.calls import OPENAT2, checked, error, function, syscall
from engine.runtime.record import Record

RESOLVE_NO_XDEV, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS = 0x01, 0x02, 0x04
RESOLVE_BENEATH, RESOLVE_IN_ROOT = 0x08, 0x10
O_PATH = 0o10000000
MAX_LINKS = 40
MAX_RETRIES = 64
PROC_SUPER_MAGIC, SYSFS_MAGIC, DEVPTS_SUPER_MAGIC = 0x9FA0, 0x62656572, 0x1CD1

_fstatfs = function("fstatfs", ctypes.c_int, ctypes.c_void_p)


class _OpenHow(ctypes.Structure):
    _fields_ = (
        ("flags", ctypes.c_uint64),
        ("mode", ctypes.c_uint64),
        ("resolve", ctypes.c_uint64),
    )


class Stub(Record):
    """A file or directory that was made where there was nothing; `path` has no links in it.

    `mode` is st_mode without the type. `parent_times` are the modification times (ns) of the
    directory it is in, before and after it was made.
    """

    path: bytes
    directory: bool
    mode: int
    device: int
    inode: int
    parent_device: int
    parent_inode: int
    parent_times: tuple[int, int]


def openat2(dir_fd: int, path: bytes, flags: int, resolve: int, mode: int = 0) -> int:
    """openat2(2), close-on-exec; EAGAIN (a rename while resolving) is tried again."""
    how = _OpenHow(flags | os.O_CLOEXEC, mode, resolve)
    for attempt in range(MAX_RETRIES):
        try:
            return syscall(OPENAT2, dir_fd, path, ctypes.byref(how), ctypes.sizeof(how))
        except OSError as e:
            if e.errno not in (errno.EAGAIN, errno.EINTR) or attempt == MAX_RETRIES - 1:
                raise
    raise AssertionError("unreachable")


def open_in_root(root_fd: int, path: bytes, flags: int = O_PATH, mode: int = 0) -> int:
    """Open `path` as a process would whose root is `root_fd`: absolute links and `..` stay
    inside, links of procfs are refused (ELOOP)."""
    resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS
    return openat2(root_fd, path or b".", flags, resolve, mode)


def filesystem_type(fd: int) -> int:
    """The magic number of the file system that `fd` is on (fstatfs(2))."""
    buffer = (ctypes.c_long * 32)()
    checked(_fstatfs(fd, ctypes.addressof(buffer)))
    return buffer[0]


def make_directories(
    root_fd: int, path: bytes, mode: int = 0o755, made: list[Stub] | None = None
) -> int:
    """An O_PATH descriptor of the directory `path` inside `root_fd`; what is missing is made
    (`mode`, less the umask) and noted in `made`.

    Links are followed within the root, a dangling one too: its target is made. Raises OSError
    (ENOTDIR, ELOOP, EROFS, ...).
    """
    try:
        return open_in_root(root_fd, path, O_PATH | os.O_DIRECTORY)
    except FileNotFoundError:
        return _Walk(root_fd, mode, 0, made).to(path)


def make_file(root_fd: int, path: bytes, mode: int = 0o644, made: list[Stub] | None = None) -> int:
    """A descriptor of what `path` is inside `root_fd`; an empty file (`mode`, less the umask)
    and missing directories (0755) are made and noted in `made` where there is nothing.

    The descriptor is one of O_PATH where there was something. Dangling links are followed
    within the root. Raises OSError.
    """
    try:
        return open_in_root(root_fd, path.rstrip(b"/"))
    except FileNotFoundError:
        return _Walk(root_fd, 0o755, mode | stat.S_IFREG, made).to(path)


class _Walk:
    """One walk from the root to a path, making what is missing.

    Each component is opened in the descriptor of the one before and never followed by the
    kernel; links are read from their own descriptor and their text walked in turn.
    """

    def __init__(self, root_fd: int, mode: int, leaf: int, made: list[Stub] | None) -> None:
        self._root_fd = root_fd
        self._mode = mode
        self._leaf = leaf
        self._made = made
        self._done: list[bytes] = []

    def to(self, path: bytes) -> int:
        pending = _components(path)
        links = 0
        current = self._at_done()
        try:
            while pending:
                name = pending.pop()
                if name == b"..":
                    del self._done[-1:]
                    current = _replaced(current, self._at_done())
                    continue
                found = self._enter(current, name, bool(self._leaf) and not pending)
                if isinstance(found, int):
                    current = _replaced(current, found)
                    self._done.append(name)
                    continue
                links += 1
                if links > MAX_LINKS:
                    raise error(errno.ELOOP)
                pending.extend(_components(found))
                if found.startswith(b"/"):
                    self._done.clear()
                    current = _replaced(current, self._at_done())
            result, current = current, -1
            return result
        finally:
            if current >= 0:
                os.close(current)

    def _at_done(self) -> int:
        path = b"/" + b"/".join(self._done)
        return open_in_root(self._root_fd, path, O_PATH | os.O_DIRECTORY)

    def _enter(self, parent: int, name: bytes, as_file: bool) -> int | bytes:
        """A descriptor of `name`, made if missing, or the target of the link it is."""
        for _ in range(MAX_RETRIES):
            try:
                fd = os.open(name, O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
            except FileNotFoundError:
                created = self._make(parent, name, as_file)
                if created >= 0:
                    return created
                continue
            try:
                mode = os.fstat(fd).st_mode
                if stat.S_ISLNK(mode):
                    # A link of procfs may be a magic one; nothing can be made there anyway.
                    if filesystem_type(fd) == PROC_SUPER_MAGIC:
                        raise error(errno.ELOOP)
                    return os.readlink(b"", dir_fd=fd)
                if not stat.S_ISDIR(mode) and not as_file:
                    raise error(errno.ENOTDIR)
                result, fd = fd, -1
                return result
            finally:
                if fd >= 0:
                    os.close(fd)
        raise error(errno.EAGAIN)

    def _make(self, parent: int, name: bytes, as_file: bool) -> int:
        """A descriptor of the new `name`; -1 if something else made it first."""
        before = os.fstat(parent)
        try:
            if as_file:
                flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
                fd = os.open(name, flags, stat.S_IMODE(self._leaf), dir_fd=parent)
            else:
                os.mkdir(name, self._mode, dir_fd=parent)
                flags = O_PATH | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC
                fd = os.open(name, flags, dir_fd=parent)
        except (FileExistsError, FileNotFoundError, NotADirectoryError):
            if os.fstat(parent).st_nlink == 0:
                raise  # The directory itself was removed: nothing can be made in it.
            return -1
        if self._made is not None:
            found, after = os.fstat(fd), os.fstat(parent)
            self._made.append(
                Stub(
                    path=b"/".join((*self._done, name)),
                    directory=not as_file,
                    mode=stat.S_IMODE(found.st_mode),
                    device=found.st_dev,
                    inode=found.st_ino,
                    parent_device=before.st_dev,
                    parent_inode=before.st_ino,
                    parent_times=(before.st_mtime_ns, after.st_mtime_ns),
                )
            )
        return fd


def _components(path: bytes) -> list[bytes]:
    """The components of `path`, last one first, without empty ones and dots."""
    return [part for part in reversed(path.split(b"/")) if part not in (b"", b".")]


def _replaced(old: int, new: int) -> int:
    """`new`, with `old` closed."""
    os.close(old)
    return new


def proc_path(fd: int) -> bytes:
    """The name under which this process can hand `fd` to calls that only take a path."""
    return b"/proc/self/fd/%d" % fd

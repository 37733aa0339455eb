"""The process that made a call: its memory, and the files that its paths mean.

Paths are resolved as the kernel would for that process, by descriptors from /proc/PID/{root,
cwd,fd}: first at once by openat2(2), and component by component where a link or `..` needs a
look. What is opened is opened with O_PATH, so nothing is ever read, written or waited for.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat

from engine.runtime.kernel.calls import LIBC, checked, error
from engine.runtime.kernel.paths import (
    O_PATH,
    RESOLVE_BENEATH,
    RESOLVE_IN_ROOT,
    RESOLVE_NO_MAGICLINKS,
    openat2,
)

AT_FDCWD = -100
MAX_PATH = 4096
_MAX_LINKS = 40
_PROC_SUPER_MAGIC = 0x9FA0
_PAGE = 4096
_HANDLE = O_PATH | os.O_CLOEXEC


class _Piece(ctypes.Structure):
    """struct iovec."""

    _fields_ = (("address", ctypes.c_void_p), ("length", ctypes.c_size_t))


_process_vm_readv = LIBC.process_vm_readv
_process_vm_readv.restype = ctypes.c_ssize_t
_process_vm_readv.argtypes = (
    ctypes.c_int,
    ctypes.c_void_p,
    ctypes.c_ulong,
    ctypes.c_void_p,
    ctypes.c_ulong,
    ctypes.c_ulong,
)


def read_memory(pid: int, address: int, size: int) -> bytes:
    """Up to `size` bytes at `address` of the process, fewer where its memory ends. Raises
    OSError EFAULT if there is nothing at all, or why it cannot be read."""
    if size == 0:
        return b""
    if address + size > 1 << 63:
        raise error(errno.EFAULT)
    buffer = ctypes.create_string_buffer(size)
    local = _Piece(ctypes.addressof(buffer), size)
    # In pieces that end with pages: one that cannot be read ends what is read, no more.
    pieces = []
    at = address
    while at < address + size:
        end = min(address + size, (at // _PAGE + 1) * _PAGE)
        pieces.append(_Piece(at, end - at))
        at = end
    remote = (_Piece * len(pieces))(*pieces)
    read = _process_vm_readv(
        pid, ctypes.addressof(local), 1, ctypes.addressof(remote), len(pieces), 0
    )
    if read >= 0:
        return buffer.raw[:read]
    number = ctypes.get_errno()
    if number not in (errno.EPERM, errno.ENOSYS):
        raise error(number)
    return _read_proc_mem(pid, address, size)


def _read_proc_mem(pid: int, address: int, size: int) -> bytes:
    """The same by /proc/PID/mem, where a filter around us refuses process_vm_readv(2)."""
    fd = os.open(f"/proc/{pid}/mem", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.pread(fd, size, address)
    except OSError as e:
        raise error(errno.EFAULT) from e
    finally:
        os.close(fd)


def read_text(pid: int, address: int, limit: int = MAX_PATH) -> bytes:
    """The NUL-terminated string at `address`; OSError EFAULT if it leaves the memory,
    ENAMETOOLONG if it has no end within `limit` bytes (terminator included)."""
    first = min(limit, _PAGE - address % _PAGE)
    found = read_memory(pid, address, first)
    if b"\0" not in found and len(found) == first < limit:
        found += read_memory(pid, address + first, limit - first)
    text, end, _ = found.partition(b"\0")
    if not end:
        raise error(errno.ENAMETOOLONG if len(found) == limit else errno.EFAULT)
    return text


def umask(pid: int) -> int:
    """The file mode creation mask of the process."""
    with open(f"/proc/{pid}/status", "rb") as file:
        for line in file:
            if line.startswith(b"Umask:"):
                return int(line[6:], 8)
    return 0


class Target:
    """Opens what the paths of the process `pid` mean; every descriptor is the caller's."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def descriptor(self, number: int) -> int:
        """An O_PATH descriptor of what the process has open as `number`; OSError EBADF."""
        try:
            return os.open(f"/proc/{self.pid}/fd/{number}", _HANDLE)
        except FileNotFoundError as e:
            raise error(errno.EBADF) from e

    def directory(self) -> int:
        """An O_PATH descriptor of the working directory."""
        return self._base(AT_FDCWD, absolute=False)

    def open(self, dir_fd: int, path: bytes, *, follow: bool) -> int:
        """An O_PATH descriptor of `path`, relative to `dir_fd` of the process (AT_FDCWD: its
        working directory). Raises OSError as the kernel would for it."""
        if not path:
            raise error(errno.ENOENT)
        absolute = path.startswith(b"/")
        base = self._base(AT_FDCWD if absolute else dir_fd, absolute=absolute)
        try:
            flags = O_PATH | (0 if follow else os.O_NOFOLLOW)
            scope = RESOLVE_IN_ROOT if absolute else RESOLVE_BENEATH
            return openat2(base, path, flags, scope | RESOLVE_NO_MAGICLINKS)
        except OSError as e:
            # What may be a link of procfs, of which ours are not the caller's, or leave BENEATH.
            if e.errno not in (errno.EXDEV, errno.ELOOP, errno.ENOENT, errno.EAGAIN):
                raise
            return self._walk(base, path, follow=follow)
        finally:
            os.close(base)

    def parent(self, dir_fd: int, path: bytes) -> tuple[int, bytes]:
        """A descriptor of the directory in which `path` is to be made, and its name there.

        OSError ENOENT where it ends with a slash, EEXIST for `.` and `..`.
        """
        directory, slash, name = path.rpartition(b"/")
        if not name:
            raise error(errno.ENOENT)
        if name in (b".", b".."):
            raise error(errno.EEXIST)
        above = (directory or b"/") if slash else b"."
        return self.open(dir_fd, above + b"/", follow=True), name

    def path_inside(self, fd: int) -> bytes:
        """The path of what `fd` is, without the root of the process and the leading slash."""
        path = os.readlink(b"/proc/self/fd/%d" % fd)
        root = os.readlink(b"/proc/%d/root" % self.pid).rstrip(b"/") + b"/"
        return path.removeprefix(root).lstrip(b"/")

    def _base(self, dir_fd: int, *, absolute: bool) -> int:
        if absolute:
            return os.open(f"/proc/{self.pid}/root", _HANDLE)
        if dir_fd == AT_FDCWD:
            return os.open(f"/proc/{self.pid}/cwd", _HANDLE)
        return self.descriptor(dir_fd)

    def _walk(self, base: int, path: bytes, *, follow: bool) -> int:
        root = self._base(AT_FDCWD, absolute=True)
        walk = _Walk(self.pid, root, os.dup(base))
        try:
            walk.go(path, follow=follow or path.endswith(b"/"))
            return os.dup(walk.current)
        finally:
            os.close(walk.current)
            os.close(root)


class _Walk:
    """A path, component by component; `current` is where it has got to."""

    def __init__(self, pid: int, root: int, current: int) -> None:
        self._pid = pid
        self._root = root
        self._own = False  # below the caller's own directory of procfs
        self._links = 0
        self.current = current

    def go(self, path: bytes, *, follow: bool) -> None:
        """Walk `path`; a link in the last place only if `follow`."""
        if path.startswith(b"/"):
            self._enter(os.dup(self._root))
        parts = path.split(b"/")
        pending = [part for part in reversed(parts) if part not in (b"", b".")]
        while pending:
            name = pending.pop()
            if name == b"..":
                self._up()
                continue
            fd = os.open(name, _HANDLE | os.O_NOFOLLOW, dir_fd=self.current)
            if not stat.S_ISLNK(os.fstat(fd).st_mode) or not (pending or follow):
                self._enter(fd, own=self._own)
                continue
            target = self._link(fd, name)
            if target.startswith(b"/"):
                self._enter(os.dup(self._root))
            below = [part for part in target.split(b"/") if part not in (b"", b".")]
            pending.extend(reversed(below))
        if path.endswith(b"/") and not stat.S_ISDIR(os.fstat(self.current).st_mode):
            raise error(errno.ENOTDIR)

    def _enter(self, fd: int, *, own: bool = False) -> None:
        os.close(self.current)
        self.current = fd
        self._own = own

    def _up(self) -> None:
        here, top = os.fstat(self.current), os.fstat(self._root)
        if (here.st_dev, here.st_ino) != (top.st_dev, top.st_ino):
            self._enter(os.open("..", _HANDLE | os.O_DIRECTORY, dir_fd=self.current))

    def _link(self, fd: int, name: bytes) -> bytes:
        """What is still to walk for the link `fd`; closes it. Links of procfs lead nowhere but
        to what the caller itself has open."""
        try:
            self._links += 1
            if self._links > _MAX_LINKS:
                raise error(errno.ELOOP)
            if not _on_proc(fd):
                return os.readlink(b"", dir_fd=fd)
        finally:
            os.close(fd)
        if name in (b"self", b"thread-self"):
            self._enter(os.open(f"/proc/{self._pid}", _HANDLE), own=True)
        elif self._own:
            self._enter(os.open(name, _HANDLE, dir_fd=self.current))
        else:
            raise error(errno.EACCES)
        return b""


def _on_proc(fd: int) -> bool:
    buffer = (ctypes.c_long * 32)()
    checked(LIBC.fstatfs(ctypes.c_int(fd), buffer))
    return buffer[0] == _PROC_SUPER_MAGIC

"""Paths inside a root that an attacker owns: openat2(2) with RESOLVE_IN_ROOT, and the making
of files and directories one component at a time. Nothing here resolves a path twice."""

from __future__ import annotations

import ctypes
import errno
import os

from engine.runtime.kernel.calls import OPENAT2, syscall

RESOLVE_NO_XDEV, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS = 0x01, 0x02, 0x04
RESOLVE_BENEATH, RESOLVE_IN_ROOT = 0x08, 0x10
O_PATH = 0o10000000
MAX_LINKS = 40
MAX_RETRIES = 32


class _OpenHow(ctypes.Structure):
    _fields_ = (
        ("flags", ctypes.c_uint64),
        ("mode", ctypes.c_uint64),
        ("resolve", ctypes.c_uint64),
    )


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


def make_directories(root_fd: int, path: bytes, mode: int = 0o755) -> int:
    """An O_PATH descriptor of the directory `path` inside `root_fd`; what is missing is made.

    Links are followed within the root, a dangling one too: its target is made. Raises OSError
    (ENOTDIR, ELOOP, EROFS, ...). The descriptors passed through pin what was made, so
    exchanging a component meanwhile changes nothing outside the root.
    """
    pending = [part for part in path.split(b"/") if part not in (b"", b".")]
    pending.reverse()
    done: list[bytes] = []
    links = 0
    current = open_in_root(root_fd, b"/", O_PATH | os.O_DIRECTORY)
    try:
        while pending:
            name = pending.pop()
            if name == b"..":
                del done[-1:]
            else:
                target = _enter(current, name, mode)
                if isinstance(target, int):
                    os.close(current)
                    current = target
                    done.append(name)
                    continue
                links += 1
                if links > MAX_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
                if target.startswith(b"/"):
                    done.clear()
                parts = [part for part in target.split(b"/") if part not in (b"", b".")]
                pending.extend(reversed(parts))
            above = open_in_root(root_fd, b"/" + b"/".join(done), O_PATH | os.O_DIRECTORY)
            os.close(current)
            current = above
        result, current = current, -1
        return result
    finally:
        if current >= 0:
            os.close(current)


def _enter(parent: int, name: bytes, mode: int) -> int | bytes:
    """A descriptor of the directory `name`, made if missing, or the target of the link."""
    flags = O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
    for _ in range(MAX_RETRIES):
        try:
            fd = os.open(name, flags | os.O_DIRECTORY, dir_fd=parent)
        except FileNotFoundError:
            try:
                os.mkdir(name, mode, dir_fd=parent)
            except FileExistsError:
                continue
        except NotADirectoryError:
            return os.readlink(name, dir_fd=parent)
        else:
            return fd
    raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))


def make_file(root_fd: int, path: bytes, mode: int = 0o644) -> int:
    """An O_PATH descriptor of what `path` is inside `root_fd`; an empty file, with missing
    directories, is made where there is nothing. Dangling links are followed within the root."""
    for _ in range(MAX_LINKS):
        try:
            return open_in_root(root_fd, path)
        except FileNotFoundError:
            directory, _, name = path.rstrip(b"/").rpartition(b"/")
        parent = make_directories(root_fd, directory)
        try:
            fd = os.open(
                name,
                os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC,
                mode,
                dir_fd=parent,
            )
            os.close(fd)
            return os.open(name, O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        except FileExistsError:
            target = os.readlink(name, dir_fd=parent)
            path = target if target.startswith(b"/") else directory + b"/" + target
        finally:
            os.close(parent)
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))


def proc_path(fd: int) -> bytes:
    """The name under which this process can hand `fd` to calls that only take a path."""
    return b"/proc/self/fd/%d" % fd

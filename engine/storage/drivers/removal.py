"""Removing a tree that somebody else filled: nothing is followed, no depth is too deep.

Every name is opened relative to its parent's descriptor, without links and without crossing
into another mount (openat2, RESOLVE_NO_XDEV). Directories far down are moved up to the top and
emptied there, so that neither descriptors nor paths grow with the depth.
"""

from __future__ import annotations

import errno
import os
import stat

from engine.runtime.kernel.paths import RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, RESOLVE_NO_XDEV
from engine.runtime.kernel.paths import openat2 as kernel_openat2
from imgtools.errors import Conflict

DIR_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC
DEEPEST = 48
"""Levels that are held open at once."""
_RESOLVE = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV


class _Level:
    """A directory being emptied: its descriptor, its name above, names in it not yet gone."""

    __slots__ = ("fd", "name", "names")

    def __init__(self, fd: int, name: bytes, superuser: bool) -> None:
        self.fd = fd
        self.name = name
        try:
            if not superuser:
                _unlock(fd)
            with os.scandir(fd) as entries:
                listed = [(os.fsencode(e.name), e.is_dir(follow_symlinks=False)) for e in entries]
        except BaseException:
            os.close(fd)
            raise
        self.names = listed


def remove_tree(name: bytes, dir_fd: int) -> None:
    """Remove the file, or the directory with all it contains, `name` in `dir_fd`.

    What is not there is no error. Raises Conflict if something is mounted in it, and OSError.
    """
    try:
        os.unlink(name, dir_fd=dir_fd)
        return
    except FileNotFoundError:
        return
    except IsADirectoryError:
        pass
    except PermissionError:  # what some file systems say of a directory (POSIX)
        if not stat.S_ISDIR(os.stat(name, dir_fd=dir_fd, follow_symlinks=False).st_mode):
            raise
    superuser = os.geteuid() == 0
    levels = [_Level(_open(name, dir_fd, superuser), name, superuser)]
    try:
        while levels:
            level = levels[-1]
            below = _files(level)
            if below is None:
                levels.pop()
                os.close(level.fd)
                _remove_emptied(level.name, levels[-1].fd if levels else dir_fd)
            elif len(levels) < DEEPEST:
                levels.append(_Level(_open(below, level.fd, superuser), below, superuser))
            else:
                aside = b".deep-" + os.urandom(12).hex().encode()
                if not superuser:
                    _unlock_name(below, level.fd)
                os.rename(below, aside, src_dir_fd=level.fd, dst_dir_fd=levels[0].fd)
                levels[0].names.append((aside, True))
    finally:
        for level in levels:
            os.close(level.fd)


def _files(level: _Level) -> bytes | None:
    """Remove what is no directory until a directory turns up: its name, None at the end."""
    while level.names:
        name, is_dir = level.names.pop()
        if is_dir:
            return name
        try:
            os.unlink(name, dir_fd=level.fd)
        except FileNotFoundError:
            continue
        except IsADirectoryError:
            return name
    return None


def _remove_emptied(name: bytes, dir_fd: int) -> None:
    try:
        os.rmdir(name, dir_fd=dir_fd)
    except FileNotFoundError:
        return
    except OSError as e:
        if e.errno == errno.EBUSY:
            raise _mounted(name) from e
        raise


def _open(name: bytes, dir_fd: int, superuser: bool) -> int:
    """Open directory `name`, which may be closed to its owner."""
    try:
        return _openat2(name, dir_fd)
    except PermissionError:
        if superuser:
            raise
        _unlock_name(name, dir_fd)
        return _openat2(name, dir_fd)


def _openat2(name: bytes, dir_fd: int) -> int:
    try:
        return kernel_openat2(dir_fd, name, DIR_FLAGS, _RESOLVE)
    except OSError as e:
        if e.errno == errno.EXDEV:
            raise _mounted(name) from e
        if e.errno not in (errno.ENOSYS, errno.EPERM):
            raise
    # Before Linux 5.6, or where a seccomp filter knows no openat2: mounts of other file
    # systems are recognised all the same.
    fd = os.open(name, DIR_FLAGS, dir_fd=dir_fd)
    if os.fstat(fd).st_dev != os.fstat(dir_fd).st_dev:
        os.close(fd)
        raise _mounted(name)
    return fd


def _unlock(fd: int) -> None:
    mode = os.fstat(fd).st_mode
    if mode & 0o700 != 0o700:
        os.fchmod(fd, stat.S_IMODE(mode) | 0o700)


def _unlock_name(name: bytes, dir_fd: int) -> None:
    """Open up a directory that its owner closed; a link in its place is not followed."""
    fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=dir_fd)
    try:
        os.chmod(f"/proc/self/fd/{fd}", 0o700)
    finally:
        os.close(fd)


def _mounted(name: bytes) -> Conflict:
    return Conflict(
        f"something is mounted at {os.fsdecode(name)!r} in the tree to remove",
        hint="unmount it first",
    )

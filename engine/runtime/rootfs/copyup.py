"""tmpcopyup: what the root has at a destination is copied into the tmpfs that will cover it.

Files are found by descriptors and never by following links, and only on the file system of
the directory itself: what is mounted below it is covered like the rest.
"""

from __future__ import annotations

import errno
import os
import stat

MAX_DEPTH = 512
_CHUNK = 1 << 20
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def copy_up(source_fd: int, target_fd: int) -> None:
    """Copy what is in the directory `source_fd` into the directory `target_fd`, with its own
    mode, owner, times and extended attributes. Raises OSError."""
    source = os.open(b".", _DIRECTORY, dir_fd=source_fd)
    try:
        target = os.open(b".", _DIRECTORY, dir_fd=target_fd)
        try:
            _copy_directory(source, target, os.fstat(source).st_dev, 0)
        finally:
            os.close(target)
    finally:
        os.close(source)


def _copy_directory(source: int, target: int, device: int, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
    for text in os.listdir(source):
        name = text.encode("utf-8", "surrogateescape")
        try:
            found = os.stat(name, dir_fd=source, follow_symlinks=False)
        except FileNotFoundError:
            continue
        if found.st_dev == device or not stat.S_ISDIR(found.st_mode):
            _copy_entry(source, target, name, found, depth)
    _copy_metadata(source, target)


def _copy_entry(source: int, target: int, name: bytes, found: os.stat_result, depth: int) -> None:
    mode = found.st_mode
    if stat.S_ISDIR(mode):
        below = os.open(name, _DIRECTORY, dir_fd=source)
        try:
            os.mkdir(name, 0o700, dir_fd=target)
            new = os.open(name, _DIRECTORY, dir_fd=target)
            try:
                _copy_directory(below, new, os.fstat(below).st_dev, depth + 1)
            finally:
                os.close(new)
        finally:
            os.close(below)
    elif stat.S_ISREG(mode):
        _copy_file(source, target, name)
    elif stat.S_ISLNK(mode):
        os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
        os.chown(name, found.st_uid, found.st_gid, dir_fd=target, follow_symlinks=False)
        times = (found.st_atime_ns, found.st_mtime_ns)
        os.utime(name, ns=times, dir_fd=target, follow_symlinks=False)
    else:
        _copy_special(target, name, found)


def _copy_special(target: int, name: bytes, found: os.stat_result) -> None:
    """A FIFO, a socket's name or a device node; nodes are left out where none can be made."""
    try:
        os.mknod(name, found.st_mode, found.st_rdev, dir_fd=target)
    except PermissionError:
        return
    os.chown(name, found.st_uid, found.st_gid, dir_fd=target, follow_symlinks=False)


def _copy_file(source: int, target: int, name: bytes) -> None:
    # Non-blocking: the file may be exchanged for a FIFO at this moment.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    old = os.open(name, flags, dir_fd=source)
    try:
        if not stat.S_ISREG(os.fstat(old).st_mode):
            return
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        new = os.open(name, flags, 0o600, dir_fd=target)
        try:
            while chunk := os.read(old, _CHUNK):
                while chunk:
                    chunk = chunk[os.write(new, chunk) :]
            _copy_metadata(old, new)
        finally:
            os.close(new)
    finally:
        os.close(old)


def _copy_metadata(source: int, target: int) -> None:
    found = os.fstat(source)
    os.fchown(target, found.st_uid, found.st_gid)
    os.fchmod(target, stat.S_IMODE(found.st_mode))
    for attribute in os.listxattr(source):
        try:
            os.setxattr(target, attribute, os.getxattr(source, attribute))
        except OSError as e:
            # tmpfs keeps no user attributes before Linux 6.6, and labels may be forbidden.
            if e.errno not in (errno.EOPNOTSUPP, errno.EPERM, errno.EACCES, errno.ENODATA):
                raise
    os.utime(target, ns=(found.st_atime_ns, found.st_mtime_ns))

"""Mount points that were made for a container, taken away again once it has ended.

A container cannot remove or rename what is mounted on, but it can do so with the directories
above, so a stub is only removed where it is still what was made and still empty.
"""

from __future__ import annotations

import errno
import os
import stat

from engine.runtime.errors import refused
from engine.runtime.kernel.paths import (
    RESOLVE_BENEATH,
    RESOLVE_NO_SYMLINKS,
    RESOLVE_NO_XDEV,
    Stub,
    openat2,
)
from engine.runtime.rootfs.names import shown

_RESOLVE = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV
_OTHER_NOW = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EXDEV)


def remove_stubs(
    root_fd: int, stubs: tuple[Stub, ...], aside: int | None = None
) -> tuple[Stub, ...]:
    """Remove what is left of `stubs`, last one first; those that were removed.

    Directories go into the directory `aside`, if there is one, which somebody will remove:
    renaming takes a fraction of the time that removing does. Nothing may run in the root then.
    `root_fd` is the directory that was the container's root, or the upper directory of the
    overlay that was: inode numbers are compared where both are of one device. A directory
    whose only change was the stub gets its old modification time back. Raises KernelRefused.
    """
    return tuple(stub for stub in reversed(stubs) if _remove(root_fd, stub, aside))


def _remove(root_fd: int, stub: Stub, aside: int | None) -> bool:
    directory, _, name = stub.path.rpartition(b"/")
    try:
        parent = openat2(root_fd, directory or b".", os.O_RDONLY | os.O_DIRECTORY, _RESOLVE)
    except OSError as e:
        if e.errno in _OTHER_NOW:
            return False
        raise refused(f"remove the mount point {shown(stub.path)}", e) from e
    try:
        above = os.fstat(parent)
        if above.st_dev == stub.parent_device and above.st_ino != stub.parent_inode:
            return False
        found = os.stat(name, dir_fd=parent, follow_symlinks=False)
        if not _is_unchanged(found, stub):
            return False
        if stub.directory:
            if aside is None or not _set_aside(name, parent, found.st_ino, aside):
                os.rmdir(name, dir_fd=parent)
        else:
            os.unlink(name, dir_fd=parent)
        before, after = stub.parent_times
        if above.st_mtime_ns == after:
            os.utime(parent, ns=(above.st_atime_ns, before))
    except OSError as e:
        if e.errno in (errno.ENOENT, errno.ENOTEMPTY):
            return False
        raise refused(f"remove the mount point {shown(stub.path)}", e) from e
    finally:
        os.close(parent)
    return True


def _set_aside(name: bytes, parent: int, inode: int, aside: int) -> bool:
    """Move an empty directory away; False if it has to be removed where it is."""
    fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        if os.listdir(fd):
            return False
    finally:
        os.close(fd)
    try:
        os.rename(name, b"stub-%d" % inode, src_dir_fd=parent, dst_dir_fd=aside)
    except OSError:
        return False
    return True


def _is_unchanged(found: os.stat_result, stub: Stub) -> bool:
    if found.st_dev == stub.device and found.st_ino != stub.inode:
        return False
    if stat.S_IMODE(found.st_mode) != stub.mode:
        return False
    if stub.directory:
        return stat.S_ISDIR(found.st_mode)
    return stat.S_ISREG(found.st_mode) and found.st_size == 0

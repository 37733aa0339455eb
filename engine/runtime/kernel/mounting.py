"""Mounting, by descriptor wherever the kernel can: mount(2), umount2(2), pivot_root(2), and
fsopen, fsmount, open_tree, move_mount, mount_setattr (Linux 5.2 to 5.12)."""

from __future__ import annotations

import ctypes
import errno
import os

from engine.runtime.kernel.calls import (
    FSCONFIG,
    FSMOUNT,
    FSOPEN,
    FSPICK,
    MOUNT_SETATTR,
    MOVE_MOUNT,
    OPEN_TREE,
    c_char_p,
    c_int,
    c_ulong,
    checked,
    function,
    named,
    syscall,
)

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_REMOUNT, MS_NOSYMFOLLOW, MS_NOATIME, MS_NODIRATIME = 32, 256, 1024, 2048
MS_BIND, MS_MOVE, MS_REC = 4096, 8192, 16384
MS_UNBINDABLE, MS_PRIVATE, MS_SLAVE, MS_SHARED = 1 << 17, 1 << 18, 1 << 19, 1 << 20
MS_RELATIME, MS_STRICTATIME = 1 << 21, 1 << 24
MNT_DETACH, UMOUNT_NOFOLLOW = 2, 8

AT_FDCWD, AT_EMPTY_PATH, AT_RECURSIVE, AT_SYMLINK_NOFOLLOW = -100, 0x1000, 0x8000, 0x100
OPEN_TREE_CLONE, OPEN_TREE_CLOEXEC = 1, 0o2000000
FSOPEN_CLOEXEC = FSMOUNT_CLOEXEC = FSPICK_CLOEXEC = 1
FSPICK_EMPTY_PATH = 8
MOVE_MOUNT_F_EMPTY_PATH, MOVE_MOUNT_T_EMPTY_PATH = 0x4, 0x40

MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID, MOUNT_ATTR_NODEV, MOUNT_ATTR_NOEXEC = 1, 2, 4, 8
MOUNT_ATTR__ATIME, MOUNT_ATTR_RELATIME, MOUNT_ATTR_NOATIME = 0x70, 0, 0x10
MOUNT_ATTR_STRICTATIME, MOUNT_ATTR_NODIRATIME = 0x20, 0x80
MOUNT_ATTR_IDMAP, MOUNT_ATTR_NOSYMFOLLOW = 0x100000, 0x200000

_FSCONFIG_SET_FLAG, _FSCONFIG_SET_STRING = 0, 1
_FSCONFIG_CMD_CREATE, _FSCONFIG_CMD_RECONFIGURE = 6, 7

_mount = function("mount", c_char_p, c_char_p, c_char_p, c_ulong, c_char_p)
_umount2 = function("umount2", c_char_p, c_int)


class _MountAttr(ctypes.Structure):
    _fields_ = (
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    )


def mount(
    source: bytes | None, target: bytes, fstype: bytes | None, flags: int, data: bytes | None
) -> None:
    """mount(2)."""
    checked(_mount(source, target, fstype, flags, data))


def umount(target: bytes, flags: int = 0) -> None:
    """umount2(2)."""
    checked(_umount2(target, flags))


def pivot_root(new_root: bytes, put_old: bytes) -> None:
    """pivot_root(2)."""
    syscall(named("pivot_root"), new_root, put_old)


def open_tree(dir_fd: int, path: bytes, flags: int) -> int:
    """open_tree(2): a descriptor of the mount at `path`, a detached copy with
    OPEN_TREE_CLONE. Close-on-exec always."""
    return syscall(OPEN_TREE, dir_fd, path, flags | OPEN_TREE_CLOEXEC)


def clone_mount(fd: int, *, recursive: bool = False) -> int:
    """A detached copy of the mount tree at what `fd` is; ENOSYS before Linux 5.2."""
    flags = AT_EMPTY_PATH | OPEN_TREE_CLONE | (AT_RECURSIVE if recursive else 0)
    return open_tree(fd, b"", flags)


def has_mount_setattr() -> bool:
    """Whether the kernel has mount_setattr(2) (Linux 5.12) and lets us call it."""
    try:
        syscall(MOUNT_SETATTR, -1, b"", AT_EMPTY_PATH, None, 0)
    except OSError as e:
        return e.errno not in (errno.ENOSYS, errno.EPERM)
    return True


def move_mount(mount_fd: int, target_fd: int) -> None:
    """move_mount(2): attach the detached mount `mount_fd` on top of what `target_fd` is."""
    flags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH
    syscall(MOVE_MOUNT, mount_fd, b"", target_fd, b"", flags)


def mount_setattr(
    fd: int,
    *,
    attr_set: int = 0,
    attr_clr: int = 0,
    propagation: int = 0,
    userns_fd: int = 0,
    recursive: bool = False,
) -> None:
    """mount_setattr(2) on the mount that `fd` is."""
    attr = _MountAttr(attr_set, attr_clr, propagation, userns_fd)
    flags = AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0)
    syscall(MOUNT_SETATTR, fd, b"", flags, ctypes.byref(attr), ctypes.sizeof(attr))


def fsopen(fstype: bytes) -> int:
    """fsopen(2): a configuration descriptor for a new file system, close-on-exec."""
    return syscall(FSOPEN, fstype, FSOPEN_CLOEXEC)


def fspick(fd: int) -> int:
    """fspick(2): a configuration descriptor for the file system mounted at `fd`."""
    return syscall(FSPICK, fd, b"", FSPICK_CLOEXEC | FSPICK_EMPTY_PATH)


def fsconfig_flag(fd: int, key: bytes) -> None:
    """Set an option that has no value."""
    syscall(FSCONFIG, fd, _FSCONFIG_SET_FLAG, key, None, 0)


def fsconfig_string(fd: int, key: bytes, value: bytes) -> None:
    """Set an option; nothing in `value` can add another one."""
    syscall(FSCONFIG, fd, _FSCONFIG_SET_STRING, key, value, 0)


def fsconfig_create(fd: int) -> None:
    """Make the file system that was configured."""
    syscall(FSCONFIG, fd, _FSCONFIG_CMD_CREATE, None, None, 0)


def fsconfig_reconfigure(fd: int) -> None:
    """Change a file system that fspick(2) opened."""
    syscall(FSCONFIG, fd, _FSCONFIG_CMD_RECONFIGURE, None, None, 0)


def fsmount(fd: int, attributes: int = 0) -> int:
    """fsmount(2): a detached mount of what `fsconfig_create` made, with MOUNT_ATTR_ bits."""
    return syscall(FSMOUNT, fd, FSMOUNT_CLOEXEC, attributes)


def fs_messages(fd: int) -> str:
    """What the kernel has to say about a configuration that failed, lines joined by "; "."""
    lines: list[str] = []
    while len(lines) < 16:
        try:
            line = os.read(fd, 1024)
        except OSError:
            break
        if not line:
            break
        lines.append(line.decode("utf-8", "replace").strip().partition(" ")[2])
    return "; ".join(lines)

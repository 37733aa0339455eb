"""What is closed before the container runs: kernel parameters set, paths made read-only or
covered. Done while the host's mounts are still there, and only through descriptors."""

from __future__ import annotations

import errno
import os
import stat

from engine.runtime.errors import KernelRefused, refused
from engine.runtime.kernel import mounting
from engine.runtime.kernel.files import close_all
from engine.runtime.kernel.mounting import (
    MOUNT_ATTR_NODEV,
    MOUNT_ATTR_NOEXEC,
    MOUNT_ATTR_NOSUID,
    MOUNT_ATTR_RDONLY,
)
from engine.runtime.kernel.paths import (
    O_PATH,
    PROC_SUPER_MAGIC,
    RESOLVE_BENEATH,
    RESOLVE_NO_SYMLINKS,
    RESOLVE_NO_XDEV,
    filesystem_type,
    open_in_root,
    openat2,
)
from engine.runtime.rootfs.filesystems import new_filesystem
from engine.runtime.rootfs.model import MountOptions
from engine.runtime.rootfs.names import shown
from engine.runtime.rootfs.nodes import is_null

TYPE_CHECKING = False
if TYPE_CHECKING:
    from engine.runtime.rootfs.attach import Attacher
    from engine.runtime.rootfs.model import SysctlStep

_ABSENT = (errno.ENOENT, errno.ENOTDIR)
_PROC_ROOT_INODE = 1
_READONLY = MountOptions(recursive_set=MOUNT_ATTR_RDONLY)
_READONLY_LEGACY = MountOptions(attr_set=MOUNT_ATTR_RDONLY)
_EMPTY = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC


def write_sysctls(steps: tuple[SysctlStep, ...], host_proc: int) -> None:
    """Write kernel parameters, in the namespaces of this process. Raises KernelRefused.

    `host_proc` is the host's /proc. A procfs of our own, which nothing can cover or replace,
    is used where the kernel lets us make one.
    """
    if not steps:
        return
    proc = _trusted_proc(host_proc)
    try:
        for step in steps:
            _write_sysctl(proc, step)
    finally:
        if proc != host_proc:
            os.close(proc)


def _trusted_proc(host_proc: int) -> int:
    try:
        return new_filesystem(b"proc", source=b"proc")
    except KernelRefused:
        found = os.fstat(host_proc)
        if filesystem_type(host_proc) != PROC_SUPER_MAGIC or found.st_ino != _PROC_ROOT_INODE:
            raise
        return host_proc


def _write_sysctl(proc: int, step: SysctlStep) -> None:
    resolve = RESOLVE_BENEATH | RESOLVE_NO_XDEV | RESOLVE_NO_SYMLINKS
    what = f"set the kernel parameter {shown(step.path)}"
    try:
        fd = openat2(proc, b"sys/" + step.path, os.O_WRONLY, resolve)
        try:
            if filesystem_type(fd) != PROC_SUPER_MAGIC:
                raise KernelRefused(f"{what}: it is not in a procfs", errno=errno.EXDEV)
            os.write(fd, step.value)
        finally:
            os.close(fd)
    except OSError as e:
        raise refused(what, e) from e


class Sealer:
    """Makes paths of one root read-only or covers them."""

    def __init__(self, root_fd: int, attacher: Attacher) -> None:
        self._root_fd = root_fd
        self._attacher = attacher
        self._empty = -1
        self._null = -1

    def close(self) -> None:
        """Close what is kept."""
        close_all((self._empty, self._null))
        self._empty = self._null = -1

    def _open(self, path: bytes, what: str) -> int:
        """What `path` is in the root, -1 if there is nothing."""
        try:
            return open_in_root(self._root_fd, path)
        except OSError as e:
            if e.errno in _ABSENT:
                return -1
            raise refused(what, e) from e

    def make_readonly(self, path: bytes) -> None:
        """Make `path` and everything mounted below it read-only; other flags stay as they are.
        Raises KernelRefused."""
        what = f"make {shown(path)} read-only"
        target = self._open(path, what)
        if target < 0:
            return
        try:
            fd = mounting.clone_mount(target, recursive=True)
            try:
                options = _READONLY if self._attacher.modern else _READONLY_LEGACY
                self._attacher.attach(fd, target, options, what)
            finally:
                os.close(fd)
        except OSError as e:
            raise refused(what, e) from e
        finally:
            os.close(target)

    def mask(self, path: bytes) -> None:
        """Cover `path`: a directory by an empty one, anything else by the null device. Raises
        KernelRefused."""
        what = f"mask {shown(path)}"
        target = self._open(path, what)
        if target < 0:
            return
        try:
            if stat.S_ISDIR(os.fstat(target).st_mode):
                self._cover_directory(target, what)
            else:
                self._cover_file(target, what)
        except OSError as e:
            raise refused(what, e) from e
        finally:
            os.close(target)

    def _cover_directory(self, target: int, what: str) -> None:
        """One empty file system covers all directories: the first time it is attached, then
        copies of it are."""
        if self._empty >= 0:
            fd = mounting.clone_mount(self._empty)
            try:
                self._attacher.attach(fd, target, MountOptions(), what)
            finally:
                os.close(fd)
            return
        options = ((b"size", b"4k"), (b"nr_inodes", b"2"), (b"mode", b"755"))
        fd = new_filesystem(b"tmpfs", source=b"tmpfs", data=options, attributes=_EMPTY)
        try:
            self._attacher.attach(fd, target, MountOptions(), what)
            self._empty, fd = fd, -1
        finally:
            if fd >= 0:
                os.close(fd)

    def _cover_file(self, target: int, what: str) -> None:
        if self._null < 0:
            self._null = self._open_null()
        fd = mounting.clone_mount(self._null)
        try:
            self._attacher.attach(fd, target, MountOptions(), what)
        finally:
            os.close(fd)

    def _open_null(self) -> int:
        """The host's null device, checked: a name in the container can be anything. A host
        without /dev/null may have given the container a real one."""
        for root in (-1, self._root_fd):
            try:
                if root < 0:
                    fd = os.open(b"/dev/null", O_PATH | os.O_CLOEXEC)
                else:
                    fd = open_in_root(root, b"/dev/null", O_PATH | os.O_NOFOLLOW)
            except OSError:
                continue
            if is_null(fd):
                return fd
            os.close(fd)
        raise KernelRefused("there is no null device to cover files with", errno=errno.ENODEV)

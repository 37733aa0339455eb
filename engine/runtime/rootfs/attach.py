"""Mounts before they are seen: made detached, given their attributes, and only then attached.

Kernels from 5.6 to 5.11 have no mount_setattr(2); there a mount is attached first and changed
through its own descriptor. Nothing here ever names a mount by a path of the container.
"""

from __future__ import annotations

import errno
import os

from engine.runtime.errors import KernelRefused, Unsupported, refused
from engine.runtime.kernel import mounting
from engine.runtime.kernel.mounting import (
    MOUNT_ATTR__ATIME,
    MOUNT_ATTR_NOATIME,
    MOUNT_ATTR_NODEV,
    MOUNT_ATTR_NODIRATIME,
    MOUNT_ATTR_NOEXEC,
    MOUNT_ATTR_NOSUID,
    MOUNT_ATTR_NOSYMFOLLOW,
    MOUNT_ATTR_RDONLY,
    MOUNT_ATTR_STRICTATIME,
)
from engine.runtime.kernel.paths import proc_path
from engine.runtime.rootfs.names import shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from engine.runtime.rootfs.model import MountOptions

LOCKED_HINT = "the mount comes from a more privileged namespace, whose flags can only be added to"
_LEGACY = (
    (MOUNT_ATTR_RDONLY, mounting.MS_RDONLY),
    (MOUNT_ATTR_NOSUID, mounting.MS_NOSUID),
    (MOUNT_ATTR_NODEV, mounting.MS_NODEV),
    (MOUNT_ATTR_NOEXEC, mounting.MS_NOEXEC),
    (MOUNT_ATTR_NODIRATIME, mounting.MS_NODIRATIME),
    (MOUNT_ATTR_NOSYMFOLLOW, mounting.MS_NOSYMFOLLOW),
)
_ST_RELATIME = 4096
_ST_NOSYMFOLLOW = 8192


class Attacher:
    """Puts detached mounts in place; `modern` says whether the kernel has mount_setattr(2)."""

    def __init__(self, *, modern: bool) -> None:
        self.modern = modern

    def attach(self, mount_fd: int, target_fd: int, options: MountOptions, what: str) -> None:
        """Attach `mount_fd` on what `target_fd` is, with the attributes and propagation of
        `options`. Raises KernelRefused or Unsupported, naming `what`."""
        if self.modern:
            self.change(mount_fd, options, what)
        _move(mount_fd, target_fd, what)
        if not self.modern:
            self.change(mount_fd, options, what)

    def change(self, mount_fd: int, options: MountOptions, what: str) -> None:
        """Give a mount the attributes and propagation of `options`; before Linux 5.12 it has to
        be attached."""
        if options.attr_set or options.attr_clear:
            self._attributes(mount_fd, options.attr_set, options.attr_clear, False, what)
        if options.recursive_set or options.recursive_clear:
            self._attributes(mount_fd, options.recursive_set, options.recursive_clear, True, what)
        for flag, recursive in options.propagation:
            self.propagate(mount_fd, flag, recursive, what)

    def make_readonly(self, mount_fd: int, what: str) -> None:
        """Make one attached mount read-only; every other flag stays."""
        self._attributes(mount_fd, MOUNT_ATTR_RDONLY, 0, False, what)

    def propagate(self, mount_fd: int, flag: int, recursive: bool, what: str) -> None:
        """Set the propagation of a mount, or of all mounts from it on."""
        try:
            if self.modern:
                mounting.mount_setattr(mount_fd, propagation=flag, recursive=recursive)
            else:
                flags = flag | (mounting.MS_REC if recursive else 0)
                mounting.mount(None, proc_path(mount_fd), None, flags, None)
        except OSError as e:
            raise refused(f"{what}: set the propagation", e) from e

    def _attributes(
        self, mount_fd: int, attr_set: int, attr_clear: int, recursive: bool, what: str
    ) -> None:
        if not self.modern and recursive:
            raise Unsupported(f"{what}: recursive attributes need Linux 5.12")
        try:
            if self.modern:
                mounting.mount_setattr(
                    mount_fd, attr_set=attr_set, attr_clr=attr_clear, recursive=recursive
                )
            else:
                flags = _legacy_flags(os.fstatvfs(mount_fd).f_flag, attr_set, attr_clear)
                flags |= mounting.MS_BIND | mounting.MS_REMOUNT
                mounting.mount(None, proc_path(mount_fd), None, flags, None)
        except OSError as e:
            hint = LOCKED_HINT if e.errno == errno.EPERM else ""
            raise refused(f"{what}: set the mount's flags", e, hint=hint) from e


def _legacy_flags(current: int, attr_set: int, attr_clear: int) -> int:
    """The MS_ flags for a remount of a mount whose statvfs(3) flags are `current`.

    A remount sets all flags at once, so those that are there are repeated: dropping an
    inherited one is refused in a user namespace.
    """
    flags = current & (mounting.MS_RDONLY | mounting.MS_NOSUID | mounting.MS_NODEV)
    flags |= current & (mounting.MS_NOEXEC | mounting.MS_NODIRATIME | mounting.MS_NOATIME)
    if current & _ST_NOSYMFOLLOW:
        flags |= mounting.MS_NOSYMFOLLOW
    if current & _ST_RELATIME:
        flags |= mounting.MS_RELATIME
    elif not current & mounting.MS_NOATIME:
        flags |= mounting.MS_STRICTATIME
    for attribute, flag in _LEGACY:
        if attr_clear & attribute:
            flags &= ~flag
        if attr_set & attribute:
            flags |= flag
    if attr_clear & MOUNT_ATTR__ATIME:
        flags &= ~(mounting.MS_NOATIME | mounting.MS_RELATIME | mounting.MS_STRICTATIME)
        choice = attr_set & MOUNT_ATTR__ATIME
        flags |= {
            MOUNT_ATTR_NOATIME: mounting.MS_NOATIME,
            MOUNT_ATTR_STRICTATIME: mounting.MS_STRICTATIME,
        }.get(choice, mounting.MS_RELATIME)
    return flags


def _move(mount_fd: int, target_fd: int, what: str) -> None:
    try:
        mounting.move_mount(mount_fd, target_fd)
    except OSError as e:
        raise refused(what, e) from e


def clone_source(
    source: bytes, *, recursive: bool, nofollow: bool = False, what: str = "open the source"
) -> int:
    """A detached copy of the mount at the host's path `source`. Raises KernelRefused, which
    begins with `what`."""
    flags = mounting.OPEN_TREE_CLONE | (mounting.AT_RECURSIVE if recursive else 0)
    if nofollow:
        flags |= mounting.AT_SYMLINK_NOFOLLOW
    try:
        return mounting.open_tree(mounting.AT_FDCWD, source, flags)
    except OSError as e:
        raise _source_error(f"{what} {shown(source)}", e) from e


def _source_error(text: str, error: OSError) -> KernelRefused:
    hint = ""
    if error.errno == errno.ENOENT:
        hint = "it has to be there; nothing is made on the host"
    elif error.errno == errno.EINVAL:
        hint = "it is unbindable, or has mounts below it that only rbind may take along"
    elif error.errno == errno.ENOSYS:
        hint = "mounting by descriptor needs Linux 5.6"
    return refused(text, error, hint=hint)

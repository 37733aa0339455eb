"""The container's /sys/fs/cgroup, as the cgroup code says it has to look."""

from __future__ import annotations

import os

from engine.runtime.errors import Failure, KernelRefused
from engine.runtime.kernel.mounting import (
    MOUNT_ATTR_NODEV,
    MOUNT_ATTR_NOEXEC,
    MOUNT_ATTR_NOSUID,
    MOUNT_ATTR_RDONLY,
)
from engine.runtime.rootfs.attach import clone_source
from engine.runtime.rootfs.filesystems import new_filesystem
from engine.runtime.rootfs.model import MountOptions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from engine.runtime.cgroups.view import CgroupMount
    from engine.runtime.rootfs.attach import Attacher
    from engine.runtime.rootfs.model import MountStep
    from engine.runtime.rootfs.targets import Targets

_ALWAYS = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC


def mount_cgroups(step: MountStep, targets: Targets, attacher: Attacher, what: str) -> None:
    """Make the mounts of the step's view at its destination. Raises Failure or OSError."""
    base = -1
    readonly_base = False
    try:
        for part in step.cgroup.steps if step.cgroup is not None else ():
            if not part.target:
                base = _mount_base(step, part, targets, attacher, what)
                readonly_base = part.kind == "tmpfs" and part.read_only
            elif part.kind == "symlink":
                os.symlink(os.fsencode(part.source), os.fsencode(part.target), dir_fd=base)
            else:
                _mount_below(base, part, attacher, what)
        if readonly_base:
            attacher.make_readonly(base, what)
    finally:
        if base >= 0:
            os.close(base)


def _mount_base(
    step: MountStep, part: CgroupMount, targets: Targets, attacher: Attacher, what: str
) -> int:
    """The mount at the destination itself; its descriptor."""
    fd = _made(part)
    try:
        target = targets.directory(step.destination)
        try:
            targets.check(target, fd)
            options = MountOptions(
                attr_set=_attributes(part) if part.kind != "tmpfs" else _ALWAYS,
                propagation=step.options.propagation,
            )
            attacher.attach(fd, target, options, what)
        finally:
            os.close(target)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _mount_below(base: int, part: CgroupMount, attacher: Attacher, what: str) -> None:
    name = os.fsencode(part.target)
    os.mkdir(name, 0o755, dir_fd=base)
    target = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=base)
    try:
        fd = _made(part)
        try:
            options = MountOptions(attr_set=_attributes(part))
            attacher.attach(fd, target, options, f"{what}/{part.target}")
        finally:
            os.close(fd)
    finally:
        os.close(target)


def _attributes(part: CgroupMount) -> int:
    return _ALWAYS | (MOUNT_ATTR_RDONLY if part.read_only else 0)


def _made(part: CgroupMount) -> int:
    """The detached mount of one step; a cgroup file system that the kernel refuses is replaced
    by the host's directory."""
    if part.kind == "bind":
        return clone_source(os.fsencode(part.source), recursive=False)
    try:
        fstype = part.kind.encode()
        return new_filesystem(fstype, source=fstype, data=_pairs(part.data))
    except KernelRefused as refusal:
        if part.kind == "tmpfs" or not part.source:
            raise
        try:
            return clone_source(os.fsencode(part.source), recursive=False)
        except Failure:
            raise refusal from None


def _pairs(data: str) -> tuple[tuple[bytes, bytes | None], ...]:
    """`data`, which our own cgroup code wrote, as keys and values."""
    pairs: list[tuple[bytes, bytes | None]] = []
    for option in data.encode().split(b",") if data else ():
        key, equals, value = option.partition(b"=")
        pairs.append((key, value if equals else None))
    return tuple(pairs)

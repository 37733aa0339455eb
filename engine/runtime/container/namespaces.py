"""Which namespaces a container gets: the new ones, the ones it joins, and in which order.

Rules are those of runtime-spec config-linux.md "Namespaces"; that an entry of the wrong type
is refused is one of them. Joining comes first, since a process in a new user namespace has no
rights over those of the old one (facts of namespaces(7)).
"""

from __future__ import annotations

import fcntl
import os

from engine.runtime.errors import InvalidConfig, refused
from engine.runtime.kernel.processes import (
    CLONE_NEWCGROUP,
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWTIME,
    CLONE_NEWUSER,
    CLONE_NEWUTS,
)
from engine.runtime.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from engine.runtime.spec.model import Linux

FLAGS = {
    "user": CLONE_NEWUSER,
    "cgroup": CLONE_NEWCGROUP,
    "ipc": CLONE_NEWIPC,
    "uts": CLONE_NEWUTS,
    "network": CLONE_NEWNET,
    "pid": CLONE_NEWPID,
    "time": CLONE_NEWTIME,
    "mount": CLONE_NEWNS,
}
"""Type to flag, in the order in which namespaces are joined."""

PROC_NAMES = {"network": "net", "mount": "mnt"}
"""Names below /proc/PID/ns that are not the type's."""

_NS_GET_NSTYPE = 0xB703


class NamespacePlan(Record):
    """`new` flags and `joins` (type, path), in order.

    `staged` says that a process in between has to join, or set a clock's offsets, before the
    container's init can be cloned.
    """

    new: int
    joins: tuple[tuple[str, str], ...]
    staged: bool
    time_offsets: bytes = b""

    def has_new(self, kind: str) -> bool:
        """Whether the container gets a new namespace of this type."""
        return bool(self.new & FLAGS[kind])

    def joined(self, kind: str) -> bool:
        """Whether it joins one."""
        return any(name == kind for name, _ in self.joins)


def plan_namespaces(linux: Linux) -> NamespacePlan:
    """The namespaces that `linux` asks for; raises InvalidConfig."""
    new, joins = 0, {}
    for namespace in linux.namespaces:
        if namespace.path:
            joins[namespace.type] = namespace.path
        else:
            new |= FLAGS[namespace.type]
    if linux.uid_mappings or linux.gid_mappings:
        if not new & CLONE_NEWUSER and "user" not in joins:
            raise InvalidConfig("linux.uidMappings need a user namespace in linux.namespaces")
    elif new & CLONE_NEWUSER:
        raise InvalidConfig("a new user namespace needs linux.uidMappings and gidMappings")
    offsets = b""
    if linux.time_offsets:
        if not new & CLONE_NEWTIME:
            raise InvalidConfig("linux.timeOffsets need a new time namespace")
        offsets = b"".join(
            b"%s %d %d\n" % (offset.clock.encode(), offset.secs, offset.nanosecs)
            for offset in linux.time_offsets
        )
    return NamespacePlan(
        new=new,
        joins=tuple((kind, joins[kind]) for kind in FLAGS if kind in joins),
        staged=bool(joins or offsets),
        time_offsets=offsets,
    )


def open_joined(plan: NamespacePlan) -> tuple[tuple[str, int], ...]:
    """A descriptor for each namespace to join, in order, with its type.

    Raises KernelRefused if one cannot be opened and InvalidConfig if it is of another type.
    """
    opened: list[tuple[str, int]] = []
    try:
        for kind, path in plan.joins:
            try:
                fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except OSError as e:
                raise refused(f"open {kind} namespace {path}", e) from e
            opened.append((kind, fd))
            try:
                actual = fcntl.ioctl(fd, _NS_GET_NSTYPE)
            except OSError as e:
                raise InvalidConfig(f"{path} is no namespace") from e
            if actual != FLAGS[kind]:
                found = next((name for name, flag in FLAGS.items() if flag == actual), "other")
                raise InvalidConfig(f"{path} is a {found} namespace, expected {kind}")
    except BaseException:
        for _, fd in opened:
            os.close(fd)
        raise
    return tuple(opened)


def namespace_paths(pid: int) -> dict[str, str]:
    """The paths of a process's namespaces, by type."""
    return {kind: f"/proc/{pid}/ns/{PROC_NAMES.get(kind, kind)}" for kind in FLAGS}


def identities(pid: int | str) -> Mapping[str, tuple[int, int]]:
    """(device, inode) of each namespace of a process; types the kernel lacks are left out."""
    found = {}
    for kind in FLAGS:
        try:
            st = os.stat(f"/proc/{pid}/ns/{PROC_NAMES.get(kind, kind)}")
        except OSError:
            continue
        found[kind] = (st.st_dev, st.st_ino)
    return found

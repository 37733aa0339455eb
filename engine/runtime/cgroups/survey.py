"""What cgroups the host has, read from mountinfo and /proc/self/cgroup.

The kernel's own tables decide, not the presence of well-known paths: a hierarchy counts where it
is mounted, visible (nothing lies on top of it) and, as seen from its mount, holds this process.
"""

from __future__ import annotations

import os

from engine.runtime.cgroups.model import CgroupHost, Hierarchy
from engine.runtime.kernel.files import read_if_there
from engine.runtime.kernel.mountinfo import MAX_TABLE, MountEntry, parse_mountinfo
from engine.runtime.kernel.proc import kernel_version

MAX_FILE = 1 << 16
_VERSIONS = {b"cgroup": 1, b"cgroup2": 2}
_DELETED = " (deleted)"


class _Mount:
    """A line of mountinfo that is a cgroup file system."""

    def __init__(self, entry: MountEntry) -> None:
        self.version = _VERSIONS[entry.fstype]
        self.device = entry.device
        self.root = os.fsdecode(entry.root)
        self.point = os.fsdecode(entry.point)
        self.options = os.fsdecode(entry.options).split(",")


def survey(proc: str = "/proc", root: str = "/sys/fs/cgroup") -> CgroupHost:
    """The host's hierarchies as this process sees them; raises nothing.

    `proc` is a procfs; mounts below `root` are preferred where a hierarchy is mounted twice.
    """
    table = read_if_there(f"{proc}/self/mountinfo", MAX_TABLE)
    mounts = _visible([_Mount(entry) for entry in parse_mountinfo(table, _VERSIONS)], root)
    hierarchies: list[Hierarchy] = []
    lost: list[str] = []
    for controllers, own in _memberships(read_if_there(f"{proc}/self/cgroup", MAX_FILE)):
        mount, path = _choose(mounts, controllers, own)
        if mount is None:
            lost += controllers
        else:
            hierarchies.append(_hierarchy(mount, controllers, path))
    found = {h.version for h in hierarchies if any(map(_is_controller, h.controllers))}
    if any(h.version == 2 for h in hierarchies):
        found.add(2)
    mode = {(): "none", (1,): "v1", (2,): "v2"}.get(tuple(sorted(found)), "hybrid")
    return CgroupHost(
        mode=mode,
        hierarchies=tuple(hierarchies),
        systemd=os.path.isdir("/run/systemd/system"),
        kernel=kernel_version(os.uname().release),
        lost=tuple(lost),
    )


def _is_controller(name: str) -> bool:
    return not name.startswith("name=")


def _visible(mounts: list[_Mount], root: str) -> list[_Mount]:
    """The mounts that their mount point leads to, those below `root` and short ones first."""
    topmost = {mount.point: mount for mount in mounts}
    seen = []
    for mount in topmost.values():
        try:
            if os.stat(mount.point).st_dev == mount.device:
                seen.append(mount)
        except (OSError, ValueError):
            continue
    seen.sort(key=lambda m: (not f"{m.point}/".startswith(f"{root}/"), len(m.point)))
    return seen


def _memberships(table: bytes) -> list[tuple[tuple[str, ...], str]]:
    """(controllers, path) of each hierarchy this process is in; no controllers for cgroup2.

    A hierarchy of version 1 comes first, so that limits are looked for where controllers are.
    """
    found: list[tuple[tuple[str, ...], str]] = []
    for line in table.split(b"\n"):
        number, _, rest = line.partition(b":")
        names, colon, path = rest.partition(b":")
        if not colon or not number.isdigit() or not path.startswith(b"/"):
            continue
        controllers = tuple(os.fsdecode(names).split(",")) if names else ()
        if bool(controllers) != (int(number) != 0):
            continue
        found.append((controllers, os.fsdecode(path)))
    found.sort(key=lambda entry: not entry[0])
    return found


def _choose(
    mounts: list[_Mount], controllers: tuple[str, ...], own: str
) -> tuple[_Mount | None, str | None]:
    """The best mount of a hierarchy and our cgroup below it."""
    fitting = [
        m
        for m in mounts
        if (
            m.version == 1 and set(controllers) <= set(m.options) if controllers else m.version == 2
        )
    ]
    for mount in fitting:
        path = below(mount.root, own)
        if path is not None:
            return mount, path
    return (fitting[0], None) if fitting else (None, None)


def below(root: str, own: str) -> str | None:
    """The cgroup `own` as seen from a mount that shows the cgroup `root`; both as the kernel
    prints them, relative to the cgroup namespace. None where it is not below it, or removed, or
    outside the namespace, so that its name cannot be known."""
    above = (".." in part for path in (root, own) for part in [path.split("/")])
    if own.endswith(_DELETED) or any(above):
        return None
    if root == "/":
        return own[1:]
    if own == root or own.startswith(root + "/"):
        return own[len(root) + 1 :]
    return None


def _hierarchy(mount: _Mount, controllers: tuple[str, ...], own: str | None) -> Hierarchy:
    offered = controllers
    if mount.version == 2:
        content = read_if_there(f"{mount.point}/cgroup.controllers", MAX_FILE)
        offered = tuple(os.fsdecode(content).split())
    directory = f"{mount.point}/{own}" if own else mount.point
    own_writable = _can_make_cgroups(directory)
    parent_writable = bool(own) and _can_make_cgroups(os.path.dirname(directory))
    return Hierarchy(
        version=mount.version,
        controllers=offered,
        mount=mount.point,
        own=own,
        own_writable=own_writable,
        parent_writable=parent_writable,
    )


def _can_make_cgroups(directory: str) -> bool:
    """Whether this process may make cgroups in `directory` and move processes between them,
    for which it has to be allowed to write cgroup.procs there."""
    return os.access(directory, os.W_OK | os.X_OK) and os.access(
        f"{directory}/cgroup.procs", os.W_OK
    )

"""What a container sees at /sys/fs/cgroup: which mounts have to be made there.

Pure: the rootfs code carries it out. A cgroup that is not delegated is shown read-only, because
its files are the container's limits (and `release_agent` of version 1 runs programs outside).
"""

from __future__ import annotations

from engine.runtime.cgroups.model import Cgroup, CgroupHost, Hierarchy
from engine.runtime.record import Record


class CgroupMount(Record):
    """One step, at `target` below the container's /sys/fs/cgroup ("" is that directory itself,
    else one component).

    kind      what to do
    tmpfs     a new tmpfs with the options `data`; where read_only, remount it after all steps
    cgroup2   a new mount of cgroup2, made inside the container's cgroup namespace
    cgroup    a new mount of version 1 with the options `data`, likewise
    bind      the host's directory `source`
    symlink   a symbolic link with the text `source`

    A refused cgroup2 or cgroup mount is replaced by a bind of `source`. All but links get nosuid,
    nodev and noexec, and ro where `read_only`.
    """

    kind: str
    target: str = ""
    source: str = ""
    data: str = ""
    read_only: bool = True


class CgroupMounts(Record):
    """The steps in order; none where the host has no cgroups."""

    steps: tuple[CgroupMount, ...] = ()
    notes: tuple[str, ...] = ()


def container_view(
    host: CgroupHost,
    cgroup: Cgroup | None,
    own_cgroup_ns: bool,
    *,
    writable: bool = False,
    delegated: bool = False,
) -> CgroupMounts:
    """The mounts for a container in `cgroup` (None: it stays in the cgroup of this process).

    `writable` is what the mount's options ask for. It is granted only in a cgroup namespace of
    the container's own and, under version 1, where the caller has `delegated` the cgroup.
    """
    notes: list[str] = []
    if writable and not own_cgroup_ns:
        notes.append("cgroups are read-only: the container has no cgroup namespace of its own")
    if host.mode == "none":
        return CgroupMounts(notes=("the host has no cgroups to show",))
    if host.mode == "v2":
        unified = host.unified()
        assert unified is not None
        step = _hierarchy(unified, "", cgroup, own_cgroup_ns, writable and own_cgroup_ns)
        return CgroupMounts(steps=(step,), notes=tuple(notes))
    grant = writable and own_cgroup_ns and delegated
    if writable and own_cgroup_ns and not delegated:
        notes.append("cgroups of version 1 are read-only: they are not delegated")
    steps = [CgroupMount(kind="tmpfs", data="mode=755,size=1m,nr_inodes=1k")]
    names: set[str] = set()
    for hierarchy in host.hierarchies:
        name = _name(hierarchy)
        if name in names:
            continue
        names.add(name)
        unified_grant = writable and own_cgroup_ns and hierarchy.version == 2
        steps.append(_hierarchy(hierarchy, name, cgroup, own_cgroup_ns, grant or unified_grant))
    for hierarchy in host.hierarchies:
        if hierarchy.version == 1:
            steps += _links(hierarchy, names)
    return CgroupMounts(steps=tuple(steps), notes=tuple(notes))


def _name(hierarchy: Hierarchy) -> str:
    """The directory of a hierarchy in the container: as programs look it up, not as the host
    happens to have mounted it."""
    if hierarchy.version == 2:
        return "unified"
    return ",".join(c.removeprefix("name=") for c in hierarchy.controllers)


def _links(hierarchy: Hierarchy, names: set[str]) -> list[CgroupMount]:
    """Links for controllers that are mounted together: cpu -> cpu,cpuacct."""
    target = _name(hierarchy)
    links = []
    for controller in hierarchy.controllers:
        if len(hierarchy.controllers) > 1 and controller not in names:
            names.add(controller)
            links.append(CgroupMount(kind="symlink", target=controller, source=target))
    return links


def _hierarchy(
    hierarchy: Hierarchy, target: str, cgroup: Cgroup | None, own_cgroup_ns: bool, writable: bool
) -> CgroupMount:
    source = _host_directory(hierarchy, cgroup)
    if not own_cgroup_ns:
        return CgroupMount(kind="bind", target=target, source=source)
    if hierarchy.version == 2:
        return CgroupMount(kind="cgroup2", target=target, source=source, read_only=not writable)
    controllers = hierarchy.controllers
    named = all(c.startswith("name=") for c in controllers)
    data = ",".join(("none", *controllers) if named else controllers)
    return CgroupMount(
        kind="cgroup", target=target, source=source, data=data, read_only=not writable
    )


def _host_directory(hierarchy: Hierarchy, cgroup: Cgroup | None) -> str:
    """The container's cgroup on the host, or that of this process where it has none there."""
    path = hierarchy.own or ""
    for directory in cgroup.directories if cgroup is not None else ():
        if directory.mount == hierarchy.mount:
            path = directory.path
    return f"{hierarchy.mount}/{path}" if path else hierarchy.mount

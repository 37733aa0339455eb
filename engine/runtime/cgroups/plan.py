"""Decides which cgroups a container gets in which hierarchies, and what is written to them.

Pure: from the surveyed host and `linux.resources` to a plan that can be printed. Each controller
is taken where the kernel has it, so on a hybrid host limits go to version 1 while cgroup2 tracks
and kills the container's processes.
"""

from __future__ import annotations

from engine.runtime.cgroups import devices, limits_v1, limits_v2
from engine.runtime.cgroups.model import (
    Cgroup,
    CgroupHost,
    CgroupPlan,
    Hierarchy,
    PlannedDirectory,
    Write,
)
from engine.runtime.cgroups.paths import is_systemd_path, place
from engine.runtime.errors import InvalidConfig, Unsupported
from engine.runtime.spec.model import Config, Resources

MANAGERS = ("cgroupfs", "systemd", "disabled")
CLONE_INTO_SINCE = (5, 7)

# (name under version 1, its writes, name under cgroup2, its writes)
_CONTROLLERS = (
    ("memory", limits_v1.memory, "memory", limits_v2.memory),
    ("cpu", limits_v1.cpu, "cpu", limits_v2.cpu),
    ("cpuset", limits_v1.cpuset, "cpuset", limits_v1.cpuset),
    ("pids", limits_v1.pids, "pids", limits_v1.pids),
    ("blkio", limits_v1.block_io, "io", limits_v2.block_io),
    ("hugetlb", limits_v1.hugetlb, "hugetlb", limits_v1.hugetlb_v2),
    ("net_cls", limits_v1.net_cls, "", limits_v1.net_cls),
    ("net_prio", limits_v1.net_prio, "", limits_v1.net_prio),
)


class _Limits:
    """The writes of one container by controller, and what is to be said of them."""

    def __init__(self, forgiving: bool) -> None:
        self.forgiving = forgiving
        self.version_1: dict[str, list[Write]] = {}
        self.version_2: dict[str, list[Write]] = {}
        self.notes: list[str] = []

    def cannot(self, problem: str, hint: str = "") -> None:
        """A limit that cannot be set: an error, or a note."""
        if not self.forgiving:
            raise Unsupported(problem, hint=hint)
        self.notes.append(problem)


def plan_cgroups(
    host: CgroupHost,
    cgroups_path: str,
    resources: Resources | None,
    container_id: str,
    *,
    rootless: bool = False,
    manager: str = "cgroupfs",
    forgiving: bool = False,
    owner: int | None = None,
) -> CgroupPlan:
    """The plan for a container.

    `cgroups_path` is `linux.cgroupsPath` (see `paths.place`). `rootless`: this process is not
    root of the initial user namespace, so that device filters are tried but not needed, and a
    container that asks for no place and no limits may stay where it is. `forgiving`: limits are
    the caller's defaults, and what cannot be set becomes a note. `manager` is cgroupfs, systemd
    (refused) or disabled. `owner` see `delegation`.

    Raises InvalidConfig for a path or value that means nothing, Unsupported for what this host
    cannot do.
    """
    resources = resources or Resources()
    if manager not in MANAGERS:
        raise InvalidConfig(f"cgroup manager {manager!r} is none of {', '.join(MANAGERS)}")
    if manager == "systemd":
        detail = f" (linux.cgroupsPath {cgroups_path!r})" if is_systemd_path(cgroups_path) else ""
        raise Unsupported(
            f"the systemd cgroup manager is not supported{detail}",
            hint="use the cgroupfs manager",
        )
    usable, notes = _usable(host, cgroups_path, rootless, manager)
    limits = _limits(usable, host, resources, forgiving)
    notes += limits.notes
    directories = tuple(
        _directory(hierarchy, place(hierarchy, cgroups_path, container_id), limits, host.mode)
        for hierarchy in usable
    )
    plan = _device_plan(directories, resources, rootless or forgiving, notes)
    return plan.with_values(
        directories=directories,
        forgiving=forgiving,
        clone_into=any(d.version == 2 for d in directories) and host.kernel >= CLONE_INTO_SINCE,
        owner=owner if host.mode == "v2" else None,
        notes=tuple(notes),
    )


def plan_update(
    cgroup: Cgroup,
    resources: Resources,
    *,
    rootless: bool = False,
    forgiving: bool = False,
    memory_limit: int | None = None,
) -> CgroupPlan:
    """The plan for `update`: only what `resources` names changes, the device filter only if they
    have device rules. `memory_limit` is the limit in force, for a new swap limit under cgroup2.
    Raises as `plan_cgroups`."""
    asked = resources.memory
    if asked is not None and asked.limit is None and memory_limit is not None:
        resources = resources.with_values(memory=asked.with_values(limit=memory_limit))
    hierarchies = [
        Hierarchy(version=d.version, controllers=d.controllers, mount=d.mount)
        for d in cgroup.directories
    ]
    mode = "v2" if hierarchies and all(h.version == 2 for h in hierarchies) else "hybrid"
    host = CgroupHost(mode=mode, hierarchies=tuple(hierarchies))
    limits = _limits(hierarchies, host, resources, forgiving)
    directories = tuple(
        _directory(hierarchy, directory.path, limits, mode)
        for hierarchy, directory in zip(hierarchies, cgroup.directories, strict=True)
    )
    notes = limits.notes
    plan = CgroupPlan()
    if resources.devices:
        plan = _device_plan(directories, resources, rootless or forgiving, notes)
    check = asked is not None and asked.check_before_update and asked.limit
    return plan.with_values(
        directories=directories,
        forgiving=forgiving,
        memory_below=asked.limit if asked is not None and check else None,
        notes=tuple(notes),
    )


def delegation(config: Config, host: CgroupHost) -> int | None:
    """The uid on the host that gets the container's cgroup, None for nobody.

    config-linux.md "Cgroup ownership": only under cgroup2, with a cgroup namespace of the
    container's own and a writable cgroup mount; the owner is who runs the process.
    """
    namespaces = config.linux.namespaces
    own = any(one.type == "cgroup" and not one.path for one in namespaces)
    mounts = [
        one
        for one in config.mounts
        if one.source == "cgroup" and one.destination == "/sys/fs/cgroup"
    ]
    if host.mode != "v2" or not own or not mounts or "ro" in mounts[-1].options:
        return None
    uid = config.process.user.uid if config.process is not None else 0
    if not any(one.type == "user" for one in namespaces):
        return uid
    for entry in config.linux.uid_mappings:
        if 0 <= uid - entry.container_id < entry.size:
            return entry.host_id + uid - entry.container_id
    return None


def _usable(
    host: CgroupHost, path: str, rootless: bool, manager: str
) -> tuple[list[Hierarchy], list[str]]:
    """The hierarchies in which a cgroup is made, and why others are left out."""
    if manager == "disabled":
        return [], ["cgroups are disabled"]
    if not host.hierarchies:
        return [], ["this host has no cgroups mounted"]
    usable, refused = [], []
    for hierarchy in host.hierarchies:
        # A place that was asked for is tried, since only the kernel knows who may write there;
        # version 1 is not delegated to users, so there is nothing to try.
        tried = hierarchy.version == 2 and path.startswith("/")
        if hierarchy.own_writable or hierarchy.parent_writable or tried:
            usable.append(hierarchy)
        else:
            refused.append(",".join(hierarchy.controllers) or "cgroup2")
    if not refused:
        return usable, []
    why = "not delegated to this user" if rootless else "not writable"
    return usable, [f"no cgroup in the hierarchies {', '.join(refused)}: {why}"]


def _limits(
    usable: list[Hierarchy], host: CgroupHost, resources: Resources, forgiving: bool
) -> _Limits:
    limits = _Limits(forgiving)
    in_v1 = {name for h in usable if h.version == 1 for name in h.controllers}
    in_v2 = {name for h in usable if h.version == 2 for name in h.controllers}
    for name, writes, name_2, writes_2 in _CONTROLLERS:
        if name_2 in in_v2 and name not in in_v1:
            try:
                limits.version_2[name_2] = writes_2(resources, limits.notes)
            except Unsupported as e:
                limits.cannot(e.message)
            continue
        asked = writes(resources, limits.notes)
        if name in in_v1:
            limits.version_1[name] = asked
        elif asked:
            fields = ", ".join(dict.fromkeys(write.field for write in asked))
            limits.cannot(f"linux.resources.{fields}: {_missing(host, name, name_2)}")
    _unified(limits, in_v2, resources, any(h.version == 2 for h in usable))
    return limits


def _missing(host: CgroupHost, name: str, name_2: str) -> str:
    """Why a controller cannot be had."""
    there = {c for h in host.hierarchies for c in h.controllers}
    if name in there or name_2 in there:
        return f"the {name} cgroup controller is not delegated to this process"
    if name in host.lost:
        return f"the {name} cgroup controller is not mounted where this process sees it"
    return f"there is no {name_2 or name} cgroup controller here"


def _unified(limits: _Limits, in_v2: set[str], resources: Resources, has_v2: bool) -> None:
    """`unified` goes to cgroup2 verbatim, unknown names too: those are the kernel's to judge."""
    for controller, write in limits_v2.unified(resources):
        elsewhere = "blkio" if controller == "io" else controller
        if not has_v2:
            limits.cannot(f"linux.resources.{write.field}: there is no cgroup2 here")
        elif elsewhere in limits.version_1 and controller not in in_v2:
            limits.cannot(
                f"linux.resources.{write.field}: {controller} is under cgroup version 1 here"
            )
        else:
            limits.version_2.setdefault(controller, []).append(write)


def _directory(hierarchy: Hierarchy, path: str, limits: _Limits, mode: str) -> PlannedDirectory:
    if hierarchy.version == 1:
        writes = [w for name in hierarchy.controllers for w in limits.version_1.get(name, ())]
        return PlannedDirectory(
            version=1,
            controllers=hierarchy.controllers,
            mount=hierarchy.mount,
            path=path,
            writes=tuple(writes),
            required=bool(writes),
            copy_cpuset="cpuset" in hierarchy.controllers,
        )
    writes = [write for group in limits.version_2.values() for write in group]
    wanted = {name for name, group in limits.version_2.items() if group}
    return PlannedDirectory(
        version=2,
        controllers=hierarchy.controllers,
        mount=hierarchy.mount,
        path=path,
        # Where there is only cgroup2, all is handed down as other runtimes do, for statistics
        # and for an init system inside; beside version 1 only what is needed.
        enable=tuple(c for c in hierarchy.controllers if mode == "v2" or c in wanted),
        writes=tuple(writes),
        required=mode == "v2" or bool(writes),
    )


def _device_plan(
    directories: tuple[PlannedDirectory, ...],
    resources: Resources,
    optional: bool,
    notes: list[str],
) -> CgroupPlan:
    """The part of a plan that is about devices."""
    rules = devices.effective_rules(resources.devices)
    required = bool(resources.devices) and not optional
    if any("devices" in d.controllers for d in directories if d.version == 1):
        try:
            return CgroupPlan(devices=devices.device_list(rules), devices_required=required)
        except Unsupported as e:
            if required:
                raise
            notes.append(e.message)
            return CgroupPlan()
    if any(d.version == 2 for d in directories):
        program = b"" if devices.allows_everything(rules) else devices.device_program(rules)
        return CgroupPlan(program=program, devices_required=required)
    if devices.allows_everything(rules):
        return CgroupPlan()
    problem = "linux.resources.devices: there is no cgroup that could restrict devices"
    if required:
        raise Unsupported(problem)
    notes.append(problem)
    return CgroupPlan()

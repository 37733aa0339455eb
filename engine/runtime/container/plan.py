"""The whole plan of a container: every part planned, from config.json and what was surveyed.

`survey_host` does the reading, `plan_container` decides; the plan can be printed.
"""

from __future__ import annotations

import os

from engine.runtime.cgroups.manage import describe
from engine.runtime.cgroups.model import CgroupHost, CgroupPlan
from engine.runtime.cgroups.plan import plan_cgroups
from engine.runtime.cgroups.survey import survey
from engine.runtime.cgroups.view import container_view
from engine.runtime.container.extras import Extras
from engine.runtime.container.namespaces import FLAGS, NamespacePlan, plan_namespaces
from engine.runtime.container.options import CreateOptions, RuntimeOptions
from engine.runtime.process import attributes, capabilities, labels, rlimits
from engine.runtime.process.cpulist import parse_list
from engine.runtime.record import Record
from engine.runtime.rootfs.model import RootfsFacts, RootfsPlan
from engine.runtime.rootfs.plan import plan_rootfs
from engine.runtime.seccomp.compiler import compile_profile
from engine.runtime.seccomp.filter import FLAG_NEW_LISTENER, Filter
from engine.runtime.spec.model import Config, IdMapping, Process, Seccomp

TTY_GROUP = 5
MAX_CPUS = 8192
CAP_SYS_ADMIN, CAP_SYS_RESOURCE = 1 << 21, 1 << 24


class HostFacts(Record):
    """What the plan depends on besides config.json.

    `initial_user` says that this process is in the first user namespace; `rootless` that
    limits which cannot be set are left out.
    """

    own: capabilities.Own
    initial_user: bool
    rootless: bool
    hard_limits: tuple[tuple[str, int], ...]
    cgroups: CgroupHost | None
    modules: labels.Modules


class ContainerPlan(Record):
    """Everything about a container that was decided before anything was made.

    `early_filters` are loaded by the init itself, with privileges unless there are
    no_new_privs; `late_filter` by the last step before the program. `final_cpus` is the
    affinity of the program, empty for what it inherits. `no_new_keyring` leaves the caller's
    session keyring in place.
    """

    config: Config
    process: Process
    namespaces: NamespacePlan
    rootfs: RootfsPlan
    cgroup: CgroupPlan | None
    capabilities: capabilities.CapabilityPlan
    rlimits: rlimits.RlimitPlan
    attributes: attributes.AttributePlan
    labels: labels.LabelPlan
    early_filters: tuple[Filter, ...] = ()
    late_filter: Filter | None = None
    final_cpus: frozenset[int] = frozenset()
    rootless: bool = False
    extras: Extras = Extras()
    no_new_keyring: bool = False
    warnings: tuple[str, ...] = ()


def survey_host(runtime: RuntimeOptions, config: Config) -> HostFacts:
    """Read what the plan needs to know of this host and process."""
    process = config.process
    initial = _in_initial_user_namespace()
    rootless = runtime.rootless
    if rootless is None:
        rootless = os.geteuid() != 0 or not initial
    return HostFacts(
        own=capabilities.survey_own(),
        initial_user=initial,
        rootless=rootless,
        hard_limits=rlimits.survey_hard(process.rlimits if process else ()),
        cgroups=None if runtime.cgroup_manager == "disabled" else survey(),
        modules=labels.survey_modules(),
    )


def _in_initial_user_namespace() -> bool:
    """Whether ids are mapped one to one, as they only are there (user_namespaces(7))."""
    try:
        fd = os.open("/proc/self/uid_map", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return True
    try:
        return os.read(fd, 4096).split() == [b"0", b"0", b"4294967295"]
    finally:
        os.close(fd)


def plan_container(
    config: Config, options: CreateOptions, host: HostFacts, extras: Extras
) -> ContainerPlan:
    """The plan; pure. Raises InvalidConfig or Unsupported."""
    process = config.process or Process()
    linux = config.linux
    namespaces = plan_namespaces(linux)
    cgroup = None
    if host.cgroups is not None:
        cgroup = plan_cgroups(
            host.cgroups,
            linux.cgroups_path,
            linux.resources,
            options.id,
            rootless=host.rootless,
            forgiving=extras.forgiving,
            owner=_cgroup_owner(config, namespaces),
        )
    own = capabilities.full(host.own.last_cap) if namespaces.has_new("user") else host.own
    capability_plan = capabilities.plan_capabilities(process.capabilities, own)
    limits = rlimits.plan_rlimits(
        process.rlimits,
        host.hard_limits,
        may_raise=host.initial_user and bool(host.own.permitted & CAP_SYS_RESOURCE),
        clamp=extras.forgiving,
    )
    early, late = _filters(process, linux.seccomp, extras)
    facts, notes = _rootfs_facts(config, options, host, namespaces, cgroup, extras)
    return ContainerPlan(
        config=config,
        process=process,
        namespaces=namespaces,
        rootfs=plan_rootfs(config, facts),
        cgroup=cgroup,
        capabilities=capability_plan,
        rlimits=limits,
        attributes=attributes.plan_attributes(process, linux),
        labels=labels.plan_labels(process, host.modules),
        early_filters=early,
        late_filter=late,
        final_cpus=_final_cpus(process),
        rootless=host.rootless,
        extras=extras,
        no_new_keyring=options.no_new_keyring,
        warnings=(
            *(cgroup.notes if cgroup else ()),
            *capability_plan.warnings,
            *limits.warnings,
            *notes,
        ),
    )


def _rootfs_facts(
    config: Config,
    options: CreateOptions,
    host: HostFacts,
    namespaces: NamespacePlan,
    cgroup: CgroupPlan | None,
    extras: Extras,
) -> tuple[RootfsFacts, tuple[str, ...]]:
    new_user = namespaces.has_new("user")
    view = None
    asked = next((mount for mount in config.mounts if mount.type == "cgroup"), None)
    if host.cgroups is not None and asked is not None:
        view = container_view(
            host.cgroups,
            describe(cgroup) if cgroup is not None and cgroup.directories else None,
            namespaces.has_new("cgroup"),
            writable="ro" not in asked.options,
        )
    return RootfsFacts(
        bundle=os.fsencode(os.path.abspath(options.bundle)),
        new_namespaces=tuple(kind for kind in FLAGS if namespaces.has_new(kind)),
        joined_namespaces=tuple(kind for kind, _ in namespaces.joins),
        in_user_namespace=new_user or namespaces.joined("user") or not host.initial_user,
        parent_opens=new_user and bool(host.own.permitted & CAP_SYS_ADMIN),
        tty_group_mapped=not new_user or _maps(config.linux.gid_mappings, TTY_GROUP),
        cgroup=view,
        overlay=extras.overlay,
        no_pivot=options.no_pivot,
    ), view.notes if view else ()


def _filters(
    process: Process, profile: Seccomp | None, extras: Extras
) -> tuple[tuple[Filter, ...], Filter | None]:
    """The filters that the init loads itself, and the one that the last step loads: that of
    config.json, if it needs neither privileges to be loaded nor a listener to be passed on."""
    if profile is None:
        return extras.filters, None
    compiled = compile_profile(profile, os.uname().machine)
    if process.no_new_privileges and not compiled.flags & FLAG_NEW_LISTENER:
        return extras.filters, compiled
    return (*extras.filters, compiled), None


def _final_cpus(process: Process) -> frozenset[int]:
    affinity = process.exec_cpu_affinity
    if affinity is None or not affinity.final:
        return frozenset()
    return frozenset(parse_list(affinity.final, MAX_CPUS, "process.execCPUAffinity.final"))


def _cgroup_owner(config: Config, namespaces: NamespacePlan) -> int | None:
    """The container root's id outside, if it gets to write its cgroup (runtime-spec
    config-linux.md "Cgroup ownership"): a cgroup namespace of its own and a mount that is
    not read-only."""
    writable = any(mount.type == "cgroup" and "ro" not in mount.options for mount in config.mounts)
    if not (namespaces.has_new("user") and namespaces.has_new("cgroup") and writable):
        return None
    for line in config.linux.uid_mappings:
        if line.container_id == 0:
            return line.host_id
    return None


def _maps(mappings: tuple[IdMapping, ...], number: int) -> bool:
    return any(m.container_id <= number < m.container_id + m.size for m in mappings)

"""The whole plan of a container: every part planned, from config.json and what was surveyed.

`survey_host` does the reading, `plan_container` decides; the plan can be printed.
"""

from __future__ import annotations

import os

from engine.runtime.cgroups.manage import describe
from engine.runtime.cgroups.model import CgroupHost, CgroupPlan
from engine.runtime.cgroups.plan import delegation, plan_cgroups
from engine.runtime.cgroups.survey import survey
from engine.runtime.cgroups.view import container_view
from engine.runtime.container.extras import Extras
from engine.runtime.container.namespaces import FLAGS, NamespacePlan, plan_namespaces
from engine.runtime.container.options import CreateOptions, RuntimeOptions
from engine.runtime.container.program_plan import (
    ProcessFacts,
    ProgramPlan,
    plan_program,
    survey_process,
)
from engine.runtime.errors import Unsupported
from engine.runtime.record import Record
from engine.runtime.rootfs.chroot import plan_chroot
from engine.runtime.rootfs.model import RootfsFacts, RootfsPlan
from engine.runtime.rootfs.plan import plan_rootfs
from engine.runtime.spec.model import Config, IdMapping, Process

TTY_GROUP = 5
CAP_SYS_ADMIN = 1 << 21


class HostFacts(Record):
    """What the plan depends on besides config.json."""

    process: ProcessFacts
    cgroups: CgroupHost | None


class ContainerPlan(Record):
    """Everything about a container that was decided before anything was made.

    `warnings` are for whoever starts the container; `notes` tell what engines ask for with
    every container although it has no effect.
    """

    config: Config
    namespaces: NamespacePlan
    rootfs: RootfsPlan
    cgroup: CgroupPlan | None
    program: ProgramPlan
    extras: Extras = Extras()
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def survey_host(
    runtime: RuntimeOptions, config: Config, cgroups: CgroupHost | None = None
) -> HostFacts:
    """Read what the plan needs to know of this host and process, but for `cgroups` where they
    are known."""
    return HostFacts(
        process=survey_process(config.process, runtime.rootless),
        cgroups=None if runtime.cgroup_manager == "disabled" else cgroups or survey(),
    )


def plan_container(
    config: Config, options: CreateOptions, host: HostFacts, extras: Extras
) -> ContainerPlan:
    """The plan; pure. Raises InvalidConfig or Unsupported."""
    linux = config.linux
    namespaces = plan_namespaces(linux)
    separate = namespaces.has_new("mount") or namespaces.joined("mount")
    if not separate and not extras.chroot:
        raise Unsupported(
            "linux.namespaces has no mount namespace",
            hint="without one, the container's mounts would be made on the host",
        )
    cgroup = None
    if host.cgroups is not None:
        cgroup = plan_cgroups(
            host.cgroups,
            linux.cgroups_path,
            linux.resources,
            options.id,
            rootless=host.process.rootless,
            forgiving=extras.forgiving,
            owner=delegation(config, host.cgroups),
        )
    program = plan_program(
        config.process or Process(),
        linux,
        host.process,
        other_user=namespaces.has_new("user") or namespaces.joined("user"),
        filters=extras.filters,
        profile=extras.profile,
        clamp=extras.forgiving,
        keyring=not options.no_new_keyring,
        hooks=bool(config.hooks.start_container),
        own_user=extras.own_user,
    )
    facts, notes = _rootfs_facts(config, options, host, namespaces, cgroup, extras)
    rootfs: RootfsPlan
    if separate:
        rootfs = plan_rootfs(config, facts)
    else:
        rootfs = plan_chroot(config, facts)
        notes = ()
    return ContainerPlan(
        config=config,
        namespaces=namespaces,
        rootfs=rootfs,
        cgroup=cgroup,
        program=program,
        extras=extras,
        # Of limits that nobody asked for none is missed.
        warnings=(
            *(cgroup.notes if cgroup and not extras.forgiving else ()),
            *program.warnings,
            *((rootfs.warning,) if rootfs.warning else ()),
        ),
        notes=(*program.notes, *notes),
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
        in_user_namespace=new_user or namespaces.joined("user") or not host.process.initial_user,
        parent_opens=new_user and bool(host.process.own.permitted & CAP_SYS_ADMIN),
        tty_group_mapped=not new_user or _maps(config.linux.gid_mappings, TTY_GROUP),
        cgroup=view,
        overlay=extras.overlay,
        no_pivot=options.no_pivot,
    ), view.notes if view else ()


def _maps(mappings: tuple[IdMapping, ...], number: int) -> bool:
    return any(m.container_id <= number < m.container_id + m.size for m in mappings)

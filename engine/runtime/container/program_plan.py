"""The plan of a process of a container: the same for its init and for what `exec` adds."""

from __future__ import annotations

import os

from engine.runtime.process import attributes, capabilities, labels, rlimits
from engine.runtime.process.cpulist import parse_list
from engine.runtime.record import Record
from engine.runtime.seccomp.filter import FLAG_NEW_LISTENER, Filter
from engine.runtime.spec.model import Linux, Process

MAX_CPUS = 8192
CAP_SYS_RESOURCE = 1 << 24


class ProcessFacts(Record):
    """What the plan depends on besides config.json.

    `own` is what this process may do; `initial_user` says that it is in the first user
    namespace; `rootless` that what cannot be set is left out.
    """

    own: capabilities.Own
    initial_user: bool
    rootless: bool
    hard_limits: tuple[tuple[str, int], ...]
    modules: labels.Modules


class ProgramPlan(Record):
    """Everything about one process.

    `early_filters` are loaded by the process itself, with privileges unless there are
    no_new_privs; `late_filter` by the last step before the program. The affinities are empty
    where it is inherited. `own_user` says that the process gets a user namespace for its user.
    """

    process: Process
    capabilities: capabilities.CapabilityPlan
    rlimits: rlimits.RlimitPlan
    attributes: attributes.AttributePlan
    labels: labels.LabelPlan
    early_filters: tuple[Filter, ...] = ()
    late_filter: Filter | None = None
    initial_cpus: frozenset[int] = frozenset()
    final_cpus: frozenset[int] = frozenset()
    rootless: bool = False
    keyring: bool = True
    own_user: bool = False

    @property
    def warnings(self) -> tuple[str, ...]:
        """What of config.json is left out."""
        return (*self.capabilities.warnings, *self.rlimits.warnings)

    @property
    def notes(self) -> tuple[str, ...]:
        """What of config.json cannot have any effect."""
        return self.capabilities.notes


def survey_process(process: Process | None, rootless: bool | None) -> ProcessFacts:
    """Read what the plan needs to know; `rootless` None is decided by id and namespace."""
    initial = _in_initial_user_namespace()
    if rootless is None:
        rootless = os.geteuid() != 0 or not initial
    return ProcessFacts(
        own=capabilities.survey_own(),
        initial_user=initial,
        rootless=rootless,
        hard_limits=rlimits.survey_hard(process.rlimits if process else ()),
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


def plan_program(
    process: Process,
    linux: Linux,
    facts: ProcessFacts,
    *,
    other_user: bool,
    filters: tuple[Filter, ...] = (),
    profile: Filter | None = None,
    clamp: bool = False,
    keyring: bool = True,
    hooks: bool = False,
    own_user: bool = False,
) -> ProgramPlan:
    """The plan; pure. `other_user` says that the process enters another user namespace, where
    it has all capabilities. `filters` are loaded before that of config.json, which
    `profile` replaces; `clamp` lowers limits instead of refusing them. `hooks` of the container
    run under its filters as well; `own_user` is ProgramPlan's. Raises InvalidConfig or
    Unsupported."""
    elsewhere = other_user or own_user
    own = capabilities.full(facts.own.last_cap) if elsewhere else facts.own
    if profile is None and linux.seccomp is not None:
        # Loading the compiler takes longer than planning everything else.
        from engine.runtime.seccomp.compiler import compile_profile

        profile = compile_profile(linux.seccomp, os.uname().machine)
    early, late = _filters(process, profile, filters, hooks)
    initial, final = _affinities(process)
    return ProgramPlan(
        process=process,
        capabilities=capabilities.plan_capabilities(process.capabilities, own),
        rlimits=rlimits.plan_rlimits(
            process.rlimits,
            facts.hard_limits,
            may_raise=facts.initial_user and bool(facts.own.permitted & CAP_SYS_RESOURCE),
            clamp=clamp,
        ),
        attributes=attributes.plan_attributes(process, linux),
        labels=labels.plan_labels(process, facts.modules),
        early_filters=early,
        late_filter=late,
        initial_cpus=initial,
        final_cpus=final,
        rootless=facts.rootless,
        keyring=keyring,
        own_user=own_user,
    )


def _filters(
    process: Process, profile: Filter | None, before: tuple[Filter, ...], hooks: bool
) -> tuple[tuple[Filter, ...], Filter | None]:
    """The filters that the process loads itself, and the one that the last step loads: that of
    config.json, if it needs neither privileges to be loaded nor a listener to be passed on,
    and nothing but the program is to run under it."""
    if profile is None:
        return before, None
    if process.no_new_privileges and not profile.flags & FLAG_NEW_LISTENER and not hooks:
        return before, profile
    return (*before, profile), None


def _affinities(process: Process) -> tuple[frozenset[int], frozenset[int]]:
    asked = process.exec_cpu_affinity
    if asked is None:
        return frozenset(), frozenset()
    where = "process.execCPUAffinity"
    initial = parse_list(asked.initial, MAX_CPUS, f"{where}.initial") if asked.initial else ()
    final = parse_list(asked.final, MAX_CPUS, f"{where}.final") if asked.final else ()
    return frozenset(initial), frozenset(final)

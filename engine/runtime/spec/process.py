"""Reads `process` of config.json, which is also the document of `exec --process`.

config.md "Process" and "Linux Process"; capability names are kept as given, because one that
is not known here has to be warned about, not refused.
"""

from __future__ import annotations

from engine.runtime.errors import InvalidConfig
from engine.runtime.spec.model import (
    Capabilities,
    ExecCpuAffinity,
    IoPriority,
    Process,
    Rlimit,
    Scheduler,
    User,
)
from engine.runtime.spec.values import ID, INT32, UINT64, Object, invalid

TYPE_CHECKING = False
if TYPE_CHECKING:
    from engine.runtime.spec.values import Range

RLIMITS = frozenset(
    (
        "RLIMIT_AS",
        "RLIMIT_CORE",
        "RLIMIT_CPU",
        "RLIMIT_DATA",
        "RLIMIT_FSIZE",
        "RLIMIT_LOCKS",
        "RLIMIT_MEMLOCK",
        "RLIMIT_MSGQUEUE",
        "RLIMIT_NICE",
        "RLIMIT_NOFILE",
        "RLIMIT_NPROC",
        "RLIMIT_RSS",
        "RLIMIT_RTPRIO",
        "RLIMIT_RTTIME",
        "RLIMIT_SIGPENDING",
        "RLIMIT_STACK",
    )
)
SCHEDULER_POLICIES = (
    "SCHED_OTHER",
    "SCHED_FIFO",
    "SCHED_RR",
    "SCHED_BATCH",
    "SCHED_ISO",
    "SCHED_IDLE",
    "SCHED_DEADLINE",
)
SCHEDULER_FLAGS = (
    "SCHED_FLAG_RESET_ON_FORK",
    "SCHED_FLAG_RECLAIM",
    "SCHED_FLAG_DL_OVERRUN",
    "SCHED_FLAG_KEEP_POLICY",
    "SCHED_FLAG_KEEP_PARAMS",
    "SCHED_FLAG_UTIL_CLAMP_MIN",
    "SCHED_FLAG_UTIL_CLAMP_MAX",
)
IOPRIO_CLASSES = ("IOPRIO_CLASS_RT", "IOPRIO_CLASS_BE", "IOPRIO_CLASS_IDLE")
CPU_LIST_CHARACTERS = frozenset("0123456789, -")
UMASK: Range = (0, 0o777, "a umask from 0 to 511 (octal 777)")
WINDOW: Range = (0, 65535, "a number of characters from 0 to 65535")
OOM_SCORE: Range = (-1000, 1000, "an integer from -1000 to 1000")
MIN_RUNTIME = 1024  # nanoseconds; the resolution of the kernel's accounting
PRIORITY: Range = (0, 7, "an integer from 0 to 7")


def read_process(at: Object) -> Process:
    """The Process at a place of a document; raises InvalidConfig."""
    args = at.texts("args")
    if not args:
        raise at.wrong("args", "at least one argument")
    cwd = at.required_text("cwd")
    at.absolute("cwd")
    return Process(
        args=args,
        cwd=cwd,
        env=_read_env(at),
        user=_read_user(at),
        terminal=at.flag("terminal"),
        console_size=_read_console_size(at),
        capabilities=_read_capabilities(at),
        rlimits=_read_rlimits(at),
        no_new_privileges=at.flag("noNewPrivileges"),
        apparmor_profile=at.text("apparmorProfile"),
        selinux_label=at.text("selinuxLabel"),
        oom_score_adj=at.number("oomScoreAdj", OOM_SCORE),
        scheduler=_read_scheduler(at),
        io_priority=_read_io_priority(at),
        exec_cpu_affinity=_read_affinity(at),
    )


def _read_env(at: Object) -> tuple[str, ...]:
    env = at.texts("env")
    for number, entry in enumerate(env):
        if entry.find("=") < 1:
            raise invalid(f"{at.path_of('env')}[{number}]", "NAME=VALUE", entry)
    return env


def _read_user(at: Object) -> User:
    user = at.object("user")
    if user is None:
        return User()
    return User(
        uid=user.number("uid", ID) or 0,
        gid=user.number("gid", ID) or 0,
        umask=user.number("umask", UMASK),
        additional_gids=user.numbers("additionalGids", ID),
    )


def _read_console_size(at: Object) -> tuple[int, int] | None:
    size = at.object("consoleSize")
    if size is None:
        return None
    return size.required_number("height", WINDOW), size.required_number("width", WINDOW)


def _read_capabilities(at: Object) -> Capabilities | None:
    sets = at.object("capabilities")
    if sets is None:
        return None
    return Capabilities(
        bounding=sets.texts("bounding"),
        effective=sets.texts("effective"),
        inheritable=sets.texts("inheritable"),
        permitted=sets.texts("permitted"),
        ambient=sets.texts("ambient"),
    )


def _read_rlimits(at: Object) -> tuple[Rlimit, ...]:
    found: dict[str, Rlimit] = {}
    for one in at.objects("rlimits"):
        kind = one.required_text("type")
        if kind not in RLIMITS:
            raise one.wrong("type", "the name of a resource limit (RLIMIT_NOFILE, ...)")
        if kind in found:
            raise InvalidConfig(f"{one.path_of('type')}: {kind} is set twice")
        limit = Rlimit(
            type=kind,
            soft=one.required_number("soft", UINT64),
            hard=one.required_number("hard", UINT64),
        )
        if limit.soft > limit.hard:
            raise one.wrong("soft", f"no more than the hard limit {limit.hard}")
        found[kind] = limit
    return tuple(found.values())


def _read_scheduler(at: Object) -> Scheduler | None:
    one = at.object("scheduler")
    if one is None:
        return None
    policy = one.required_text("policy")
    one.choice("policy", SCHEDULER_POLICIES, "a scheduling policy (SCHED_OTHER, ...)")
    scheduler = Scheduler(
        policy=policy,
        nice=one.number("nice", INT32) or 0,
        priority=one.number("priority", INT32) or 0,
        flags=one.choices("flags", SCHEDULER_FLAGS, "a scheduling flag (SCHED_FLAG_...)"),
        runtime=one.number("runtime", UINT64) or 0,
        deadline=one.number("deadline", UINT64) or 0,
        period=one.number("period", UINT64) or 0,
    )
    _check_scheduler(one, scheduler)
    return scheduler


def _check_scheduler(at: Object, scheduler: Scheduler) -> None:
    """What sched_setattr(2) would refuse with nothing but "invalid argument", or ignore."""
    policy = scheduler.policy
    if scheduler.nice and policy not in ("SCHED_OTHER", "SCHED_BATCH"):
        raise at.wrong("nice", f"no nice value for {policy}")
    if not -20 <= scheduler.nice <= 19:
        raise at.wrong("nice", "a nice value from -20 to 19")
    fixed = policy in ("SCHED_FIFO", "SCHED_RR")
    if scheduler.priority and not fixed:
        raise at.wrong("priority", f"no priority for {policy}")
    if fixed and not 1 <= scheduler.priority <= 99:
        raise at.wrong("priority", f"a priority from 1 to 99 for {policy}")
    times = (scheduler.runtime, scheduler.deadline, scheduler.period)
    if policy != "SCHED_DEADLINE":
        if any(times):
            raise InvalidConfig(
                f"{at.path}: runtime, deadline and period are for SCHED_DEADLINE, not {policy}"
            )
    elif not MIN_RUNTIME <= times[0] <= times[1] <= (times[2] or times[1]) < 1 << 63:
        raise InvalidConfig(
            f"{at.path}: SCHED_DEADLINE needs {MIN_RUNTIME} <= runtime <= deadline <= period, "
            f"got {times[0]}, {times[1]}, {times[2]}"
        )


def _read_io_priority(at: Object) -> IoPriority | None:
    one = at.object("ioPriority")
    if one is None:
        return None
    ioprio_class = one.required_text("class")
    one.choice("class", IOPRIO_CLASSES, "an I/O scheduling class (IOPRIO_CLASS_BE, ...)")
    return IoPriority(ioprio_class=ioprio_class, priority=one.number("priority", PRIORITY) or 0)


def _read_affinity(at: Object) -> ExecCpuAffinity | None:
    one = at.object("execCPUAffinity")
    if one is None:
        return None
    for name in ("initial", "final"):
        if not CPU_LIST_CHARACTERS.issuperset(one.text(name)):
            raise one.wrong(name, "a list of CPUs such as 0-3,7")
    return ExecCpuAffinity(initial=one.text("initial"), final=one.text("final"))

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
    return Process(
        args=args,
        cwd=at.required_absolute("cwd"),
        env=_read_env(at),
        user=at.read("user", _read_user) or User(),
        terminal=at.flag("terminal"),
        console_size=at.read("consoleSize", _read_console_size),
        capabilities=at.read("capabilities", _read_capabilities),
        rlimits=_read_rlimits(at),
        no_new_privileges=at.flag("noNewPrivileges"),
        apparmor_profile=at.text("apparmorProfile"),
        selinux_label=at.text("selinuxLabel"),
        oom_score_adj=at.number("oomScoreAdj", OOM_SCORE),
        scheduler=at.read("scheduler", _read_scheduler),
        io_priority=at.read("ioPriority", _read_io_priority),
        exec_cpu_affinity=at.read("execCPUAffinity", _read_affinity),
    )


def _read_env(at: Object) -> tuple[str, ...]:
    env = at.texts("env")
    for number, entry in enumerate(env):
        if entry.find("=") < 1:
            raise invalid(f"{at.path_of('env')}[{number}]", "NAME=VALUE", entry)
    return env


def _read_user(at: Object) -> User:
    return User(
        uid=at.number("uid", ID) or 0,
        gid=at.number("gid", ID) or 0,
        umask=at.number("umask", UMASK),
        additional_gids=at.numbers("additionalGids", ID),
    )


def _read_console_size(at: Object) -> tuple[int, int]:
    return at.required_number("height", WINDOW), at.required_number("width", WINDOW)


def _read_capabilities(at: Object) -> Capabilities:
    return Capabilities(
        bounding=at.texts("bounding"),
        effective=at.texts("effective"),
        inheritable=at.texts("inheritable"),
        permitted=at.texts("permitted"),
        ambient=at.texts("ambient"),
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


def _read_scheduler(at: Object) -> Scheduler:
    scheduler = Scheduler(
        policy=at.required_choice(
            "policy", SCHEDULER_POLICIES, "a scheduling policy (SCHED_OTHER, ...)"
        ),
        nice=at.number("nice", INT32) or 0,
        priority=at.number("priority", INT32) or 0,
        flags=at.choices("flags", SCHEDULER_FLAGS, "a scheduling flag (SCHED_FLAG_...)"),
        runtime=at.number("runtime", UINT64) or 0,
        deadline=at.number("deadline", UINT64) or 0,
        period=at.number("period", UINT64) or 0,
    )
    _check_scheduler(at, scheduler)
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


def _read_io_priority(at: Object) -> IoPriority:
    expected = "an I/O scheduling class (IOPRIO_CLASS_BE, ...)"
    return IoPriority(
        ioprio_class=at.required_choice("class", IOPRIO_CLASSES, expected),
        priority=at.number("priority", PRIORITY) or 0,
    )


def _read_affinity(at: Object) -> ExecCpuAffinity:
    for name in ("initial", "final"):
        if not CPU_LIST_CHARACTERS.issuperset(at.text(name)):
            raise at.wrong(name, "a list of CPUs such as 0-3,7")
    return ExecCpuAffinity(initial=at.text("initial"), final=at.text("final"))

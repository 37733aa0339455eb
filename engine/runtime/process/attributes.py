"""Attributes of a process that execve(2) keeps: scheduling, I/O priority, memory policy,
personality, OOM score, session keyring, the bond to its creator, no_new_privs.

`plan_attributes` says what to set as the numbers that the kernel reads; what needs privileges
is set before these are dropped.
"""

from __future__ import annotations

import errno
import os
import select
import struct

from engine.runtime.errors import Failure, InvalidConfig, refused
from engine.runtime.kernel import processes
from engine.runtime.kernel.calls import named, syscall
from engine.runtime.process.cpulist import parse_list
from engine.runtime.process.procfs import write_own
from engine.runtime.record import Record
from engine.runtime.spec.model import IoPriority, Linux, MemoryPolicy, Process, Scheduler

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_POLICIES = ("OTHER", "FIFO", "RR", "BATCH", "ISO", "IDLE", "DEADLINE")
_SCHEDULER_FLAGS = (
    "RESET_ON_FORK",
    "RECLAIM",
    "DL_OVERRUN",
    "KEEP_POLICY",
    "KEEP_PARAMS",
    "UTIL_CLAMP_MIN",
    "UTIL_CLAMP_MAX",
)
"""sched.h: SCHED_FLAG_..., from bit 0 on."""

_IO_CLASSES = ("NONE", "RT", "BE", "IDLE")
_IOPRIO_WHO_PROCESS, _IOPRIO_CLASS_SHIFT = 1, 13
_MEMORY_MODES = (
    "DEFAULT",
    "PREFERRED",
    "BIND",
    "INTERLEAVE",
    "LOCAL",
    "PREFERRED_MANY",
    "WEIGHTED_INTERLEAVE",
)
_MEMORY_FLAGS = (("NUMA_BALANCING", 13), ("RELATIVE_NODES", 14), ("STATIC_NODES", 15))
_WITHOUT_NODES, _MAX_NODES = ("DEFAULT", "LOCAL"), 1024
_PERSONALITIES = (("LINUX", 0), ("LINUX32", 8))
_KEYRING_NOT_POSSIBLE = (errno.EDQUOT, errno.ENOSYS, errno.EPERM, errno.EACCES)
_KEYRING_PERMISSIONS = 0x3F080000
"""Possessor: all; user: search, so that `exec` can join (keyctl(2)). Not view: containers of
one user, who do not know each other's ids, would learn the names of these keyrings."""


class AttributePlan(Record):
    """What to set; None and empty mean to leave it. `scheduler` is a struct sched_attr,
    `memory_policy` a mode with its flags and a mask of nodes."""

    scheduler: bytes = b""
    io_priority: int | None = None
    memory_policy: tuple[int, bytes] | None = None
    personality: int | None = None
    oom_score_adj: int | None = None


def plan_attributes(process: Process, linux: Linux) -> AttributePlan:
    """The attributes that config.json asks for; raises InvalidConfig."""
    personality = None
    if linux.personality:
        personality = dict(_PERSONALITIES).get(linux.personality.domain)
        if personality is None or linux.personality.flags:
            raise InvalidConfig("linux.personality: expected LINUX or LINUX32 without flags")
    return AttributePlan(
        scheduler=_scheduler(process.scheduler) if process.scheduler else b"",
        io_priority=_io_priority(process.io_priority) if process.io_priority else None,
        memory_policy=_memory_policy(linux.memory_policy) if linux.memory_policy else None,
        personality=personality,
        oom_score_adj=process.oom_score_adj,
    )


def _scheduler(asked: Scheduler) -> bytes:
    """struct sched_attr (sched_setattr(2))."""
    policy = _index(_POLICIES, asked.policy, "SCHED_", "process.scheduler.policy")
    flags = 0
    for name in asked.flags:
        flags |= 1 << _index(_SCHEDULER_FLAGS, name, "SCHED_FLAG_", "process.scheduler.flags")
    if not -20 <= asked.nice <= 19:
        raise InvalidConfig(f"process.scheduler.nice: {asked.nice} is not from -20 to 19")
    if not 0 <= asked.priority <= 99:
        raise InvalidConfig(f"process.scheduler.priority: {asked.priority} is not from 0 to 99")
    times = (asked.runtime, asked.deadline, asked.period)
    return struct.pack("=IIQiIQQQII", 56, policy, flags, asked.nice, asked.priority, *times, 0, 0)


def _io_priority(asked: IoPriority) -> int:
    number = _index(_IO_CLASSES, asked.ioprio_class, "IOPRIO_CLASS_", "process.ioPriority.class")
    if not 0 <= asked.priority <= 7:
        raise InvalidConfig(f"process.ioPriority.priority: {asked.priority} is not from 0 to 7")
    return number << _IOPRIO_CLASS_SHIFT | asked.priority


def _memory_policy(asked: MemoryPolicy) -> tuple[int, bytes]:
    mode = _index(_MEMORY_MODES, asked.mode, "MPOL_", "linux.memoryPolicy.mode")
    name = _MEMORY_MODES[mode]
    bits = dict(_MEMORY_FLAGS)
    for flag in asked.flags:
        bit = bits.get(flag.removeprefix("MPOL_F_"))
        if bit is None:
            raise InvalidConfig(f"linux.memoryPolicy.flags: unknown flag {flag!r}")
        mode |= 1 << bit
    nodes = parse_list(asked.nodes, _MAX_NODES, "linux.memoryPolicy.nodes")
    if bool(nodes) and name in _WITHOUT_NODES:
        raise InvalidConfig(f"linux.memoryPolicy.nodes: {asked.mode} takes no nodes")
    if not nodes and name not in (*_WITHOUT_NODES, "PREFERRED"):
        raise InvalidConfig(f"linux.memoryPolicy.nodes: {asked.mode} needs at least one node")
    mask = sum(1 << node for node in nodes)
    return mode, mask.to_bytes(_MAX_NODES // 8, "little") if nodes else b""


def _index(names: tuple[str, ...], name: str, prefix: str, where: str) -> int:
    short = name.removeprefix(prefix)
    if short == name or short not in names:
        raise InvalidConfig(f"{where}: unknown value {name!r}")
    return names.index(short)


def set_attributes(plan: AttributePlan) -> None:
    """Set scheduling, I/O priority, memory policy and personality of this process.

    Raises KernelRefused. Called before privileges are dropped, personality included, because
    nothing of ours depends on it.
    """
    if plan.scheduler:
        _step("process.scheduler", lambda: syscall(named("sched_setattr"), 0, plan.scheduler, 0))
    if plan.io_priority is not None:
        value = plan.io_priority
        _step(
            "process.ioPriority",
            lambda: syscall(named("ioprio_set"), _IOPRIO_WHO_PROCESS, 0, value),
        )
    if plan.memory_policy is not None:
        mode, mask = plan.memory_policy
        # The kernel reads one bit less than the size it is told.
        size = len(mask) * 8 + 1 if mask else 0
        _step(
            "linux.memoryPolicy",
            lambda: syscall(named("set_mempolicy"), mode, mask or None, size),
        )
    if plan.personality is not None:
        persona = plan.personality
        _step("linux.personality", lambda: processes.personality(persona))


def _step(name: str, step: Callable[[], object]) -> None:
    try:
        step()
    except OSError as e:
        raise refused(f"set {name}", e) from e


def set_affinity(cpus: frozenset[int], where: str) -> None:
    """Run this process on `cpus` only; raises KernelRefused, which names `where`."""
    try:
        os.sched_setaffinity(0, cpus)
    except (OSError, ValueError, OverflowError) as e:
        error = e if isinstance(e, OSError) else OSError(errno.EINVAL, "")
        raise refused(f"set {where}", error) from e


def set_oom_score_adj(value: int, proc_fd: int, *, tolerate: bool) -> str:
    """Write this process's oom_score_adj through `procfs.open_proc`; a warning or "".

    Lowering it takes CAP_SYS_RESOURCE. With `tolerate`, for callers without privileges, the
    score then stays as it is; otherwise KernelRefused is raised.
    """
    try:
        write_own(proc_fd, b"self/oom_score_adj", b"%d" % value)
    except OSError as e:
        if not tolerate or e.errno not in (errno.EACCES, errno.EPERM):
            raise refused(f"set process.oomScoreAdj to {value}", e) from e
        return f"process.oomScoreAdj {value} is below ours, which cannot be lowered here"
    return ""


def join_keyring(name: bytes) -> str:
    """Join the session keyring `name`, made if there is none; a warning or "".

    The container must not hold the caller's keys. Where the user's quota of keys is used up,
    or the kernel or a seccomp filter knows no keys, it goes on with what it has, as the
    container could not use keyctl(2) either. Raises KernelRefused.
    """
    try:
        serial = processes.join_session_keyring(name)
        if serial:  # 0 if it is ours already
            processes.set_key_permissions(serial, _KEYRING_PERMISSIONS)
    except OSError as e:
        if e.errno not in _KEYRING_NOT_POSSIBLE:
            raise refused("join a session keyring", e) from e
        return f"no session keyring of its own: {os.strerror(e.errno).lower()}"
    return ""


def die_with_parent(parent_pidfd: int) -> None:
    """Have SIGKILL sent when the process that `parent_pidfd` refers to, our parent, ends.

    After the last change of ids, because that clears it (prctl(2), PR_SET_PDEATHSIG). Raises
    Failure if the parent has ended already, KernelRefused.
    """
    try:
        processes.prctl(processes.PR_SET_PDEATHSIG, processes.SIGKILL)
    except OSError as e:
        raise refused("bind the container's life to its creator's", e) from e
    # getppid(2) says 0 in a PID namespace of its own whether or not the parent lives.
    poll = select.poll()
    poll.register(parent_pidfd, select.POLLIN)
    if poll.poll(0):
        raise Failure("the process that made the container is gone")


def set_no_new_privileges() -> None:
    """prctl(2) PR_SET_NO_NEW_PRIVS; raises KernelRefused."""
    _step("no_new_privs", lambda: processes.prctl(processes.PR_SET_NO_NEW_PRIVS, 1))


def set_dumpable(dumpable: bool) -> None:
    """Whether processes of the same user may trace this one and look into its /proc.

    False before a container's namespaces are joined (CVE-2016-9962); execve(2) sets it again.
    Raises KernelRefused.
    """
    _step("dumpable", lambda: processes.prctl(processes.PR_SET_DUMPABLE, int(dumpable)))

"""Attributes of a process: what is planned, and what the kernel says after it was set."""

from __future__ import annotations

import os
import struct
from ctypes import byref
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.runtime.errors import Failure, InvalidConfig, KernelRefused
from engine.runtime.kernel.calls import MACHINE, c_int, named, syscall
from engine.runtime.kernel.processes import (
    CLONE_NEWPID,
    PR_GET_NO_NEW_PRIVS,
    capget,
    capset,
    prctl,
    unshare,
)
from engine.runtime.process.attributes import (
    AttributePlan,
    die_with_parent,
    join_keyring,
    plan_attributes,
    set_affinity,
    set_attributes,
    set_dumpable,
    set_no_new_privileges,
    set_oom_score_adj,
)
from engine.runtime.process.capabilities import CAP_SYS_RESOURCE
from engine.runtime.process.cpulist import parse_list
from engine.runtime.process.procfs import open_proc
from engine.runtime.spec.model import (
    IoPriority,
    Linux,
    MemoryPolicy,
    Personality,
    Process,
    Scheduler,
)
from tests.engine.rootfs_driver import fork, in_child

_GET_MEMPOLICY = {"x86_64": 1, "aarch64": -1}[MACHINE]
"""How far the number of get_mempolicy(2) is from that of set_mempolicy(2)."""


def plan(**values: Any) -> AttributePlan:
    """The plan for properties of `process` and `linux`."""
    linux = {k: values.pop(k) for k in ("personality", "memory_policy") if k in values}
    return plan_attributes(Process(**values), Linux(**linux))


def test_nothing_asked_is_nothing_set() -> None:
    assert plan() == AttributePlan()
    set_attributes(AttributePlan())


def test_a_scheduler_is_a_struct_sched_attr() -> None:
    asked = Scheduler(
        policy="SCHED_DEADLINE",
        flags=("SCHED_FLAG_RESET_ON_FORK", "SCHED_FLAG_DL_OVERRUN"),
        runtime=1,
        deadline=2,
        period=3,
    )
    fields = struct.unpack("=IIQiIQQQII", plan(scheduler=asked).scheduler)
    assert fields == (56, 6, 0b101, 0, 0, 1, 2, 3, 0, 0)


def test_the_kernel_reads_it_so() -> None:
    def work() -> list[Any]:
        set_attributes(plan(scheduler=Scheduler(policy="SCHED_BATCH", nice=7)))
        batch = [os.sched_getscheduler(0), os.getpriority(os.PRIO_PROCESS, 0)]
        flags = ("SCHED_FLAG_RESET_ON_FORK",)
        set_attributes(plan(scheduler=Scheduler(policy="SCHED_IDLE", flags=flags)))
        return [*batch, os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK]

    assert in_child(work) == [os.SCHED_BATCH, 7, os.SCHED_IDLE]


def test_a_scheduler_the_kernel_refuses() -> None:
    asked = Scheduler(policy="SCHED_BATCH", priority=3)
    with pytest.raises(KernelRefused, match=r"set process\.scheduler: invalid argument"):
        in_child(lambda: set_attributes(plan(scheduler=asked)))


@pytest.mark.parametrize(
    ("name", "number"), [("IOPRIO_CLASS_BE", 2), ("IOPRIO_CLASS_IDLE", 3), ("IOPRIO_CLASS_RT", 1)]
)
def test_io_priorities(name: str, number: int) -> None:
    asked = IoPriority(ioprio_class=name, priority=5)
    assert plan(io_priority=asked).io_priority == number << 13 | 5


def test_an_io_priority_is_set() -> None:
    def work() -> int:
        set_attributes(plan(io_priority=IoPriority(ioprio_class="IOPRIO_CLASS_BE", priority=6)))
        return syscall(named("ioprio_set") + 1, 1, 0)

    assert in_child(work) == 2 << 13 | 6


def test_memory_policies() -> None:
    asked = MemoryPolicy(mode="MPOL_BIND", nodes="0,2-3", flags=("MPOL_F_STATIC_NODES",))
    mode, mask = plan(memory_policy=asked).memory_policy or (0, b"")
    assert mode == 2 | 1 << 15
    assert int.from_bytes(mask, "little") == 0b1101
    assert plan(memory_policy=MemoryPolicy(mode="MPOL_LOCAL")).memory_policy == (4, b"")


def test_a_memory_policy_is_set() -> None:
    def work() -> list[int]:
        set_attributes(plan(memory_policy=MemoryPolicy(mode="MPOL_BIND", nodes="0")))
        mode = c_int()
        syscall(named("set_mempolicy") + _GET_MEMPOLICY, byref(mode), None, 0, 0, 0)
        return [mode.value]

    if os.path.exists("/sys/devices/system/node/node0"):
        assert in_child(work) == [2]
    else:
        with pytest.raises(KernelRefused, match=r"set linux\.memoryPolicy"):
            in_child(work)


@pytest.mark.parametrize("domain", ["LINUX", "LINUX32"])
def test_personalities(domain: str) -> None:
    def work() -> int:
        set_attributes(plan(personality=Personality(domain=domain)))
        return syscall(named("personality"), 0xFFFFFFFF)

    assert in_child(work) & 0xFF == {"LINUX": 0, "LINUX32": 8}[domain]


@pytest.mark.parametrize(
    "values",
    [
        {"scheduler": Scheduler(policy="FIFO")},
        {"scheduler": Scheduler(policy="SCHED_NOSUCH")},
        {"scheduler": Scheduler(policy="SCHED_OTHER", nice=20)},
        {"scheduler": Scheduler(policy="SCHED_OTHER", nice=-21)},
        {"scheduler": Scheduler(policy="SCHED_FIFO", priority=100)},
        {"scheduler": Scheduler(policy="SCHED_OTHER", flags=("SCHED_FLAG_X",))},
        {"io_priority": IoPriority(ioprio_class="IOPRIO_CLASS_X")},
        {"io_priority": IoPriority(ioprio_class="IOPRIO_CLASS_BE", priority=8)},
        {"personality": Personality(domain="BSD")},
        {"personality": Personality(domain="LINUX", flags=("X",))},
        {"memory_policy": MemoryPolicy(mode="MPOL_X")},
        {"memory_policy": MemoryPolicy(mode="MPOL_BIND")},
        {"memory_policy": MemoryPolicy(mode="MPOL_LOCAL", nodes="0")},
        {"memory_policy": MemoryPolicy(mode="MPOL_BIND", nodes="1024")},
        {"memory_policy": MemoryPolicy(mode="MPOL_BIND", nodes="0", flags=("X",))},
    ],
)
def test_invalid_attributes(values: dict[str, Any]) -> None:
    with pytest.raises(InvalidConfig):
        plan(**values)


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("", []), (" ", []), ("0", [0]), ("0-3,7", [0, 1, 2, 3, 7]), (" 1 , 2 - 3 ,1", [1, 2, 3])],
)
def test_lists_of_cpus(text: str, numbers: list[int]) -> None:
    assert sorted(parse_list(text, 8, "here")) == numbers


@pytest.mark.parametrize("text", [",", "0,", "-", "1-", "-1", "3-1", "8", "0-8", "a", "1 2", "+1"])
def test_other_texts_are_no_lists(text: str) -> None:
    with pytest.raises(InvalidConfig, match="here: "):
        parse_list(text, 8, "here")


@given(st.sets(st.integers(0, 63)))
def test_lists_of_cpus_of_any_set(numbers: set[int]) -> None:
    assert parse_list(",".join(map(str, numbers)), 64, "") == numbers


def test_affinity() -> None:
    one = min(os.sched_getaffinity(0))

    def work() -> list[int]:
        set_affinity(frozenset({one}), "process.execCPUAffinity.final")
        return sorted(os.sched_getaffinity(0))

    assert in_child(work) == [one]
    for cpus in (frozenset({60000}), frozenset()):
        with pytest.raises(KernelRefused, match=r"set process\.execCPUAffinity\.final"):
            set_affinity(cpus, "process.execCPUAffinity.final")


def test_the_oom_score_is_raised_and_read_back() -> None:
    def work() -> list[str]:
        warning = set_oom_score_adj(321, open_proc(), tolerate=False)
        with open("/proc/self/oom_score_adj", encoding="ascii") as file:
            return [warning, file.read()]

    assert in_child(work) == ["", "321\n"]


@pytest.mark.parametrize("tolerate", [True, False])
def test_y5_a_score_that_cannot_be_lowered(tolerate: bool) -> None:
    def work() -> str:
        proc = open_proc()
        permitted = capget()[1] & ~(1 << CAP_SYS_RESOURCE)
        capset(permitted, permitted, 0)
        return set_oom_score_adj(-999, proc, tolerate=tolerate)

    if tolerate:
        assert (
            in_child(work) == "process.oomScoreAdj -999 is below ours, which cannot be lowered here"
        )
    else:
        with pytest.raises(KernelRefused, match=r"set process\.oomScoreAdj to -999: perm"):
            in_child(work)


def test_g3_a_session_keyring_of_its_own() -> None:
    def session() -> bytes:
        with open("/proc/keys", "rb") as keys:
            return next((line for line in keys if b"_ses.imgtools-test" in line), b"")

    def work() -> list[Any]:
        warning = join_keyring(b"_ses.imgtools-test")
        return [warning, "3f080000" in session().decode(), join_keyring(b"_ses.imgtools-test")]

    warning, described, again = in_child(work)
    assert warning == again
    if not warning:
        assert described, "the user may search it"


def test_g3_a_quota_that_is_used_up_is_a_warning() -> None:
    def work() -> str:
        os.setresuid(4243, 4243, 4243)
        warning = join_keyring(b"_ses.imgtools-test")
        add_key, session = named("keyctl") - 2, -3
        if not warning:
            with pytest.raises(OSError, match="quota"):
                for number in range(100000):
                    syscall(add_key, b"user", b"key %d" % number, b"x", 1, session)
        return join_keyring(b"_ses.imgtools-another")

    assert in_child(work).startswith("no session keyring of its own: ")


def test_r3_a_creator_that_is_gone_already() -> None:
    def work() -> None:
        pid = fork()
        if pid == 0:
            os._exit(0)
        gone = os.pidfd_open(pid)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        die_with_parent(gone)

    with pytest.raises(Failure, match="the process that made the container is gone"):
        in_child(work)


def test_r3_a_creator_outside_of_the_pid_namespace() -> None:
    def work() -> int:
        own = os.pidfd_open(os.getpid())
        unshare(CLONE_NEWPID)
        pid = fork()
        if pid == 0:
            die_with_parent(own)
            os._exit(7 if os.getppid() == 0 else 1)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    assert in_child(work) == 7


def test_no_new_privileges() -> None:
    def work() -> int:
        set_no_new_privileges()
        return prctl(PR_GET_NO_NEW_PRIVS)

    assert in_child(work) == 1


def test_d5_a_process_that_is_not_dumpable_hides_its_executable() -> None:
    def work() -> list[int]:
        set_dumpable(False)
        return [os.stat("/proc/self/environ").st_uid, prctl(3)]

    def as_user() -> list[int]:
        os.setresuid(4241, 4241, 4241)
        set_dumpable(True)
        before = os.stat("/proc/self/environ").st_uid
        return [before, *work()]

    assert in_child(as_user) == [4241, 0, 0]


def test_p3_a_proc_that_is_none_is_refused(tmp_path: Path) -> None:
    def work() -> int:
        (tmp_path / "proc/self").mkdir(parents=True)
        (tmp_path / "proc/self/oom_score_adj").touch()
        os.chroot(tmp_path)
        return open_proc()

    with pytest.raises(Failure, match="/proc is not a procfs"):
        in_child(work)

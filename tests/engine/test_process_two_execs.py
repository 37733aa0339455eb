"""What has to come through two execve(2) as through one, and hosts that forbid the first."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from engine.runtime.kernel.mounting import MS_PRIVATE, MS_REC, mount
from engine.runtime.kernel.processes import (
    CLONE_NEWNS,
    CLONE_NEWPID,
    PR_SET_NO_NEW_PRIVS,
    prctl,
    unshare,
)
from engine.runtime.process import credentials
from engine.runtime.process.capabilities import (
    NAMES,
    drop_bounding,
    plan_capabilities,
    survey_own,
)
from engine.runtime.process.credentials import plan_credentials
from engine.runtime.process.trampoline import launch, prepare
from engine.runtime.spec.model import Capabilities, User
from tests.engine.process_children import executed
from tests.engine.rootfs_driver import fork

CAP = "CAP_NET_BIND_SERVICE"
BIT = 1 << NAMES.index(CAP)
PR_SET_SECUREBITS = 28
NO_SETUID_FIXUP = 4
NOEXEC = "/proc/sys/vm/memfd_noexec"
WAYS = ("", "directly, to compare")


def status(way: str, uid: int, asked: Capabilities, *, no_new_privs: bool) -> dict[str, str]:
    """The Cap and Uid lines of a program's /proc/self/status."""

    def work() -> None:
        prepared = prepare((b"cat", b"/proc/self/status"), (), direct=way)
        plan = plan_capabilities(asked, survey_own())
        drop_bounding(plan)
        credentials.apply(plan_credentials(User(uid=uid, gid=uid), True), plan)
        if no_new_privs:
            prctl(PR_SET_NO_NEW_PRIVS, 1)
        launch(prepared, b"/bin/cat")

    ended = executed(work)
    assert ended.code == 0, ended.err
    found = dict(line.split(":\t") for line in ended.out.decode().splitlines() if ":\t" in line)
    names = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "Uid", "Gid", "NoNewPrivs")
    return {name: found[name] for name in names}


@pytest.mark.parametrize("no_new_privs", [True, False])
@pytest.mark.parametrize("uid", [0, 1000])
@pytest.mark.parametrize(
    "kinds",
    [
        ("bounding",),
        ("bounding", "permitted", "effective"),
        ("bounding", "permitted", "inheritable"),
        ("bounding", "permitted", "effective", "inheritable", "ambient"),
        ("permitted", "effective"),
    ],
)
def test_capabilities_are_those_of_a_single_execve(
    kinds: tuple[str, ...], uid: int, no_new_privs: bool
) -> None:
    asked = Capabilities(**dict.fromkeys(kinds, (CAP,)))
    through, straight = (status(w, uid, asked, no_new_privs=no_new_privs) for w in WAYS)
    assert through == straight
    if "ambient" in kinds:
        assert int(through["CapEff"], 16) == BIT


def test_securebits_are_left_as_they_are() -> None:
    def work() -> None:
        prctl(PR_SET_SECUREBITS, NO_SETUID_FIXUP)
        program = b"import ctypes; print(ctypes.CDLL(None).prctl(27, 0, 0, 0, 0))"
        prepared = prepare((b"python", b"-S", b"-c", program), ())
        launch(prepared, os.fsencode(os.path.realpath("/proc/self/exe")))

    assert executed(work).out == b"4\n"


def in_pid_namespace(work: Callable[[], None]) -> Callable[[], None]:
    """`work` in a PID namespace with a procfs of its own, whose sysctls are its own too."""

    def parent() -> None:
        unshare(CLONE_NEWNS | CLONE_NEWPID)
        pid = fork()
        if pid == 0:
            mount(None, b"/", None, MS_REC | MS_PRIVATE, None)
            mount(b"proc", b"/proc", b"proc", 0, None)
            work()
            os._exit(98)
        os._exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))

    return parent


@pytest.mark.parametrize("level", [b"0", b"1", b"2"])
def test_a_host_that_forbids_executable_memfds(level: bytes) -> None:
    def work() -> None:
        fd = os.open(NOEXEC, os.O_WRONLY)
        os.write(fd, level)
        os.close(fd)
        prepared = prepare((b"sh", b"-c", b"exit 7"), ())
        os.write(1, prepared.why_direct.encode())
        launch(prepared, b"/bin/sh")

    if not os.path.exists(NOEXEC):  # before Linux 6.3 nothing forbids them
        ended = executed(lambda: launch(prepare((b"sh", b"-c", b"exit 7"), ()), b"/bin/sh"))
        assert (ended.code, ended.out) == (7, b"")
        return
    ended = executed(in_pid_namespace(work))
    forbidden = b"cannot make an executable memfd: permission denied"
    assert (ended.code, ended.out) == (7, forbidden if level == b"2" else b""), ended.err

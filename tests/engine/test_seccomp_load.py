"""Filters in the real kernel, each in a process of its own."""

from __future__ import annotations

import errno
import json
import os
import platform
import signal
import struct
import subprocess
import sys

import pytest

from engine.runtime.errors import InvalidConfig, Unsupported
from engine.runtime.seccomp.actions import ALLOW, FLAGS
from engine.runtime.seccomp.filter import Filter
from engine.runtime.seccomp.load import (
    Loader,
    supports,
)
from tests.rig import REPOSITORY

RETURN_ALLOW = struct.pack("<HBBI", 0x06, 0, 0, ALLOW)
INTEL = platform.machine() == "x86_64"


def child(
    profile: str, calls: str, *more: str, check: bool = True
) -> subprocess.CompletedProcess[bytes]:
    """seccomp_child.py with a profile and calls."""
    return subprocess.run(
        [sys.executable, "-m", "tests.engine.seccomp_child", profile, calls, *more],
        cwd=REPOSITORY,
        capture_output=True,
        check=check,
        timeout=60,
    )


def results(profile: str, calls: str, *more: str) -> list[object]:
    """What the child reports: whether it has a listener, then an errno for each call."""
    done = child(profile, calls, *more)
    assert done.stdout, done.stderr
    found = json.loads(done.stdout)
    assert isinstance(found, list)
    return found


def test_errno_and_conditions() -> None:
    """The kernel answers as the interpreter does."""
    profile = """Seccomp(default_action=ALLOW, syscalls=(
        Rule(names=("sync",), action=ERRNO, errno_ret=errno.ENOTTY),
        Rule(names=("getpriority",), action=ERRNO, errno_ret=7,
             args=(Arg(index=0, value=2), Arg(index=1, value=99))),
        Rule(names=("umask",), action=ERRNO, errno_ret=8,
             args=(Arg(index=0, value=0xFF00, value_two=0x100, op="SCMP_CMP_MASKED_EQ"),)),
        Rule(names=("no_such_call",), action="SCMP_ACT_KILL"),
    ))"""
    calls = """call("sync"), call("getpriority", 2, 99), call("getpriority", 2, 0),
               call("umask", 0x122), call("umask", 0o22)"""
    assert results(profile, calls) == [False, errno.ENOTTY, 7, 0, 8, 0]


def test_k4_a_new_call_is_enosys_and_a_refused_one_eperm() -> None:
    """As the C library expects it."""
    profile = """Seccomp(default_action=ERRNO, default_errno_ret=1, syscalls=(
        Rule(names=("read", "write", "mmap", "munmap", "brk", "close", "exit_group", "futex",
                    "madvise", "clone3", "rt_sigaction", "mremap", "openat", "newfstatat",
                    "lseek", "fstat", "ioctl", "getdents64", "getrandom"), action=ALLOW),))"""
    calls = 'call("getppid"), call("openat2", 0), call("clone3"), call("read", 999)'
    assert results(profile, calls) == [False, 1, 38, 22, 9]


def test_kill_process_ends_it() -> None:
    """By SIGSYS, at the call."""
    profile = (
        'Seccomp(default_action=ALLOW, syscalls=(Rule(names=("sync",),'
        ' action="SCMP_ACT_KILL_PROCESS"),))'
    )
    done = child(profile, 'call("sync")', check=False)
    assert done.returncode == -signal.SIGSYS
    assert done.stdout == b""


@pytest.mark.parametrize(
    ("first", "second", "wanted"),
    [
        ("action=ERRNO, errno_ret=0", "action=ALLOW", 0),
        ("action=ERRNO, errno_ret=7", "action=ALLOW", 7),
        ("action=ERRNO, errno_ret=0", "action=ERRNO, errno_ret=7", 7),
        ("action=ERRNO, errno_ret=7", "action=ERRNO, errno_ret=0", 0),
        ('action="SCMP_ACT_NOTIFY"', "action=ERRNO, errno_ret=7", 7),
    ],
)
def test_of_two_filters_the_stricter_counts(first: str, second: str, wanted: int) -> None:
    """And of two alike the one loaded last: what root emulation stands on."""
    profile = (
        'Seccomp(default_action="SCMP_ACT_LOG", flags=(), syscalls=(Rule(names=("umask",), {}),))'
    )
    calls = f"also({profile.format(second)}), call('umask', 0o777)"
    assert results(profile.format(first), calls)[1:] == [0, wanted]


def test_a_listener_comes_with_notify() -> None:
    """The descriptor of seccomp(2), close-on-exec; WAIT_KILLABLE_RECV goes with it."""
    profile = """Seccomp(default_action=ALLOW,
        flags=("SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", "SECCOMP_FILTER_FLAG_TSYNC"),
        syscalls=(Rule(names=("sync",), action="SCMP_ACT_NOTIFY"),))"""
    calls = 'max(map(int, os.listdir("/proc/self/fd"))) < 20, call("umask", 0)'
    assert results(profile, calls) == [True, True, 0]


@pytest.mark.parametrize("flag", ["LOG", "SPEC_ALLOW", "TSYNC"])
def test_flags_are_taken(flag: str) -> None:
    """Each that this kernel knows; one it does not know is refused before anything is loaded."""
    name = f"SECCOMP_FILTER_FLAG_{flag}"
    profile = (
        f'Seccomp(default_action=ALLOW, flags=("{name}",), '
        'syscalls=(Rule(names=("sync",), action=ERRNO),))'
    )
    if supports(FLAGS[name]):
        assert results(profile, 'call("sync")') == [False, 1]
    else:
        assert b"Unsupported" in child(profile, "", check=False).stderr


def test_without_no_new_privs_it_takes_a_capability() -> None:
    """Root may load it; a user without capabilities is told what to do."""
    profile = 'Seccomp(default_action=ALLOW, syscalls=(Rule(names=("sync",), action=ERRNO),))'
    assert results(profile, 'call("sync")', "privileged") == [False, 1]
    refused = "os.setresuid(65534, 65534, 65534) or " + profile
    name, message = results(refused, "", "privileged")
    assert name == "KernelRefused"
    assert "load the seccomp filter: permission denied" in str(message)


def test_k2_alg_sockets_in_the_kernel() -> None:
    """Natively, with bits that the kernel cuts off, and as 32-bit programs make them."""
    profile = "default_profile((), machine, (6, 18))"
    calls = 'call("socket", 38, 5, 0), call("socket", (1 << 32) + 38, 5, 0), call("socket", 1, 1)'
    assert results(profile, calls) == [False, 38, 38, 0]
    if not INTEL:
        return
    plain = 'Seccomp(default_action=ALLOW, architectures=("SCMP_ARCH_X86",))'
    if child(plain, "int80('getpid')", check=False).returncode:
        return  # a kernel without 32-bit programs has no such way in
    calls = """int80("getpid"), int80("socket", 38, 5, 0), int80("socket", 1, 1, 0),
               int80.socketcall(1, 38, 5, 0), int80.socketcall(1, 1, 1, 0),
               int80.socketcall(4, 999, 1)"""
    assert results(profile, calls) == [False, 0, 38, 0, 38, 38, errno.EBADF]
    opened = "default_profile((), machine, (6, 18), allow_socketcall=True)"
    calls = 'int80.socketcall(1, 1, 1, 0), int80("socket", 38, 5, 0)'
    assert results(opened, calls) == [False, 0, 38]


def test_x32_calls_are_killed_unless_selected() -> None:
    """Whether the kernel runs them or not."""
    if not INTEL:
        return
    profile = "Seccomp(default_action=ALLOW, architectures=({}))"
    calls = 'call("getpid", table="x32", offset=0x40000000) in (0, 38)'
    assert child(profile.format(""), calls, check=False).returncode == -signal.SIGSYS
    assert results(profile.format('"SCMP_ARCH_X32",'), calls) == [False, True]


def test_a_program_runs_under_the_default_profile() -> None:
    """A shell that starts others."""
    done = child(
        "default_profile((), machine, (6, 18))",
        'os.execv("/bin/sh", ["sh", "-c", "echo $(id -u) $(cat /proc/self/status | grep -c .)"])',
    )
    assert done.stdout.split()[0] == str(os.getuid()).encode()


@pytest.mark.parametrize("program", [b"", RETURN_ALLOW[:7], RETURN_ALLOW * 4097])
def test_a_program_that_no_kernel_reads_is_refused(program: bytes) -> None:
    """Before the kernel is asked."""
    with pytest.raises(InvalidConfig, match="empty, cut off or too long"):
        Loader(Filter(program=program))


def test_unknown_flags_are_refused_before_loading() -> None:
    """Optional ones are left out."""
    with pytest.raises(Unsupported, match="0x40000000"):
        Loader(Filter(program=RETURN_ALLOW, flags=0x40000000))
    assert Loader(Filter(program=RETURN_ALLOW, optional_flags=0x40000000)).flags == 0


def test_what_the_kernel_knows_is_asked_without_loading() -> None:
    """By calls that must fail."""
    assert not supports(0x40000000)
    with open("/proc/self/status", encoding="ascii") as status:
        assert "Seccomp_filters:\t0" in status.read() or INTEL is False

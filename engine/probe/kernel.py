"""Trials outside of any isolation: seccomp, ptrace, Landlock, execution from memory, devices."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import signal

from engine.probe.attempt import Refused, Trial, step
from engine.probe.namespaces import landlock_abi
from engine.runtime.kernel.calls import (
    c_int,
    c_long,
    c_void_p,
    function,
    get_errno,
    named,
    syscall,
)
from engine.runtime.kernel.processes import PR_SET_NO_NEW_PRIVS, prctl

SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER = 1, 8
SECCOMP_RET_ALLOW, BPF_RETURN = 0x7FFF0000, 6
PTRACE_SEIZE = 0x4206
EXECUTABLES = ("/bin/true", "/usr/bin/true", "/proc/self/exe")


class _Instruction(ctypes.Structure):
    _fields_ = (
        ("code", ctypes.c_uint16),
        ("jt", ctypes.c_uint8),
        ("jf", ctypes.c_uint8),
        ("k", ctypes.c_uint32),
    )


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_uint16), ("filter", ctypes.c_void_p))


def kernel_trials() -> list[Trial]:
    """The trials."""
    return [
        ("seccomp-filter", lambda: _load_filter(0)),
        ("seccomp-notify", lambda: _load_filter(SECCOMP_FILTER_FLAG_NEW_LISTENER)),
        ("ptrace", try_ptrace),
        ("landlock", try_landlock),
        ("memfd-exec", try_memfd_exec),
        ("fuse", lambda: _open_device("/dev/fuse")),
        ("tun", lambda: _open_device("/dev/net/tun")),
    ]


def _load_filter(flags: int) -> str:
    """A seccomp filter that admits everything; with a listener it can ask a supervisor."""
    with step("prctl(PR_SET_NO_NEW_PRIVS)"):
        prctl(PR_SET_NO_NEW_PRIVS, 1)
    instruction = _Instruction(BPF_RETURN, 0, 0, SECCOMP_RET_ALLOW)
    program = _Program(1, ctypes.addressof(instruction))
    with step("seccomp(SECCOMP_SET_MODE_FILTER)"):
        syscall(named("seccomp"), SECCOMP_SET_MODE_FILTER, flags, ctypes.byref(program))
    return ""


def try_ptrace() -> str:
    """Trace a child; Yama's ptrace_scope 2 and 3, and old seccomp profiles, refuse it."""
    remedy = "kernel.yama.ptrace_scope 0 or 1, and a seccomp profile that admits ptrace"
    pid = os.fork()
    if pid == 0:
        signal.pause()
        os._exit(0)
    try:
        trace = function("ptrace", c_long, c_int, c_void_p, c_void_p)
        number = get_errno() if trace(PTRACE_SEIZE, pid, None, None) < 0 else 0
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    if number:
        raise Refused("ptrace(PTRACE_SEIZE)", number, remedy=remedy)
    return ""


def try_landlock() -> str:
    """The ABI version of Landlock."""
    with step("landlock_create_ruleset", remedy="landlock in the kernel's lsm= list"):
        return f"ABI {landlock_abi()}"


def try_memfd_exec() -> str:
    """Execute a program that is only in memory."""
    source = next((path for path in EXECUTABLES if os.path.exists(path)), "")
    with step("memfd_create"):
        fd = os.memfd_create("probe", os.MFD_CLOEXEC)
    with open(source, "rb") as file:
        while part := file.read(1 << 20):
            os.write(fd, part)
    pid = os.fork()
    if pid == 0:
        code = errno.EIO
        try:
            os.execve(fd, ["true", "-c", ""], {})
        except OSError as e:
            code = e.errno or errno.EIO
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code:
        raise Refused("execveat of a memfd", code if code > 0 else errno.EIO)
    return platform.machine()


def _open_device(path: str) -> str:
    remedy = f"give the container {path} (--device {path})"
    with step(f"open {path}", remedy=remedy):
        os.close(os.open(path, os.O_RDWR | os.O_CLOEXEC))
    return ""

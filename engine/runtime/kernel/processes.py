"""Processes: clone3, namespaces, pidfds, prctl, descriptors, capabilities, keyrings.

`clone3` is only for single-threaded processes: the child goes on in Python at once, without
the interpreter's at-fork hooks.
"""

from __future__ import annotations

import ctypes
import errno
import os

from engine.runtime.kernel.calls import (
    CLONE3,
    CLOSE_RANGE,
    LIBC,
    PIDFD_OPEN,
    c_int,
    c_ulong,
    checked,
    error,
    function,
    named,
    syscall,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

CLONE_NEWTIME, CLONE_PIDFD, CLONE_PARENT = 0x80, 0x1000, 0x8000
CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS = 0x20000, 0x2000000, 0x4000000
CLONE_NEWIPC, CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = (
    0x8000000,
    0x10000000,
    0x20000000,
    0x40000000,
)
CLONE_INTO_CGROUP = 0x200000000

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_KEEPCAPS, PR_SET_NAME = 1, 4, 8, 15
PR_CAPBSET_READ, PR_CAPBSET_DROP, PR_SET_CHILD_SUBREAPER = 23, 24, 36
PR_SET_NO_NEW_PRIVS, PR_GET_NO_NEW_PRIVS, PR_CAP_AMBIENT = 38, 39, 47
PR_CAP_AMBIENT_RAISE, PR_CAP_AMBIENT_CLEAR_ALL = 2, 4
CLOSE_RANGE_CLOEXEC = 4
KEYCTL_JOIN_SESSION_KEYRING, KEYCTL_SETPERM = 1, 5
SIGCHLD, SIGKILL = 17, 9
_CAP_VERSION_3 = 0x20080522

_prctl = function("prctl", c_int, c_ulong, c_ulong, c_ulong, c_ulong)
_unshare = function("unshare", c_int)
_setns = function("setns", c_int, c_int)
_prlimit = function("prlimit", c_int, c_int, ctypes.c_void_p, ctypes.c_void_p)


class _CloneArgs(ctypes.Structure):
    _fields_ = tuple(
        (name, ctypes.c_uint64)
        for name in (
            "flags",
            "pidfd",
            "child_tid",
            "parent_tid",
            "exit_signal",
            "stack",
            "stack_size",
            "tls",
            "set_tid",
            "set_tid_size",
            "cgroup",
        )
    )


def clone3(flags: int, *, cgroup_fd: int = -1) -> tuple[int, int]:
    """fork(2) with `flags`: (0, -1) in the child, (pid, pidfd) in the parent.

    `cgroup_fd` is a cgroup2 directory in which the child begins. The pidfd is close-on-exec.
    With CLONE_PARENT the child is the caller's sibling, and ends as the caller does: the kernel
    wants no signal named then.
    """
    pidfd = c_int(-1)
    args = _CloneArgs(flags=flags | CLONE_PIDFD)
    args.exit_signal = 0 if flags & CLONE_PARENT else SIGCHLD
    args.pidfd = ctypes.addressof(pidfd)
    if cgroup_fd >= 0:
        args.flags |= CLONE_INTO_CGROUP
        args.cgroup = cgroup_fd
    try:
        pid = syscall(CLONE3, ctypes.byref(args), ctypes.sizeof(args))
    except OSError as e:
        # A seccomp profile that cannot look into its arguments, as Docker's, says there is none.
        if e.errno != errno.ENOSYS or flags & CLONE_NEWTIME:
            raise
        known = flags | CLONE_PIDFD | args.exit_signal
        # The other arguments are 0, whose order is what architectures disagree about.
        pid = syscall(named("clone"), known, 0, ctypes.byref(pidfd), 0, 0)
        if pid and cgroup_fd >= 0:
            _bring_into(cgroup_fd, pid, pidfd.value)
    return (pid, pidfd.value) if pid else (0, -1)


def _bring_into(cgroup_fd: int, pid: int, pidfd: int) -> None:
    """Move a new child into a cgroup; one that cannot be there is ended."""
    try:
        fd = os.open(b"cgroup.procs", os.O_WRONLY | os.O_CLOEXEC, dir_fd=cgroup_fd)
        try:
            os.write(fd, b"%d" % pid)
        finally:
            os.close(fd)
    except OSError:
        signal_pidfd(pidfd, SIGKILL)
        os.close(pidfd)
        raise


def unshare(flags: int) -> None:
    """unshare(2)."""
    checked(_unshare(flags))


def setns(fd: int, flags: int = 0) -> None:
    """setns(2): enter the namespace `fd`, or those of the pidfd `fd` that `flags` name."""
    checked(_setns(fd, flags))


def pidfd_open(pid: int) -> int:
    """pidfd_open(2)."""
    return syscall(PIDFD_OPEN, pid, 0)


def prctl(option: int, first: int = 0, second: int = 0, third: int = 0, fourth: int = 0) -> int:
    """prctl(2)."""
    return checked(_prctl(option, first, second, third, fourth))


def close_on_exec(lowest: int, highest: int = (1 << 32) - 1) -> None:
    """Mark every descriptor from `lowest` to `highest` close-on-exec (close_range(2); one by one
    on kernels before 5.11, up to the first 65,536: a container's /proc may list what it likes,
    and what was inherited above is closed by `close_others`)."""
    try:
        syscall(CLOSE_RANGE, lowest, highest, CLOSE_RANGE_CLOEXEC)
    except OSError:
        for fd in range(lowest, min(highest + 1, 1 << 16)):
            try:
                os.set_inheritable(fd, False)
            except OSError:
                continue


def close_others(keep: Iterable[int]) -> None:
    """Close every descriptor from 3 on but `keep`: whatever the caller has left open.

    To be called where /proc is the host's, which tells them before Linux 5.9. Raises OSError.
    """
    kept = sorted({fd for fd in keep if fd > 2})
    try:
        first = 3
        for fd in (*kept, 1 << 32):
            if first < fd:
                syscall(CLOSE_RANGE, first, fd - 1, 0)
            first = fd + 1
    except OSError:
        for name in os.listdir(b"/proc/self/fd"):
            fd = int(name)
            if fd > 2 and fd not in kept:
                try:
                    os.close(fd)
                except OSError:
                    continue


def capset(effective: int, permitted: int, inheritable: int) -> None:
    """capset(2) for this thread; the arguments are bit sets of capability numbers."""
    header = (ctypes.c_uint32 * 2)(_CAP_VERSION_3, 0)
    low = 0xFFFFFFFF
    data = (ctypes.c_uint32 * 6)(
        effective & low,
        permitted & low,
        inheritable & low,
        effective >> 32,
        permitted >> 32,
        inheritable >> 32,
    )
    syscall(named("capset"), header, data)


def capget() -> tuple[int, int, int]:
    """This thread's (effective, permitted, inheritable) capabilities as bit sets."""
    header = (ctypes.c_uint32 * 2)(_CAP_VERSION_3, 0)
    data = (ctypes.c_uint32 * 6)()
    syscall(named("capget"), header, data)
    return data[0] | data[3] << 32, data[1] | data[4] << 32, data[2] | data[5] << 32


def string_vector(items: tuple[bytes, ...]) -> object:
    """A C array of strings that ends with a null pointer, as execve(2) takes it.

    A string that holds a NUL byte, at which it would end there, raises OSError (EINVAL).
    """
    if any(b"\0" in item for item in items):
        raise error(22)
    return (ctypes.c_char_p * (len(items) + 1))(*items)


def execve(path: bytes, arguments: tuple[bytes, ...], environment: tuple[bytes, ...]) -> None:
    """execve(2); returns only by raising OSError. The environment may hold a name twice."""
    syscall(named("execve"), path, string_vector(arguments), string_vector(environment))


def prlimit(resource: int, limits: tuple[int, int] | None = None, pid: int = 0) -> tuple[int, int]:
    """prlimit(2): the (soft, hard) limits as they were; 2^64-1 is infinity. 0 is this process."""
    previous = (ctypes.c_uint64 * 2)()
    values = (ctypes.c_uint64 * 2)(*limits) if limits else None
    checked(_prlimit(pid, resource, ctypes.addressof(values) if values else None, previous))
    return previous[0], previous[1]


def default_action(number: int) -> None:
    """rt_sigaction(2): SIG_DFL for a signal that the C library keeps for itself (32, 33)."""
    # handler, flags, restorer, mask: all zero is SIG_DFL in both layouts of the structure.
    syscall(named("rt_sigaction"), number, bytes(32), None, 8)


def join_session_keyring(name: bytes) -> int:
    """keyctl(2) KEYCTL_JOIN_SESSION_KEYRING: the serial number of the session keyring `name`,
    made if there is none that we may search; 0 if it is ours already."""
    return syscall(named("keyctl"), KEYCTL_JOIN_SESSION_KEYRING, name)


def set_key_permissions(serial: int, permissions: int) -> None:
    """keyctl(2) KEYCTL_SETPERM on the key `serial`."""
    syscall(named("keyctl"), KEYCTL_SETPERM, serial, permissions)


def personality(persona: int) -> int:
    """personality(2): the previous one."""
    return syscall(named("personality"), persona)


def sethostname(name: bytes) -> None:
    """sethostname(2)."""
    checked(LIBC.sethostname(name, ctypes.c_size_t(len(name))))


def setdomainname(name: bytes) -> None:
    """setdomainname(2)."""
    checked(LIBC.setdomainname(name, ctypes.c_size_t(len(name))))


def signal_pidfd(pidfd: int, number: int) -> None:
    """pidfd_send_signal(2)."""
    syscall(424, pidfd, number, None, 0)

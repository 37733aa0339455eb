"""The C library, the system call numbers that have no wrapper in it, and errors.

Every foreign function gets its argument types, so that 64-bit flags and pointers are not cut
to an int, and errno is read in the same breath as the call (facts: a later one may change it).
"""

from __future__ import annotations

import ctypes
import os

LIBC = ctypes.CDLL(None, use_errno=True)

c_int, c_uint, c_long, c_ulong = ctypes.c_int, ctypes.c_uint, ctypes.c_long, ctypes.c_ulong
c_char_p, c_void_p, c_size_t = ctypes.c_char_p, ctypes.c_void_p, ctypes.c_size_t

_syscall = LIBC.syscall
_syscall.restype = c_long
get_errno = ctypes.get_errno

# Numbers from 424 on are the same on every architecture; the rest differ.
OPEN_TREE, MOVE_MOUNT, FSOPEN, FSCONFIG, FSMOUNT, FSPICK = 428, 429, 430, 431, 432, 433
PIDFD_OPEN, CLONE3, CLOSE_RANGE, OPENAT2 = 434, 435, 436, 437
MOUNT_SETATTR = 442
_ARCH_NUMBERS = {
    "x86_64": {
        "keyctl": 250,
        "seccomp": 317,
        "ioprio_set": 251,
        "sched_setattr": 314,
        "set_mempolicy": 238,
        "bpf": 321,
        "pivot_root": 155,
        "capset": 126,
        "capget": 125,
        "personality": 135,
        "execveat": 322,
        "rt_sigaction": 13,
        "execve": 59,
        "clone": 56,
    },
    "aarch64": {
        "keyctl": 219,
        "seccomp": 277,
        "ioprio_set": 30,
        "sched_setattr": 274,
        "set_mempolicy": 237,
        "bpf": 280,
        "pivot_root": 41,
        "capset": 91,
        "capget": 90,
        "personality": 92,
        "execveat": 281,
        "rt_sigaction": 134,
        "execve": 221,
        "clone": 220,
    },
}
MACHINE = os.uname().machine
NUMBERS = _ARCH_NUMBERS.get(MACHINE, {})


def syscall(number: int, *arguments: object) -> int:
    """The raw system call `number`; ints are passed as longs, bytes and ctypes objects as
    pointers. Raises OSError."""
    result: int = _syscall(
        c_long(number), *[c_long(a) if isinstance(a, int) else a for a in arguments]
    )
    if result < 0:
        raise error(get_errno())
    return result


def named(name: str) -> int:
    """The number of a system call that differs between architectures; raises OSError ENOSYS
    where we do not know it."""
    number = NUMBERS.get(name)
    if number is None:
        raise error(38)
    return number


def error(number: int) -> OSError:
    """The OSError of an errno."""
    return OSError(number, os.strerror(number))


def function(name: str, *types: object) -> ctypes._NamedFuncPointer:
    """The C library's function `name`, which returns an int, with its argument types set."""
    found = LIBC[name]
    found.restype = c_int
    found.argtypes = types  # type: ignore[assignment]
    return found


def checked(result: int) -> int:
    """`result`, or OSError where it is negative."""
    if result < 0:
        raise error(get_errno())
    return result

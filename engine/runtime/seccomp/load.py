"""Puts a compiled filter on the calling thread.

All that can be done beforehand is done beforehand, because loading may be the last call before
execve(2): the filter may forbid everything else.
"""

from __future__ import annotations

import ctypes
import errno

from engine.runtime.errors import InvalidConfig, Unsupported, refused
from engine.runtime.kernel.calls import LIBC, c_int, c_long, c_ulong, error, get_errno, named
from engine.runtime.seccomp.filter import (
    FLAG_NEW_LISTENER,
    FLAG_WAIT_KILLABLE_RECV,
    INSTRUCTION_SIZE,
    MAX_INSTRUCTIONS,
    Filter,
)

_SET_MODE_FILTER = 1
_PR_SET_SECCOMP = 22


class _Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p))


class Loader:
    """A filter laid out in memory, so that `load` is a single system call."""

    def __init__(self, compiled: Filter) -> None:
        """Raises InvalidConfig for a program the kernel would not read, Unsupported for a
        machine whose seccomp(2) has no number here or flags that the kernel does not know."""
        length, rest = divmod(len(compiled.program), INSTRUCTION_SIZE)
        if rest or not 0 < length <= MAX_INSTRUCTIONS:
            raise InvalidConfig("seccomp: the program is empty, cut off or too long")
        flags = compiled.flags
        if flags and not supports(flags):
            raise Unsupported(f"seccomp: this kernel does not know all flags of {flags:#x}")
        if compiled.optional_flags and supports(flags | compiled.optional_flags):
            flags |= compiled.optional_flags
        self.flags = flags
        self._listens = bool(flags & FLAG_NEW_LISTENER)
        self._memory = ctypes.create_string_buffer(compiled.program, len(compiled.program))
        self._program = _Program(length, ctypes.addressof(self._memory))
        pointer = ctypes.byref(self._program)
        # Without flags prctl(2) does it as well, on every kernel and inside every filter.
        if flags:
            self._call = LIBC.syscall
            self._arguments: tuple[object, ...] = (
                c_long(named("seccomp")),
                c_ulong(_SET_MODE_FILTER),
                c_ulong(flags),
                pointer,
            )
        else:
            self._call = LIBC.prctl
            self._arguments = (
                c_int(_PR_SET_SECCOMP),
                c_ulong(2),
                pointer,
                c_ulong(0),
                c_ulong(0),
            )

    def load(self) -> int | None:
        """Put the filter on this thread for good; the descriptor that listens for
        SCMP_ACT_NOTIFY (close-on-exec), None if nothing does.

        Needs no_new_privs or CAP_SYS_ADMIN in the user namespace. Raises KernelRefused. After
        success the thread can only make calls that the filter lets through.
        """
        result: int = self._call(*self._arguments)
        if result < 0:
            number = get_errno()
            hint = (
                "set no_new_privs or load it with CAP_SYS_ADMIN" if number == errno.EACCES else ""
            )
            raise refused("load the seccomp filter", error(number), hint=hint)
        return result if self._listens else None


def load(compiled: Filter) -> int | None:
    """Lay `compiled` out and put it on this thread; as Loader and its `load`."""
    return Loader(compiled).load()


def supports(flags: int) -> bool:
    """Whether the kernel knows all of `flags`: asked with no program, it complains of the flags
    (EINVAL) before it complains of the pointer (EFAULT)."""
    if flags & FLAG_WAIT_KILLABLE_RECV:
        flags |= FLAG_NEW_LISTENER
    try:
        number = named("seccomp")
    except OSError as e:
        raise Unsupported("seccomp: no system call number of seccomp(2) here") from e
    LIBC.syscall(c_long(number), c_ulong(_SET_MODE_FILTER), c_ulong(flags), None)
    return get_errno() == errno.EFAULT

"""The listener of a seccomp filter (seccomp_unotify(2)): what was called, and the answers.

ioctl numbers and structures are those of linux/seccomp.h; the kernels before 5.5 lack CONTINUE.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct

from imgtools.frozen import dataclass

_NOTIFICATION = struct.Struct("=QIIiIQ6Q")
_ANSWER = struct.Struct("=QqiI")
_ID = struct.Struct("=Q")
_FLAGS = struct.Struct("=Q")
_CONTINUE, _SYNC_WAKE_UP = 1, 1


def _ioctl(direction: int, number: int, size: int) -> int:
    """_IOC of asm-generic/ioctl.h; powerpc and mips have their own."""
    if os.uname().machine.startswith(("ppc", "mips")):
        return {1: 4, 2: 2, 3: 6}[direction] << 29 | size << 16 | ord("!") << 8 | number
    return direction << 30 | size << 16 | ord("!") << 8 | number


_WRITE, _READ, _BOTH = 1, 2, 3
_RECEIVE = _ioctl(_BOTH, 0, _NOTIFICATION.size)
_SEND = _ioctl(_BOTH, 1, _ANSWER.size)
# Numbered with the wrong direction at first, which later kernels still take.
_ID_VALID = _ioctl(_READ, 2, _ID.size)
_SET_FLAGS = _ioctl(_WRITE, 4, _FLAGS.size)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A system call that waits for an answer; `pid` is the thread in our PID namespace."""

    id: int
    pid: int
    token: int
    number: int
    args: tuple[int, ...]


class Gone(Exception):
    """The caller does not wait any more: it was killed or interrupted."""


class Listener:
    """The descriptor that loading a filter with FLAG_NEW_LISTENER yields; owns it."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        try:
            # The answer and the caller's wake-up on one processor: less than half the time.
            fcntl.ioctl(fd, _SET_FLAGS, _SYNC_WAKE_UP)
        except OSError as e:
            if e.errno not in (errno.EINVAL, errno.ENOTTY):
                raise

    def receive(self) -> Call | None:
        """The next call, None if it was given up before we saw it. Blocks."""
        buffer = bytearray(_NOTIFICATION.size)
        try:
            fcntl.ioctl(self.fd, _RECEIVE, buffer)
        except OSError as e:
            if e.errno in (errno.ENOENT, errno.EINTR):
                return None
            raise
        id_, pid, _, number, token, _, *args = _NOTIFICATION.unpack(buffer)
        return Call(id=id_, pid=pid, token=token, number=number & 0xFFFFFFFF, args=tuple(args))

    def check(self, call: Call) -> None:
        """Raise Gone if `call` is over: its pid may be somebody else's by now. What was opened
        or read of the caller before this returns was the caller's."""
        try:
            fcntl.ioctl(self.fd, _ID_VALID, _ID.pack(call.id))
        except OSError as e:
            raise Gone from e

    def answer(self, call: Call, error: int = 0, *, value: int = 0) -> None:
        """Let the call return `value`, or fail with `error`."""
        self._send(call, -error, 0, value)

    def pass_on(self, call: Call) -> None:
        """Let the kernel carry the call out, with the caller's own permissions. The caller may
        have changed its memory meanwhile: never a decision about security."""
        self._send(call, 0, _CONTINUE)

    def _send(self, call: Call, error: int, flags: int, value: int = 0) -> None:
        try:
            fcntl.ioctl(self.fd, _SEND, _ANSWER.pack(call.id, value, error, flags))
        except OSError as e:
            if e.errno not in (errno.ENOENT, errno.EINPROGRESS):
                raise

    def close(self) -> None:
        """Close the descriptor; calls that wait then fail with ENOSYS."""
        os.close(self.fd)

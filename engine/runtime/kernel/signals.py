"""signalfd(2): signals as something to wait for beside descriptors."""

from __future__ import annotations

import ctypes
import os

from engine.runtime.kernel.calls import c_int, c_ulong, c_void_p, checked, function

SFD_NONBLOCK, SFD_CLOEXEC = 0o4000, 0o2000000
SIGINFO_SIZE = 128  # struct signalfd_siginfo
SET_BYTES = 128  # sigset_t of glibc and musl
MAX_READ = 32

_signalfd = function("signalfd", c_int, c_void_p, c_int)


def signalfd(numbers: tuple[int, ...]) -> int:
    """A descriptor, non-blocking and close-on-exec, from which `read_signals` gets those of
    `numbers` that are blocked and pending."""
    # sigset_t is an array of longs, signal 1 the lowest bit of the first.
    bits = sum(1 << (number - 1) for number in numbers)
    width = 8 * ctypes.sizeof(c_ulong)
    words = [bits >> low & (1 << width) - 1 for low in range(0, 8 * SET_BYTES, width)]
    mask = (c_ulong * len(words))(*words)
    return checked(_signalfd(-1, mask, SFD_NONBLOCK | SFD_CLOEXEC))


def read_signals(fd: int) -> list[int]:
    """The numbers of the signals that are pending, in the order of the kernel."""
    numbers: list[int] = []
    while True:
        try:
            content = os.read(fd, SIGINFO_SIZE * MAX_READ)
        except BlockingIOError:
            return numbers
        words = memoryview(content).cast("I")  # ssi_signo is the first of each structure
        numbers += words[:: SIGINFO_SIZE // 4].tolist()

"""The caller's signals while a container is made, runs and is removed.

From the first step to the last they are only noted, so that none ends this process between
making something and knowing of it. Where a step may take long, `interruptible` lets those that
ask us to stop end it; everything made so far is undone then.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from imgtools.errors import Error

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
FORWARDED = (*STOPPING, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM, signal.SIGCONT)
_NAMES = {signal.SIGINT: "interrupted", signal.SIGHUP: "hung up"}


class Stopped(Error):
    """A signal stopped us before the container ran; `code` is the exit code for that."""

    def __init__(self, number: int) -> None:
        super().__init__(_NAMES.get(signal.Signals(number), "terminated"))
        self.code = 128 + number


class Signals:
    """The caller's signals as numbers to be read from `fd`, while `caught` is active."""

    def __init__(self) -> None:
        self._read = self._write = -1
        self._interruptible = False
        self._pending: list[int] = []

    @property
    def fd(self) -> int:
        """Polls readable when there is a signal to `take`."""
        return self._read

    def take(self) -> list[int]:
        """The numbers of the signals that came, in order."""
        try:
            self._pending += os.read(self._read, 256)
        except BlockingIOError:
            pass
        found, self._pending = self._pending, []
        return found

    def check(self) -> None:
        """Raise Stopped if a signal that came asks us to stop."""
        for number in self._look():
            if number in STOPPING:
                raise Stopped(number)

    def _look(self) -> list[int]:
        self._pending = self.take()
        return self._pending

    @contextmanager
    def caught(self) -> Iterator[None]:
        """Catch what is passed on, and SIGWINCH; what was in force comes back after. For the
        main thread. What the caller had ignored (nohup) stays so."""
        self._read, self._write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        before = {}
        wakeup = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        try:
            for number in (*FORWARDED, signal.SIGWINCH):
                if signal.getsignal(number) is not signal.SIG_IGN:
                    before[number] = signal.signal(number, self._noted)
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(wakeup)
            os.close(self._read)
            os.close(self._write)
            self._read = self._write = -1

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Let signals that ask us to stop end the block, with Stopped."""
        self._interruptible = True
        try:
            self.check()
            yield
        finally:
            self._interruptible = False

    def _noted(self, number: int, frame: FrameType | None) -> None:
        # The number is in the pipe too.
        if self._interruptible and number in STOPPING:
            self._interruptible = False
            raise Stopped(number)

"""The foreground of a running container: its streams, the caller's signals, its end.

One loop without threads. Signals are passed on to the container's first process; since that
may ignore them as PID 1, a second Ctrl-C or SIGTERM kills.
"""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Protocol

from engine.containers.streams import Pump, Streams
from engine.runtime.zygote.client import Running

FORWARDED = (
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGALRM,
    signal.SIGCONT,
)
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT)


class TerminalRelay(Protocol):
    """What joins the caller's terminal with the container's."""

    def begin(self, poll: select.poll) -> None:
        """Take the container's terminal and make the caller's raw."""

    def serve(self, events: dict[int, int]) -> None:
        """Move what can be moved."""

    def resize(self) -> None:
        """Pass the size of the caller's terminal on."""

    def end(self) -> None:
        """Show what is left, and restore the caller's terminal."""


class Signals:
    """The caller's signals as numbers to be read from `fd`, while `caught` is active."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    @property
    def fd(self) -> int:
        """Polls readable when there is a signal."""
        return self._read

    def take(self) -> bytes:
        """The numbers of the signals that came."""
        try:
            return os.read(self._read, 256)
        except BlockingIOError:
            return b""

    @contextmanager
    def caught(self) -> Iterator[None]:
        """Catch what is to be passed on, and SIGWINCH; what was in force comes back after."""
        numbers = (*FORWARDED, signal.SIGWINCH)
        before = {number: signal.signal(number, _noted) for number in numbers}
        wakeup = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(wakeup)
            for number, handler in before.items():
                signal.signal(number, handler)
            os.close(self._read)
            os.close(self._write)


def _noted(number: int, frame: FrameType | None) -> None:
    """Nothing: the number is in the pipe."""


def attend(
    running: Running, streams: Streams | None, relay: TerminalRelay | None, signals: Signals
) -> int:
    """Serve a container until it has ended; its exit code. Raises what made it fail."""
    running.wait_started()
    poll = select.poll()
    poll.register(running.fileno(), select.POLLIN)
    poll.register(signals.fd, select.POLLIN)
    stopped = 0
    if relay is not None:
        relay.begin(poll)
    try:
        while running.code is None:
            pumps = {} if streams is None else _register(poll, streams)
            events = dict(poll.poll())
            for number in signals.take() if signals.fd in events else b"":
                stopped += _pass_on(number, running, relay, stopped)
            for fd, pump in pumps.items():
                poll.unregister(fd)
                if fd in events:
                    pump.step()
            if relay is not None:
                relay.serve(events)
            if running.fileno() in events:
                running.step()
    finally:
        if relay is not None:
            relay.end()
    if streams is not None:
        streams.finish()
    return running.code


def _register(poll: select.poll, streams: Streams) -> dict[int, Pump]:
    """Poll for what each direction waits for; those that are done are left out."""
    found = {}
    for pump in streams.pumps:
        if not pump.done:
            fd, events = pump.wants()
            # Both outputs may be one file of ours; it is polled for the first, the other's turn
            # comes when that has moved on.
            if fd not in found:
                poll.register(fd, events)
                found[fd] = pump
    return found


def _pass_on(number: int, running: Running, relay: TerminalRelay | None, stopped: int) -> int:
    """Pass a signal on; 1 if it asked the container to end."""
    if number == signal.SIGWINCH:
        if relay is not None:
            relay.resize()
        return 0
    again = number in STOPPING and stopped
    running.signal(signal.SIGKILL if again else number)
    return int(number in STOPPING)

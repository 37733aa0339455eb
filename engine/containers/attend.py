"""The foreground of a running container: its streams, the caller's signals, its end.

One loop without threads. Signals are passed on to the container's first process; since that
may ignore them as PID 1, a second one that asks to stop kills.
"""

from __future__ import annotations

import select
import signal
from typing import Protocol

from engine.containers.signals import STOPPING, Signals, Stopped
from engine.containers.streams import Streams
from engine.runtime.zygote.client import Running


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


def await_start(running: Running, signals: Signals) -> None:
    """Wait until the container's program is about to run. Raises Stopped for a signal that
    asks to stop before that, and what made the container fail."""
    poll = select.poll()
    poll.register(running.fileno(), select.POLLIN)
    poll.register(signals.fd, select.POLLIN)
    while not running.pid and running.code is None:
        ready = [fd for fd, _ in poll.poll()]
        signals.check()
        if running.fileno() in ready:
            running.step()
        else:
            poll.unregister(signals.fd)  # It is only for later, and noted.


def attend(
    running: Running, streams: Streams | None, relay: TerminalRelay | None, signals: Signals
) -> int:
    """Serve a started container until it has ended; its exit code. Raises what made it fail."""
    poll = select.poll()
    poll.register(running.fileno(), select.POLLIN)
    poll.register(signals.fd, select.POLLIN)
    stopped = 0
    if relay is not None:
        relay.begin(poll)
    try:
        while running.code is None:
            for number in signals.take():
                stopped += _pass_on(number, running, relay, stopped)
            pumps = {} if streams is None else streams.register(poll)
            events = dict(poll.poll())
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
            _show_rest(relay, signals)
    if streams is not None:
        streams.finish(lambda: any(n in STOPPING for n in signals.take()), signals.fd)
    return running.code


def _show_rest(relay: TerminalRelay, signals: Signals) -> None:
    try:
        with signals.interruptible():
            relay.end()
    except Stopped:
        # Nobody wants to see the rest; the container has ended as it has.
        return


def _pass_on(number: int, running: Running, relay: TerminalRelay | None, stopped: int) -> int:
    """Pass a signal on; 1 if it asked the container to end."""
    if number == signal.SIGWINCH:
        if relay is not None:
            relay.resize()
        return 0
    again = number in STOPPING and stopped
    running.signal(signal.SIGKILL if again else number)
    return int(number in STOPPING)

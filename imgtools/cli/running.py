"""What surrounds a running verb: debug messages on stderr, and the limit on its time."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from imgtools.cli.state import Cli
from imgtools.errors import Error


class TimedOut(Error):
    """The command took longer than --command-timeout; `seconds` is that limit."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"the command took longer than {seconds:g} seconds")
        self.seconds = seconds


@contextmanager
def running(cli: Cli) -> Iterator[None]:
    """Run the block with the global options of `cli` in force; raises TimedOut."""
    if cli.debug:
        import logging

        logging.basicConfig(level=logging.DEBUG, format="%(levelname)s %(name)s: %(message)s")
    seconds = cli.timeout
    if not seconds:
        yield
        return

    def expire(number: int, frame: FrameType | None) -> None:
        cli.cancel.cancel_from_handler("timed out")
        raise TimedOut(seconds)

    before = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)

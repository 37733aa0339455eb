"""What surrounds a running verb: debug messages on stderr, and the limit on its time."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from imgtools.cli.state import Cli
from imgtools.cli.text import escaped
from imgtools.errors import Error


class TimedOut(Error):
    """The command took longer than --command-timeout; `seconds` is that limit."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"the command took longer than {seconds:g} seconds")
        self.seconds = seconds


def _log_to_stderr() -> None:
    """Show debug messages, whose texts may be anybody's: one line each, but for tracebacks."""
    import logging

    class Escaping(logging.Formatter):
        """Leaves no control character in what it formats."""

        def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
            """The message as one line."""
            return escaped(super().formatMessage(record))

        def formatException(self, ei: Any) -> str:  # noqa: N802
            """The traceback as it is, line by line."""
            return "\n".join(map(escaped, super().formatException(ei).split("\n")))

    handler = logging.StreamHandler()
    handler.setFormatter(Escaping("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.DEBUG, handlers=[handler])


@contextmanager
def running(cli: Cli) -> Iterator[None]:
    """Run the block with the global options of `cli` in force; raises TimedOut."""
    if cli.debug:
        _log_to_stderr()
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

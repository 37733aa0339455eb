"""Time as a test wants it: a clock that stands still until it is moved.

Everything in this package asks one clock, so that what expires can be made to expire.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

Clock = Callable[[], datetime]


def system_clock() -> datetime:
    """Now, in UTC and whole seconds: X.509 and integrated times have no more."""
    return datetime.now(UTC).replace(microsecond=0)


class SetClock:
    """A clock that shows what it is set to."""

    def __init__(self, now: datetime) -> None:
        """`now` has a time zone."""
        self.now = now

    def __call__(self) -> datetime:
        """The time that is shown."""
        return self.now

    def advance(self, by: timedelta) -> None:
        """Move it; a negative difference moves it back."""
        self.now += by

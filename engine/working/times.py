"""Times as image configs have them."""

from __future__ import annotations

import time

SECOND = 1_000_000_000


def rfc3339(time_ns: int) -> str:
    """A time in nanoseconds since the epoch, in UTC, as Go writes it: the fraction without
    trailing zeros."""
    seconds, fraction = divmod(time_ns, SECOND)
    text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return text + (f".{fraction:09d}".rstrip("0") if fraction else "") + "Z"

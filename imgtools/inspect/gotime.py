"""Times as Go's time package reads and writes them in JSON (RFC 3339, nanoseconds)."""

from __future__ import annotations

import re
from datetime import datetime

ZERO = "0001-01-01T00:00:00Z"
"""Go's zero time, which a Docker config without `created` is shown with."""

_RFC3339 = re.compile(
    r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d+))?(Z|[+-](?:[01]\d|2[0-3]):[0-5]\d)", re.ASCII
)


def go_time(text: str) -> str | None:
    """`text` as Go writes it again: at most nine decimals, none of them a trailing zero, and
    Z for the offset zero. None when Go would refuse it."""
    match = _RFC3339.fullmatch(text)
    if match is None:
        return None
    try:
        datetime.fromisoformat(match[1])
    except ValueError:
        return None
    fraction = (match[2] or "")[:9].rstrip("0")
    zone = "Z" if match[3] in ("+00:00", "-00:00") else match[3]
    return match[1] + (f".{fraction}" if fraction else "") + zone

"""The fault script of the test registry: which request goes wrong, and how.

A `Fault` is data. Matching is by method, path and occurrence; the first fault that matches
a request is applied to it, alone.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One rule.

    Matching: `method` (None: any), `path` (a regular expression searched for in the path with
    its query) and `nth` (the 1-based occurrences among the requests that match so far; None:
    every one).

    Instead of the application: `status` answers with `headers` and `body` (HTML when it
    begins with "<", else JSON or text), `retry_after` in seconds, `redirect` a Location
    (status 307 unless said; "{target}" in it becomes the request's path and query).
    `processed` lets the application act first, so that only its answer is lost.

    The wire: `stall` seconds pass before anything is sent; `cut_request` closes after that
    many bytes of the request's body were read; `cut_headers` closes instead of sending
    anything; `cut_after` sends the true headers and that many bytes of body, then closes;
    `stall_after` sends that many and then nothing until the client leaves. `reset` makes a
    cut a TCP reset instead of an orderly end.

    The answer: `truncate` shortens body and Content-Length alike; `flip` inverts the byte at
    that offset; `body_override` replaces the body; `set_headers` and `drop_headers` change
    the headers (a wrong Content-Length is sent as it is); `ignore_range` answers 200 with
    everything; `shift_range` answers 206 with a range that begins that many bytes later.
    """

    method: str | None = None
    path: str = ""
    nth: int | Collection[int] | None = None

    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | str = b""
    retry_after: int | str | None = None
    redirect: str | None = None
    processed: bool = False

    stall: float = 0.0
    cut_request: int | None = None
    cut_headers: bool = False
    cut_after: int | None = None
    stall_after: int | None = None
    reset: bool = False

    truncate: int | None = None
    flip: int | None = None
    body_override: bytes | None = None
    set_headers: Mapping[str, str] = field(default_factory=dict)
    drop_headers: Collection[str] = ()
    ignore_range: bool = False
    shift_range: int = 0

    @property
    def answers(self) -> bool:
        """Whether the fault has an answer of its own."""
        return self.status is not None or self.redirect is not None

    def wants(self, method: str, target: str) -> bool:
        """Whether method and path match; the occurrence is the script's business."""
        return (self.method is None or self.method == method) and (
            re.search(self.path, target) is not None
        )


class FaultScript:
    """The faults of one registry, with a count of the requests that each has matched."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[Fault] = []
        self._matched: list[int] = []
        self._applied: list[int] = []

    def add(self, fault: Fault) -> int:
        """Append a fault; its number, for `applied`."""
        with self._lock:
            self._faults.append(fault)
            self._matched.append(0)
            self._applied.append(0)
            return len(self._faults) - 1

    def clear(self) -> None:
        """Remove every fault."""
        with self._lock:
            self._faults.clear()
            self._matched.clear()
            self._applied.clear()

    def applied(self, number: int) -> int:
        """How many requests a fault was applied to."""
        with self._lock:
            return self._applied[number]

    def choose(self, method: str, target: str) -> Fault | None:
        """The fault for this request. Every fault that matches it counts it."""
        with self._lock:
            chosen: int | None = None
            for number, fault in enumerate(self._faults):
                if not fault.wants(method, target):
                    continue
                self._matched[number] += 1
                if chosen is None and _is_turn(fault.nth, self._matched[number]):
                    chosen = number
            if chosen is None:
                return None
            self._applied[chosen] += 1
            return self._faults[chosen]


def _is_turn(nth: int | Collection[int] | None, count: int) -> bool:
    if nth is None:
        return True
    return count == nth if isinstance(nth, int) else count in nth

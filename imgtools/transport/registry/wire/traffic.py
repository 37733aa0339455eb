"""What all sessions of a command share about hosts: pauses, rates, and warnings already shown.

A rate limit is a host's and not a session's: source and destination of a copy, and all tags
of a sync, wait together when a host says "later".
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from imgtools.transport.registry.wire.url import clean

if TYPE_CHECKING:
    from imgtools.transport.registry.wire.limits import Bucket
    from imgtools.transport.registry.wire.ratelimit import Header, RateLimit

log = logging.getLogger(__name__)

Warn = Callable[[str], object]
"""Shows a registry's warning to the user."""

TOLD_HEADERS = frozenset(
    {"warning", "ratelimit", "ratelimit-limit", "ratelimit-remaining", "x-ratelimit-remaining"}
)
"""The headers `Traffic.observe` has a use for, in lower case."""

_MOST_WARNINGS = 50
_WARNING = re.compile(r'\b299\s+\S+\s+"((?:[^"\\]|\\.)*)"')


class Traffic:
    """Shared by the sessions of a pool, from any number of threads."""

    def __init__(
        self, warn: Warn | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._warn = warn or log_warning
        self.clock = clock
        self._lock = threading.Lock()
        self.gates: dict[str, float] = {}
        """Host to the time of `clock` before which nothing is sent to it."""
        self._requests: dict[tuple[str, float], Bucket] = {}
        self._meters: dict[int, Bucket] = {}
        self._said: dict[str, RateLimit] = {}
        self._warned: set[str] = set()

    def hold(self, host: str, seconds: float) -> None:
        """Let everybody wait `seconds` before anything more is sent to `host`."""
        with self._lock:
            self.gates[host] = max(self.gates.get(host, 0.0), self.clock() + seconds)

    def held(self, host: str) -> float:
        """Seconds that are left of `hold`."""
        with self._lock:
            return max(0.0, self.gates.get(host, 0.0) - self.clock())

    def reserve(self, host: str, rate: float) -> float:
        """Take the next slot of `rate` requests per second to `host`: seconds until it is."""
        with self._lock:
            bucket = self._requests.get((host, rate))
            if bucket is None:
                from imgtools.transport.registry.wire.limits import Bucket

                bucket = self._requests[host, rate] = Bucket(rate, clock=self.clock)
        return bucket.reserve()

    def meter(self, bandwidth: int | None) -> Bucket | None:
        """The bucket of all bytes under a limit of `bandwidth` bytes per second."""
        if bandwidth is None:
            return None
        from imgtools.transport.registry.wire.limits import Bucket

        with self._lock:
            return self._meters.setdefault(bandwidth, Bucket(bandwidth, clock=self.clock))

    def observe(
        self, host: str, status: int, header: Header, warnings: Iterable[str], patience: float
    ) -> None:
        """Take note of an answer that has one of TOLD_HEADERS.

        A host that has nothing left and says when it will is given that time, if it is no
        more than `patience` seconds; with more, its refusal is waited for.
        """
        for line in warnings:
            self._show(host, line)
        from imgtools.transport.registry.wire.ratelimit import parse_rate_limit

        said = parse_rate_limit(header, time.time())
        if said is None:
            return
        with self._lock:
            before = self._said.get(host)
            self._said[host] = said
        if said != before:
            log.debug("%s: %s of %s requests left", host, said.remaining, said.limit)
        if said.remaining == 0 and status < 400 and said.reset and said.reset <= patience:
            self.hold(host, said.reset)

    def rate_limit(self, host: str) -> RateLimit | None:
        """What `host` said last about its limits."""
        with self._lock:
            return self._said.get(host)

    def _show(self, host: str, line: str) -> None:
        for quoted in _WARNING.findall(line[:4096]):
            text = clean(re.sub(r"\\(.)", r"\1", quoted))
            with self._lock:
                new = text and text not in self._warned and len(self._warned) < _MOST_WARNINGS
                if new:
                    self._warned.add(text)
            if new:
                self._warn(f"{host} warns: {text}")


def log_warning(text: str) -> None:
    """What happens to warnings when nobody asked for them."""
    log.warning("%s", text)

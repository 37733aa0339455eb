"""How often a transfer may be interrupted: as often as it likes, while it moves on.

A link that is cut every few megabytes gets a large blob through in the end, so interruptions
count only until enough bytes have come since. A server that gives a byte per connection never
gives enough, and the transfer ends as if nothing came.
"""

from __future__ import annotations

import random

from imgtools.transport.registry.wire.exchange import ExchangeFailed
from imgtools.transport.registry.wire.retry import RetryPolicy, delay_before_retry

_LEAST_GAIN = 1024
_ENOUGH_GAIN = 64 * 1024
_SHARE = 64
_LEAST_RATE = 1024
"""Bytes per second below which a body is as good as cut; what a slow link has left for one of
several blobs may be little more."""


class Pace:
    """Measures how fast a body comes, over the time that is spent on waiting for it."""

    def __init__(self, seconds: float) -> None:
        """Judges every `seconds` of waiting."""
        self._seconds = seconds
        self._count = 0
        self._waited = 0.0

    def crawls(self, count: int, waited: float) -> bool:
        """Whether the body is too slow, now that `count` bytes came after `waited` seconds."""
        self._count += count
        self._waited += waited
        if self._waited < self._seconds:
            return False
        slow = self._count < _LEAST_RATE * self._waited
        self._count, self._waited = 0, 0.0
        return slow


class Tries:
    """Counts the interruptions of one transfer since it last moved on."""

    def __init__(self, policy: RetryPolicy, size: int) -> None:
        """`size` is the bytes of the whole transfer, negative when unknown.

        Moving on is 64 KiB, or 1/64 of a smaller transfer but 1 KiB at least.
        """
        self._policy = policy
        self._enough = max(_LEAST_GAIN, min(_ENOUGH_GAIN, size // _SHARE))
        if size < 0:
            self._enough = _ENOUGH_GAIN
        self._gain = 0
        self._count = 0

    def gained(self, count: int) -> None:
        """Say that `count` bytes came or went."""
        self._gain += count
        if self._gain >= self._enough:
            self._gain = self._count = 0

    def delay_after(self, failure: ExchangeFailed, *, jitter: float | None = None) -> float | None:
        """Seconds to wait before going on after an interruption, None to give up.

        `jitter` in [0, 1] is drawn at random unless given.
        """
        self._count += 1
        drawn = random.random() if jitter is None else jitter
        return delay_before_retry(self._policy, failure, tried=self._count, jitter=drawn)

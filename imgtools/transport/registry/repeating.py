"""Sends a request again until its answer is not "later" or the retry policy has enough.

The decisions are in retry.py and ratelimit.py; here is the loop around them, and the word to
everybody else that a host wants to be left alone.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from imgtools.task import CancelToken
from imgtools.transport.registry.wire.exchange import ExchangeFailed
from imgtools.transport.registry.wire.retry import RetryPolicy, delay_before_retry
from imgtools.transport.registry.wire.url import redact

if TYPE_CHECKING:
    from imgtools.transport.registry.wire.http import Pause, Response
    from imgtools.transport.registry.wire.traffic import Traffic

log = logging.getLogger(__name__)


def repeat(
    once: Callable[[], Response],
    policy: RetryPolicy,
    traffic: Traffic,
    pause: Pause,
    cancel: CancelToken | None = None,
) -> Response:
    """The first answer of `once` that is to be kept; raises what `once` and `pause` raise."""
    tried = 0
    began = time.monotonic()
    while True:
        tried += 1
        try:
            response = once()
        except ExchangeFailed as e:
            elapsed = time.monotonic() - began
            delay = delay_before_retry(
                policy, e, tried=tried, jitter=random.random(), elapsed=elapsed
            )
            if delay is None:
                raise
            log.debug("%s: again in %.2f s", e.message, delay)
        else:
            delay = delay_after(response, tried, policy, traffic, time.monotonic() - began)
            if delay is None:
                return response
            log.debug("%s %s: %d, again in %.2f s", response.method, redact(response.url),
                      response.status, delay)  # fmt: skip
            response.drain()
        pause(delay, cancel)


def delay_after(
    response: Response, tried: int, policy: RetryPolicy, traffic: Traffic, elapsed: float = 0.0
) -> float | None:
    """Seconds until a request that got `response` is worth another try, else None;
    `elapsed` seconds after the first of the `tried` tries."""
    if response.status < 400:
        return None
    from imgtools.transport.registry.wire.ratelimit import is_rate_limited, seconds_to_wait

    limited = is_rate_limited(response.status, response.header)
    delay = delay_before_retry(
        policy,
        429 if limited else response.status,
        tried=tried,
        retry_after=seconds_to_wait(response.status, response.header, time.time()),
        jitter=random.random(),
        elapsed=elapsed,
    )
    if delay is not None and limited:
        # A rate limit is of the host, so everybody waits.
        traffic.hold(response.origin.authority, delay)
    return delay

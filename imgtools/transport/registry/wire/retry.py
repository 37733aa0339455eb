"""Whether and when a request is sent again: one pure decision.

Connection failures and the statuses that mean "later" are repeated with growing, jittered
delays; a server's Retry-After is obeyed up to a bound, beyond which the failure is reported
instead of waited out.
"""

from __future__ import annotations

from imgtools.frozen import dataclass
from imgtools.transport.registry.wire.exchange import ExchangeFailed

RETRIED_STATUSES = frozenset({408, 425, 429, 499, 500, 502, 503, 504, 520, 521, 522, 523, 524})
"""Timeouts, rate limits, and servers or the proxies before them out of order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """`attempts` in all; delays in seconds, doubling from `first` to at most `longest`;
    `patience` is the longest Retry-After that is waited for, `deadline` the seconds after
    the first try in which all others have to begin."""

    attempts: int = 5
    connect_attempts: int = 3
    first: float = 0.25
    longest: float = 15.0
    patience: float = 120.0
    deadline: float = 300.0


def delay_before_retry(
    policy: RetryPolicy,
    outcome: int | ExchangeFailed,
    *,
    tried: int,
    retry_after: float | None = None,
    jitter: float = 1.0,
    elapsed: float = 0.0,
) -> float | None:
    """Seconds to wait before the next try, None to give up.

    `outcome` is the status or failure of the last of `tried` tries; `retry_after` is in
    seconds; `jitter` in [0, 1] is drawn by the caller and halves the delay at most;
    `elapsed` is how many seconds ago the first try began.
    """
    attempts = policy.attempts
    if isinstance(outcome, ExchangeFailed):
        if outcome.final:
            return None
        if outcome.stale and tried == 1:
            return 0.0
        if outcome.stage in ("connect", "tls"):
            attempts = policy.connect_attempts
    elif outcome not in RETRIED_STATUSES:
        return None
    if tried >= attempts:
        return None
    delay = min(policy.longest, policy.first * (1 << (tried - 1))) * (0.5 + jitter / 2)
    if retry_after is not None:
        if retry_after > policy.patience:
            return None
        delay = max(delay, retry_after)
    return delay if elapsed + delay <= policy.deadline else None


def parse_retry_after(value: str, now: float) -> float | None:
    """Seconds of a Retry-After header (RFC 9110 section 10.2.3), None when it has none.

    `now` is the time since the epoch against which a date is held.
    """
    value = value.strip()
    if value.isascii() and value.isdigit():
        return float(value[:9])
    if not value:
        return None
    from email.utils import parsedate_to_datetime

    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - now)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None

"""What a registry says about its rate limits: how many requests are left, and until when.

Four dialects are read: the drafts of the IETF's RateLimit fields (three headers, one header
with parameters, one structured header), Docker Hub's `76;w=21600`, and GitHub's X-RateLimit
with its limits that answer 403. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime

from imgtools.frozen import dataclass
from imgtools.transport.registry.wire.retry import parse_retry_after

Header = Callable[[str], str]
"""A header's name to its value, "" when it is absent."""

_EPOCH = 1_000_000_000
"""A reset beyond this is a date in seconds since 1970, not a span of thirty years."""
_PARAMETER = re.compile(r"(?:^|[;,])\s*(limit|remaining|reset|q|r|t|w)\s*=\s*\"?(\d{1,15})", re.I)
_NUMBER = re.compile(r"\s*(\d{1,15})(?:\.\d+)?\s*(?:[;,]|$)")


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimit:
    """Requests allowed per window, those that are left, and seconds: until they are
    replenished, and of the window; None for what was not said."""

    limit: int | None = None
    remaining: int | None = None
    reset: float | None = None
    window: int | None = None


def parse_rate_limit(header: Header, now: float) -> RateLimit | None:
    """The limits in an answer's headers, None when it has none.

    `now` is the time since the epoch, against which GitHub's resets are held.
    """
    for prefix in ("ratelimit", "x-ratelimit"):
        remaining = header(f"{prefix}-remaining")
        limit = header(f"{prefix}-limit")
        if remaining or limit:
            reset = _number(header(f"{prefix}-reset"))
            return RateLimit(
                limit=_number(limit),
                remaining=_number(remaining),
                reset=_span(reset, now),
                window=_parameters(remaining).get("w") or _parameters(limit).get("w"),
            )
    text = header("ratelimit")
    if not text:
        return None
    found = _parameters(text)
    policy = _parameters(header("ratelimit-policy"))
    said = RateLimit(
        limit=found.get("limit", policy.get("q")),
        remaining=found.get("remaining", found.get("r")),
        reset=_span(found.get("reset", found.get("t")), now),
        window=policy.get("w"),
    )
    return said if said.remaining is not None else None


def is_rate_limited(status: int, header: Header) -> bool:
    """Whether an answer means "too many requests": 429, or 403 as GitHub says it."""
    if status != 403:
        return status == 429
    return bool(header("retry-after")) or header("x-ratelimit-remaining").strip() == "0"


def seconds_to_wait(status: int, header: Header, now: float) -> float | None:
    """Seconds after which the registry wants to be asked again, None when it does not say.

    Retry-After counts; without it, and with nothing left, the reset of the limit.
    """
    told = parse_retry_after(header("retry-after"), now)
    if told is not None or not is_rate_limited(status, header):
        return told
    said = parse_rate_limit(header, now)
    return said.reset if said is not None and not said.remaining else None


def advice(header: Header, now: float, *, status: int = 429) -> str:
    """What to tell a user whose request was refused for the rate of requests."""
    said = parse_rate_limit(header, now)
    words = "the registry limits the rate of requests"
    if said is not None and said.limit:
        words += f" to {said.limit}"
        if said.window:
            words += f" in {span_text(said.window)}"
    wait = seconds_to_wait(status, header, now)
    if wait is None:
        return f"{words}: log in, or try again later"
    then = datetime.fromtimestamp(min(now + wait, 253402300799), UTC)
    return f"{words}: log in, or try again in {span_text(wait)} (at {then:%Y-%m-%d %H:%M:%S} UTC)"


def span_text(seconds: float) -> str:
    """A span of time in its one or two largest units."""
    whole = round(seconds)
    parts = []
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        count, whole = divmod(whole, size)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2]) or "0 s"


def _number(text: str) -> int | None:
    match = _NUMBER.match(text)
    return int(match[1]) if match else None


def _parameters(text: str) -> dict[str, int]:
    return {name.lower(): int(value) for name, value in _PARAMETER.findall(text[:1000])}


def _span(reset: int | None, now: float) -> float | None:
    if reset is None:
        return None
    return max(0.0, reset - now) if reset > _EPOCH else float(reset)

"""Resource limits: which of those asked for can be set, and setting them (setrlimit(2)).

Raising a hard limit takes CAP_SYS_RESOURCE outside of all user namespaces. An engine's own
defaults are lowered to what is possible; what a person asked for is set or refused.
"""

from __future__ import annotations

from engine.runtime.errors import InvalidConfig, KernelRefused, refused
from engine.runtime.kernel.processes import prlimit
from engine.runtime.record import Record
from engine.runtime.spec.model import Rlimit

_NAMES = (
    "RLIMIT_CPU RLIMIT_FSIZE RLIMIT_DATA RLIMIT_STACK RLIMIT_CORE RLIMIT_RSS RLIMIT_NPROC "
    "RLIMIT_NOFILE RLIMIT_MEMLOCK RLIMIT_AS RLIMIT_LOCKS RLIMIT_SIGPENDING RLIMIT_MSGQUEUE "
    "RLIMIT_NICE RLIMIT_RTPRIO RLIMIT_RTTIME"
)
NAMES = tuple(_NAMES.split())
"""asm-generic/resource.h, from number 0 on: the numbers of every architecture we run on."""

INFINITY = (1 << 64) - 1


class RlimitPlan(Record):
    """(number, soft, hard) of each limit."""

    limits: tuple[tuple[int, int, int], ...]
    warnings: tuple[str, ...] = ()


def survey_hard(limits: tuple[Rlimit, ...]) -> tuple[tuple[str, int], ...]:
    """The current hard limit of each resource that `limits` names and we know."""
    found = []
    for limit in limits:
        if limit.type in NAMES:
            try:
                found.append((limit.type, prlimit(NAMES.index(limit.type))[1]))
            except OSError as e:
                raise refused(f"read {limit.type}", e) from e
    return tuple(found)


def plan_rlimits(
    limits: tuple[Rlimit, ...],
    hard: tuple[tuple[str, int], ...],
    *,
    may_raise: bool,
    clamp: bool = False,
) -> RlimitPlan:
    """The limits to set, where the current hard ones are `hard`.

    `may_raise` says that this process holds CAP_SYS_RESOURCE in the first user namespace.
    With `clamp` a limit that cannot be reached is lowered to the current one, with a warning.
    Infinity is 2^64-1 or -1. Raises InvalidConfig for an unknown or repeated type and for a
    soft limit above the hard one, KernelRefused (EPERM) for a limit out of reach.
    """
    current = dict(hard)
    planned: dict[str, tuple[int, int, int]] = {}
    warnings = []
    for limit in limits:
        if limit.type not in NAMES:
            raise InvalidConfig(f"process.rlimits: unknown type {limit.type!r}")
        if limit.type in planned:
            raise InvalidConfig(f"process.rlimits: {limit.type} is set twice")
        soft, highest = _value(limit, limit.soft), _value(limit, limit.hard)
        if soft > highest:
            raise InvalidConfig(f"process.rlimits: {limit.type}: the soft limit is above the hard")
        ceiling = INFINITY if may_raise else current.get(limit.type, INFINITY)
        if highest > ceiling:
            if not clamp:
                raise KernelRefused(
                    f"set {limit.type} to {_text(highest)}: operation not permitted,"
                    f" the hard limit here is {_text(ceiling)}",
                    hint="ask for no more, or run with CAP_SYS_RESOURCE",
                    errno=1,
                )
            warnings.append(f"{limit.type} lowered from {_text(highest)} to {_text(ceiling)}")
            soft, highest = min(soft, ceiling), ceiling
        planned[limit.type] = (NAMES.index(limit.type), soft, highest)
    return RlimitPlan(limits=tuple(planned.values()), warnings=tuple(warnings))


def _value(limit: Rlimit, value: int) -> int:
    if value == -1:
        return INFINITY
    if not 0 <= value <= INFINITY:
        raise InvalidConfig(f"process.rlimits: {limit.type}: {value} is not from 0 to 2^64-1")
    return value


def _text(value: int) -> str:
    return "unlimited" if value == INFINITY else str(value)


def set_rlimits(plan: RlimitPlan, pid: int = 0) -> None:
    """Set the limits of process `pid`, 0 for this one; raises KernelRefused."""
    for number, soft, hard in plan.limits:
        try:
            prlimit(number, (soft, hard), pid)
        except OSError as e:
            action = f"set {NAMES[number]} to {_text(soft)}:{_text(hard)}"
            raise refused(action, e, hint="a limit may be above fs.nr_open") from e

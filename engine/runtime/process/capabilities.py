"""Capabilities: their names, which of those asked for can be given, and the two halves of
setting them. Between the halves lies the change of ids (capabilities(7)).

A capability that is unknown or that cannot be given is a warning, as the runtime-spec has it
since 1.0.2 (config.md, "capabilities").
"""

from __future__ import annotations

from engine.runtime.errors import KernelRefused, refused
from engine.runtime.kernel.processes import (
    PR_CAP_AMBIENT,
    PR_CAP_AMBIENT_CLEAR_ALL,
    PR_CAP_AMBIENT_RAISE,
    PR_CAPBSET_DROP,
    PR_CAPBSET_READ,
    capget,
    capset,
    prctl,
)
from engine.runtime.record import Record
from engine.runtime.spec.model import Capabilities

_NAMES = (
    "CAP_CHOWN CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH CAP_FOWNER CAP_FSETID CAP_KILL CAP_SETGID "
    "CAP_SETUID CAP_SETPCAP CAP_LINUX_IMMUTABLE CAP_NET_BIND_SERVICE CAP_NET_BROADCAST "
    "CAP_NET_ADMIN CAP_NET_RAW CAP_IPC_LOCK CAP_IPC_OWNER CAP_SYS_MODULE CAP_SYS_RAWIO "
    "CAP_SYS_CHROOT CAP_SYS_PTRACE CAP_SYS_PACCT CAP_SYS_ADMIN CAP_SYS_BOOT CAP_SYS_NICE "
    "CAP_SYS_RESOURCE CAP_SYS_TIME CAP_SYS_TTY_CONFIG CAP_MKNOD CAP_LEASE CAP_AUDIT_WRITE "
    "CAP_AUDIT_CONTROL CAP_SETFCAP CAP_MAC_OVERRIDE CAP_MAC_ADMIN CAP_SYSLOG CAP_WAKE_ALARM "
    "CAP_BLOCK_SUSPEND CAP_AUDIT_READ CAP_PERFMON CAP_BPF CAP_CHECKPOINT_RESTORE"
)
NAMES = tuple(_NAMES.split())
"""linux/capability.h, from number 0 on."""

CAP_SETGID, CAP_SETUID, CAP_SETPCAP, CAP_SYS_ADMIN, CAP_SYS_RESOURCE = 6, 7, 8, 21, 24

DEFAULT = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_NET_BIND_SERVICE",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
)
"""What engines give to a container that asks for nothing else (containers.conf(5))."""


class Own(Record):
    """What this process has, as bit sets, and the highest capability the kernel knows."""

    permitted: int
    bounding: int
    last_cap: int


class CapabilityPlan(Record):
    """Bit sets, and the numbers to drop from the bounding set and to raise as ambient.

    `warnings` tell what was asked and cannot be given, `notes` what the sets asked for exclude
    among themselves: engines are known to ask for that with every container.
    """

    drop: tuple[int, ...]
    effective: int
    permitted: int
    inheritable: int
    ambient: tuple[int, ...]
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def survey_own() -> Own:
    """What the calling thread has; raises KernelRefused."""
    try:
        last = last_cap()
        bounding = sum(prctl(PR_CAPBSET_READ, n) << n for n in range(last + 1))
        return Own(permitted=capget()[1], bounding=bounding, last_cap=last)
    except OSError as e:
        raise refused("read capabilities", e) from e


def last_cap() -> int:
    """The highest number the kernel knows: what lies above cannot be asked for (EINVAL)."""
    low, high = 0, 63
    while low < high:
        middle = (low + high + 1) // 2
        try:
            prctl(PR_CAPBSET_READ, middle)
            low = middle
        except OSError:
            high = middle - 1
    return low


def full(last: int) -> Own:
    """What the first process of a new user namespace has: everything up to number `last`."""
    everything = (1 << last + 1) - 1
    return Own(permitted=everything, bounding=everything, last_cap=last)


def default_capabilities(names: tuple[str, ...], uid: int) -> Capabilities:
    """The five sets an engine asks for if a container of user `uid` may use `names`.

    Root gets them at once; another user only through programs with file capabilities, as its
    bounding set. The inheritable set stays empty: what is in it, a program could take with
    nothing but file capabilities of its own (CVE-2022-24769).
    """
    if uid:
        return Capabilities(bounding=names)
    return Capabilities(bounding=names, effective=names, permitted=names)


def plan_capabilities(asked: Capabilities | None, own: Own) -> CapabilityPlan:
    """What of `asked` (None asks for no capability) a process that has `own` can give.

    Every set is cut to what the kernel would accept: permitted and inheritable to what we
    have, effective to permitted, ambient to permitted and inheritable.
    """
    asked = asked or Capabilities()
    known = (1 << min(own.last_cap, len(NAMES) - 1) + 1) - 1
    sets, unknown = _sets(asked)
    warnings = []
    missing = _names_of(_union(sets) & ~known)
    if unknown or missing:
        names = ", ".join((*unknown, *missing))
        warnings.append(f"ignored capabilities that are not known here: {names}")
    have = own.permitted & own.bounding & known
    lacking = _union(sets) & known & ~have
    if lacking:
        names = ", ".join(_names_of(lacking))
        warnings.append(f"ignored capabilities that this process does not have: {names}")
    bounding, permitted = sets["bounding"] & have, sets["permitted"] & have
    notes: list[str] = []
    effective = _cut(sets["effective"] & have, permitted, "effective", "permitted", notes)
    inheritable = _cut(
        sets["inheritable"] & have, bounding, "inheritable", "in the bounding set", notes
    )
    usable = permitted & inheritable
    ambient = _cut(sets["ambient"] & have, usable, "ambient", "permitted and inheritable", notes)
    return CapabilityPlan(
        drop=_numbers(own.bounding & ~bounding),
        effective=effective,
        permitted=permitted,
        inheritable=inheritable,
        ambient=_numbers(ambient),
        warnings=tuple(warnings),
        notes=tuple(notes),
    )


def _sets(asked: Capabilities) -> tuple[dict[str, int], tuple[str, ...]]:
    """Each of the five sets as bits, and the names that stand for nothing."""
    numbers = {name: number for number, name in enumerate(NAMES)}
    sets: dict[str, int] = {}
    unknown: dict[str, None] = {}
    for kind in ("bounding", "effective", "inheritable", "permitted", "ambient"):
        bits = 0
        for name in getattr(asked, kind):
            number = numbers.get(name)
            if number is None:
                unknown[name] = None
            else:
                bits |= 1 << number
        sets[kind] = bits
    return sets, tuple(unknown)


def _union(sets: dict[str, int]) -> int:
    every = 0
    for bits in sets.values():
        every |= bits
    return every


def _cut(wanted: int, limit: int, kind: str, where: str, notes: list[str]) -> int:
    outside = _names_of(wanted & ~limit)
    if outside:
        notes.append(f"ignored {kind} capabilities that are not {where}: {', '.join(outside)}")
    return wanted & limit


def _numbers(bits: int) -> tuple[int, ...]:
    return tuple(n for n in range(bits.bit_length()) if bits >> n & 1)


def _names_of(bits: int) -> tuple[str, ...]:
    """Names in the order of their numbers; a number without a name is written as one."""
    return tuple(NAMES[n] if n < len(NAMES) else f"CAP_{n}" for n in _numbers(bits))


def drop_bounding(plan: CapabilityPlan) -> None:
    """Shrink the bounding set; needs CAP_SETPCAP, so it comes before the change of ids.

    Raises KernelRefused: a container must not get more than it was meant to.
    """
    for number in plan.drop:
        try:
            prctl(PR_CAPBSET_DROP, number)
        except OSError as e:
            name = _names_of(1 << number)[0]
            hint = "the runtime needs CAP_SETPCAP to take capabilities away"
            raise refused(f"drop {name} from the bounding set", e, hint=hint) from e


def set_sets(plan: CapabilityPlan) -> None:
    """Set the effective, permitted, inheritable and ambient sets; raises KernelRefused.

    Comes after the change of ids, across which PR_SET_KEEPCAPS has kept the permitted set.
    """
    try:
        prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
        capset(plan.effective, plan.permitted, plan.inheritable)
        for number in plan.ambient:
            prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, number)
    except OSError as e:
        raise refused("set capabilities", e) from e
    found = capget()
    if found != (plan.effective, plan.permitted, plan.inheritable):
        raise KernelRefused("set capabilities: the kernel kept others than it was given")

"""Decides from probes how containers are isolated: the strongest way that works, with the
reason against each stronger one. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from engine.probe.model import KINDS, Choice, Emulation, Kind, Probe, Rejection, Rung
from imgtools.errors import InvalidInput, Unsupported

ASKED: Mapping[str, tuple[Kind, ...]] = {
    "root": ("root",),
    "userns": ("ranges", "single"),
    "ranges": ("ranges",),
    "single": ("single",),
    "chroot": ("chroot",),
    "none": ("none",),
}

WHY: Mapping[Kind, str] = {
    "root": "this process is root and may use namespaces directly",
    "ranges": "a user namespace with many ids works",
    "single": "a user namespace works, but with only one id",
    "chroot": "namespaces are refused, but chroot(2) works",
}


def choose_isolation(probes: tuple[Probe, ...], asked: str | None = None) -> Choice:
    """The isolation to use; `asked` is None or one of `ASKED`.

    Raises InvalidInput for another word and Unsupported where what was asked for does not work
    here, with the system call, the errno and the remedy.
    """
    by_name = {probe.name: probe for probe in probes}
    if asked is not None and asked not in ASKED:
        raise InvalidInput(f"unknown isolation {asked!r}: expected one of {', '.join(ASKED)}")
    candidates = KINDS if asked is None else ASKED[asked]
    rejected: list[Rejection] = []
    for kind in candidates:
        probe = by_name.get(f"isolation-{kind}")
        if probe is not None and probe.works:
            return _chosen(kind, probe, by_name, tuple(rejected))
        if kind != "none":
            rejected.append(_rejection(kind, probe))
    if asked == "chroot":
        # Only root may chroot outside of a user namespace.
        found = in_place_of_chroot(probes, ASKED["userns"], rejected[0].why)
        if found is not None:
            return found
    if asked not in (None, "none"):
        worst = rejected[0]
        raise Unsupported(f"isolation {asked}: {worst.why}", hint=worst.remedy or None)
    return Choice(
        kind="none",
        rung="none",
        why="asked for" if asked == "none" else "nothing that isolates a process works here",
        rejected=tuple(rejected),
        improve=_improvements(tuple(rejected)),
    )


def require_isolation(choice: Choice) -> None:
    """Raise Unsupported where nothing can be run in an image, with each way's system call and
    errno, and what would have to change."""
    if choice.kind != "none":
        return
    reasons = "; ".join(f"{one.kind}: {one.why}" for one in choice.rejected)
    raise Unsupported(
        f"nothing can be run in a container here: {reasons or choice.why}",
        hint="; or ".join(choice.improve) or None,
    )


def in_place_of_chroot(
    probes: tuple[Probe, ...], kinds: tuple[Kind, ...], why: str
) -> Choice | None:
    """The first of `kinds` that works, for who asked for a chroot and cannot have it, because of
    `why`; it shares the host's network, as a chroot does. None where none works."""
    by_name = {probe.name: probe for probe in probes}
    for kind in kinds:
        probe = by_name.get(f"isolation-{kind}")
        if probe is not None and probe.works:
            rejected = (Rejection(kind="chroot", why=why),)
            found = _chosen(kind, probe, by_name, rejected)
            return replace(found, why="in place of a chroot", shares_network=True)
    return None


def _rejection(kind: Kind, probe: Probe | None) -> Rejection:
    if probe is None:
        return Rejection(kind=kind, why="not tried")
    return Rejection(kind=kind, why=probe.why, remedy=probe.remedy)


def _chosen(
    kind: Kind, probe: Probe, by_name: Mapping[str, Probe], rejected: tuple[Rejection, ...]
) -> Choice:
    if kind == "chroot":
        return Choice(
            kind="chroot",
            rung="D",
            why=WHY[kind],
            root_change="chroot",
            proc="none",
            hostname=False,
            shares_network=True,
            rejected=rejected,
            improve=_improvements(rejected),
        )
    names = by_name.get("uts-namespace")
    return Choice(
        kind=kind,
        rung=_rung(kind, probe),
        why=WHY[kind],
        hostname=names is None or names.works,
        root_change="move" if "move" in probe.detail.split() else "pivot_root",
        proc="mount" if _works(by_name, "proc") else "bind",
        emulation=_emulation(kind, by_name),
        own_user=kind == "single" and _works(by_name, "nested-user-namespace"),
        rejected=rejected,
        improve=_improvements(rejected),
    )


def _rung(kind: Kind, probe: Probe) -> Rung:
    if kind == "root":
        return "A"
    if kind == "single":
        return "C"
    # Container root that may not map uid 0: the one case where maps are written by us.
    return "D-crio" if "direct" in probe.detail.split() else "B"


def _emulation(kind: Kind, by_name: Mapping[str, Probe]) -> Emulation:
    if kind != "single":
        return ""
    if _works(by_name, "seccomp-notify"):
        return "notify"
    return "errno" if _works(by_name, "seccomp-filter") else ""


def _works(by_name: Mapping[str, Probe], name: str) -> bool:
    probe = by_name.get(name)
    return probe is not None and probe.works


def _improvements(rejected: tuple[Rejection, ...]) -> tuple[str, ...]:
    """What one would have to change, strongest first. To be root is no advice."""
    found = [r.remedy for r in rejected if r.remedy and r.kind != "root"]
    return tuple(dict.fromkeys(found))

"""Decides the maps of a user namespace from what is known of a process. Pure.

The kernel's rules (user_namespaces(7)): a line's outside ids lie in one extent of the parent's
own map; lines do not overlap; at most 340 lines; without privileges only one id, one's own, can
be mapped and setgroups has to be denied first; mapping the parent's uid 0 needs CAP_SETFCAP.
"""

from __future__ import annotations

from dataclasses import replace

from engine.ids.model import (
    CAP_SETFCAP,
    CAP_SETGID,
    CAP_SETUID,
    CAP_SYS_ADMIN,
    MAX_MAP_LINES,
    IdFacts,
    IdMapping,
    IdMaps,
    IdMode,
    IdRange,
    Refusal,
)
from engine.ids.subordinate import ID_LIMIT, subtract
from imgtools.errors import Unsupported


class NamespaceRefused(Unsupported):
    """There is no user namespace to be had, and this process is where it was."""


STRENGTH: tuple[IdMode, ...] = ("root", "ranges", "single")


def plan_id_maps(facts: IdFacts, mode: IdMode | None = None) -> IdMaps:
    """The maps of `mode`, or of the strongest mode that `facts` admit.

    "root" takes what there is, "ranges" maps many ids, "single" only one. Raises
    NamespaceRefused where `mode` cannot be had, with the reason.
    """
    rejected: list[str] = []
    for candidate in STRENGTH if mode is None else (mode,):
        found = _MODES[candidate](facts)
        if isinstance(found, IdMaps):
            return replace(found, rejected=tuple(rejected))
        if mode is not None:
            raise NamespaceRefused(found.why, hint=found.remedy or None)
        rejected.append(f"{candidate}: {found.why}")
    raise NamespaceRefused("no user namespace for containers: " + "; ".join(rejected))


def _plan_root(facts: IdFacts) -> IdMaps | Refusal:
    """No new namespace: this process is root, or a root that somebody mapped."""
    if facts.effective_uid != 0:
        return Refusal(why=f"this is uid {facts.effective_uid}, not root", remedy="run as root")
    if not facts.has(CAP_SYS_ADMIN):
        return Refusal(why="root here has no CAP_SYS_ADMIN", remedy="the capability SYS_ADMIN")
    return IdMaps(
        mode="root" if _counts_many(facts) else "single",
        writer="none",
        uids=facts.uid_extents,
        gids=facts.gid_extents,
        why="already root with CAP_SYS_ADMIN",
    )


def _counts_many(facts: IdFacts) -> bool:
    return all(
        sum(line.size for line in extents) > 1 for extents in (facts.uid_extents, facts.gid_extents)
    )


def _plan_ranges(facts: IdFacts) -> IdMaps | Refusal:
    if facts.has(CAP_SETUID) and facts.has(CAP_SETGID):
        return _all_ids(facts)
    return _granted_ids(facts)


def _all_ids(facts: IdFacts) -> IdMaps | Refusal:
    """Every id there is here, written directly; without CAP_SETFCAP all but uid 0, so that
    root inside is uid 1 outside."""
    if not _counts_many(facts):
        return Refusal(
            why="only one id is mapped where this process is",
            remedy="start it in a user namespace with more ids",
        )
    first = 0 if facts.has(CAP_SETFCAP) else 1
    uids = _pack(_present(facts.uid_extents), skip=first)
    gids = _pack(_present(facts.gid_extents), skip=first)
    if not uids or not gids:
        return Refusal(
            why="only one id can be mapped without CAP_SETFCAP",
            remedy="the capability SETFCAP",
        )
    what = "all ids" if not first else "all ids but 0, for want of CAP_SETFCAP"
    return IdMaps(
        mode="ranges",
        writer="direct",
        uids=uids,
        gids=gids,
        deny_setgroups=not facts.setgroups_allowed,
        why=f"CAP_SETUID and CAP_SETGID let us map {what}",
    )


def _granted_ids(facts: IdFacts) -> IdMaps | Refusal:
    """One's own id as root, then those of subuid and subgid, written by newuidmap."""
    who = facts.identity
    for helper in (facts.newuidmap, facts.newgidmap):
        if helper.problem is not None:
            return helper.problem
    if facts.no_new_privileges:
        return Refusal(
            why="no_new_privs is set, so newuidmap gains no privilege",
            remedy="allowPrivilegeEscalation: true, or no --security-opt no-new-privileges",
        )
    if not who.in_passwd:
        return Refusal(
            why=f"uid {who.uid} has no passwd entry, so newuidmap refuses it",
            remedy=f"a line for uid {who.uid} in /etc/passwd, and ranges in /etc/subuid",
        )
    if not facts.setgroups_allowed:
        return Refusal(
            why="setgroups is denied here, so newgidmap cannot map groups",
            remedy="leave the user namespace that denied it",
        )
    maps = []
    for own, granted, extents, file in (
        (who.uid, facts.subuids, facts.uid_extents, "subuid"),
        (who.gid, facts.subgids, facts.gid_extents, "subgid"),
    ):
        if not granted:
            return Refusal(
                why=f"/etc/{file} grants {who.name} nothing",
                remedy=f"as root: usermod --add-{file}s 100000-165535 {who.name}",
            )
        rest = subtract(granted, (IdRange(first=own, count=1),))
        lines = _lines((IdRange(first=own, count=1), *rest), _present(extents))
        if len(lines) < 2:
            return Refusal(
                why=f"what /etc/{file} grants {who.name} does not exist in this user namespace",
                remedy=f"ranges in /etc/{file} that /proc/self/{file[3:]}_map shows",
            )
        maps.append(lines[:MAX_MAP_LINES])
    return IdMaps(
        mode="ranges",
        writer="helpers",
        uids=maps[0],
        gids=maps[1],
        why="newuidmap maps the ranges of /etc/subuid and /etc/subgid",
    )


def _plan_single(facts: IdFacts) -> IdMaps | Refusal:
    who = facts.identity
    here = _plan_root(facts)
    if isinstance(here, IdMaps) and here.mode == "single":
        return here
    if who.uid == 0 and not facts.has(CAP_SETFCAP):
        return Refusal(why="mapping uid 0 needs CAP_SETFCAP", remedy="the capability SETFCAP")
    own = IdMapping(container_id=0, host_id=who.uid, size=1)
    group = IdMapping(container_id=0, host_id=who.gid, size=1)
    return IdMaps(
        mode="single",
        writer="direct",
        uids=(own,),
        gids=(group,),
        deny_setgroups=True,
        why=f"only uid {who.uid} and gid {who.gid} can be mapped",
    )


def _present(extents: tuple[IdMapping, ...]) -> tuple[IdRange, ...]:
    """The ids that exist in this namespace, one range per extent, in order."""
    found = [IdRange(first=line.container_id, count=line.size) for line in extents]
    return tuple(sorted(found, key=lambda extent: extent.first))


def _pack(ranges: tuple[IdRange, ...], *, skip: int) -> tuple[IdMapping, ...]:
    """Lines for all ids from `skip` on, moved down so that the lowest one is root: not at all
    where that is 0."""
    usable = [
        IdRange(first=max(extent.first, skip), count=extent.end - max(extent.first, skip))
        for extent in ranges
        if extent.end > skip
    ]
    return tuple(
        IdMapping(container_id=part.first - usable[0].first, host_id=part.first, size=part.count)
        for part in usable[:MAX_MAP_LINES]
    )


def _lines(wanted: tuple[IdRange, ...], present: tuple[IdRange, ...]) -> tuple[IdMapping, ...]:
    """Consecutive inside ids for `wanted`, cut at the extents of the parent's map; what does
    not exist there is left out."""
    lines: list[IdMapping] = []
    inside = 0
    for part in wanted:
        for extent in present:
            start, end = max(part.first, extent.first), min(part.end, extent.end)
            if start < end and inside + end - start <= ID_LIMIT:
                size = end - start
                lines.append(IdMapping(container_id=inside, host_id=start, size=size))
                inside += size
    return tuple(lines)


_MODES = {"root": _plan_root, "ranges": _plan_ranges, "single": _plan_single}

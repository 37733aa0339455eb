"""Which ids exist here: user namespaces map ranges, and chown to any other id fails.

Reads /proc/self/uid_map (user_namespaces(7)); the decisions are pure.
"""

from __future__ import annotations

import os

from engine.runtime.kernel.processes import capget
from engine.storage.options import Ownership
from imgtools.blob.tar.options import OwnerMap
from imgtools.errors import Unsupported
from imgtools.frozen import dataclass

CAP_CHOWN = 0
ALL = 0xFFFFFFFF
"""Ids that the initial user namespace maps: all but (uid_t)-1."""


@dataclass(frozen=True, slots=True)
class IdRanges:
    """Ids that are mapped, as (first, count)."""

    ranges: tuple[tuple[int, int], ...]

    @classmethod
    def parse(cls, text: str) -> IdRanges:
        """From the text of a uid_map or gid_map."""
        rows = [line.split() for line in text.splitlines() if line.strip()]
        return cls(tuple(sorted((int(row[0]), int(row[2])) for row in rows)))

    def __contains__(self, number: int) -> bool:
        return any(first <= number < first + count for first, count in self.ranges)

    @property
    def count(self) -> int:
        """How many ids there are."""
        return sum(count for _, count in self.ranges)

    def __str__(self) -> str:
        spans = (f"{f}-{f + n - 1}" if n > 1 else str(f) for f, n in self.ranges)
        return ", ".join(spans) or "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ids:
    """The ids of this process's user namespace, whether it is the superuser in it, and whether
    it may give files away (CAP_CHOWN), which some containers' root may not."""

    users: IdRanges
    groups: IdRanges
    superuser: bool
    chowns: bool = True

    @property
    def initial(self) -> bool:
        """Whether everything is mapped, as outside of user namespaces."""
        return self.users.ranges == ((0, ALL),)


def survey_ids() -> Ids:
    """Those of this process; without a /proc, those outside of user namespaces."""
    texts = []
    for name in ("uid_map", "gid_map"):
        try:
            with open(f"/proc/self/{name}", encoding="ascii") as file:
                texts.append(file.read(1 << 16))
        except FileNotFoundError:
            texts.append(f"0 0 {ALL}")
    users, groups = (IdRanges.parse(text) for text in texts)
    chowns = bool(capget()[0] >> CAP_CHOWN & 1)
    return Ids(users=users, groups=groups, superuser=os.geteuid() == 0, chowns=chowns)


def best_ownership(ids: Ids) -> Ownership:
    """REAL for a superuser with more than one id to give, RECORDED for everybody else."""
    many = ids.users.count > 1 and ids.groups.count > 1
    real = ids.superuser and ids.chowns and many
    return Ownership.REAL if real else Ownership.RECORDED


def owner_map(ids: Ids, *, ignore_errors: bool) -> OwnerMap | None:
    """Checks the owner of every file of a layer, None if any id will do.

    An id that is not mapped becomes 0 with `ignore_errors`, else Unsupported is raised.
    """
    if ids.initial and ids.groups.ranges == ids.users.ranges:
        return None

    def mapped(number: int, ranges: IdRanges, what: str, file: str) -> int:
        if number in ranges:
            return number
        if ignore_errors:
            return 0
        raise Unsupported(
            f"the layer has a file of {what} {number}, which is not mapped here (mapped: {ranges})",
            hint=f"give this user a larger range in {file}, or ignore_chown_errors",
        )

    return lambda uid, gid: (
        mapped(uid, ids.users, "user", "/etc/subuid"),
        mapped(gid, ids.groups, "group", "/etc/subgid"),
    )

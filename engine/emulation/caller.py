"""Who the programs of a container are to the kernel, where a single id exists, and what a
kernel with many ids would let them do with owners. Pure.

A container's root has every capability over its one id. Another user has a user namespace of
its own, in which its uid and gid are the only ones, and is refused what users are refused.
"""

from __future__ import annotations

from engine.emulation.notes import CAPABILITY, UNCHANGED
from engine.storage.options import Owner
from imgtools.frozen import dataclass

CHOWN, FOWNER, SETFCAP, SYS_ADMIN = "CAP_CHOWN", "CAP_FOWNER", "CAP_SETFCAP", "CAP_SYS_ADMIN"


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """`groups` are the supplementary groups that it is to have, though no process here can;
    `capabilities` are effective ones, None for all."""

    uid: int = 0
    gid: int = 0
    groups: frozenset[int] = frozenset()
    capabilities: frozenset[str] | None = None

    @property
    def owner(self) -> Owner:
        """The owner of what it makes."""
        return Owner(uid=self.uid, gid=self.gid)

    def has(self, capability: str) -> bool:
        """Whether it has the capability over files."""
        return self.capabilities is None or capability in self.capabilities

    def may_chown(self, owner: Owner, uid: int, gid: int) -> bool:
        """Whether chown(2) of a file of `owner` to `uid` and `gid` is allowed: to the owner
        alone, who can change nothing but the group, to one of its own."""
        if self.has(CHOWN) or (uid, gid) == (UNCHANGED, UNCHANGED):
            return True
        if owner.uid != self.uid or uid not in (UNCHANGED, owner.uid):
            return False
        return gid in (UNCHANGED, owner.gid, self.gid) or gid in self.groups

    def may_set(self, owner: Owner, name: str) -> bool:
        """Whether the attribute `name`, one that is noted, of a file of `owner` may be set or
        removed."""
        if name.startswith("system."):
            return owner.uid == self.uid or self.has(FOWNER)
        return self.has(SETFCAP if name == CAPABILITY else SYS_ADMIN)

    def may_become(self, kind: str, wanted: tuple[int, ...]) -> bool:
        """Whether a call of the set*`kind` ("uid" or "gid") family may take the ids `wanted`."""
        own = self.uid if kind == "uid" else self.gid
        return all(one in (own, UNCHANGED) for one in wanted)


ROOT = Caller()

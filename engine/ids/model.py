"""What is known of a process's ids, and the maps of a user namespace that follow from it.

Everything here is frozen data; user_namespaces(7) names the terms. Ids are numbers of the
namespace they are seen from, which for `IdMapping.host_id` is the parent of the new one.
"""

from __future__ import annotations

from dataclasses import field
from typing import Literal

from engine.runtime.spec.model import IdMapping
from imgtools.frozen import dataclass

__all__ = ["IdFacts", "IdMapping", "IdMaps", "IdMode", "IdOptions", "IdSession", "Identity"]

CAP_CHOWN, CAP_SETGID, CAP_SETUID, CAP_SYS_ADMIN, CAP_SETFCAP = 0, 6, 7, 21, 31
MAX_MAP_LINES = 340

IdMode = Literal["root", "ranges", "single"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who somebody is: `name` and `home` are best guesses where passwd has no entry."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()
    name: str = ""
    home: str = "/"
    in_passwd: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class IdRange:
    """`count` ids from `first`, as a line of subuid(5) grants them."""

    first: int
    count: int

    @property
    def end(self) -> int:
        """The first id after the range."""
        return self.first + self.count


@dataclass(frozen=True, slots=True, kw_only=True)
class IdOptions:
    """How to get ids: `mode` None is the strongest that works.

    `path` is where newuidmap and newgidmap are looked for. `user_name` and `home` stand in
    where passwd knows nothing of the uid; `outer_uid` and `outer_gid` say who is behind a root
    that some other program mapped. `give` are directories that the root of the namespace
    owns from then on, if it is somebody else; missing ones are made.
    """

    mode: IdMode | None = None
    subuid: str = "/etc/subuid"
    subgid: str = "/etc/subgid"
    path: tuple[str, ...] = ("/usr/local/bin", "/usr/bin", "/bin")
    user_name: str = ""
    home: str = ""
    outer_uid: int | None = None
    outer_gid: int | None = None
    mount_namespace: bool = False
    give: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why something cannot be had, `why`, and what would change that, `remedy`, empty where
    nothing would. One line each."""

    why: str
    remedy: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MapHelper:
    """newuidmap or newgidmap: where it is, or why it cannot be used."""

    path: str = ""
    problem: Refusal | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class IdFacts:
    """What decides about maps. `uid_extents` and `gid_extents` are the lines of this process's
    own uid_map and gid_map; `capabilities` its effective set; `seccomp` whether a filter is
    in force. `subuids` and `subgids` are in the order of their files."""

    identity: Identity
    effective_uid: int
    capabilities: int
    no_new_privileges: bool
    seccomp: bool
    setgroups_allowed: bool
    uid_extents: tuple[IdMapping, ...]
    gid_extents: tuple[IdMapping, ...]
    subuids: tuple[IdRange, ...] = ()
    subgids: tuple[IdRange, ...] = ()
    subid_problems: tuple[str, ...] = ()
    newuidmap: MapHelper = field(default_factory=MapHelper)
    newgidmap: MapHelper = field(default_factory=MapHelper)

    def has(self, capability: int) -> bool:
        """Whether a capability is effective."""
        return bool(self.capabilities >> capability & 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class IdMaps:
    """The maps of a new user namespace and who may write them.

    `writer` is "direct" (by write(2) from outside), "helpers" (newuidmap and newgidmap) or
    "none" (no namespace is needed). `deny_setgroups` has to be written before the gid map.
    `why` says how this mode came to be, `rejected` why each stronger one did not.
    """

    mode: IdMode
    writer: Literal["none", "direct", "helpers"]
    uids: tuple[IdMapping, ...] = ()
    gids: tuple[IdMapping, ...] = ()
    deny_setgroups: bool = False
    why: str = ""
    rejected: tuple[str, ...] = ()

    def uid_outside(self, uid: int) -> int | None:
        """The id outside of `uid` inside, None if it has none."""
        return _outside(self.uids, uid)

    def gid_outside(self, gid: int) -> int | None:
        """The id outside of `gid` inside, None if it has none."""
        return _outside(self.gids, gid)


@dataclass(frozen=True, slots=True, kw_only=True)
class IdSession:
    """The ids this process has to work with from now on.

    `entered` says that it has moved into a user namespace, with `maps` as seen from where it
    was; without, `maps` are those it runs under. `outer` is who it was, or who is behind the
    root it was already. `in_user_namespace` holds for both ways of being in one.
    `many_ids` says that files can have other owners than one, `setgroups` that supplementary
    groups can be set, `can_mount` that namespaces and mounts can be made.
    """

    mode: IdMode
    entered: bool
    in_user_namespace: bool
    maps: IdMaps
    outer: Identity
    setgroups: bool
    reason: str
    can_mount: bool = True

    @property
    def many_ids(self) -> bool:
        """Whether more than one user and one group exist here."""
        return self.mode != "single"


def _outside(maps: tuple[IdMapping, ...], number: int) -> int | None:
    for line in maps:
        if line.container_id <= number < line.container_id + line.size:
            return line.host_id + number - line.container_id
    return None

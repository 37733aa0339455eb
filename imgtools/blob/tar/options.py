"""What may be asked of packing and unpacking a tree, and what they report."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, field

from imgtools.blob.tar.entry import TarLimits

OwnerMap = Callable[[int, int], tuple[int, int]]
"""(uid, gid) to (uid, gid)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PackOptions:
    """How a tree becomes a layer.

    `mtime` sets every modification time, `mtime_clamp` (SOURCE_DATE_EPOCH) lowers later ones;
    both in seconds. `subsecond` keeps fractions. `map_owner` turns (uid, gid) of the file into
    those of the layer, `uid` and `gid` then override. `numeric_only` leaves user and group
    names empty; otherwise they are this host's. `exclude` gets the path in the layer (no
    trailing slash) and leaves out what it is true for, directories with their content.
    `root_entry` adds an entry "./" for the tree's root. `xattrs` false leaves extended
    attributes out. `whiteouts` takes files with whiteout names as markers instead of refusing.
    """

    mtime: int | None = None
    mtime_clamp: int | None = None
    subsecond: bool = False
    uid: int | None = None
    gid: int | None = None
    map_owner: OwnerMap | None = None
    numeric_only: bool = True
    exclude: Callable[[str], bool] | None = None
    root_entry: bool = False
    xattrs: bool = True
    whiteouts: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PackResult:
    """What was packed: `entries` members, `size` bytes of archive, sockets left out."""

    entries: int
    size: int
    sockets: int


class Devices(enum.Enum):
    """What to do with device nodes."""

    REFUSE = "refuse"
    SKIP = "skip"
    ALLOW = "allow"


class Whiteouts(enum.Enum):
    """What a name that begins with `.wh.` means: a removal, a mistake, or an ordinary file."""

    APPLY = "apply"
    REFUSE = "refuse"
    KEEP = "keep"


class Xattrs(enum.Enum):
    """Extended attributes: not at all, where the file system and privileges allow, or always."""

    NONE = "none"
    TRY = "try"
    REQUIRE = "require"


@dataclass(frozen=True, slots=True, kw_only=True)
class UnpackOptions:
    """How an archive becomes a tree.

    `owner` sets owners as recorded (None: for the superuser only), after `map_owner` turned
    (uid, gid) of the layer into those of the file. Only attributes that `attributes.kept`
    admits are ever set.
    """

    whiteouts: Whiteouts = Whiteouts.APPLY
    devices: Devices = Devices.REFUSE
    xattrs: Xattrs = Xattrs.TRY
    owner: bool | None = None
    map_owner: OwnerMap | None = None
    limits: TarLimits = field(default_factory=TarLimits)


@dataclass(frozen=True, slots=True, kw_only=True)
class UnpackResult:
    """What was unpacked: `entries` members, `size` bytes of files; what had to be left out."""

    entries: int
    size: int
    devices_skipped: int
    xattrs_skipped: int

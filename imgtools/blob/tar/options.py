"""What may be asked of packing and unpacking a tree, and what they report."""

from __future__ import annotations

import enum
from collections.abc import Callable, Container, Mapping
from dataclasses import field
from typing import Protocol

from imgtools.blob.tar.data import CHUNK
from imgtools.blob.tar.entry import Entry, TarLimits
from imgtools.frozen import dataclass

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
    """What to do with device nodes; RECORD makes an empty file where the kernel permits none."""

    REFUSE = "refuse"
    SKIP = "skip"
    ALLOW = "allow"
    RECORD = "record"


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


class Recorder(Protocol):
    """Is told what becomes of a tree, to keep what the tree itself cannot hold.

    Paths are real ones (no link on the way), relative to the root, b"" for the root.
    """

    def made(
        self, path: bytes, entry: Entry, refused: Mapping[str, bytes], placeholder: bool
    ) -> None:
        """`entry` is at `path` now; the extended attributes `refused` could not be set, and
        `placeholder` says that an empty file stands for a device node."""

    def linked(self, path: bytes, target: bytes) -> None:
        """`path` is another name of the file `target` now."""

    def removed(self, path: bytes) -> None:
        """`path` and all below it are gone."""

    def cleared(self, path: bytes, keep: Container[bytes]) -> None:
        """All below the directory `path` is gone, but for paths in `keep`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnpackOptions:
    """How an archive becomes a tree.

    `owner` sets owners as recorded (None: for the superuser only), after `map_owner` turned
    (uid, gid) of the layer into those of the file. Only attributes that `attributes.kept`
    admits are ever set. `recorder` is told what happens; for anybody but the superuser files
    then stay readable and writable by their owner, whatever their mode.

    `layered` makes the result depend on the archive and the tree alone, and the same as when
    the archive is unpacked by itself and put on top by an overlay mount: a directory that an
    entry lies in and that the archive does not make takes the place of a link or file of the
    tree, directories without an entry keep their times (those made for one get the epoch), and
    the character device 0:0, which is a whiteout to an overlay mount, removes like one.

    `chunk` is how many bytes are asked of the archive at a time.
    """

    whiteouts: Whiteouts = Whiteouts.APPLY
    devices: Devices = Devices.REFUSE
    xattrs: Xattrs = Xattrs.TRY
    owner: bool | None = None
    map_owner: OwnerMap | None = None
    recorder: Recorder | None = None
    layered: bool = False
    limits: TarLimits = field(default_factory=TarLimits)
    chunk: int = CHUNK


@dataclass(frozen=True, slots=True, kw_only=True)
class UnpackResult:
    """What was unpacked: `entries` members, `size` bytes of files; what had to be left out."""

    entries: int
    size: int
    devices_skipped: int
    xattrs_skipped: int

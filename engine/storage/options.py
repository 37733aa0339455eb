"""What storage is asked for and what it answers, as frozen data.

Paths are text with surrogateescape, as everywhere in Python; `bytes` only where a path is
inside an image.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import field

from imgtools.blob.tar import TarLimits
from imgtools.frozen import dataclass
from imgtools.spec.digest import Digest


class Ownership(enum.Enum):
    """Who owns the files of a tree on disk.

    REAL: who the layer says, as far as this user namespace maps ids. RECORDED: this process,
    and what the layer says is kept in a table beside the tree (a single id, no chown).
    """

    REAL = "real"
    RECORDED = "recorded"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreLocation:
    """A store: `root` is containers/storage's graph root, `runroot` what a reboot may empty.

    `driver` is "overlay", "flat", or "" for the best that works on the file system of `root`.
    `ownership` None is REAL for whom a range of ids is mapped, else RECORDED.
    `ignore_chown_errors` gives files of ids that are not mapped to root instead of refusing
    the layer.
    """

    root: str
    runroot: str
    driver: str = ""
    ownership: Ownership | None = None
    ignore_chown_errors: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplyOptions:
    """How layers are unpacked."""

    limits: TarLimits = field(default_factory=TarLimits)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """A layer on disk, unpacked on top of those below it.

    `chain_id` names it, `diff_id` is the digest of its uncompressed tar and `parent` the
    chain_id below (None for the first). `stack` are the chain_ids, its own first, whose
    directories make up the tree. `size` is the bytes of its own files, `entries` the members
    of its tar. `path` is its directory in the store.
    """

    chain_id: Digest
    diff_id: Digest
    parent: Digest | None
    stack: tuple[Digest, ...]
    size: int
    entries: int
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RootMount:
    """How the root file system of a snapshot comes to be.

    Either `path` is a directory to bind, or (path "") an overlay of `lower`, the topmost
    first, with `upper` and `work` ("" for one that cannot be written). Every directory may
    have any character in its name: hand them to fsconfig one by one. `userxattr` is the
    overlay option of that name, needed in a user namespace; `volatile` says that nobody
    wants its fsync.
    """

    path: str = ""
    lower: tuple[str, ...] = ()
    upper: str = ""
    work: str = ""
    userxattr: bool = False
    volatile: bool = False
    read_only: bool = False

    @property
    def options(self) -> tuple[tuple[str, str], ...]:
        """Further options of the overlay file system as (key, value), "" for a flag.

        What a distribution may have on by default and what diffs cannot read is turned off
        (with `userxattr` the kernel takes no other word than "nofollow" for that).
        """
        found = [("index", "off"), ("metacopy", "off"), ("redirect_dir", "nofollow")]
        if self.userxattr:
            found.append(("userxattr", ""))
        if self.volatile and self.upper:
            found.append(("volatile", ""))
        return tuple(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A tree to run in, made from the layer `chain_id` (None: from nothing).

    `path` is its directory in the store; `prepared_ns` the file system's time, in nanoseconds
    since the epoch, when all of its files were there, and `began_ns` when the first was.
    """

    id: str
    chain_id: Digest | None
    stack: tuple[Digest, ...]
    read_only: bool
    volatile: bool
    path: str
    began_ns: int = 0
    prepared_ns: int = 0


AS_ON_DISK = -1
"""Mode of an `Owner` whose file has the mode it should have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """What could not be put on a file: its owner, mode, (major, minor) and attributes.

    `mode` is the whole st_mode, type included (an empty file may stand for a device node), or
    AS_ON_DISK.
    """

    uid: int
    gid: int
    mode: int = AS_ON_DISK
    rdev: tuple[int, int] = (0, 0)
    xattrs: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Emulated:
    """What an emulation of root noted while a snapshot ran: owners by inode number.

    `device` is the st_dev that the snapshot's root had inside, `by_inode` has the keys
    (st_dev, st_ino); those of other devices (volumes, tmpfs) are passed over.
    """

    device: int
    by_inode: Mapping[tuple[int, int], Owner]


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffOptions:
    """How changes become a layer.

    `mtime` sets every modification time, `mtime_clamp` (SOURCE_DATE_EPOCH) lowers later
    ones, in seconds; `subsecond` keeps fractions. `exclude` gets the path of a change (no
    leading or trailing slash) and leaves out what it is true for, with everything below.
    """

    mtime: int | None = None
    mtime_clamp: int | None = None
    subsecond: bool = False
    exclude: Callable[[str], bool] | None = None
    emulated: Emulated | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffResult:
    """What was written: digest and size in bytes of the tar, its members (none at all means
    that nothing changed), and how many sockets were left out."""

    diff_id: Digest
    size: int
    entries: int
    sockets: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverChoice:
    """Which driver a store uses, and why, in words for people."""

    name: str
    userxattr: bool
    ownership: Ownership
    reason: str

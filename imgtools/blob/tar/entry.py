"""What one member of a tar archive is, once every header format has been read.

`Entry` is the only form in which the rest of the program sees a member; `TarLimits` says how
much of a hostile archive we agree to read. POSIX.1-2024 pax "ustar Interchange Format" and
"pax Extended Header" define the fields.
"""

from __future__ import annotations

import enum
import stat
from dataclasses import field

from imgtools.errors import UnsafePath
from imgtools.frozen import dataclass

BLOCK = 512
"""Size of a tar block in bytes; headers and data are padded to it."""


class EntryType(enum.Enum):
    """Kind of member; the value is the ustar typeflag."""

    FILE = "0"
    HARDLINK = "1"
    SYMLINK = "2"
    CHAR = "3"
    BLOCK = "4"
    DIR = "5"
    FIFO = "6"


TYPES_OF_FILES = {
    stat.S_IFREG: EntryType.FILE,
    stat.S_IFDIR: EntryType.DIR,
    stat.S_IFLNK: EntryType.SYMLINK,
    stat.S_IFCHR: EntryType.CHAR,
    stat.S_IFBLK: EntryType.BLOCK,
    stat.S_IFIFO: EntryType.FIFO,
}
"""Kinds of members by the type of a file (S_IFMT of its mode); a socket can be none."""


@dataclass(slots=True, kw_only=True)
class Entry:
    """One member. Treated as a value: nobody changes an entry that somebody else made.

    Text is UTF-8 with surrogateescape, so any byte string survives a round trip.
    `path` and `linkname` are as written in the archive (`clean_path` normalises).
    `size` is the logical length in bytes of a file and 0 for everything else;
    `stored_size` what the archive holds of it (smaller when `sparse`, the (offset, length)
    runs of real data, is not None). `mtime_ns` is nanoseconds since the epoch, possibly
    negative. `pax` has the extended header records that no other field shows.
    `header_offset` and `data_offset` count bytes from the start of the stream; they are -1
    for an entry that was not read from one.
    """

    path: str
    type: EntryType = EntryType.FILE
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    uname: str = ""
    gname: str = ""
    size: int = 0
    mtime_ns: int = 0
    linkname: str = ""
    devmajor: int = 0
    devminor: int = 0
    xattrs: dict[str, bytes] = field(default_factory=dict)
    pax: dict[str, str] = field(default_factory=dict)
    sparse: tuple[tuple[int, int], ...] | None = None
    stored_size: int = 0
    header_offset: int = -1
    data_offset: int = -1

    @property
    def mtime(self) -> int:
        """Modification time in whole seconds since the epoch, rounded down."""
        return self.mtime_ns // 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class TarLimits:
    """How much of an archive we agree to read; exceeding one raises LimitExceeded.

    `header_bytes` bounds one extended header, GNU long name or sparse map (as Go's
    archive/tar does); `headers` how many of those may precede one member; `total_bytes` the
    logical sizes of all files together and `depth` the components of a path, both when
    extracting.
    """

    entries: int = 5_000_000
    header_bytes: int = 1 << 20
    headers: int = 64
    path_bytes: int = 32_768
    xattrs: int = 1_024
    depth: int = 512
    total_bytes: int = 1 << 40


def clean_path(path: str) -> str:
    """`path` without leading "/", "." components and doubled or trailing slashes.

    The result is relative, "" for the root itself. Raises UnsafePath for a ".." component:
    resolving it lexically would be wrong behind a symbolic link.
    """
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise UnsafePath(path, 'a ".." component')
    return "/".join(parts)

"""Contexts that are archives: told from text by their first bytes, and unpacked into a scratch
directory as hostile input.

What the disk cannot hold without privileges (a mode that shuts us out, a device) is recorded
beside it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Container, Mapping
from dataclasses import field

from imgtools.blob.compression.decompress import Decompressor
from imgtools.blob.compression.formats import Compression, sniff
from imgtools.blob.reader import Readable
from imgtools.blob.tar.entry import Entry, EntryType
from imgtools.blob.tar.fields import checksum_matches, parse_number
from imgtools.blob.tar.options import Devices, UnpackOptions, Whiteouts
from imgtools.blob.tar.unpack import unpack_tree
from imgtools.build.tree import AS_ON_DISK
from imgtools.errors import InvalidArchive
from imgtools.frozen import dataclass

SNIFF_BYTES = 512
_TYPES = {
    EntryType.CHAR: stat.S_IFCHR,
    EntryType.BLOCK: stat.S_IFBLK,
    EntryType.FIFO: stat.S_IFIFO,
    EntryType.DIR: stat.S_IFDIR,
    EntryType.SYMLINK: stat.S_IFLNK,
}


class Rejoined:
    """What is left of a stream, behind the bytes that were looked at."""

    def __init__(self, seen: bytes, rest: Readable) -> None:
        self._seen = seen
        self._rest = rest

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes, b"" at the end."""
        if self._seen:
            data, self._seen = self._seen[:size], self._seen[size:]
            return data
        return self._rest.read(size)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unpacked:
    """What an archive says of a file and the disk does not."""

    mode: int = AS_ON_DISK
    uid: int = 0
    gid: int = 0
    rdev: tuple[int, int] = (0, 0)
    xattrs: Mapping[str, bytes] = field(default_factory=dict)


class UnpackRecords:
    """Records, by path, of what was unpacked without the privilege to make it as it is."""

    def __init__(self) -> None:
        self._found: dict[bytes, Unpacked] = {}
        self._superuser = os.geteuid() == 0
        self.newest = 0
        """The latest time of a regular file, in nanoseconds since the epoch."""

    def get(self, path: bytes) -> Unpacked | None:
        """See Records."""
        return self._found.get(path)

    def made(
        self, path: bytes, entry: Entry, refused: Mapping[str, bytes], placeholder: bool
    ) -> None:
        """See Recorder."""
        self._found.pop(path, None)
        if entry.type is EntryType.FILE:
            self.newest = max(self.newest, entry.mtime_ns)
        needed = 0o700 if entry.type is EntryType.DIR else 0o600
        shut = not self._superuser and entry.mode & needed != needed
        if not (shut or refused or placeholder):
            return
        mode = _TYPES.get(entry.type, stat.S_IFREG) | entry.mode
        self._found[path] = Unpacked(
            mode=mode, rdev=(entry.devmajor, entry.devminor), xattrs=dict(refused)
        )

    def linked(self, path: bytes, target: bytes) -> None:
        """See Recorder."""
        known = self._found.get(target)
        self._found.pop(path, None)
        if known is not None:
            self._found[path] = known

    def removed(self, path: bytes) -> None:
        """See Recorder."""
        self.cleared(path, ())
        self._found.pop(path, None)

    def cleared(self, path: bytes, keep: Container[bytes]) -> None:
        """See Recorder."""
        below = path + b"/" if path else b""
        for known in [known for known in self._found if known.startswith(below)]:
            if known not in keep:
                del self._found[known]


def read_start(source: Readable) -> bytes:
    """The first SNIFF_BYTES of a stream, fewer only at its end."""
    parts, left = [], SNIFF_BYTES
    while left and (data := source.read(left)):
        parts.append(data)
        left -= len(data)
    return b"".join(parts)


def is_archive(start: bytes) -> bool:
    """Whether a stream that begins with `start` (SNIFF_BYTES of it) is compressed or a tar."""
    return sniff(start) is not Compression.NONE or is_tar(start)


def is_tar(block: bytes) -> bool:
    """Whether the first 512 bytes are a tar header, or the end of an empty archive."""
    if len(block) < SNIFF_BYTES:
        return False
    block = block[:SNIFF_BYTES]
    if not block.strip(b"\0"):
        return True
    try:
        return checksum_matches(block, parse_number(block[148:156]))
    except InvalidArchive:
        return False


def unpack_context(source: Readable, directory: str, name: str) -> UnpackRecords:
    """Unpack a tar, compressed or not, into the empty `directory`; owners are left out, for
    nothing of a context keeps its owner.

    Raises InvalidArchive, UnsafePath, LimitExceeded, StorageError, each with `name`.
    """
    records = UnpackRecords()
    options = UnpackOptions(
        whiteouts=Whiteouts.KEEP, devices=Devices.RECORD, owner=False, recorder=records
    )
    plain = Decompressor(source)
    try:
        unpack_tree(plain, directory, options)
    except InvalidArchive as e:
        raise e.with_context(f"context {name}") from e
    finally:
        plain.close()
    return records

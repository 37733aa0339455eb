"""An archive that ADD unpacks, as members placed on the tree below: hostile ones included.

Names are cleaned as text, then resolved with the destination as their root, as in a chroot:
no link, of the archive or of the tree below, leads out of it. Later members replace earlier
ones. Nothing is extracted; the data of what is left in the end goes straight into the layer.
"""

from __future__ import annotations

import os
from dataclasses import replace

from imgtools.blob.compression import Compression, Decompressor, sniff
from imgtools.blob.compression.formats import SNIFF_BYTES
from imgtools.blob.tar import Entry, EntryType, TarLimits, TarReader, attributes
from imgtools.build.copying.layout import BELOW, Layout, child_of
from imgtools.build.copying.model import Member
from imgtools.build.copying.sniffing import DescriptorReader
from imgtools.errors import InvalidArchive, LimitExceeded, UnsafePath
from imgtools.task import Task

LIMITS = TarLimits(entries=2_000_000)
CHECK_EVERY = 512


def open_archive(fd: int, name: str) -> TarReader:
    """A reader of the archive, compressed or not, that the descriptor `fd` reads from its start.

    What nobody asks for is read past only where the archive is compressed.
    """
    source = DescriptorReader(fd, name)
    if sniff(os.pread(fd, SNIFF_BYTES, 0)) is Compression.NONE:
        return TarReader(source, limits=LIMITS, seek=lambda at: os.lseek(fd, at, os.SEEK_SET))
    return TarReader(Decompressor(source, limit=LIMITS.total_bytes), limits=LIMITS)


class Unpacking:
    """Places the members of one archive below the real directory `root` of `layout`."""

    def __init__(
        self, layout: Layout, root: bytes, like: Member, source: int, owner: tuple[int, int] | None
    ) -> None:
        """`like` is what directories are made as that the archive has no member for."""
        self._layout = layout
        self._root = root
        self._like = like
        self._source = source
        self._owner = owner
        self._parents: dict[tuple[bytes, ...], bytes] = {}
        self._size = 0

    def run(self, reader: TarReader, *, task: Task) -> None:
        """Place all members. Raises InvalidArchive (also for a hard link to nothing),
        UnsafePath, LimitExceeded, InvalidInput (a whiteout's name), Cancelled."""
        index = 0
        while (entry := reader.next()) is not None:
            if not index % CHECK_EVERY:
                task.cancel.check()
            self._size += entry.size
            if self._size > LIMITS.total_bytes:
                raise LimitExceeded("content of an archive", LIMITS.total_bytes)
            self._one(entry, index)
            index += 1
        reader.drain(limit=LIMITS.total_bytes)

    def _one(self, entry: Entry, index: int) -> None:
        parts = _cleaned(entry.path, entry.path)
        if not parts:
            # The destination itself, which stays what it is; docker, too, takes it of any type.
            return
        path = child_of(self._directory(parts[:-1]), parts[-1])
        if entry.type is EntryType.HARDLINK:
            self._link(entry, path)
            return
        uid, gid = self._owner or (entry.uid, entry.gid)
        if uid < 0 or gid < 0:
            raise InvalidArchive(f"{entry.path!r} has an impossible owner {uid}:{gid}")
        xattrs = {k: v for k, v in entry.xattrs.items() if attributes.kept(k)}
        member = Member(
            path=b"",
            type=entry.type,
            mode=entry.mode & 0o7777,
            uid=uid,
            gid=gid,
            size=entry.size,
            mtime_ns=entry.mtime_ns,
            linkname=_raw(entry.linkname),
            device=(entry.devmajor, entry.devminor),
            index=index,
        )
        if xattrs:
            member.xattrs = xattrs
        if entry.type is EntryType.SYMLINK and not member.linkname:
            raise InvalidArchive(f"symbolic link {entry.path!r} has no target")
        self._put(path, member, self._source)

    def _put(self, path: bytes, member: Member, source: int) -> None:
        before = self._layout.removals
        self._layout.put(path, member, source, replace=True)
        if self._layout.removals != before:
            self._parents.clear()

    def _directory(self, parts: list[bytes]) -> bytes:
        """The real directory of a member, made if it is missing."""
        key = tuple(parts)
        known = self._parents.get(key)
        if known is None:
            if len(parts) > LIMITS.depth:
                raise LimitExceeded("depth of a path", LIMITS.depth, unit="components")
            known = self._layout.resolve(parts, self._root)
            self._layout.make_directory(known, self._like)
            self._parents[key] = known
        return known

    def _link(self, entry: Entry, path: bytes) -> None:
        """Another name of what is there already, in the archive or below the destination."""
        parts = _cleaned(entry.linkname, entry.path)
        if not parts:
            raise _bad_link(entry)
        parent = self._layout.resolve(parts[:-1], self._root)
        target = child_of(parent, parts[-1])
        member = self._layout.look(target)
        if member is not None and target == path:
            return
        if member is None or member.type is EntryType.DIR or target.startswith(path + b"/"):
            raise _bad_link(entry)
        placed = self._layout.placed.get(target)
        if placed is not None:
            self._put(path, placed.member, placed.source)
        else:
            self._put(path, replace(member, path=target), BELOW)


def _cleaned(path: str, shown: str) -> list[bytes]:
    """Components of a member's name or target. Raises UnsafePath for one that leaves the root."""
    parts: list[bytes] = []
    for part in _raw(path).split(b"/"):
        if part == b"..":
            if not parts:
                raise UnsafePath(shown, "it leads out of the archive")
            parts.pop()
        elif part not in (b"", b"."):
            parts.append(part)
    return parts


def _raw(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _bad_link(entry: Entry) -> InvalidArchive:
    return InvalidArchive(
        f"hard link {entry.path!r} to {entry.linkname!r}: no such file in the archive"
    )

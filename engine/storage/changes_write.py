"""The changes of a snapshot as the tar of a layer, the same bytes for the same changes.

Names are opened below the snapshot's directory without following anything. Whiteouts have the
epoch for a time, or the one that was asked for: no driver knows when a file went.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from typing import Protocol

from engine.storage.changes import ChangeKind, Changes
from engine.storage.changes_compare import DIR_FLAGS, FILE_FLAGS, Comparison, xattrs
from engine.storage.drivers.base import HELD
from engine.storage.options import DiffOptions, DiffResult, Owner
from imgtools.blob import whiteout
from imgtools.blob.files import storage_error
from imgtools.blob.tar import Entry, EntryType, TarWriter
from imgtools.blob.tar.entry import TYPES_OF_FILES
from imgtools.errors import Conflict, SizeMismatch
from imgtools.spec.digest import Digest, Hasher, new_hasher

ALGORITHM = "sha256"
SECOND = 1_000_000_000


class Settling(Protocol):
    """Is told what is written of a tree that is to become the layer itself."""

    def entry(
        self, path: bytes, entry: Entry, refused: Mapping[str, bytes], placeholder: bool
    ) -> None:
        """The member of `path`, which has attributes that are `refused` on the disk, and is
        perhaps a `placeholder` of a device there."""
        ...

    def mark(self, kind: ChangeKind, path: bytes) -> None:
        """A whiteout of `path`, or of all that was in it."""
        ...


def write_changes(
    comparison: Comparison,
    changes: Changes,
    upper: int,
    write: Callable[[bytes], object],
    options: DiffOptions,
    settling: Settling | None = None,
) -> DiffResult:
    """Write `changes`, whose files are in the directory `upper`, through `write`.

    With `settling` the files get the times that the layer says. Raises Conflict for files that
    change meanwhile, StorageError, and what `write` raises.
    """
    hashing = _Hashing(write, new_hasher(ALGORITHM))
    writer = TarWriter(hashing.write, subsecond=options.subsecond)
    packer = _Packer(comparison, changes.owners, writer, upper, options, settling)
    try:
        for change in changes.changes:
            packer.path = change.path
            if change.kind is ChangeKind.ENTRY:
                packer.entry(change.path)
            else:
                packer.mark(change.kind, change.path)
    except FileNotFoundError as e:
        raise _changed(packer.path) from e
    except OSError as e:
        if hashing.failed is e:
            raise
        raise storage_error(e, os.fsdecode(packer.path)) from e
    finally:
        packer.close()
    writer.finish()
    return DiffResult(
        diff_id=Digest(ALGORITHM, hashing.hasher.hexdigest()),
        size=writer.offset,
        entries=len(changes.changes),
        sockets=changes.sockets,
    )


class _Hashing:
    """Passes bytes on, and remembers an error of the receiver as not one of the tree."""

    def __init__(self, write: Callable[[bytes], object], hasher: Hasher) -> None:
        self._write = write
        self.hasher = hasher
        self.failed: OSError | None = None

    def write(self, data: bytes) -> None:
        self.hasher.update(data)
        try:
            self._write(data)
        except OSError as e:
            self.failed = e
            raise


class _Packer:
    def __init__(
        self,
        comparison: Comparison,
        owners: Mapping[bytes, Owner],
        writer: TarWriter,
        upper: int,
        options: DiffOptions,
        settling: Settling | None,
    ) -> None:
        self._settling = settling
        self._comparison = comparison
        self._owners = owners
        self._writer = writer
        self._options = options
        self._links: dict[tuple[int, int], bytes] = {}
        self._open: list[tuple[bytes, int]] = []
        self._upper = upper
        self.path = b""

    def close(self) -> None:
        """Close the directories."""
        while self._open:
            os.close(self._open.pop()[1])

    def mark(self, kind: ChangeKind, path: bytes) -> None:
        """A whiteout of `path`, or of all that was in it."""
        text = os.fsdecode(path)
        name = (
            whiteout.make_opaque(text)
            if kind is ChangeKind.OPAQUE
            else whiteout.make_whiteout(text)
        )
        time = (self._options.mtime or 0) * SECOND
        self._writer.add(Entry(path=name, mode=0, size=0, mtime_ns=time), b"")
        if self._settling is not None:
            self._settling.mark(kind, path)

    def entry(self, path: bytes) -> None:
        """What is at `path`."""
        parent, _, name = path.rpartition(b"/")
        at = self._directory(parent)
        st = os.stat(name or b".", dir_fd=at, follow_symlinks=False)
        if stat.S_ISREG(st.st_mode):
            fd = os.open(name, FILE_FLAGS, dir_fd=at)
        elif stat.S_ISDIR(st.st_mode):
            fd = self._directory(path)
        else:
            self._add(path, st, at, name, None)
            return
        try:
            if not os.path.samestat(os.fstat(fd), st):
                raise _changed(path)
            self._add(path, st, at, name, fd)
        finally:
            if stat.S_ISREG(st.st_mode):
                os.close(fd)

    def _add(self, path: bytes, st: os.stat_result, at: int, name: bytes, fd: int | None) -> None:
        now = self._comparison.identity(st, self._owners.get(path))
        kind = TYPES_OF_FILES[stat.S_IFMT(now.mode)]
        entry = Entry(
            path=os.fsdecode(path) or "./",
            type=kind,
            mode=stat.S_IMODE(now.mode),
            uid=now.uid,
            gid=now.gid,
            size=st.st_size if kind is EntryType.FILE else 0,
            mtime_ns=self._time(st),
        )
        data = None
        first = self._first(path, st)
        if first is not None:
            entry.type, entry.size, entry.linkname = EntryType.HARDLINK, 0, os.fsdecode(first)
        else:
            if fd is not None:
                found = {**xattrs(fd), **now.xattrs}
                entry.xattrs = {key: found[key] for key in sorted(found)}
            if kind is EntryType.SYMLINK:
                entry.linkname = os.fsdecode(os.readlink(name, dir_fd=at))
            elif kind is EntryType.FILE and fd is not None:
                data = _Descriptor(fd)
            else:
                entry.devmajor, entry.devminor = now.rdev
        try:
            self._writer.add(entry, data)
        except SizeMismatch as e:
            raise _changed(path) from e
        if self._settling is not None:
            time = entry.mtime_ns if self._options.subsecond else entry.mtime * SECOND
            os.utime(name or b".", ns=(time, time), dir_fd=at, follow_symlinks=False)
            placeholder = kind is not EntryType.FILE and stat.S_ISREG(st.st_mode)
            refused = now.xattrs if fd is not None else {}
            self._settling.entry(path, entry, refused, placeholder)

    def _first(self, path: bytes, st: os.stat_result) -> bytes | None:
        """The name that a file of several names was written under; None for the first."""
        if st.st_nlink < 2 or stat.S_ISDIR(st.st_mode):
            return None
        first = self._links.setdefault((st.st_dev, st.st_ino), path)
        return None if first is path else first

    def _time(self, st: os.stat_result) -> int:
        options = self._options
        if options.mtime is not None:
            return options.mtime * SECOND
        if options.mtime_clamp is not None:
            return min(st.st_mtime_ns, options.mtime_clamp * SECOND)
        return st.st_mtime_ns

    def _directory(self, path: bytes) -> int:
        """The descriptor of a directory; of those on the way to it the deepest are open, and
        no others. Without any the way is gone again from the top."""
        while self._open and not (path + b"/").startswith(self._open[-1][0] + b"/"):
            os.close(self._open.pop()[1])
        known, fd = self._open[-1] if self._open else (b"", self._upper)
        rest = path[len(known) :].strip(b"/")
        for part in rest.split(b"/") if rest else ():
            known = known + b"/" + part if known else part
            fd = os.open(part, DIR_FLAGS, dir_fd=fd)
            self._open.append((known, fd))
            if len(self._open) > HELD:
                os.close(self._open.pop(0)[1])
        return fd


class _Descriptor:
    """A file descriptor to read from; someone else closes it."""

    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def read(self, n: int, /) -> bytes:
        return os.read(self._fd, n)


def _changed(path: bytes) -> Conflict:
    return Conflict(
        f"{os.fsdecode(path)!r} changed while it was packed",
        hint="nothing may run in a snapshot whose changes are taken",
    )

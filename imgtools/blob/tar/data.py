"""The content of one member of an archive: read in order, or written to a file.

Knows streams and holes; where the bytes come from is the reader's business.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Protocol

from imgtools.blob.tar.entry import Entry

if TYPE_CHECKING:
    from imgtools.blob.tar.reader import TarReader

CHUNK = 256 * 1024


class Readable(Protocol):
    """What a reader needs: `read(n)` gives at most n bytes, b"" only at the end."""

    def read(self, n: int, /) -> bytes: ...


class EntryData:
    """The data of one member, read once and in order; holes of a sparse file are zeros."""

    __slots__ = ("_at", "_entry", "_reader", "_runs", "_serial")

    def __init__(self, reader: TarReader, entry: Entry) -> None:
        self._reader = reader
        self._entry = entry
        self._serial = reader.count
        self._at = 0
        self._runs = list(entry.sparse) if entry.sparse is not None else None
        if self._runs is not None:
            self._runs.reverse()

    def read(self, n: int = -1, /) -> bytes:
        """At most `n` bytes, all that is left for n < 0, b"" at the end.

        Raises InvalidArchive if the archive is cut; ValueError once the reader has moved on.
        """
        reader = self._reader
        if reader.count != self._serial:
            raise ValueError("the reader has moved on to another entry")
        if n < 0:
            parts = []
            while data := self.read(CHUNK):
                parts.append(data)
            return b"".join(parts)
        if self._runs is None:
            return reader.read_stored(n)
        return self._read_sparse(self._runs, n)

    def _read_sparse(self, runs: list[tuple[int, int]], n: int) -> bytes:
        while runs and self._at >= sum(runs[-1]):
            runs.pop()
        start, end = (runs[-1][0], sum(runs[-1])) if runs else (self._entry.size,) * 2
        if self._at < start:
            data = bytes(min(n, start - self._at, CHUNK))
        else:
            data = self._reader.read_stored(min(n, end - self._at))
        self._at += len(data)
        return data


def write_rest(fd: int, reader: TarReader, first: bytes | memoryview) -> None:
    """Write the file `fd`, of which as much of `first` is written as its offset says."""
    view = memoryview(first)[os.lseek(fd, 0, os.SEEK_CUR) :]
    while True:
        while view:
            view = view[os.write(fd, view) :]
        view = memoryview(reader.view_stored(CHUNK))
        if not view:
            return


def write_sparse(fd: int, reader: TarReader, entry: Entry) -> None:
    """Write the runs of data of the sparse file `entry`, of which nothing was read yet."""
    for offset, length in entry.sparse or ():
        os.lseek(fd, offset, os.SEEK_SET)
        while length:
            view = memoryview(reader.read_stored(min(length, CHUNK)))
            length -= len(view)
            while view:
                view = view[os.write(fd, view) :]
    os.ftruncate(fd, entry.size)

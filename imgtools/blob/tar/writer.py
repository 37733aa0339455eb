"""Deterministic writer of tar archives.

`TarWriter` turns entries and data into the same bytes every time: ustar or pax headers,
whole 512-byte blocks, two zero blocks at the end and no further padding, as Go's archive/tar.
"""

from __future__ import annotations

from collections.abc import Callable

from imgtools.blob.tar import header
from imgtools.blob.tar.data import Readable
from imgtools.blob.tar.entry import BLOCK, Entry, EntryType
from imgtools.errors import SizeMismatch

BUFFER = 256 * 1024
END = bytes(2 * BLOCK)


class TarWriter:
    """Writes an archive through `write`, which is given about 256 KiB at a time."""

    def __init__(self, write: Callable[[bytes], object], *, subsecond: bool = False) -> None:
        """`subsecond` keeps the fractions of modification times."""
        self._write = write
        self._subsecond = subsecond
        self._parts: list[bytes] = []
        self._buffered = 0
        self._offset = 0

    @property
    def offset(self) -> int:
        """Bytes of the archive produced so far, buffered ones included."""
        return self._offset

    def add(self, entry: Entry, data: bytes | Readable | None = None) -> int:
        """Append `entry` and, for a file, exactly `entry.size` bytes of `data`.

        `data` is bytes or an object to read from; None means no data. Returns the offset of
        the data in the archive. Raises InvalidArchive for an entry no tar can hold and
        SizeMismatch when `data` is not as long as announced; the archive is useless then.
        """
        size = entry.size if entry.type is EntryType.FILE else 0
        self._append(header.encode(entry, subsecond=self._subsecond))
        at = self._offset
        if isinstance(data, bytes):
            if len(data) != size:
                raise SizeMismatch(entry.path, expected=size, actual=len(data))
            self._append(data)
        else:
            self._copy(entry, data, size)
        if size % BLOCK:
            self._append(bytes(-size % BLOCK))
        return at

    def _copy(self, entry: Entry, data: Readable | None, size: int) -> None:
        done = 0
        while data is not None and (chunk := data.read(min(BUFFER, size - done + 1))):
            done += len(chunk)
            if done > size:
                break
            self._append(chunk)
        if done != size:
            raise SizeMismatch(entry.path, expected=size, actual=done)

    def _append(self, chunk: bytes) -> None:
        self._parts.append(chunk)
        self._offset += len(chunk)
        self._buffered += len(chunk)
        if self._buffered >= BUFFER:
            self.flush()

    def add_encoded(self, parts: list[bytes], size: int) -> None:
        """Append `parts`, `size` bytes of members already encoded, as they are."""
        self._parts += parts
        self._offset += size
        self._buffered += size
        if self._buffered >= BUFFER:
            self.flush()

    def flush(self) -> None:
        """Hand what is buffered to `write`."""
        if self._parts:
            self._write(b"".join(self._parts))
            self._parts.clear()
            self._buffered = 0

    def finish(self) -> None:
        """Write the end of the archive. Closes nothing."""
        self._append(END)
        self.flush()

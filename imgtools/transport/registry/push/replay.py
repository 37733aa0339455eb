"""A blob as request bodies that can be sent again from any byte.

One reader runs through the blob, and the last bytes it gave are kept, so that going back a
little, or sending the first bytes again with a new token, does not read the source anew and
the reader still verifies the whole. Going back further opens the source again and leaves
out what the registry has, which verifies the whole blob itself when the upload is closed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator

from imgtools.blob.reader import CHUNK, BlobReader
from imgtools.errors import DigestMismatch, SizeMismatch
from imgtools.spec.descriptor import Descriptor
from imgtools.task import Advanced, Task
from imgtools.transport.base import BlobOpener
from imgtools.transport.registry.wire.exchange import Body, ExchangeFailed

KEPT = 2 * 1024 * 1024
"""Bytes kept behind the reader: about what is under way when a connection is cut."""


class Replay:
    """Gives the bytes of one blob, from wherever they are needed; for one thread at a time."""

    def __init__(self, descriptor: Descriptor, open_blob: BlobOpener, task: Task) -> None:
        """Nothing is opened before the first byte is asked for."""
        self._size = descriptor.size
        self._item = str(descriptor.digest)
        self._open_blob = open_blob
        self._task = task
        self._reader: BlobReader | None = None
        self._kept: deque[bytes] = deque()
        self._kept_size = 0
        self._reported = 0
        self._found: int | None = None
        self.position = 0
        """The end of what was given out last, in bytes from the start of the blob."""

    def body(self, start: int, length: int) -> Body:
        """A request body of the `length` bytes from `start` on."""
        return Body(length, lambda: self.pieces(start, length))

    def pieces(self, start: int, length: int) -> Generator[bytes, None, None]:
        """The `length` bytes from `start` on, fewer where a blob of unknown size ends.

        Reports Advanced events, negative ones for what is given again; at the end of the blob
        it is verified. Raises what reading the blob raises, and Cancelled.
        """
        self.report(start)
        self._move(start)
        end = start + length
        while self.position < end:
            self._task.cancel.check()
            data = self._next(end - self.position)
            if not data:
                return
            if self.position + len(data) == self._size:
                # Before the last bytes leave us, so that a wrong blob never goes out whole.
                self._verify(self._size)
            yield data
            self.position += len(data)
            self.report(self.position)

    def report(self, position: int) -> None:
        """Say in events that as many bytes of the blob are done.

        What is done before anything was given out is of an earlier run, until we have to
        begin before its end.
        """
        found = position if self._found is None else min(self._found, position)
        kept, self._found = found - (self._found or 0), found
        change, self._reported = position - self._reported - kept, position
        if kept:
            self._task.progress(Advanced(self._item, kept, kept=True))
        if change:
            self._task.progress(Advanced(self._item, change))

    def finish(self) -> None:
        """Read the end of the blob, where it is verified; raises what the reader raises."""
        self._verify(self.position)

    def _verify(self, position: int) -> None:
        reader = self._reader
        if reader is not None and reader.position == position:
            self._read(reader, 1)

    def close(self) -> None:
        """Release the source; safe to call twice."""
        reader, self._reader = self._reader, None
        self._kept.clear()
        self._kept_size = 0
        if reader is not None:
            reader.abandon()
            reader.close()

    def _open(self) -> BlobReader:
        try:
            reader = self._reader = self._open_blob()
        except ExchangeFailed as e:
            e.final = True
            raise
        if reader.size is not None and reader.size != self._size >= 0:
            raise SizeMismatch(f"blob {self._item}", expected=self._size, actual=reader.size)
        return reader

    def _move(self, start: int) -> None:
        """Make the next piece begin at `start`."""
        reader = self._reader
        if reader is None or start < reader.position - self._kept_size:
            self.close()
            reader = self._open()
        if start > reader.position:
            self._kept.clear()
            self._kept_size = 0
            try:
                reader.skip(start - reader.position)
            except ExchangeFailed as e:
                e.final = True
                raise
        self.position = start

    def _next(self, most: int) -> bytes:
        """At most `most` bytes at our position: kept ones, or the reader's next."""
        reader = self._reader
        assert reader is not None, "moving opens it"
        at = reader.position - self._kept_size
        for data in self._kept if self.position < reader.position else ():
            if self.position < at + len(data):
                return data[self.position - at : self.position - at + most]
            at += len(data)
        data = self._read(reader, min(most, CHUNK))
        self._kept.append(data)
        self._kept_size += len(data)
        while self._kept_size > KEPT:
            self._kept_size -= len(self._kept.popleft())
        return data

    @staticmethod
    def _read(reader: BlobReader, size: int) -> bytes:
        try:
            return reader.read(size)
        except ExchangeFailed as e:
            # The source has had its own retries; ours are for the destination.
            e.final = True
            raise
        except (DigestMismatch, SizeMismatch) as e:
            e.again = e.again or reader.pieced
            raise

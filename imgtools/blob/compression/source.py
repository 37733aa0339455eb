"""The input side of every decoder: a reader that can be peeked, pushed back and skipped.

Decoders take what they need in pieces of any size while the underlying reader is asked
for large chunks only. This file knows nothing of any format.
"""

from __future__ import annotations

from typing import Protocol

from imgtools.errors import InvalidArchive

CHUNK = 256 * 1024


class Reader(Protocol):
    """Anything with a blocking read: at most `n` bytes, empty only at the end."""

    def read(self, n: int, /) -> bytes: ...


class ByteSource:
    """A `Reader` with a look-ahead buffer of about one chunk."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._buffer = b""
        self._at = 0

    def chunk(self) -> bytes:
        """The next bytes, however many are at hand; empty at the end."""
        if self._at < len(self._buffer):
            data = self._buffer[self._at :]
            self._buffer, self._at = b"", 0
            return data
        return bytes(self._reader.read(CHUNK))

    def push_back(self, data: bytes) -> None:
        """Put bytes taken too far in front of what is left."""
        if data:
            self._buffer, self._at = data + self._buffer[self._at :], 0

    def up_to(self, n: int) -> bytes:
        """`n` bytes, or fewer when the input ends before."""
        self._want(n)
        data = self._buffer[self._at : self._at + n]
        self._at += len(data)
        return data

    def _want(self, n: int) -> None:
        while len(self._buffer) - self._at < n:
            more = self._reader.read(CHUNK)
            if not more:
                break
            self._buffer, self._at = self._buffer[self._at :] + more, 0

    def peek(self, n: int) -> bytes:
        """What `up_to` would return, left in place."""
        self._want(n)
        return self._buffer[self._at : self._at + n]

    def exactly(self, n: int, what: str) -> bytes:
        """`n` bytes; raises InvalidArchive naming `what` when the input ends before."""
        data = self.up_to(n)
        if len(data) < n:
            raise InvalidArchive(f"{what}: unexpected end of data")
        return data

    def skip(self, n: int, what: str) -> None:
        """Drop `n` bytes; raises InvalidArchive when the input ends before."""
        while n > 0:
            data = self.chunk()
            if not data:
                raise InvalidArchive(f"{what}: unexpected end of data")
            if len(data) > n:
                self.push_back(data[n:])
            n -= len(data)

    def skip_zeros(self) -> int:
        """Drop zero bytes up to the first other byte or the end; returns how many."""
        count = 0
        while data := self.chunk():
            rest = data.lstrip(b"\0")
            count += len(data) - len(rest)
            if rest:
                self.push_back(rest)
                break
        return count

"""Blobs read in the middle: a piece as a stream, a whole blob as a file that can seek.

Nothing read here is verified by the blob's digest; whoever reads verifies by other means or
says that it is unverified.
"""

from __future__ import annotations

from imgtools.errors import BlobNotFound, SizeMismatch, Unsupported
from imgtools.spec.descriptor import Descriptor
from imgtools.transport.base import Source

PIECE = 1024 * 1024
"""Bytes asked for at once: each request may cost a round trip."""


def read_exactly(source: Source, blob: Descriptor, offset: int, length: int) -> bytes | None:
    """`length` bytes of `blob` at `offset`, None when `source` cannot read in the middle.

    Raises SizeMismatch when the blob ends before, and whatever the source raises.
    """
    data = source.read_range(blob, offset, length)
    if data is not None and len(data) != length:
        raise SizeMismatch(
            f"blob {blob.digest} at offset {offset}", expected=length, actual=len(data)
        )
    return data


def can_read_ranges(source: Source, blob: Descriptor) -> bytes | None:
    """The first bytes of `blob` (at most 512), or None when it cannot be read in the middle."""
    try:
        return source.read_range(blob, 0, min(512, max(blob.size, 0)))
    except BlobNotFound:
        return None


class RangeStream:
    """Bytes `start` to `end` of a blob as a stream; also a file that can `seek` to any offset.

    `read(n)` gives at most n bytes, b"" at the end.
    """

    def __init__(
        self, source: Source, blob: Descriptor, start: int, end: int, *, piece: int = PIECE
    ) -> None:
        self._source = source
        self._blob = blob
        self._at = start
        self._end = end
        self._piece = piece
        self._buffer = b""
        self._from = start

    def read(self, n: int, /) -> bytes:
        """The next bytes; raises what the source raises, and Unsupported."""
        if n <= 0 or self._at >= self._end:
            return b""
        offset = self._at - self._from
        if not 0 <= offset < len(self._buffer):
            length = min(max(self._piece, 1), self._end - self._at)
            data = read_exactly(self._source, self._blob, self._at, length)
            if data is None:
                raise Unsupported(f"blob {self._blob.digest} cannot be read in the middle")
            self._buffer, self._from, offset = data, self._at, 0
        data = self._buffer[offset : offset + n]
        self._at += len(data)
        return data

    def seek(self, offset: int, /) -> int:
        """Go on at `offset` bytes from the start of the blob."""
        self._at = offset
        return offset

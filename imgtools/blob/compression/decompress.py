"""`Decompressor`: a compressed stream read as the bytes inside it.

It holds a few chunks whatever the size of the blob, and turns every fault of hostile
input into an error of the tree: malformed, cut, too large, or needing too much memory.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import TYPE_CHECKING

from imgtools.blob.compression.formats import SNIFF_BYTES, Compression, sniff
from imgtools.blob.compression.source import CHUNK, ByteSource, Reader
from imgtools.errors import Error, InvalidArchive, LimitExceeded

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

# What `zstd --ultra -22` writes; more is for --long only, and no layer needs it.
DEFAULT_MAX_WINDOW = 128 * 1024 * 1024


class Decompressor(io.RawIOBase):
    """A readable file object over `reader`; closing it leaves `reader` open.

    `compression` is what the bytes are, or None to recognise it by magic number (the
    answer is then in the attribute `compression`; unknown data passes unchanged).
    `limit` bounds the decompressed bytes and `max_window` the memory a zstd window or xz
    dictionary may take, in bytes: beyond either, reading raises LimitExceeded. `chunk` is
    the largest piece decoded at once. Malformed or cut data raises InvalidArchive; once
    an error was raised every further read raises it again, so it cannot pass for the end.
    """

    def __init__(
        self,
        reader: Reader,
        compression: Compression | None = None,
        *,
        limit: int | None = None,
        max_window: int = DEFAULT_MAX_WINDOW,
        chunk: int = CHUNK,
    ) -> None:
        super().__init__()
        source = ByteSource(reader)
        self.compression = sniff(source.peek(SNIFF_BYTES)) if compression is None else compression
        self._limit = limit
        self._pieces = _decode(source, self.compression, chunk, max_window)
        self._piece = memoryview(b"")
        self._total = 0
        self._failure: Error | None = None

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        """How many decompressed bytes were read so far."""
        return self._total - len(self._piece)

    def read1(self, n: int = -1, /) -> bytes:
        """At least one and at most `n` bytes without copying pieces together; empty at the end."""
        if not self._fill() or n == 0:
            return b""
        if n < 0:
            n = len(self._piece)
        data = bytes(self._piece[:n])
        self._piece = self._piece[n:]
        return data

    def read(self, n: int | None = -1, /) -> bytes:
        """Exactly `n` bytes, fewer only at the end; everything when `n` is negative or None."""
        want = -1 if n is None else n
        parts: list[bytes] = []
        while want != 0:
            data = self.read1(want)
            if not data:
                break
            parts.append(data)
            if want > 0:
                want -= len(data)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def readall(self) -> bytes:
        return self.read(-1)

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fill `buffer` with the next bytes; fewer than its size only at the end."""
        view = memoryview(buffer).cast("B")
        done = 0
        while done < len(view) and self._fill():
            n = min(len(self._piece), len(view) - done)
            view[done : done + n] = self._piece[:n]
            self._piece = self._piece[n:]
            done += n
        return done

    def _fill(self) -> bool:
        """Whether there is something to read, decoding the next piece if need be."""
        if self._failure is not None:
            raise self._failure
        if self.closed:
            raise InvalidArchive("read of a closed decompressor")
        while not self._piece:
            try:
                piece = next(self._pieces, None)
                if piece is None:
                    return False
                if self._limit is not None and self._total + len(piece) > self._limit:
                    raise LimitExceeded("decompressed data", self._limit)
                self._total += len(piece)
            except Error as e:
                self._failure = e
                raise
            self._piece = memoryview(piece)
        return True


def _decode(
    source: ByteSource, compression: Compression, chunk: int, max_window: int
) -> Iterator[bytes]:
    if compression is Compression.GZIP:
        from imgtools.blob.compression.gunzip import gunzip

        return gunzip(source, chunk)
    if compression in (Compression.ZSTD, Compression.ZSTD_CHUNKED):
        from imgtools.blob.compression.unzstd import unzstd

        return unzstd(source, max_window)
    if compression is Compression.BZIP2:
        from imgtools.blob.compression.unother import bunzip2

        return bunzip2(source, chunk)
    if compression is Compression.XZ:
        from imgtools.blob.compression.unother import unxz

        return unxz(source, chunk, max_window)
    return iter(source.chunk, b"")

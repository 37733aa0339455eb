"""Compressing layers: pushed into a `Compressor`, pulled from a `CompressingReader`.

Both stream with flat memory and give the same bytes for the same content, compression
and level, whatever the sizes of writes and the number of threads. gzip and zstd are
written; bzip2, xz and zstd:chunked are refused, because no registry client needs them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Protocol, Self

from imgtools.blob.compression.formats import Compression
from imgtools.blob.compression.source import CHUNK, Reader
from imgtools.errors import InvalidInput, Unsupported

DEFAULT_GZIP_LEVEL = 5  # what pgzip's default level stands for
DEFAULT_ZSTD_LEVEL = 3
_LEVELS = {Compression.GZIP: range(1, 10), Compression.ZSTD: range(1, 23)}
_DEFAULTS = {Compression.GZIP: DEFAULT_GZIP_LEVEL, Compression.ZSTD: DEFAULT_ZSTD_LEVEL}


class Encoder(Protocol):
    """What turns content into one compressed stream; iterate every answer to its end."""

    def feed(self, data: bytes | bytearray | memoryview) -> Iterator[bytes]: ...
    def finish(self) -> Iterator[bytes]: ...
    def close(self) -> None: ...


class _Unchanged:
    def feed(self, data: bytes | bytearray | memoryview) -> Iterator[bytes]:
        yield bytes(data)

    def finish(self) -> Iterator[bytes]:
        return iter(())

    def close(self) -> None:
        pass


def _encoder(compression: Compression, level: int | None, threads: int) -> Encoder:
    if threads < 1:
        raise InvalidInput(f"compression needs at least one thread, not {threads}")
    if compression is Compression.NONE:
        if level is not None:
            raise InvalidInput("a compression level was given without a compression")
        return _Unchanged()
    if compression not in _LEVELS:
        raise Unsupported(f"writing {compression} is not supported", hint="use gzip or zstd")
    levels = _LEVELS[compression]
    if level is None:
        level = _DEFAULTS[compression]
    if level not in levels:
        raise InvalidInput(f"{compression} level {level} is not in {levels[0]} to {levels[-1]}")
    if compression is Compression.GZIP:
        from imgtools.blob.compression.gzipenc import GzipEncoder

        return GzipEncoder(level, threads)
    from imgtools.blob.compression.zstdenc import ZstdEncoder

    return ZstdEncoder(level, threads)


class Compressor:
    """Content goes in by `write`; compressed bytes go out through the function `write_to`.

    `level` is 1 to 9 for gzip (default 5; from 6 on several times slower), 1 to 22 for
    zstd (default 3), and None for no compression. `threads` changes the time taken,
    never the bytes. As a context manager it finishes on success and gives up on an
    exception. Raises InvalidInput for a level out of range and Unsupported for a
    compression that is only read.
    """

    def __init__(
        self,
        write_to: Callable[[bytes], object],
        compression: Compression = Compression.GZIP,
        *,
        level: int | None = None,
        threads: int = 1,
    ) -> None:
        self._write_to = write_to
        self._encoder = _encoder(compression, level, threads)
        self._open = True
        self.bytes_in = 0
        self.bytes_out = 0

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Take all of `data`; returns its size in bytes."""
        if not self._open:
            raise InvalidInput("write to a finished compressor")
        size = memoryview(data).nbytes
        self.bytes_in += size
        self._emit(self._encoder.feed(data))
        return size

    def finish(self) -> None:
        """Write out the end of the stream; a second call does nothing."""
        if self._open:
            self._emit(self._encoder.finish())
            self.close()

    def close(self) -> None:
        """Give up: without `finish` before, what was written out is a cut stream."""
        if self._open:
            self._open = False
            self._encoder.close()

    def _emit(self, pieces: Iterator[bytes]) -> None:
        try:
            for piece in pieces:
                self.bytes_out += len(piece)
                self._write_to(piece)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        if kind is None:
            self.finish()
        else:
            self.close()


class CompressingReader:
    """The compressed form of `reader`, made as it is read; closing leaves `reader` open.

    The parameters are those of `Compressor`. It is a context manager, because threads
    are to be given up when it is not read to the end.
    """

    def __init__(
        self,
        reader: Reader,
        compression: Compression = Compression.GZIP,
        *,
        level: int | None = None,
        threads: int = 1,
    ) -> None:
        self._encoder = _encoder(compression, level, threads)
        self._reader = reader
        self._ended = False
        self._ready: deque[memoryview] = deque()
        self._size = 0
        self.bytes_in = 0

    def read(self, n: int = -1, /) -> bytes:
        """Exactly `n` compressed bytes, fewer only at the end; all of them if negative."""
        while not self._ended and (n < 0 or self._size < n):
            data = self._reader.read(CHUNK)
            self._ended = not data
            self.bytes_in += len(data)
            for piece in self._encoder.feed(data) if data else self._encoder.finish():
                self._ready.append(memoryview(piece))
                self._size += len(piece)
        parts: list[memoryview] = []
        left = self._size if n < 0 else min(n, self._size)
        self._size -= left
        while left:
            part = self._ready.popleft()
            if len(part) > left:
                self._ready.appendleft(part[left:])
                part = part[:left]
            parts.append(part)
            left -= len(part)
        return b"".join(parts)

    def close(self) -> None:
        """Give up what was not read yet; reading goes on to give nothing."""
        self._ended = True
        self._ready.clear()
        self._size = 0
        self._encoder.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def compress_stream(
    reader: Reader,
    write_to: Callable[[bytes], object],
    compression: Compression = Compression.GZIP,
    *,
    level: int | None = None,
    threads: int = 1,
) -> tuple[int, int]:
    """Compress all of `reader` into `write_to`; returns the bytes read and written.

    The parameters are those of `Compressor`.
    """
    with Compressor(write_to, compression, level=level, threads=threads) as out:
        while data := reader.read(CHUNK):
            out.write(data)
    return out.bytes_in, out.bytes_out

"""gzip encoding (RFC 1952) that is fast, parallel and gives one answer.

The input is cut into blocks of fixed size, each compressed on its own to whole bytes of
deflate and joined into a single member. So the bytes depend on content, level and the
versions of the libraries only: not on the sizes of the caller's writes nor on the number
of threads. They do depend on the processor family (igzip hashes differently on arm64
than on x86-64 with SSE 4.2); zstd does not, for those who compare digests between them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

# Costs 0.1 % in size against one window over the whole layer, and is large enough that
# the hand-over between threads costs nothing.
BLOCK = 1024 * 1024

# No file name, no time, no flags; 255 is "unknown" operating system, as Go writes.
_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
_LAST_BLOCK = b"\x03\x00"  # an empty final deflate block with fixed codes
_STORED_MAX = 65535  # RFC 1951 section 3.2.4

# igzip's level 3 is left out: it gives other bytes on each of SSE, AVX2 and AVX-512.
_IGZIP_LEVEL = 2
# zlib's levels that are tried beside igzip; the smallest result is kept, block by block,
# so a higher level never gives a larger file.
_ZLIB_LEVELS = {6: (6,), 7: (6,), 8: (6, 9), 9: (6, 9)}


class GzipEncoder:
    """Pieces of content in, pieces of one gzip member out, in order.

    `level` is 1 to 9: up to 5 is igzip, from 6 zlib. `threads` above 1 compresses that
    many blocks at a time; memory is about 4 MiB per thread.
    """

    def __init__(self, level: int, threads: int) -> None:
        from isal import isal_zlib

        self._crc32 = isal_zlib.crc32
        self._level = level
        self._crc = 0
        self._size = 0
        self._pending = bytearray()
        self._head = _HEADER
        self._threads = threads
        self._pool: ThreadPoolExecutor | None = None
        self._queue: deque[Future[bytes]] = deque()

    def feed(self, data: bytes | bytearray | memoryview) -> Iterator[bytes]:
        """Take `data` whole; yields what is ready. Must be iterated to its end."""
        view = memoryview(data).cast("B")
        self._crc = self._crc32(view, self._crc)
        self._size += len(view)
        while len(self._pending) + len(view) >= BLOCK:
            missing = BLOCK - len(self._pending)
            block = bytes(view[:missing])
            if self._pending:
                block = bytes(self._pending) + block
                self._pending.clear()
            view = view[missing:]
            yield from self._block(block)
        self._pending += view

    def finish(self) -> Iterator[bytes]:
        """The rest of the member."""
        if self._pending:
            yield from self._block(bytes(self._pending))
            self._pending.clear()
        while self._queue:
            yield self._take(self._queue.popleft().result())
        trailer = self._crc.to_bytes(4, "little") + (self._size & 0xFFFFFFFF).to_bytes(4, "little")
        yield self._take(_LAST_BLOCK + trailer)
        self.close()

    def close(self) -> None:
        """Give up threads and blocks that were not asked for; harmless after `finish`."""
        self._queue.clear()
        self._pending.clear()
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None

    def _block(self, block: bytes) -> Iterator[bytes]:
        if self._threads == 1:
            yield self._take(deflate_block(block, self._level))
            return
        if self._pool is None:
            from concurrent.futures import ThreadPoolExecutor

            self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="gzip")
        self._queue.append(self._pool.submit(deflate_block, block, self._level))
        # One block more than threads keeps all of them busy while the caller writes.
        while len(self._queue) > self._threads:
            yield self._take(self._queue.popleft().result())

    def _take(self, piece: bytes) -> bytes:
        piece, self._head = self._head + piece if self._head else piece, b""
        return piece


def deflate_block(block: bytes, level: int) -> bytes:
    """`block` as non-final deflate blocks that end on a byte and refer to nothing before.

    The smallest of what the level's encoders and the stored form give.
    """
    from isal import isal_zlib

    encoder = isal_zlib.compressobj(_IGZIP_LEVEL, isal_zlib.DEFLATED, -15)
    best: bytes = encoder.compress(block) + encoder.flush(isal_zlib.Z_SYNC_FLUSH)
    if level in _ZLIB_LEVELS:
        import zlib

        for zlib_level in _ZLIB_LEVELS[level]:
            slow = zlib.compressobj(zlib_level, zlib.DEFLATED, -15, 9)
            other = slow.compress(block) + slow.flush(zlib.Z_SYNC_FLUSH)
            best = min(best, other, key=len)
    if len(best) > len(block) + 5 * -(-len(block) // _STORED_MAX):
        best = b"".join(_stored(block))
    return best


def _stored(block: bytes) -> Iterator[bytes]:
    for start in range(0, len(block), _STORED_MAX):
        part = block[start : start + _STORED_MAX]
        length = len(part)
        yield b"\0" + length.to_bytes(2, "little") + (length ^ 0xFFFF).to_bytes(2, "little") + part

"""zstd encoding (RFC 8878): one frame with a checksum, the same bytes on every machine.

libzstd cuts the input into jobs whose size does not depend on the number of its worker
threads, provided there is at least one; so there always is. Unlike gzip the result is
the same on all processors for one version of the library.
"""

from __future__ import annotations

from collections.abc import Iterator

# Every decoder must support 8 MiB windows (RFC 8878 section 3.1.1.1.2); levels 20 to 22
# would ask for up to 128 MiB from whoever pulls the image.
_MAX_WINDOW_LOG = 23
# Level 19's table sizes (2^n entries of 4 bytes); 22's would take 600 MiB per worker.
_MAX_CHAIN_LOG = 24
_MAX_HASH_LOG = 22
# libzstd keeps several jobs' content and output per encoder, so jobs decide the memory. Small
# ones that see half a window of what came before (overlap 8) compress better than large ones
# with the usual overlap, and cost no time in the levels whose tables are quickly primed.
_LAST_QUICK_LEVEL = 4
_QUICK_JOB = 1024 * 1024
_QUICK_OVERLAP = 8
_JOB = 4 * 1024 * 1024
_USUAL_OVERLAP = 0
# libzstd sees the content in pieces of this size whatever the caller writes.
_FEED = 256 * 1024


class ZstdEncoder:
    """Pieces of content in, pieces of one zstd frame out.

    `level` is 1 to 22; `threads` is the number of libzstd's workers. Memory is about
    10 MiB up to level 4, the default one among them, about 40 MiB up to level 9, and up to
    250 MiB per worker from level 16 on.
    """

    def __init__(self, level: int, threads: int) -> None:
        import zstandard

        is_quick = level <= _LAST_QUICK_LEVEL
        defaults = zstandard.ZstdCompressionParameters.from_level(level)
        parameters = zstandard.ZstdCompressionParameters.from_level(
            level,
            window_log=min(defaults.window_log, _MAX_WINDOW_LOG),
            chain_log=min(defaults.chain_log, _MAX_CHAIN_LOG),
            hash_log=min(defaults.hash_log, _MAX_HASH_LOG),
            threads=threads,
            job_size=_QUICK_JOB if is_quick else _JOB,
            overlap_log=_QUICK_OVERLAP if is_quick else _USUAL_OVERLAP,
            write_checksum=True,
        )
        self._encoder = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
        self._pending = bytearray()

    def feed(self, data: bytes | bytearray | memoryview) -> Iterator[bytes]:
        """Take `data` whole; yields what is ready. Must be iterated to its end."""
        view = memoryview(data).cast("B")
        if self._pending:
            missing = _FEED - len(self._pending)
            self._pending += view[:missing]
            view = view[missing:]
            if len(self._pending) < _FEED:
                return
            yield from self._compress(self._pending)
            self._pending = bytearray()
        while len(view) >= _FEED:
            yield from self._compress(view[:_FEED])
            view = view[_FEED:]
        self._pending += view

    def finish(self) -> Iterator[bytes]:
        """The rest of the frame."""
        yield from self._compress(self._pending)
        self._pending = bytearray()
        yield self._encoder.flush()

    def close(self) -> None:
        """Drop what was not asked for; libzstd's workers end with this object."""
        self._pending = bytearray()

    def _compress(self, data: bytearray | memoryview) -> Iterator[bytes]:
        if out := self._encoder.compress(data):
            yield out

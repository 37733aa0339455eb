"""Blobs that pass through a temporary file: recompressed, or measured because nobody said
their size.

While the bytes pass they are verified, decompressed, hashed as a diff_id, compressed and
hashed again, in chunks; only the outcome is on disk, in a file without a name. This module
is imported when a plan has such a blob, because it brings the compressors with it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import BinaryIO

from imgtools.blob.compression import Compression, Compressor, Decompressor, sniff
from imgtools.blob.files import storage_errors, write_all
from imgtools.blob.pump import pump
from imgtools.blob.reader import CHUNK, BlobReader, FromStart, Readable
from imgtools.copy.rewrite import Written
from imgtools.errors import DigestMismatch
from imgtools.spec.digest import Digest, Hasher, new_hasher
from imgtools.task import Advanced, Task
from imgtools.transport.closing import Closing

_LEAST_LIMIT = 1 << 30
_WORST_RATIO = 1100
"""Deflate cannot expand beyond 1,032 to 1; zstd can, which makes bombs of it."""


class Spool(Closing):
    """A blob in an unnamed temporary file: `written` says what it is, `open` reads it."""

    def __init__(self, file: BinaryIO, written: Written) -> None:
        self._file = file
        self.written = written

    def open(self) -> BlobReader:
        """A verifying reader from the start; several may be open at once."""
        written = self.written
        return BlobReader(FromStart(self._file.fileno()), written.digest, written.size)

    def close(self) -> None:
        """Release the file; safe to call twice."""
        self._file.close()


class _Hashed:
    """A file being written, with the digest of what was written."""

    def __init__(self, file: BinaryIO, algorithm: str) -> None:
        self._file = file
        self._algorithm = algorithm
        self._hasher: Hasher = new_hasher(algorithm)
        self.size = 0

    def write(self, data: bytes) -> None:
        self._hasher.update(data)
        self.size += len(data)
        write_all(self._file, data)

    def digest(self) -> Digest:
        return Digest(self._algorithm, self._hasher.hexdigest())


class _Counted:
    """A reader that reports what passes, and can be stopped between chunks."""

    def __init__(self, reader: Readable, task: Task, item: str) -> None:
        self._reader, self._task, self._item = reader, task, item
        self.first = b""

    def read(self, size: int, /) -> bytes:
        self._task.cancel.check()
        data = self._reader.read(size)
        if data:
            self.first = self.first or data[:8]
            self._task.progress(Advanced(self._item, len(data)))
        return data


def recompress(
    reader: BlobReader,
    target: str,
    *,
    level: int | None,
    diff_id: Digest | None,
    threads: int,
    tmpdir: str | None,
    task: Task,
    item: str,
) -> Spool:
    """The layer of `reader` compressed to `target` ("none", "gzip", "zstd") in a spool.

    `threads` changes the time it takes and the memory, never the bytes. `diff_id`, when
    known, is what the uncompressed layer must hash to. Raises DigestMismatch,
    InvalidArchive, LimitExceeded for a bomb, StorageError and what the reader raises. The
    reader is read to its verified end.
    """
    algorithm = diff_id.algorithm if diff_id is not None else "sha256"
    limit = max(_LEAST_LIMIT, _WORST_RATIO * (reader.size or 0))
    with _temporary(tmpdir) as (file, keep):
        out = _Hashed(file, reader.digest.algorithm)
        content = new_hasher(algorithm)
        source = _Counted(reader, task, item)
        compression = Compression(target)
        level = None if compression is Compression.NONE else level
        with Compressor(out.write, compression, level=level, threads=threads) as compressor:
            plain = Decompressor(source, limit=limit)
            while data := plain.read1(CHUNK):
                content.update(data)
                compressor.write(data)
        _drain(source)
        found = Digest(algorithm, content.hexdigest())
        if diff_id is not None and found != diff_id:
            raise DigestMismatch(
                f"layer {reader.digest} uncompressed", expected=str(diff_id), actual=str(found)
            )
        written = Written(digest=out.digest(), size=out.size, compression=target, diff_id=found)
        return keep(written)


def measure(
    reader: BlobReader, *, diff_id: bool, tmpdir: str | None, task: Task, item: str
) -> Spool:
    """The blob of `reader` as it is in a spool, with its size, its compression and, when
    asked for, its diff_id; raises as `recompress` does."""
    with _temporary(tmpdir) as (file, keep):
        out = _Hashed(file, reader.digest.algorithm)
        source = _Counted(reader, task, item)
        pump(source, out.write, task=task)
        written = Written(digest=out.digest(), size=out.size, compression=str(sniff(source.first)))
        if diff_id:
            content = new_hasher("sha256")
            limit = max(_LEAST_LIMIT, _WORST_RATIO * out.size)
            plain = Decompressor(FromStart(file.fileno()), limit=limit)
            while data := plain.read1(CHUNK):
                task.cancel.check()
                content.update(data)
            written = replace(written, diff_id=Digest("sha256", content.hexdigest()))
        return keep(written)


@contextmanager
def _temporary(tmpdir: str | None) -> Iterator[tuple[BinaryIO, Callable[[Written], Spool]]]:
    """An unnamed temporary file, closed with the block unless a Spool was made of it."""
    where = tmpdir or tempfile.gettempdir()
    kept: list[Spool] = []
    with storage_errors(where):
        file: BinaryIO = tempfile.TemporaryFile(  # noqa: SIM115 - see keep
            dir=where, buffering=0
        )

        def keep(written: Written) -> Spool:
            kept.append(Spool(file, written))
            return kept[0]

        try:
            yield file, keep
        finally:
            if not kept:
                file.close()


def _drain(source: Readable) -> None:
    """Read to the end, where the digest is checked; what a decompressor left is padding."""
    while source.read(CHUNK):
        pass

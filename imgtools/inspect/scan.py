"""Layers read for their files: a tree for each layer, and the content of single files.

A layer with a table of contents that the manifest vouches for is read by that table; any
other is streamed to its end, which is also what verifies its digest. Without verification
the reading may stop, and skip, earlier.
"""

from __future__ import annotations

import hashlib
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import field
from typing import IO, TYPE_CHECKING

from imgtools.blob.files import storage_errors
from imgtools.blob.reader import CHUNK, Readable
from imgtools.blob.tar.entry import Entry, EntryType, TarLimits, clean_path
from imgtools.errors import (
    DigestMismatch,
    Error,
    InvalidArchive,
    LimitExceeded,
    StorageError,
    Unsupported,
    Unverified,
)
from imgtools.frozen import dataclass
from imgtools.image import toc
from imgtools.image.files import FileInfo, FileLimits, Node, TreeBuilder
from imgtools.image.model import Layer
from imgtools.inspect.ranges import RangeStream, can_read_ranges, read_exactly
from imgtools.spec import media_type as mt
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest
from imgtools.task import Advanced, Task, WorkerPool
from imgtools.transport.base import Source

if TYPE_CHECKING:
    from imgtools.blob.tar import EntryData

SPOOL_MEMORY = 4 * 1024 * 1024
"""Bytes of a file's content kept in memory before a temporary file takes over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanOptions:
    """How layers are read.

    `verify` False may stop before the end of a layer, and read uncompressed layers in the
    middle, so that their digest stays unchecked. `hash_content` computes the sha256 of every
    file. `layer_bytes` bounds what a layer decompresses to, `entries` and `files` its members
    and the tree made of them; beyond, reading raises LimitExceeded. `tmpdir` holds contents
    that are too large for memory.
    """

    verify: bool = True
    hash_content: bool = False
    layer_bytes: int = 1 << 38
    entries: int = 2_000_000
    files: FileLimits = field(default_factory=FileLimits)
    tmpdir: str | None = None


@dataclass(slots=True)
class _Captured:
    """The content of the wanted file met while its layer was read."""

    layer: int
    member: int
    file: IO[bytes]


class LayerReader:
    """Reads layers of an open source; a context manager, because it may hold spooled content.

    `want` names a path whose content is kept when it is met, so that it need not be read
    again. Trees are remembered. Not for use from several threads, but for `trees`.
    """

    def __init__(
        self,
        source: Source,
        layers: Sequence[Layer],
        *,
        task: Task,
        options: ScanOptions | None = None,
        want: str | None = None,
    ) -> None:
        self._source = source
        self._layers = {layer.number: layer for layer in layers}
        self._task = task
        self._options = options or ScanOptions()
        self._want = want
        self._trees: dict[int, Node] = {}
        self._captured: _Captured | None = None
        self._lock = threading.Lock()
        self._files = 0
        self._text = 0

    def __enter__(self) -> LayerReader:
        return self

    def __exit__(self, *_: object) -> None:
        if self._captured is not None:
            self._captured.file.close()
            self._captured = None

    def tree(self, number: int) -> Node:
        """The tree of the layer of that number; read at most once.

        Raises Unsupported for a layer that is no file system, what the source raises, and
        what malformed archives raise, naming the layer.
        """
        found = self._trees.get(number)
        if found is None:
            layer = self._layers[number]
            try:
                builder = TreeBuilder(self._options.files)
                self._scan(builder, number, layer.descriptor)
                found = self._trees[number] = builder.root
                self._count(builder)
            except Error as e:
                raise e.with_context(f"layer {number} ({layer.digest})") from e.__cause__
        return found

    def trees(self) -> list[Node]:
        """The trees of all layers, in their order, read in parallel.

        Raises what `tree` raises, and LimitExceeded for too many files together.
        """
        with WorkerPool(self._task) as pool:
            return pool.map(self.tree, self._layers)

    def content(self, info: FileInfo, write: Callable[[bytes], object]) -> None:
        """Write the content of a regular file that one of the trees has.

        Nothing is written before it is verified, by the digest of its layer or by the one in
        the layer's table of contents, unless the options say that this is not wanted.
        """
        layer = self._layers[info.layer]
        try:
            with self._spool() as spool:
                sink = spool.write if self._options.verify else write
                if self._captured is not None and (info.layer, info.member) == (
                    self._captured.layer,
                    self._captured.member,
                ):
                    spool = self._captured.file
                    sink = spool.write
                elif info.span is not None:
                    self._by_span(layer.descriptor, info, sink)
                elif info.member >= 0:
                    self._by_member(layer.descriptor, info.member, sink)
                if sink is not write:
                    self._unspool(spool, write)
        except StorageError:
            raise  # of the writer or of the spool: no fault of the layer
        except Error as e:
            raise e.with_context(f"layer {info.layer} ({layer.digest})") from e.__cause__

    def _count(self, builder: TreeBuilder) -> None:
        limits = self._options.files
        with self._lock:
            self._files += builder.count
            self._text += builder.text
            if self._files > limits.nodes:
                raise LimitExceeded("number of files in all layers", limits.nodes, unit="files")
            if self._text > limits.text:
                raise LimitExceeded("names and attributes of all files", limits.text)

    def _scan(self, builder: TreeBuilder, number: int, blob: Descriptor) -> None:
        if mt.kind(blob.media_type) != "layer":
            raise Unsupported(f"media type {blob.media_type!r} is not that of a file system layer")
        place = toc.place(blob)
        if place is not None:
            table = self._table(blob, place)
            if table is not None:
                for path, info in toc.parse(table[0], end=table[1], layer=number):
                    builder.add(path, info)
                return

        def take(member: int, entry: Entry, data: EntryData) -> bool:
            return self._take(builder, number, member, entry, data)

        self._each(blob, take)

    def _take(
        self, builder: TreeBuilder, number: int, member: int, entry: Entry, data: EntryData
    ) -> bool:
        """Put one entry into the tree; True when the rest of the layer need not be read."""
        digest = ""
        if entry.type is EntryType.FILE:
            if self._want is not None and clean_path(entry.path) == self._want:
                self._capture(number, member, data)
                if not self._options.verify:
                    builder.add(entry.path, FileInfo.from_entry(entry, layer=number, member=member))
                    return True
            elif self._options.hash_content:
                hasher = hashlib.sha256()
                while chunk := data.read(CHUNK):
                    hasher.update(chunk)
                digest = f"sha256:{hasher.hexdigest()}"
        info = FileInfo.from_entry(entry, layer=number, member=member, digest=digest)
        builder.add(entry.path, info)
        return False

    def _each(self, blob: Descriptor, take: Callable[[int, Entry, EntryData], bool]) -> None:
        """Call `take` for every member of a layer, until it returns True if that is allowed."""
        from imgtools.blob.compression import Decompressor
        from imgtools.blob.tar.reader import TarReader

        options = self._options
        limits = TarLimits(entries=options.entries)
        if not options.verify and self._is_plain(blob):
            stream = RangeStream(self._source, blob, 0, blob.size)
            for member, (entry, data) in enumerate(
                TarReader(stream, limits=limits, seek=stream.seek)
            ):
                self._task.cancel.check()
                if take(member, entry, data):
                    return
            return
        with self._source.open_blob(blob) as reader:
            watched = _Watched(reader, self._task, str(blob.digest))
            archive = TarReader(Decompressor(watched, limit=options.layer_bytes), limits=limits)
            for member, (entry, data) in enumerate(archive):
                if take(member, entry, data) and not options.verify:
                    reader.abandon()
                    return
            archive.drain()

    def _is_plain(self, blob: Descriptor) -> bool:
        """Whether a layer is uncompressed and can be read in the middle."""
        from imgtools.blob.compression import Compression, sniff

        if blob.size <= 0:
            return False
        head = can_read_ranges(self._source, blob)
        return head is not None and sniff(head) is Compression.NONE

    def _table(self, blob: Descriptor, place: toc.TocPlace) -> tuple[bytes, int] | None:
        """The verified table of contents and where the data before it ends; None when the
        source cannot read in the middle."""
        if place.format == "zstd:chunked":
            packed = read_exactly(self._source, blob, place.offset, place.length)
            if packed is None:
                return None
            _check("table of contents", packed, place.digest)
            table = _unpacked(packed, place.content)
            if len(table) != place.content:
                raise InvalidArchive("table of contents has another size than promised")
            return table, place.offset
        at = blob.size - toc.ESTARGZ_FOOTER
        footer = read_exactly(self._source, blob, at, toc.ESTARGZ_FOOTER)
        if footer is None:
            return None
        offset = toc.estargz_offset(footer, blob)
        packed = read_exactly(self._source, blob, offset, at - offset)
        if packed is None:
            return None
        table = _estargz_table(packed)
        _check("table of contents", table, place.digest)
        return table, offset

    def _by_span(self, blob: Descriptor, info: FileInfo, write: Callable[[bytes], object]) -> None:
        """The content of a file by its place in the blob; raises DigestMismatch."""
        from imgtools.blob.compression import Decompressor

        span = info.span
        if span is None:
            return
        if not info.digest and self._options.verify:
            raise Unverified(
                "the table of contents has no digest of the file",
                hint="--unverified prints it nevertheless",
            )
        stream = RangeStream(self._source, blob, span.start, span.end)
        content = Decompressor(stream, limit=span.skip + info.size + CHUNK * 4)
        left = span.skip
        while left:
            left -= len(_some(content, left))
        hasher = hashlib.sha256()
        left = info.size
        while left:
            self._task.cancel.check()
            data = _some(content, left)
            hasher.update(data)
            write(data)
            left -= len(data)
        if info.digest and f"sha256:{hasher.hexdigest()}" != info.digest:
            raise DigestMismatch(
                "content of the file", expected=info.digest, actual=f"sha256:{hasher.hexdigest()}"
            )

    def _by_member(self, blob: Descriptor, member: int, write: Callable[[bytes], object]) -> None:
        """The content of a file by its position among the members of its layer."""

        def take(number: int, entry: Entry, data: EntryData) -> bool:
            if number != member:
                return False
            while chunk := data.read(CHUNK):
                write(chunk)
            return True

        self._each(blob, take)

    def _capture(self, layer: int, member: int, data: EntryData) -> None:
        if self._captured is not None:
            self._captured.file.close()
        self._captured = _Captured(layer, member, self._spool())
        with storage_errors("temporary file"):
            while chunk := data.read(CHUNK):
                self._captured.file.write(chunk)

    def _spool(self) -> IO[bytes]:
        directory = self._options.tmpdir
        with storage_errors(directory or "temporary file"):
            return tempfile.SpooledTemporaryFile(max_size=SPOOL_MEMORY, dir=directory)

    def _unspool(self, spool: IO[bytes], write: Callable[[bytes], object]) -> None:
        spool.seek(0)
        while data := spool.read(CHUNK):
            write(data)


class _Watched:
    """A reader that can be cancelled and reports its progress."""

    def __init__(self, reader: Readable, task: Task, item: str) -> None:
        self._reader = reader
        self._task = task
        self._item = item

    def read(self, size: int, /) -> bytes:
        self._task.cancel.check()
        data = self._reader.read(size)
        if data:
            self._task.progress(Advanced(self._item, len(data)))
        return data


def _some(content: Readable, at_most: int) -> bytes:
    data = content.read(min(at_most, CHUNK))
    if not data:
        raise InvalidArchive("the content of the file ends early")
    return data


def _check(what: str, data: bytes, expected: Digest) -> None:
    actual = Digest.of(data, expected.algorithm)
    if actual != expected:
        raise DigestMismatch(what, expected=str(expected), actual=str(actual))


def _unpacked(packed: bytes, limit: int) -> bytes:
    from io import BytesIO

    from imgtools.blob.compression import Decompressor

    return Decompressor(BytesIO(packed), limit=limit).read()


def _estargz_table(packed: bytes) -> bytes:
    """The document in eStargz's table, which is a gzipped archive of one file."""
    from io import BytesIO

    from imgtools.blob.compression import Decompressor
    from imgtools.blob.tar.reader import TarReader

    archive = TarReader(Decompressor(BytesIO(packed), limit=toc.TOC_LIMIT + (1 << 20)))
    for entry, data in archive:
        if entry.path == toc.ESTARGZ_NAME and entry.type is EntryType.FILE:
            return data.read()
    raise InvalidArchive(f"the table of contents has no {toc.ESTARGZ_NAME}")

"""One layer from its blob into the store: verified, unpacked, and with the record of its tar.

The blob's digest, the diff_id of what is in it and the record are all made of the same
bytes, read once while they are unpacked.
"""

from __future__ import annotations

import os
import tempfile
from typing import BinaryIO, cast

from engine.storage.images import replace_file
from engine.storage.layers import BOOT
from engine.storage.layers_ahead import Plain
from engine.storage.options import Layer
from engine.storage.parts import Parts, record_path
from engine.storage.tar_record import Recorder
from engine.storage.tar_replay import Replay, comes_back
from imgtools.blob.files import storage_errors, write_file
from imgtools.blob.reader import CHUNK, BlobReader, Readable
from imgtools.errors import BlobNotFound, DigestMismatch, InvalidInput, LimitExceeded
from imgtools.spec.digest import Digest
from imgtools.task import Advanced, Task
from imgtools.transport.base import BlobOpener

_LEAST_LIMIT = 1 << 30
_WORST_RATIO = 1100
"""Deflate cannot expand beyond 1,032 to 1; zstd can, which makes bombs of it."""


class Intake:
    """Brings layers into one store."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def unpack(
        self,
        open_blob: BlobOpener,
        parent: Digest | None,
        diff_id: Digest,
        *,
        task: Task,
        item: str = "",
    ) -> tuple[Layer, BinaryIO]:
        """Unpack the layer `diff_id` on top of the layer `parent`; it, and the record of its
        tar in an unnamed file, which the caller closes. Progress is reported as `item`.

        Wrong bytes are reported as such (DigestMismatch, SizeMismatch), not as the malformed
        archive that they make. Raises InvalidArchive, UnsafePath, LimitExceeded, Unsupported,
        StorageError, DigestMismatch for another layer than `diff_id`, and what the reader
        raises; the store is then as before.
        """
        record = temporary_file(self._parts.layout.tmp)
        try:
            with open_blob() as reader:
                feed = _Feed(reader, record, task, item)
                try:
                    layer = self._parts.layers.apply(parent, diff_id, feed)
                    feed.drain(diff_id)
                except (InvalidInput, LimitExceeded):
                    while reader.read(CHUNK):
                        task.cancel.check()
                    raise
                feed.finish()
            return layer, record
        except BaseException:
            record.close()
            raise

    def keep_record(self, layer: Layer, record: BinaryIO, open_blob: BlobOpener) -> None:
        """Put the record of its tar into a layer that the caller has locked.

        Reads the blob once more where the tree cannot give back what was unpacked.
        """
        if self.is_whole(layer):
            return
        if comes_back(record, self._tree(layer)):
            self._write_record(layer, record)
            return
        whole = temporary_file(self._parts.layout.tmp)
        with whole:
            with open_blob() as reader:
                recorder = Recorder(_plain(reader, reader.size), whole, whole=True)
                while recorder.read(CHUNK):
                    pass
                recorder.finish()
            self._write_record(layer, whole)

    def is_whole(self, layer: Layer) -> bool:
        """Whether a layer can be given back: its record is written last."""
        return os.path.exists(record_path(layer))

    def replay(self, layer: Layer) -> BlobReader:
        """The uncompressed tar of a layer; raises BlobNotFound, StorageError, and from
        reading DigestMismatch where the tree has changed."""
        if not self.is_whole(layer):
            raise BlobNotFound(f"layer {layer.diff_id} is not stored whole")
        tar = Replay(record_path(layer), self._tree(layer))
        return BlobReader(tar, layer.diff_id, tar.size, what="layer", close=tar.close)

    def tar_size(self, layer: Layer) -> int:
        """Bytes of the uncompressed tar of a layer."""
        tar = Replay(record_path(layer), self._tree(layer))
        tar.close()
        return tar.size

    def _write_record(self, layer: Layer, record: BinaryIO) -> None:
        """A layer that is not on disk for good yet is settled with all that is in it."""
        record.seek(0)
        content = record.read()
        path = record_path(layer)
        if os.path.lexists(os.path.join(layer.path, BOOT)):
            replace_file(path, content)
        else:
            write_file(path, content, mode=0o600)

    def _tree(self, layer: Layer) -> str:
        """The directory that has the layer's own files: alone, or among those below it."""
        return self._parts.layers.lower((layer.chain_id,))[0]


def temporary_file(directory: str) -> BinaryIO:
    """An unnamed, unbuffered file in `directory`, which is made if it is not there."""
    with storage_errors(directory):
        os.makedirs(directory, mode=0o700, exist_ok=True)
        file = tempfile.TemporaryFile(dir=directory, buffering=0)  # noqa: SIM115 - the caller's
    return cast("BinaryIO", file)


class _Counted:
    """A blob as it is read: cancellable, and reported as `item`, if that is not empty."""

    def __init__(self, reader: BlobReader, task: Task, item: str) -> None:
        self._reader = reader
        self._task = task
        self._item = item

    def read(self, size: int, /) -> bytes:
        self._task.cancel.check()
        data = self._reader.read(size)
        if data and self._item:
            self._task.progress(Advanced(self._item, len(data)))
        return data


class _Feed:
    """What is in a blob, on its way into a tree: decompressed, recorded, and at its end
    verified, before whoever reads it may believe that it was the end."""

    def __init__(self, reader: BlobReader, record: BinaryIO, task: Task, item: str) -> None:
        self._counted = _Counted(reader, task, item)
        self._recorder = Recorder(_plain(self._counted, reader.size), record)

    def read(self, size: int, /) -> bytes:
        data = self._recorder.read(size)
        if not data:
            while self._counted.read(CHUNK):
                pass
        return data

    def drain(self, diff_id: Digest) -> None:
        """Read what is left: all of it, and checked here, where the layer was there already
        and so nobody has read and checked it. Raises DigestMismatch."""
        hasher = None if self._recorder.size else diff_id.hasher()
        while data := self.read(CHUNK):
            if hasher is not None:
                hasher.update(data)
        if hasher is not None and hasher.hexdigest() != diff_id.hex:
            actual = f"{diff_id.algorithm}:{hasher.hexdigest()}"
            raise DigestMismatch("layer", expected=str(diff_id), actual=actual)

    def finish(self) -> None:
        """Complete the record."""
        self._recorder.finish()


def _plain(source: Readable, size: int | None) -> Plain:
    return Plain(source, limit=max(_LEAST_LIMIT, _WORST_RATIO * (size or 0)))

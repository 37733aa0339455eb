"""One repository (or layout) as a cache: finding a record by its key, fetching, putting one.

What comes from there is as trustworthy as those who may write there, or those who signed it
where policy asks for that; it is checked for consistency, so that a record can be wrong about its
key and nothing else.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from typing import TYPE_CHECKING, BinaryIO

from imgtools.blob.compression import Decompressor
from imgtools.blob.files import storage_errors, write_all
from imgtools.blob.reader import CHUNK, BlobReader
from imgtools.build.cache.documents import (
    EMPTY,
    RemoteRecord,
    cache_documents,
    note_descriptor,
    read_record,
)
from imgtools.build.cache.locations import CacheLocation
from imgtools.build.outputs.layer_blobs import LayerBlobs
from imgtools.build.outputs.model import BuiltLayer, Form
from imgtools.build.protocols import CacheRecord, SnapshotStore
from imgtools.errors import NotFound
from imgtools.frozen import dataclass
from imgtools.spec import media_type as mt
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest
from imgtools.spec.reference import ImageName
from imgtools.task import Task
from imgtools.transport.base import Destination, Source
from imgtools.transport.options import DestinationOptions, SourceOptions
from imgtools.transport.table import Transports

if TYPE_CHECKING:
    from imgtools.copy.survey import Admit

CheckName = Callable[[ImageName], "Admit | None"]
"""Policy: raises Rejected for a name, and says who has to admit its manifest, None for nobody."""

_LEAST_LIMIT = 1 << 30
_WORST_RATIO = 1100
"""Of decompression: deflate cannot expand more than 1,032 times, but zstd can."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteCache:
    """A location, and how it is reached; `check_name` is policy about what is read there."""

    location: CacheLocation
    transports: Transports
    source_options: SourceOptions
    destination_options: DestinationOptions
    check_name: CheckName | None = None

    def find(self, key: str) -> RemoteRecord | None:
        """The record of `key`, None if there is none: one request, and none for its layer.

        Raises InvalidManifest or InvalidJSON for one that contradicts itself, Rejected for one
        that policy does not admit, and what a request raises.
        """
        name = self.location.name(key)
        admit = self.check_name(name) if self.check_name is not None else None
        try:
            with self.source(key) as it:
                raw = it.top()
                if admit is not None:
                    admit(raw)
                where = note_descriptor(raw)
                note = where.data
                if note is None:
                    with it.open_blob(where) as reader:
                        note = reader.read()
        except NotFound:
            return None
        return read_record(raw, note, key)

    def source(self, key: str) -> Source:
        """Where the record of `key` and its blobs are, to be closed by the caller."""
        return self.transports.open_source(self.location.name(key), self.source_options)

    def fetch(self, found: RemoteRecord, store: SnapshotStore, *, task: Task) -> None:
        """Get the layer of `found` into `store`, where its parent is.

        Raises DigestMismatch, InvalidArchive, LimitExceeded for a bomb, StorageError, and
        what its transport and the store raise.
        """
        record, blob = found.record, found.layer
        if record.diff_id is None or blob is None:
            return
        with (
            store.scratch() as directory,
            storage_errors(directory),
            tempfile.TemporaryFile(dir=directory, buffering=0) as file,
        ):
            with self.source(record.key) as it, it.open_blob(blob) as reader:
                size = _decompress(reader, blob, file, task)
            file.seek(0)
            store.apply(record.parent, record.diff_id, file, size, task=task)

    def put(
        self, record: CacheRecord, layers: LayerBlobs, form: Form, *, overwrite: bool, task: Task
    ) -> bool:
        """Keep `record` with its layer; whether anything was written. Without `overwrite` a
        record that is there stays. Raises what compressing and the transport do."""
        name = self.location.name(record.key)
        with self.transports.open_destination(name, self.destination_options) as there:
            if not overwrite and there.current() is not None:
                return False
            layer = None
            if record.diff_id is not None and record.chain_id is not None:
                built = BuiltLayer(
                    diff_id=record.diff_id, chain_id=record.chain_id, size=record.size
                )
                layer = layers.descriptor(built, form, "oci", task=task)
                digest = layer.digest
                there.put_blob(layer, lambda: layers.open(digest), task=task)
            documents = cache_documents(record, layer)
            if layer is None:
                _put_bytes(there, EMPTY, task)
            _put_bytes(there, documents.note, task)
            task.cancel.check()
            there.put_manifest(documents.manifest, top=True)
            there.commit()
        return True


def _decompress(reader: BlobReader, blob: Descriptor, file: BinaryIO, task: Task) -> int:
    """Write the tar of a layer to `file`; its size in bytes."""
    limit = max(_LEAST_LIMIT, _WORST_RATIO * blob.size)
    plain = Decompressor(reader, limit=limit)
    size = 0
    while data := plain.read1(CHUNK):
        task.cancel.check()
        size += len(data)
        write_all(file, data)
    while reader.read(CHUNK):
        # What a decompressor left is padding; the end is where the digest is checked.
        task.cancel.check()
    return size


def _put_bytes(there: Destination, content: bytes, task: Task) -> None:
    blob = Descriptor(media_type=mt.OCI_EMPTY, digest=Digest.of(content), size=len(content))
    there.put_blob(blob, lambda: BlobReader.of(content), task=task)

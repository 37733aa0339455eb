"""The layers of finished images as blobs: tars of the store, and compressed forms of them.

A compressed form is made once, whoever asks and however often, and is kept in a file without a
name until the end: so its digest is known before anything is copied, several destinations
share it, and what is uploaded while the build goes on is what the final push wants.
"""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Protocol

from imgtools.blob.reader import CHUNK, BlobReader
from imgtools.build.outputs.manifests import layer_type, plain_layer
from imgtools.build.outputs.model import BuiltImage, BuiltLayer, Family, Form
from imgtools.errors import BlobNotFound
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest
from imgtools.task import Finished, Started, Task
from imgtools.transport.base import BlobOpener
from imgtools.transport.closing import Closing

if TYPE_CHECKING:
    from imgtools.copy.spool import Spool

_AT_A_TIME = 4
"""Layers that are compressed at a time; each compressor has buffers of many chunks."""


def sized(image: BuiltImage, store: OpensLayers) -> BuiltImage:
    """`image` with the sizes of its layers, of which a build does not know those of a base;
    the layers have to be in `store`. Raises what opening them does."""
    if all(layer.size for layer in image.layers):
        return image
    return replace(image, layers=tuple(_sized(layer, store) for layer in image.layers))


def _sized(layer: BuiltLayer, store: OpensLayers) -> BuiltLayer:
    # No tar is empty, not even one without members.
    if layer.size:
        return layer
    with store.open_layer(layer.chain_id) as reader:
        size = reader.size
        if size is None:
            size = 0
            while data := reader.read(CHUNK):
                size += len(data)
        reader.abandon()
    return replace(layer, size=size)


class OpensLayers(Protocol):
    """The part of a SnapshotStore that is needed here."""

    def open_layer(self, chain_id: Digest) -> BlobReader: ...


_Key = tuple[Digest, str, int | None]


class _Slot:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.spool: Spool | None = None


class LayerBlobs(Closing):
    """Makes and opens blobs of layers; may be used from several threads until it is closed."""

    def __init__(self, store: OpensLayers, *, tmpdir: str | None = None) -> None:
        """`tmpdir` is where compressed layers are kept (None: the system's directory)."""
        self._store = store
        self._tmpdir = tmpdir
        self._lock = threading.Lock()
        self._slots: dict[_Key, _Slot] = {}
        self._openers: dict[Digest, BlobOpener] = {}
        self._compressors = threading.BoundedSemaphore(_AT_A_TIME)
        self._closed = False

    def descriptor(
        self, layer: BuiltLayer, form: Form, family: Family, *, task: Task
    ) -> Descriptor:
        """`layer` in `form` ("" is gzip), compressed now unless it was before; `open` then
        opens it. Raises DigestMismatch where the store gives another tar, StorageError,
        Unsupported, Cancelled."""
        compression = form.compression or "gzip"
        media_type = layer_type(family, compression)
        if compression == "none":
            self._know(layer.diff_id, partial(self._store.open_layer, layer.chain_id))
            return plain_layer(_sized(layer, self._store), family)
        spool = self._spool(layer, compression, form.level, task)
        written = spool.written
        self._know(written.digest, spool.open)
        return Descriptor(media_type=media_type, digest=written.digest, size=written.size)

    def open(self, digest: Digest) -> BlobReader:
        """A blob whose descriptor was given out; raises BlobNotFound, and what reading does."""
        with self._lock:
            opener = self._openers.get(digest)
        if opener is None:
            raise BlobNotFound(f"the build has no blob {digest}")
        return opener()

    def close(self) -> None:
        """Remove the compressed forms; nobody may be reading them any more."""
        with self._lock:
            self._closed = True
            slots = list(self._slots.values())
            self._slots.clear()
            self._openers.clear()
        for slot in slots:
            with slot.lock:
                spool, slot.spool = slot.spool, None
            if spool is not None:
                spool.__exit__(None, None, None)

    def _know(self, digest: Digest, opener: BlobOpener) -> None:
        with self._lock:
            self._openers.setdefault(digest, opener)

    def _spool(self, layer: BuiltLayer, compression: str, level: int | None, task: Task) -> Spool:
        key = (layer.diff_id, compression, level)
        with self._lock:
            if self._closed:
                raise BlobNotFound(f"layer {layer.diff_id} is wanted after the end")
            slot = self._slots.setdefault(key, _Slot())
        # Whoever comes second waits for the first, and does it if the first was stopped.
        with slot.lock:
            if slot.spool is None:
                slot.spool = self._compressed(layer, compression, level, task)
            return slot.spool

    def _compressed(
        self, layer: BuiltLayer, compression: str, level: int | None, task: Task
    ) -> Spool:
        from imgtools.copy.spool import recompress

        item = str(layer.diff_id)
        with self._compressors:
            task.cancel.check()
            task.progress(Started(item, "compress layer", layer.size))
            with self._store.open_layer(layer.chain_id) as reader:
                spool = recompress(
                    reader,
                    compression,
                    level=level,
                    diff_id=layer.diff_id,
                    threads=max(1, (os.cpu_count() or 1) // 2),
                    tmpdir=self._tmpdir,
                    task=task,
                    item=item,
                )
            task.progress(Finished(item, "compressed"))
            return spool

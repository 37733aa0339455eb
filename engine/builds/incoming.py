"""Layers that come as a tar: unpacked, verified, and with the record that gives it back."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager

from engine.builds.holding import Holding
from engine.storage.assembly import LAYER_LOCK
from engine.storage.intake import Intake, temporary_file
from engine.storage.layers import chained
from engine.storage.options import Layer
from engine.storage.parts import lock_key
from engine.storage.store import Store
from imgtools.blob.files import storage_errors, write_all
from imgtools.blob.reader import CHUNK, BlobReader, Readable
from imgtools.build.protocols import NewLayer
from imgtools.errors import Conflict
from imgtools.spec.digest import Digest
from imgtools.task import Task
from imgtools.transport.base import BlobOpener

ATTEMPTS = 3


def apply_tar(
    store: Store,
    holding: Holding,
    parent: Digest | None,
    diff_id: Digest,
    tar: Readable,
    size: int,
    *,
    task: Task,
) -> NewLayer:
    """Make the layer `diff_id` on `parent` of the uncompressed `tar` of `size` bytes, and hold
    it. What is there already is not unpacked again. Raises what `Intake.unpack` raises."""
    identity = chained(parent, diff_id)
    layer = holding.hold(identity, task=task)
    if layer is None:
        with _again(store, tar, diff_id, size) as opener:
            layer = _made(store, holding, parent, diff_id, opener, task)
    return NewLayer(diff_id=diff_id, chain_id=identity, size=size, empty=not layer.entries)


def _made(
    store: Store,
    holding: Holding,
    parent: Digest | None,
    diff_id: Digest,
    opener: BlobOpener,
    task: Task,
) -> Layer:
    intake = Intake(store.parts)
    for _ in range(ATTEMPTS):
        layer, record = intake.unpack(opener, parent, diff_id, task=task)
        with record, store.parts.locks.shared(LAYER_LOCK, lock_key(layer.chain_id), task=task):
            if store.layers.has(layer.chain_id):
                intake.keep_record(layer, record, opener)
        found = holding.hold(layer.chain_id, task=task)
        if found is not None:
            return found
    raise Conflict(f"layer {diff_id} is removed as fast as it is unpacked")


@contextmanager
def _again(store: Store, tar: Readable, diff_id: Digest, size: int) -> Iterator[BlobOpener]:
    """Opens `tar` as often as needed; one that cannot go back is put into a file first."""
    if isinstance(tar, io.IOBase) and tar.seekable():
        start = tar.tell()

        def reopen() -> BlobReader:
            tar.seek(start)
            return BlobReader(tar, diff_id, size, what="layer")

        yield reopen
        return
    with temporary_file(store.parts.layout.tmp) as file:
        with storage_errors(store.parts.layout.tmp):
            while data := tar.read(CHUNK):
                write_all(file, data)

        def rewound() -> BlobReader:
            file.seek(0)
            return BlobReader(file, diff_id, size, what="layer")

        yield rewound

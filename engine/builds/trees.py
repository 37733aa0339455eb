"""The trees of layers as `imgtools.build` reads them: a descriptor, and recorded owners."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from engine.storage.drivers.mounts import open_root
from engine.storage.layers import LayerStore
from engine.storage.options import Ownership
from engine.storage.ownership import OwnerTree
from imgtools.blob.files import storage_errors
from imgtools.build.tree import NoRecords, Record, Tree
from imgtools.spec.digest import Digest

DIR_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class LayerRecords:
    """The recorded owners of a layer's tree, read when one is first asked for."""

    def __init__(self, layers: LayerStore, chain_id: Digest) -> None:
        self._layers = layers
        self._chain_id = chain_id
        self._mutex = threading.Lock()
        self._owners: OwnerTree | None = None

    def get(self, path: bytes) -> Record | None:
        """See `Records.get`."""
        with self._mutex:
            if self._owners is None:
                self._owners = self._layers.owners(self._chain_id)
        return self._owners.get(path)


@contextmanager
def layer_tree(layers: LayerStore, chain_id: Digest | None, name: str) -> Iterator[Tree]:
    """The tree of a layer, read-only, for the block; None is an empty one. Nothing is mounted
    where others see it. Raises NotFound, InvalidInput, StorageError."""
    recorded = layers.disk.ownership is Ownership.RECORDED
    if chain_id is None:
        with layers.disk.workspace.directory() as path:
            with storage_errors(path):
                os.chmod(path, 0o755)
                fd = os.open(path, DIR_FLAGS)
            try:
                yield Tree(fd=fd, name=name, records=NoRecords(), recorded_owners=recorded)
            finally:
                os.close(fd)
        return
    fd = open_root(layers.view(chain_id))
    try:
        yield Tree(
            fd=fd,
            name=name,
            records=LayerRecords(layers, chain_id),
            recorded_owners=recorded,
            identity=str(chain_id),
        )
    finally:
        os.close(fd)

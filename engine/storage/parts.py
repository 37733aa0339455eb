"""What a store is made of, in one value, and where each part of it lies.

Only `engine.storage.store` makes one; everything else is given it.
"""

from __future__ import annotations

import os

from engine.storage.containers import Uses
from engine.storage.images import Records
from engine.storage.index import Index
from engine.storage.kept import KeptLayers
from engine.storage.known import KnownBlobs
from engine.storage.layers import LayerStore
from engine.storage.layout import Layout
from engine.storage.locks import Locks
from engine.storage.options import Layer
from engine.storage.snapshots import SnapshotStore
from imgtools.blob.store import BlobStore
from imgtools.errors import InvalidInput, NotFound
from imgtools.frozen import dataclass
from imgtools.spec.digest import Digest

RECORD = "tar"
"""The file in a layer's directory from which its tar is made again, see `tar_record`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The parts of one store. `images` and `names` are records, of which `index` is made;
    `documents` has manifests and configs; `known` says what is in which blob, `kept` are records
    of builds."""

    layout: Layout
    layers: LayerStore
    snapshots: SnapshotStore
    locks: Locks
    images: Records
    names: Records
    index: Index
    documents: BlobStore
    known: KnownBlobs
    kept: KeptLayers
    uses: Uses


def record_path(layer: Layer) -> str:
    """Where the record of a layer's tar is."""
    return os.path.join(layer.path, RECORD)


def find_layer(parts: Parts, chain_id: Digest) -> Layer | None:
    """The layer, None where it is not, or not whole."""
    try:
        return parts.layers.get(chain_id)
    except (NotFound, InvalidInput):
        return None


def lock_key(digest: Digest) -> str:
    """A digest as part of the name of a lock."""
    return f"{digest.algorithm}-{digest.hex}"

"""Layers and trees for a build: `imgtools.build`'s SnapshotStore on a store of images.

Whatever a build was told to be there stays there until the build is over: layers are locked,
trees to write in are registered as in use. What a killed build leaves, the next one removes.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager

from engine.builds.bases import BaseOptions, Bases
from engine.builds.cache import StepCache
from engine.builds.committing import commit_snapshot
from engine.builds.holding import Holding
from engine.builds.images import keep_image
from engine.builds.incoming import apply_tar
from engine.builds.obtaining import Obtaining
from engine.builds.trees import layer_tree
from engine.storage.containers import InUse, Use, this_process
from engine.storage.intake import Intake
from engine.storage.options import Snapshot
from engine.storage.store import Store
from imgtools.blob.reader import BlobReader, Readable
from imgtools.build.protocols import (
    BaseImage,
    CacheRecord,
    CommitOptions,
    NewLayer,
    Working,
)
from imgtools.build.tree import Tree
from imgtools.errors import BlobNotFound, Conflict, InvalidInput
from imgtools.frozen import dataclass
from imgtools.spec.digest import Digest
from imgtools.spec.manifest import RawManifest
from imgtools.spec.platform import Platform
from imgtools.task import Task
from imgtools.transport.closing import Closing
from imgtools.transport.table import Transports

KIND = "build"
EMPTY_TREE = "an empty tree"


@dataclass(frozen=True, slots=True)
class Prepared:
    """The engine's side of a `Working`: its snapshot, and the record that it is in use."""

    snapshot: Snapshot
    use: InUse


class BuildStore(Closing):
    """Implements `imgtools.build.protocols.SnapshotStore`; one for each build."""

    def __init__(
        self, store: Store, transports: Transports, options: BaseOptions | None = None
    ) -> None:
        """`store` and `transports` are the caller's, and have to be open as long as this."""
        self.store = store
        self._holding = Holding(store.parts)
        self._bases = Bases(store, transports, options or BaseOptions())
        self._obtaining = Obtaining(store, self._bases, self._holding)
        self._cache = StepCache(store.parts.kept, self._holding)
        self._intake = Intake(store.parts)
        self._mutex = threading.Lock()
        self._working: dict[str, Prepared] = {}
        self._swept = False

    def look_up(self, name: str, platform: Platform | None, pull: str, *, task: Task) -> BaseImage:
        """See SnapshotStore. InvalidInput for a policy that is none."""
        return self._bases.look_up(name, platform, pull, task=task)

    def platforms(self, name: str, pull: str, *, task: Task) -> tuple[Platform, ...]:
        """See SnapshotStore."""
        return self._bases.platforms(name, pull, task=task)

    def obtain(self, base: BaseImage, *, task: Task) -> None:
        """See SnapshotStore; raises ImageNotFound, Conflict, and what copies raise."""
        self._obtaining.obtain(base, task=task)

    def has(self, chain_id: Digest) -> bool:
        """See SnapshotStore: a layer that is here stays until the build is over."""
        return self._holding.hold(chain_id, task=Task()) is not None

    def apply(
        self, parent: Digest | None, diff_id: Digest, tar: Readable, size: int, *, task: Task
    ) -> NewLayer:
        """See SnapshotStore; raises what `LayerStore.apply` raises."""
        return apply_tar(self.store, self._holding, parent, diff_id, tar, size, task=task)

    def tree(self, chain_id: Digest | None) -> AbstractContextManager[Tree]:
        """See SnapshotStore; raises NotFound, StorageError."""
        name = EMPTY_TREE if chain_id is None else f"layer {chain_id.short}"
        return layer_tree(self.store.layers, chain_id, name)

    def open_layer(self, chain_id: Digest) -> BlobReader:
        """See SnapshotStore; raises BlobNotFound, StorageError."""
        layer = self._holding.hold(chain_id, task=Task())
        if layer is None:
            raise BlobNotFound(f"layer {chain_id} is not in the store")
        return self._intake.replay(layer)

    def layer_size(self, chain_id: Digest) -> int:
        """See SnapshotStore; raises BlobNotFound, StorageError."""
        layer = self._holding.hold(chain_id, task=Task())
        if layer is None:
            raise BlobNotFound(f"layer {chain_id} is not in the store")
        return self._intake.tar_size(layer)

    def prepare(self, chain_id: Digest | None, *, task: Task) -> Working:
        """See SnapshotStore; raises BlobNotFound where the layer is not here, StorageError."""
        self._sweep()
        if chain_id is not None and self._holding.hold(chain_id, task=task) is None:
            raise BlobNotFound(f"layer {chain_id} is not in the store")
        identity = secrets.token_hex(16)
        uses, snapshots = self.store.parts.uses, self.store.snapshots
        use = uses.begin(
            Use(
                id=identity,
                kind=KIND,
                owner=this_process(),
                layer=chain_id,
                created=time.time(),
            )
        )
        try:
            # What is written before the machine stops is worth nothing: the step is repeated.
            snapshot = snapshots.prepare(chain_id, identity, volatile=True)
        except BaseException:
            use.end()
            raise
        prepared = Prepared(snapshot, use)
        with self._mutex:
            self._working[identity] = prepared
        return Working(id=identity, chain_id=chain_id, token=prepared)

    def commit(self, working: Working, options: CommitOptions, *, task: Task) -> NewLayer:
        """See SnapshotStore; raises what `diff_container` and `LayerStore.apply` raise. On an
        error the tree is thrown away too."""
        prepared = self._prepared(working)
        try:
            return commit_snapshot(self.store, self._holding, prepared.snapshot, options, task=task)
        finally:
            self.discard(working)

    def discard(self, working: Working) -> None:
        """See SnapshotStore."""
        with self._mutex:
            prepared = self._working.pop(working.id, None)
        if prepared is not None:
            self._remove(prepared)

    def find_cached(self, key: str) -> CacheRecord | None:
        """See SnapshotStore."""
        return self._cache.find(key, task=Task())

    def remember(self, record: CacheRecord) -> None:
        """See SnapshotStore; raises StorageError."""
        self._cache.remember(record)

    def scratch(self) -> AbstractContextManager[str]:
        """See SnapshotStore."""
        return self.store.layers.disk.workspace.directory()

    def keep_image(
        self, manifest: RawManifest, config: bytes, names: Sequence[str], *, task: Task
    ) -> str:
        """See SnapshotStore; errors as `engine.builds.images.keep_image`."""
        return keep_image(self.store, self._holding, manifest, config, names, task=task)

    def close(self) -> None:
        """Throw away trees that are left and give all layers back; safe to call twice."""
        with self._mutex:
            left, self._working = list(self._working.values()), {}
        for prepared in left:
            self._remove(prepared)
        self._holding.close()

    def _prepared(self, working: Working) -> Prepared:
        with self._mutex:
            prepared = self._working.get(working.id)
        if prepared is None:
            raise Conflict(f"the tree {working.id} was committed or thrown away already")
        return prepared

    def _remove(self, prepared: Prepared) -> None:
        self.store.snapshots.remove(prepared.snapshot.id)
        prepared.use.end()

    def _sweep(self) -> None:
        """Remove what builds have left that were killed, once."""
        with self._mutex:
            if self._swept:
                return
            self._swept = True
        uses = self.store.parts.uses
        for use, there in uses.all().items():
            if there or use.kind != KIND:
                continue
            held = uses.claim_dead(use.id)
            if held is not None:
                self.store.snapshots.remove(use.id)
                uses.forget(use.id)
                held.retire()
        self.store.layers.disk.workspace.sweep()


def snapshot_of(working: Working) -> Snapshot:
    """The snapshot behind a `Working` of ours; raises InvalidInput for another store's."""
    if not isinstance(working.token, Prepared):
        raise InvalidInput(f"the tree {working.id} is of another store")
    return working.token.snapshot

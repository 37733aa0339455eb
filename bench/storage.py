"""What the storage cases run: layers in a process of their own, snapshots and their changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.storage.snapshots import SnapshotStore


def apply(archive: str, diff_id: str, root: str, driver: str, report: str) -> None:
    """Make a layer of a tar file in a new store; the seconds of that alone go to `report`.

    Making the store is not counted, as making its directory is not for tar.
    """
    import os
    import time

    from engine.storage.layers import LayerStore
    from engine.storage.layers_disk import open_disk
    from engine.storage.options import StoreLocation
    from imgtools.blob.tar.unpack import unpack_tree  # noqa: F401 - importing it is start
    from imgtools.spec.digest import Digest

    disk = open_disk(StoreLocation(root=root, runroot=os.path.join(root, "run"), driver=driver))
    start = time.perf_counter()
    with open(archive, "rb", buffering=0) as source:
        LayerStore(disk).apply(None, Digest.parse(diff_id), source)
    seconds = time.perf_counter() - start
    with open(report, "w", encoding="ascii") as file:
        file.write(repr(seconds))


def open_snapshots(root: str) -> SnapshotStore:
    """The snapshots of the store that `apply` made."""
    import os

    from engine.storage.layers import LayerStore
    from engine.storage.layers_disk import open_disk
    from engine.storage.options import StoreLocation
    from engine.storage.snapshots import SnapshotStore

    disk = open_disk(StoreLocation(root=root, runroot=os.path.join(root, "run")))
    return SnapshotStore(LayerStore(disk))


def prepare(snapshots: SnapshotStore, diff_id: str, number: int) -> tuple[float, float]:
    """Seconds of making a snapshot of a layer, and of reading the changes, of which there are
    none. It is not removed: the file system would be slower at making the next one."""
    import os
    import time

    from imgtools.spec.digest import Digest

    os.sync()
    start = time.perf_counter()
    snapshot = snapshots.prepare(Digest.parse(diff_id), f"bench-{number}")
    ready = time.perf_counter()
    snapshots.diff(snapshot, lambda _: None)
    return ready - start, time.perf_counter() - ready

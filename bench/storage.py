"""What the storage cases run in a process of its own: layers, snapshots and their changes."""

from __future__ import annotations


def apply(archive: str, diff_id: str, root: str, driver: str) -> None:
    """Make a layer of a tar file in a new store."""
    import os

    from engine.storage.layers import LayerStore
    from engine.storage.layers_disk import open_disk
    from engine.storage.options import StoreLocation
    from imgtools.spec.digest import Digest

    disk = open_disk(StoreLocation(root=root, runroot=os.path.join(root, "run"), driver=driver))
    with open(archive, "rb", buffering=0) as source:
        LayerStore(disk).apply(None, Digest.parse(diff_id), source)


def prepare(diff_id: str, root: str, count: int) -> tuple[list[float], list[float]]:
    """Seconds of making `count` snapshots of a layer, and of reading the changes of each."""
    import os
    import time

    from engine.storage.layers import LayerStore
    from engine.storage.layers_disk import open_disk
    from engine.storage.options import StoreLocation
    from engine.storage.snapshots import SnapshotStore
    from imgtools.spec.digest import Digest

    disk = open_disk(StoreLocation(root=root, runroot=os.path.join(root, "run")))
    snapshots = SnapshotStore(LayerStore(disk))
    prepared, compared = [], []
    for number in range(count):
        start = time.perf_counter()
        snapshot = snapshots.prepare(Digest.parse(diff_id), f"bench-{number}")
        ready = time.perf_counter()
        snapshots.diff(snapshot, lambda _: None)
        compared.append(time.perf_counter() - ready)
        prepared.append(ready - start)
        snapshots.remove(snapshot.id)
    return prepared, compared

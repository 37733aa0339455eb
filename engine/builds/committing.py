"""What a step changed in its tree becomes a layer: by renaming its directory where that can be,
else by way of its tar."""

from __future__ import annotations

import os
from collections.abc import Callable

from engine.builds.holding import Holding
from engine.builds.incoming import apply_tar
from engine.storage.adopt import adopt_snapshot
from engine.storage.intake import temporary_file
from engine.storage.options import DiffOptions, Snapshot
from engine.storage.store import Store
from imgtools.blob.files import storage_errors, write_all
from imgtools.build.protocols import CommitOptions, NewLayer
from imgtools.task import Task


def commit_snapshot(
    store: Store,
    holding: Holding,
    snapshot: Snapshot,
    options: CommitOptions,
    *,
    task: Task,
) -> NewLayer:
    """Make a layer of the changes of `snapshot`, in which nothing runs, and hold it. What is
    left of the snapshot is to be removed. Raises as `SnapshotStore.diff` and `apply_tar`, and
    InvalidArchive for damaged notes of owners."""
    # With all that it stands on: not loaded where everything is remembered.
    from engine.containers.ownership import noted_owners

    task.cancel.check()
    diff = DiffOptions(
        mtime=options.mtime,
        mtime_clamp=options.mtime_clamp,
        exclude=excluded(options),
        emulated=noted_owners(store.snapshots, snapshot),
    )
    adopted = adopt_snapshot(
        store.snapshots, snapshot, diff, lambda chain_id: holding.lock(chain_id, task=task)
    )
    if adopted is None:
        return _through_tar(store, holding, snapshot, diff, task)
    holding.take(adopted.layer, adopted.held)
    return NewLayer(
        diff_id=adopted.result.diff_id,
        chain_id=adopted.layer.chain_id,
        size=adopted.result.size,
        empty=not adopted.result.entries,
    )


def _through_tar(
    store: Store, holding: Holding, snapshot: Snapshot, diff: DiffOptions, task: Task
) -> NewLayer:
    with temporary_file(store.parts.layout.tmp) as file:

        def write(data: bytes) -> None:
            task.cancel.check()
            with storage_errors(store.parts.layout.tmp):
                write_all(file, data)

        done = store.snapshots.diff(snapshot, write, diff)
        file.seek(0)
        return apply_tar(
            store, holding, snapshot.chain_id, done.diff_id, file, done.size, task=task
        )


def excluded(options: CommitOptions) -> Callable[[str], bool] | None:
    """What a diff leaves out."""
    if not options.exclude:
        return None
    paths = frozenset(os.fsdecode(path) for path in options.exclude)
    return lambda path: path in paths

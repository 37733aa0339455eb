"""What a step changed in its tree becomes a layer."""

from __future__ import annotations

import os
from collections.abc import Callable

from engine.builds.holding import Holding
from engine.builds.incoming import apply_tar
from engine.containers.ownership import diff_container
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
    """Make a layer of the changes of `snapshot`, in which nothing runs, and hold it. Raises
    what `diff_container` and `apply_tar` raise."""
    task.cancel.check()
    with temporary_file(store.parts.layout.tmp) as file:

        def write(data: bytes) -> None:
            task.cancel.check()
            with storage_errors(store.parts.layout.tmp):
                write_all(file, data)

        done = diff_container(
            store.snapshots,
            snapshot,
            write,
            DiffOptions(
                mtime=options.mtime, mtime_clamp=options.mtime_clamp, exclude=excluded(options)
            ),
        )
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

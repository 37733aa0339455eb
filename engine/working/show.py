"""Having the tree of a working container in view for longer than a command: mount and umount.

With the overlay driver that is a mount in the caller's mount namespace, beside the snapshot's
own directories, and commands that run in the container meanwhile use the same one. With the
flat driver the tree is a directory, and nothing has to be mounted.
"""

from __future__ import annotations

import os
from dataclasses import replace

from engine.runtime.kernel.proc import boot_id
from engine.storage.drivers.mounts import attach_root, detach_root, is_mount_point
from engine.storage.store import Store
from engine.working.model import WorkingContainer
from engine.working.registry import Held, WorkingContainers
from imgtools.blob.files import storage_errors
from imgtools.errors import NotFound


def show(store: Store, held: Held) -> str:
    """Have the tree in view, if it is not yet; the directory. Raises StorageError."""
    snapshot = WorkingContainers(store).snapshot(held.container)
    root = store.snapshots.root_mount(snapshot)
    path = root.path
    if not path:
        path = store.snapshots.mount_point(snapshot)
        with storage_errors(path):
            os.makedirs(path, mode=0o700, exist_ok=True)
        attach_root(root, path)
    held.change(replace(held.container, shown_at=path, shown_boot=boot_id()))
    return path


def hide(store: Store, held: Held) -> bool:
    """Have the tree in view no more; whether it was. Raises StorageError."""
    before = shown_at(store, held.container)
    path = _mount_point(store, held.container)
    while path and is_mount_point(path):
        detach_root(path)
    if held.container.shown_at:
        held.change(replace(held.container, shown_at="", shown_boot=""))
    return bool(before)


def shown_at(store: Store, container: WorkingContainer) -> str:
    """Where the tree is in view in this mount namespace, "" if nowhere."""
    if not container.shown_at:
        return ""
    path = _mount_point(store, container)
    if container.shown_at != path:
        return container.shown_at if container.shown_boot == boot_id() else ""
    return path if is_mount_point(path) else ""


def _mount_point(store: Store, container: WorkingContainer) -> str:
    try:
        return store.snapshots.mount_point(WorkingContainers(store).snapshot(container))
    except NotFound:
        return ""

"""The files of a working container from outside: as a tree to copy from, and taking in the layer
of a copy, with owners that the disk cannot say noted as those of its commands are."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from engine.containers.ownership import FILE_FLAGS, KEPT, NAME, RESOLVE, noted_owners
from engine.emulation.births import born
from engine.emulation.notes import Note, Notes
from engine.runtime.kernel.paths import openat2
from engine.storage.options import Owner, Ownership, Snapshot
from engine.storage.ownership import LayerRecorder, OwnerTree
from engine.storage.ownership_ids import owner_map
from engine.storage.store import Store
from imgtools.blob.files import storage_errors
from imgtools.blob.reader import Readable
from imgtools.blob.tar import Devices, Entry, UnpackOptions, UnpackResult, unpack_tree
from imgtools.build.tree import NoRecords, Record, Records, Tree


class _Noted:
    """Owners of a snapshot's files: those noted since, else those of the layers below."""

    def __init__(self, store: Store, snapshot: Snapshot, written: int) -> None:
        noted = noted_owners(store.snapshots, snapshot)
        self._noted: Mapping[tuple[int, int], Owner] = noted.by_inode if noted else {}
        self._below = store.snapshots.recorded_owners(snapshot)
        self._written = written

    def get(self, path: bytes) -> Record | None:
        """See `Records.get`."""
        fd = _opened(self._written, path)
        if fd is None:
            return self._below.get(path)
        try:
            found = self._noted.get((KEPT, os.fstat(fd).st_ino))
        finally:
            os.close(fd)
        return found if found is not None else self._below.get(path)


@contextmanager
def container_tree(store: Store, snapshot: Snapshot, name: str) -> Iterator[Tree]:
    """The files of a snapshot that nothing runs in, to be read, for the block; messages call
    them `name`. Raises StorageError, InvalidArchive for damaged notes."""
    recorded = store.layers.disk.ownership is Ownership.RECORDED
    root = store.snapshots.opened(snapshot)
    try:
        with store.snapshots.written(snapshot) as written:
            records: Records = NoRecords()
            if recorded or os.path.exists(os.path.join(snapshot.path, NAME)):
                records = _Noted(store, snapshot, written)
            yield Tree(fd=root, name=name, records=records, recorded_owners=recorded)
    finally:
        os.close(root)


def take_in(store: Store, snapshot: Snapshot, tar: Readable) -> UnpackResult:
    """Unpack the tar of a layer on the files of a snapshot that nothing runs in. Raises as
    `unpack_tree`; what was unpacked by then stays."""
    disk = store.layers.disk
    real = disk.ownership is Ownership.REAL
    recorder = _Recorder(disk.ownership, superuser=disk.ids.superuser)
    options = UnpackOptions(
        devices=Devices.RECORD,
        owner=real,
        map_owner=(
            owner_map(disk.ids, ignore_errors=disk.location.ignore_chown_errors) if real else None
        ),
        recorder=recorder,
        layered=True,
    )
    root = store.snapshots.opened(snapshot)
    try:
        result = unpack_tree(tar, root, options)
    finally:
        os.close(root)
    recorder.note(store, snapshot)
    return result


class _Recorder(LayerRecorder):
    """Collects what the disk cannot hold of what is unpacked, and under which paths it is."""

    def __init__(self, ownership: Ownership, *, superuser: bool) -> None:
        self._found = OwnerTree()
        self._paths: dict[bytes, None] = {}
        self._recorded = ownership is Ownership.RECORDED
        super().__init__(self._found, ownership, superuser=superuser)

    def made(
        self, path: bytes, entry: Entry, refused: Mapping[str, bytes], placeholder: bool
    ) -> None:
        """See `Recorder.made`."""
        super().made(path, entry, refused, placeholder)
        self._paths[path] = None

    def linked(self, path: bytes, target: bytes) -> None:
        """See `Recorder.linked`."""
        super().linked(path, target)
        self._paths[path] = None

    def note(self, store: Store, snapshot: Snapshot) -> None:
        """Note the owners beside the snapshot, by what the files are on disk now."""
        noted = {path: self._found.get(path) for path in self._paths}
        if not self._recorded:
            noted = {path: owner for path, owner in noted.items() if owner is not None}
        if not noted:
            return
        notes = Notes(os.path.join(snapshot.path, NAME))
        try:
            with store.snapshots.written(snapshot) as written, storage_errors(snapshot.path):
                for path, owner in noted.items():
                    fd = _opened(written, path)
                    if fd is None:
                        continue
                    try:
                        note = Note(owner=owner or Owner(uid=0, gid=0), born=born(fd))
                        notes.set((KEPT, os.fstat(fd).st_ino), note)
                    finally:
                        os.close(fd)
        finally:
            notes.close()


def _opened(directory: int, path: bytes) -> int | None:
    """The file on disk by a descriptor that cannot read it, None where it is not."""
    try:
        return openat2(directory, path or b".", FILE_FLAGS, RESOLVE)
    except OSError:
        return None

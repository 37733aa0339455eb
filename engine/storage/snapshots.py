"""Snapshots: trees to run in, made from a layer at once and thrown away as a whole.

With the overlay driver that is two empty directories whatever the size of the image; with the
flat driver a copy. Nothing is mounted here: `root_mount` says what to mount, and whoever runs
something in it does so in a mount namespace of its own.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

from engine.storage.changes import Changes, survey_changes
from engine.storage.changes_compare import Comparison, Side
from engine.storage.changes_write import write_changes
from engine.storage.drivers.base import opened
from engine.storage.drivers.mounts import is_mount_point, mounted, open_root
from engine.storage.layers import LayerStore
from engine.storage.layers_disk import read_document
from engine.storage.layout import MERGED, META, UPPER, checked_id
from engine.storage.options import DiffOptions, DiffResult, Owner, RootMount, Snapshot
from imgtools.blob.files import storage_errors
from imgtools.errors import Conflict, InvalidInput, NotFound
from imgtools.spec.digest import Digest

VERSION = 1


class SnapshotStore:
    """The snapshots of an open store, on top of its layers."""

    def __init__(self, layers: LayerStore) -> None:
        self.layers = layers
        self.disk = layers.disk

    def prepare(
        self,
        chain_id: Digest | None,
        snapshot_id: str,
        *,
        read_only: bool = False,
        volatile: bool = False,
    ) -> Snapshot:
        """Make a snapshot of the layer `chain_id`, None for an empty tree.

        `read_only` ones are views of the layer, which is not copied. `volatile` ones do
        without fsync inside: for what is worth nothing after a power loss. Raises NotFound
        (no layer), Conflict (the id is taken), InvalidInput, StorageError.
        """
        final = self.disk.layout.snapshot(snapshot_id)
        stack = self.layers.get(chain_id).stack if chain_id is not None else ()
        if os.path.lexists(final):
            raise Conflict(f"snapshot {snapshot_id} exists already")
        with self.disk.workspace.directory(later=True) as inside:
            made = os.path.join(inside, "snapshot")
            with storage_errors(made):
                os.mkdir(made, 0o700)
                began = _file_time(made)
                if not (read_only and stack):
                    self.disk.driver.new_snapshot(self.layers.lower(stack), made)
                snapshot = Snapshot(
                    id=snapshot_id,
                    chain_id=chain_id,
                    stack=stack,
                    read_only=read_only,
                    volatile=volatile,
                    path=final,
                    began_ns=began,
                    prepared_ns=_file_time(made),
                )
                with open(os.path.join(made, META), "xb") as meta:
                    meta.write(_document(snapshot))
            self._publish(made, snapshot)
        return snapshot

    def get(self, snapshot_id: str) -> Snapshot:
        """The snapshot; raises NotFound, InvalidInput for a damaged one."""
        path = self.disk.layout.snapshot(snapshot_id)
        try:
            document = read_document(os.path.join(path, META))
        except NotFound as e:
            raise NotFound(f"there is no snapshot {snapshot_id}") from e
        try:
            return _from_document(document, snapshot_id, path)
        except (KeyError, TypeError, ValueError) as e:
            raise InvalidInput(f"snapshot {snapshot_id} is damaged: {META}") from e

    def list(self) -> Iterator[Snapshot]:
        """All snapshots that are whole, in no order."""
        for name in self._names():
            try:
                yield self.get(name)
            except (NotFound, InvalidInput):
                continue

    def damaged(self) -> Iterator[str]:
        """Ids of snapshots that a power loss left without their data; to be removed."""
        for name in self._names():
            try:
                self.get(name)
            except (NotFound, InvalidInput):
                yield name

    def _names(self) -> Iterator[str]:
        top = self.disk.layout.snapshots
        with storage_errors(top):
            names = os.listdir(top) if os.path.isdir(top) else []
        for name in names:
            try:
                yield checked_id(name)
            except InvalidInput:
                continue

    def remove(self, snapshot_id: str) -> bool:
        """Remove a snapshot and all that was written in it; False if there was none.

        Raises Conflict if something is mounted in its directories, StorageError.
        """
        return self.disk.workspace.discard(self.disk.layout.snapshot(snapshot_id), later=True)

    def root_mount(self, snapshot: Snapshot) -> RootMount:
        """What to mount. To be asked anew before each mount of a volatile snapshot.

        Where the tree is mounted for people already (`mount_point`), that is it: a second
        overlay of the same directories would not see what is written through the first.
        """
        if not snapshot.read_only and is_mount_point(self.mount_point(snapshot)):
            return RootMount(path=self.mount_point(snapshot))
        return self.disk.driver.root(
            self.layers.lower(snapshot.stack),
            "" if snapshot.read_only and snapshot.stack else snapshot.path,
            read_only=snapshot.read_only,
            volatile=snapshot.volatile,
        )

    def mount_point(self, snapshot: Snapshot) -> str:
        """Where the tree of a snapshot that is kept may be mounted for longer than a process."""
        return os.path.join(snapshot.path, MERGED)

    def mounted(self, snapshot: Snapshot, target: str) -> AbstractContextManager[None]:
        """Have the tree at the directory `target` of this mount namespace in a `with` block.

        For a process that has a mount namespace of its own (`unshare`). Raises StorageError.
        """
        return mounted(self.root_mount(snapshot), target)

    def opened(self, snapshot: Snapshot) -> int:
        """A descriptor of the tree's root, mounted nowhere, for reading and writing files of
        the snapshot from outside; the caller closes it. Raises StorageError."""
        return open_root(self.root_mount(snapshot))

    def recorded_owners(self, snapshot: Snapshot) -> dict[bytes, Owner]:
        """Owners by path in the layers below, where the disk cannot say: what an emulation of
        root has to begin with."""
        return dict(self.layers.owners(snapshot.chain_id).items())

    def written(self, snapshot: Snapshot) -> AbstractContextManager[int]:
        """A descriptor, for a `with` block, of the directory on disk that has what was written
        in `snapshot`: with the flat driver the whole tree."""
        return opened(self.own_directory(snapshot))

    def own_directory(self, snapshot: Snapshot) -> str:
        """The path of that directory."""
        driver = self.disk.driver
        name = UPPER if driver.max_stack > 1 else driver.content
        return os.path.join(snapshot.path, name)

    def diff(
        self,
        snapshot: Snapshot,
        write: Callable[[bytes], object],
        options: DiffOptions | None = None,
    ) -> DiffResult:
        """Write what was changed in `snapshot` as a layer's tar through `write`.

        The same changes give the same bytes, whichever driver. Nothing may write to the
        snapshot meanwhile. Raises Conflict if something does, InvalidInput for files that have
        the name of a whiteout, Unsupported for what an overlay mount with other options than
        ours left, LimitExceeded (too deep), StorageError, and what `write` raises.
        """
        options = options or DiffOptions()
        if snapshot.read_only:
            raise InvalidInput(f"snapshot {snapshot.id} is read-only and has no changes")
        with self.written(snapshot) as upper:
            comparison, changes = self.changes(snapshot, upper, options)
            return write_changes(comparison, changes, upper, write, options)

    def changes(
        self, snapshot: Snapshot, upper: int, options: DiffOptions
    ) -> tuple[Comparison, Changes]:
        """What was changed in `snapshot`, whose own files are in the directory `upper`, and by
        what that was told. Raises as `diff`."""
        comparison = Comparison(
            ownership=self.disk.ownership,
            owners=self.layers.owners(snapshot.chain_id),
            emulated=options.emulated,
            stacked=self.disk.driver.max_stack > 1,
            window=(snapshot.began_ns, snapshot.prepared_ns),
        )
        lower = self._lower(snapshot)
        try:
            return comparison, survey_changes(comparison, Side(upper, lower), options.exclude)
        finally:
            if lower is not None:
                os.close(lower)

    def _lower(self, snapshot: Snapshot) -> int | None:
        if snapshot.chain_id is None:
            return None
        lower = self.layers.lower(snapshot.stack)
        return open_root(self.disk.driver.root(lower, "", read_only=True, volatile=False))

    def _publish(self, made: str, snapshot: Snapshot) -> None:
        try:
            os.rename(made, snapshot.path)
        except FileNotFoundError:
            os.makedirs(self.disk.layout.snapshots, mode=0o700, exist_ok=True)
            with storage_errors(snapshot.path):
                os.rename(made, snapshot.path)
        except OSError as e:
            if os.path.lexists(snapshot.path):
                raise Conflict(f"snapshot {snapshot.id} exists already") from e
            with storage_errors(snapshot.path):
                raise


def _file_time(directory: str) -> int:
    """What the file system takes for now, in nanoseconds; later changes are not earlier."""
    path = os.path.join(directory, "now")
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        return os.fstat(fd).st_ctime_ns
    finally:
        os.close(fd)
        os.unlink(path)


def _document(snapshot: Snapshot) -> bytes:
    return json.dumps(
        {
            "version": VERSION,
            "chain_id": str(snapshot.chain_id) if snapshot.chain_id is not None else "",
            "stack": [str(chain_id) for chain_id in snapshot.stack],
            "read_only": snapshot.read_only,
            "volatile": snapshot.volatile,
            "began_ns": snapshot.began_ns,
            "prepared_ns": snapshot.prepared_ns,
        }
    ).encode()


def _from_document(document: dict[str, object], snapshot_id: str, path: str) -> Snapshot:
    """Raises KeyError, TypeError or ValueError when damaged."""
    stack, began, prepared = document["stack"], document["began_ns"], document["prepared_ns"]
    if document["version"] != VERSION or not isinstance(stack, list):
        raise ValueError("another version")
    if not isinstance(began, int) or not isinstance(prepared, int):
        raise TypeError("not a number")
    chain_id = str(document["chain_id"])
    return Snapshot(
        id=snapshot_id,
        chain_id=Digest.parse(chain_id) if chain_id else None,
        stack=tuple(Digest.parse(str(item)) for item in stack),
        read_only=bool(document["read_only"]),
        volatile=bool(document["volatile"]),
        path=path,
        began_ns=began,
        prepared_ns=prepared,
    )

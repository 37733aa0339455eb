"""A snapshot that becomes a layer as it is: its directory is renamed, not packed and unpacked.

The tar is written all the same, into nothing but a hash and the record that gives it back, and
what an unpacking of it would leave otherwise is put right: times, and the table of owners.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

from engine.storage.changes import ChangeKind
from engine.storage.changes_write import write_changes
from engine.storage.drivers.base import opened
from engine.storage.layers import chained
from engine.storage.locks import Held
from engine.storage.options import DiffOptions, DiffResult, Layer, Snapshot
from engine.storage.ownership import LayerRecorder, OwnerTree
from engine.storage.parts import RECORD
from engine.storage.snapshots import SnapshotStore
from engine.storage.tar_record import RecordWriter
from imgtools.blob.files import storage_errors
from imgtools.blob.tar import Entry, EntryType
from imgtools.frozen import dataclass
from imgtools.spec.digest import Digest


@dataclass(frozen=True, slots=True)
class Adopted:
    """The layer that a snapshot has become, what its tar is, and the lock that keeps it."""

    layer: Layer
    result: DiffResult
    held: Held


def adopt_snapshot(
    snapshots: SnapshotStore,
    snapshot: Snapshot,
    options: DiffOptions,
    lock: Callable[[Digest], Held],
) -> Adopted | None:
    """Make `snapshot` the layer that its changes are; None where that cannot be done, and the
    snapshot is as it was.

    Nothing may run in it. `lock` gives the lock of the layer before that has its name. What is
    left of the snapshot is to be removed. Raises as `SnapshotStore.diff`.
    """
    disk = snapshots.disk
    stack = snapshot.stack if disk.driver.max_stack > 1 else ()
    if not disk.ids.superuser or options.exclude is not None:
        return None
    if disk.driver.max_stack > 1 and len(stack) + 1 > disk.driver.max_stack:
        return None
    own = snapshots.own_directory(snapshot)
    with disk.workspace.directory(later=True) as inside:
        made = os.path.join(inside, "layer")
        content = os.path.join(made, disk.driver.content)
        with storage_errors(made):
            os.mkdir(made, 0o700)
        try:
            os.rename(own, content)
        except OSError:
            return None
        adoption = _Adoption(snapshots, snapshot, options, made)
        result = adoption.write(content)
        if result is None:
            with storage_errors(own):
                os.rename(content, own)
            return None
        chain_id = chained(snapshot.chain_id, result.diff_id)
        held = lock(chain_id)
        try:
            layer = Layer(
                chain_id=chain_id,
                diff_id=result.diff_id,
                parent=snapshot.chain_id,
                stack=(chain_id, *stack),
                size=adoption.size,
                entries=result.entries,
                path=disk.layout.layer(chain_id),
            )
            snapshots.layers.complete(made, layer, adoption.owners)
            return Adopted(snapshots.layers.publish(made, layer), result, held)
        except BaseException:
            held.close()
            raise


class _Adoption:
    """Is told what is written, and keeps what the layer has to have beside its files."""

    def __init__(
        self, snapshots: SnapshotStore, snapshot: Snapshot, options: DiffOptions, made: str
    ) -> None:
        self._snapshots = snapshots
        self._snapshot = snapshot
        self._options = options
        self._made = made
        self._root = False
        self.size = 0
        self.owners = OwnerTree()
        self._recorder = LayerRecorder(self.owners, snapshots.disk.ownership, superuser=True)

    def write(self, content: str) -> DiffResult | None:
        """Hash and record the changes whose files are in `content`; None where a layer cannot
        have all that is there."""
        with opened(content) as upper:
            comparison, changes = self._snapshots.changes(self._snapshot, upper, self._options)
            if changes.sockets:
                return None
            self.owners = comparison.owners
            self._recorder = LayerRecorder(
                self.owners, self._snapshots.disk.ownership, superuser=True
            )
            path = os.path.join(self._made, RECORD)
            with storage_errors(path), open(path, "xb", buffering=0) as file:
                record = RecordWriter(file)
                result = write_changes(comparison, changes, upper, record.take, self._options, self)
                record.finish()
            if not self._root:
                time = self._time_of_root()
                with storage_errors(content):
                    os.utime(upper, ns=(time, time))
        return result

    def entry(
        self, path: bytes, entry: Entry, refused: Mapping[str, bytes], placeholder: bool
    ) -> None:
        """See `Settling`."""
        self._root |= not path
        if entry.type is EntryType.HARDLINK:
            self.owners.remove(path)
            self._recorder.linked(path, entry.linkname.encode("utf-8", "surrogateescape"))
            return
        self.size += entry.size
        if entry.type is not EntryType.DIR:
            self.owners.remove(path)
        self._recorder.made(path, entry, refused, placeholder)

    def mark(self, kind: ChangeKind, path: bytes) -> None:
        """See `Settling`."""
        if kind is ChangeKind.OPAQUE:
            self.owners.clear(path, ())
        else:
            self.owners.remove(path)

    def _time_of_root(self) -> int:
        """A layer that says nothing of the root leaves it as it was."""
        lower = self._snapshots.layers.lower(self._snapshot.stack)
        if not lower:
            return 0
        with storage_errors(lower[0]):
            return os.stat(lower[0]).st_mtime_ns

"""What a commit adds to the layers of the base: the changes of a snapshot as one tar, or with
squash one of all layers.

The tar is spooled beside the layers, hashed as it is written, and read from there as often as a
destination needs it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Sequence
from functools import partial
from typing import BinaryIO

from engine.containers.ownership import diff_container
from engine.storage.intake import Intake, temporary_file
from engine.storage.options import DiffOptions, Layer, Snapshot
from engine.storage.store import Store
from engine.working.times import SECOND
from imgtools.blob.files import storage_errors, write_all
from imgtools.blob.reader import BlobReader, FromStart
from imgtools.blob.tar import Entry, TarWriter
from imgtools.build.outputs.merge import OpenLayer, merged
from imgtools.errors import InvalidInput
from imgtools.frozen import dataclass
from imgtools.spec.digest import Digest, new_hasher
from imgtools.task import Task
from imgtools.transport.closing import Closing

_END = 1024
"""Bytes of zeros that end an archive."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AddedFile:
    """A file of the host, `source`, that the layer has at `path` (absolute)."""

    source: str
    path: str


class SpooledLayer(Closing):
    """The tar of a layer in an unnamed file: `diff_id`, `size` in bytes; `empty` without
    members."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._hasher = new_hasher("sha256")
        self.size = 0
        self.empty = True
        self.diff_id = Digest.of(b"")

    def write(self, data: bytes) -> None:
        """Append to the tar."""
        write_all(self._file, data)
        self._hasher.update(data)
        self.size += len(data)

    def finish(self, *, empty: bool) -> None:
        """Say that all was written."""
        self.empty = empty
        self.diff_id = Digest("sha256", self._hasher.hexdigest())

    def open(self) -> BlobReader:
        """A reader of the tar from its start; several may read at a time."""
        return BlobReader(FromStart(self._file.fileno()), self.diff_id, self.size, what="layer")

    def close(self) -> None:
        """Give the file's space back."""
        self._file.close()


def spool_changes(
    store: Store, snapshot: Snapshot, options: DiffOptions, added: Sequence[AddedFile]
) -> SpooledLayer:
    """What was changed in a snapshot, and files that are added to it. Raises as
    `diff_container`, StorageError for a file that cannot be read."""
    spool = SpooledLayer(temporary_file(store.parts.layout.tmp))
    try:
        kept = _WithoutEnd(spool.write)
        result = diff_container(store.snapshots, snapshot, kept.write, options)
        if added:
            _append(spool.write, added, options)
        else:
            spool.write(bytes(_END))
        # Of a tree that began empty its root is said too, which alone is no change.
        unsaid = 1 if snapshot.chain_id is None else 0
        spool.finish(empty=result.entries <= unsaid and not added)
    except BaseException:
        spool.close()
        raise
    return spool


def spool_whole(
    store: Store,
    below: Sequence[Layer],
    changes: SpooledLayer,
    options: DiffOptions,
    *,
    task: Task,
) -> SpooledLayer:
    """What the layers `below`, the oldest first, and `changes` make together, as one layer: the
    one that a squashed build makes of them. Raises as `merged`."""
    intake = Intake(store.parts)
    layers: list[OpenLayer] = [partial(intake.replay, layer) for layer in below]
    if not changes.empty:
        layers.append(changes.open)
    spool = SpooledLayer(temporary_file(store.parts.layout.tmp))
    try:
        for chunk in merged(
            layers,
            whole=True,
            mtime_ns=_nanoseconds(options.mtime),
            latest_ns=_nanoseconds(options.mtime_clamp),
            task=task,
        ):
            spool.write(chunk)
        spool.finish(empty=spool.size == _END)
    except BaseException:
        spool.close()
        raise
    return spool


def _nanoseconds(seconds: int | None) -> int | None:
    return None if seconds is None else seconds * SECOND


class _WithoutEnd:
    """Passes an archive on without the zeros that end it."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write
        self._last = b""

    def write(self, data: bytes) -> None:
        data = self._last + data
        self._last = data[-_END:]
        if len(data) > _END:
            self._write(data[:-_END])


def _append(
    write: Callable[[bytes], object], added: Sequence[AddedFile], options: DiffOptions
) -> None:
    """Write members for files of the host, owned by root, and the end of the archive."""
    writer = TarWriter(write, subsecond=options.subsecond)
    for each in added:
        with storage_errors(each.source), open(each.source, "rb") as file:
            state = os.fstat(file.fileno())
            if not stat.S_ISREG(state.st_mode):
                raise InvalidInput(f"--add-file {each.source}: it is not a file")
            entry = Entry(
                path=_inside(each.path),
                mode=stat.S_IMODE(state.st_mode),
                size=state.st_size,
                mtime_ns=_time(state.st_mtime_ns, options),
            )
            writer.add(entry, file)
    writer.finish()


def _inside(path: str) -> str:
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if not parts or ".." in parts:
        raise InvalidInput(f"--add-file: {path!r} is no path of a file in the container")
    return "/".join(parts)


def _time(mtime_ns: int, options: DiffOptions) -> int:
    if options.mtime is not None:
        return options.mtime * SECOND
    if options.mtime_clamp is not None:
        return min(mtime_ns, options.mtime_clamp * SECOND)
    return mtime_ns

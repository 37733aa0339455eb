"""What root emulation notes of a container's files, beside the snapshot they belong to.

Where a single id is mapped, a file's owner is only in these notes. They are kept until the
snapshot is removed, so that another process, and the next container on the same snapshot, find
them. The file is called after the device that the root had, because that changes with every
mount of it and tells the snapshot's files from those of volumes.
"""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from engine.emulation.births import born
from engine.emulation.notes import Key, Notes
from engine.emulation.recorder import OwnershipRecorder
from engine.runtime.zygote.client import Running
from engine.storage.drivers.base import above, identity_of
from engine.storage.options import DiffOptions, DiffResult, Emulated, Owner, Snapshot
from engine.storage.snapshots import SnapshotStore
from engine.storage.store import Store
from imgtools.blob.files import storage_errors
from imgtools.errors import LimitExceeded

PREFIX = "owners-"
UNFINISHED = "owners.new"
DEVICE = 0
"""Stands for the snapshot's own file system, whatever number it has where it is mounted."""
DIR_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
FILE_FLAGS = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
MAX_DEPTH = 512


@contextmanager
def recording(snapshots: SnapshotStore, snapshot: Snapshot, running: Running) -> Iterator[None]:
    """Answer a container's calls about owners, in a thread, until it has ended.

    What was noted in earlier containers on `snapshot` goes on to count. Raises StorageError,
    InvalidArchive for damaged notes, and what made the container fail.
    """
    running.wait_started()
    if running.listener_fd < 0:
        yield
        return
    notes = _take_up(snapshot, _root_device(running.pid))
    try:
        base = snapshots.recorded_owners(snapshot)
        listener, running.listener_fd = running.listener_fd, -1
        recorder = OwnershipRecorder(listener, notes, base.get)
        thread = threading.Thread(target=recorder.serve, name="owners", daemon=True)
        thread.start()
        try:
            yield
        finally:
            recorder.stop()
            thread.join()
            recorder.close()
    finally:
        notes.close()


def diff_container(
    snapshots: SnapshotStore,
    snapshot: Snapshot,
    write: Callable[[bytes], object],
    options: DiffOptions | None = None,
) -> DiffResult:
    """Write what containers changed in `snapshot` as a layer's tar, with the owners that they
    asked for. Arguments and errors are those of `SnapshotStore.diff`, and InvalidArchive for
    damaged notes."""
    options = options or DiffOptions()
    return snapshots.diff(
        snapshot,
        write,
        DiffOptions(
            mtime=options.mtime,
            mtime_clamp=options.mtime_clamp,
            subsecond=options.subsecond,
            exclude=options.exclude,
            emulated=options.emulated or noted_owners(snapshots, snapshot),
        ),
    )


def forget(store: Store, container_id: str) -> None:
    """Remove the snapshot of a container that was kept, with its notes; one that is gone is no
    error. Raises Conflict if something is mounted in it."""
    store.snapshots.remove(container_id)
    store.parts.uses.forget(container_id)


def noted_owners(snapshots: SnapshotStore, snapshot: Snapshot) -> Emulated | None:
    """The owners noted for files that are in `snapshot` now, by the numbers they have on disk;
    None where nothing was noted. Nothing may run in the snapshot."""
    with storage_errors(snapshot.path):
        names = sorted(name for name in os.listdir(snapshot.path) if name.startswith(PREFIX))
        if not names:
            return None
        # Two are there only if taking them up was interrupted; then they say the same.
        notes = Notes(os.path.join(snapshot.path, names[-1]))
    try:
        device = int(names[-1].removeprefix(PREFIX))
        seen = snapshots.opened(snapshot)
        try:
            with snapshots.written(snapshot) as own, storage_errors(snapshot.path):
                found = _Matching(notes, device).walk(own, seen)
        finally:
            os.close(seen)
    finally:
        notes.close()
    return Emulated(device=DEVICE, by_inode=found)


def _root_device(pid: int) -> int:
    with storage_errors(f"/proc/{pid}/root"):
        return os.stat(f"/proc/{pid}/root/").st_dev


def _take_up(snapshot: Snapshot, device: int) -> Notes:
    """The notes of `snapshot`, for files that now have the device number `device`."""
    path = os.path.join(snapshot.path, f"{PREFIX}{device}")
    with storage_errors(snapshot.path):
        earlier = [n for n in os.listdir(snapshot.path) if n.startswith(PREFIX)]
        for name in earlier:
            if name == os.path.basename(path):
                continue
            old = os.path.join(snapshot.path, name)
            if not os.path.exists(path):
                _renumber(old, int(name.removeprefix(PREFIX)), path, device)
            os.unlink(old)
    return Notes(path)


def _renumber(old: str, before: int, path: str, device: int) -> None:
    """Copy the notes about files of the device `before`, which is now `device`."""
    temporary = os.path.join(os.path.dirname(path), UNFINISHED)
    with storage_errors(temporary):
        if os.path.exists(temporary):
            os.unlink(temporary)
    source, target = Notes(old), Notes(temporary)
    try:
        for (number, inode), note in source.items():
            if number == before:
                target.set((device, inode), note)
    finally:
        source.close()
        target.close()
    with storage_errors(path):
        os.rename(temporary, path)


class _Matching:
    """Looks at every file of the snapshot's own directory as the container saw it: an overlay
    gives files that it brought up the numbers that they had below."""

    def __init__(self, notes: Notes, device: int) -> None:
        self._notes = notes
        self._device = device
        self._found: dict[Key, Owner] = {}

    def walk(self, own: int, seen: int) -> dict[Key, Owner]:
        """The owners of the files below the directory `own`, which is `seen` when mounted."""
        self._note(os.fstat(own), seen)
        here = _Pair(os.dup(own), os.dup(seen))
        above_here: list[tuple[_Place, Iterator[str]]] = []
        names = iter(os.listdir(own))
        try:
            while True:
                below = self._next(here, names)
                if below is not None:
                    if len(above_here) >= MAX_DEPTH:
                        below.close()
                        raise LimitExceeded("depth of a tree", MAX_DEPTH, unit="directories")
                    above_here.append((here.place(), names))
                    names = iter(os.listdir(below.own))
                elif above_here:
                    place, names = above_here.pop()
                    below = here.up(place)
                else:
                    return self._found
                here.close()
                here = below
        finally:
            here.close()

    def _next(self, here: _Pair, names: Iterator[str]) -> _Pair | None:
        """Match files until there is a directory; that, or None when all are done."""
        for name in names:
            state = os.stat(name, dir_fd=here.own, follow_symlinks=False)
            if stat.S_ISCHR(state.st_mode) and state.st_rdev == 0:
                continue  # An overlay's mark of a removed file.
            fd = os.open(name, FILE_FLAGS, dir_fd=here.seen)
            try:
                self._note(state, fd)
            finally:
                os.close(fd)
            if stat.S_ISDIR(state.st_mode):
                return here.down(name)
        return None

    def _note(self, state: os.stat_result, seen: int) -> None:
        note = self._notes.get((self._device, os.fstat(seen).st_ino), born(seen))
        if note is not None:
            self._found[DEVICE, state.st_ino] = note.owner


_Place = tuple[tuple[int, int], tuple[int, int]]


class _Pair:
    """A directory twice: on disk and as mounted. Only one pair is open at a time, so that the
    depth of a tree costs no descriptors."""

    def __init__(self, own: int, seen: int) -> None:
        self.own, self.seen = own, seen

    def place(self) -> _Place:
        """What tells both from other directories."""
        return identity_of(self.own), identity_of(self.seen)

    def down(self, name: str) -> _Pair:
        """The directory `name` in this one."""
        own = os.open(name, DIR_FLAGS, dir_fd=self.own)
        try:
            return _Pair(own, os.open(name, DIR_FLAGS, dir_fd=self.seen))
        except BaseException:
            os.close(own)
            raise

    def up(self, place: _Place) -> _Pair:
        """The directory above, which has to be `place`; raises Conflict."""
        own = above(self.own, place[0])
        try:
            return _Pair(own, above(self.seen, place[1]))
        except BaseException:
            os.close(own)
            raise

    def close(self) -> None:
        """Let go of both."""
        os.close(self.own)
        os.close(self.seen)

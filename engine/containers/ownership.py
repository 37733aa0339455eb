"""What root emulation notes of a container's files, beside the snapshot they belong to.

Where a single id is mapped, a file's owner is only in these notes. They are kept until the
snapshot is removed, so that another process, and the next container on the same snapshot, find
them. They name files by what they are on disk, which stays when an overlay is mounted anew.
"""

from __future__ import annotations

import itertools
import os
import stat
import threading
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager

from engine.emulation.births import born
from engine.emulation.notes import Key, Note, Notes
from engine.emulation.recorder import OwnershipRecorder, never_fresh
from engine.runtime.kernel.paths import (
    O_PATH,
    RESOLVE_BENEATH,
    RESOLVE_NO_SYMLINKS,
    RESOLVE_NO_XDEV,
    openat2,
    proc_path,
)
from engine.runtime.zygote.client import Running
from engine.storage.drivers.base import above, identity_of, opened
from engine.storage.options import DiffOptions, DiffResult, Emulated, Owner, Snapshot
from engine.storage.snapshots import SnapshotStore
from engine.storage.store import Store
from imgtools.blob.files import storage_errors
from imgtools.errors import LimitExceeded

TYPE_CHECKING = False
if TYPE_CHECKING:
    from engine.containers.assemble import Setting

NAME = "owners"
ORIGINS = ("user.overlay.origin", "trusted.overlay.origin")
KEPT = 0
"""Stands for the device of files that are in the snapshot; what others have is their own."""
DIR_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
FILE_FLAGS = O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
RESOLVE = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV
MAX_DEPTH = 512


@contextmanager
def recording(
    snapshots: SnapshotStore,
    snapshot: Snapshot,
    running: Running,
    setting: Setting,
) -> Iterator[None]:
    """Answer a container's calls about owners, in a thread, until it has ended.

    What was noted in earlier containers on `snapshot` goes on to count. What the container
    makes is the creator's of its `setting`, even where no calls can be answered. Raises
    StorageError, InvalidArchive for damaged notes, and what made the container fail.
    """
    running.wait_started()
    notes = Notes(os.path.join(snapshot.path, NAME))
    try:
        with snapshots.written(snapshot) as own:
            files = _Files(own, _root_device(running.pid), snapshot, snapshots, setting)
            replacing: set[tuple[Key, int]] = set()
            try:
                with _answering(running, notes, files, setting, replacing):
                    yield
            finally:
                with storage_errors(snapshot.path):
                    files.claim(notes, replacing)
    finally:
        notes.close()


@contextmanager
def _answering(
    running: Running,
    notes: Notes,
    files: _Files,
    setting: Setting,
    replacing: set[tuple[Key, int]],
) -> Iterator[None]:
    """Have a recorder for the block, if the container has a listener for one."""
    if running.listener_fd < 0:
        yield
        return
    listener, running.listener_fd = running.listener_fd, -1
    recorder = OwnershipRecorder(
        listener,
        notes,
        files.recorded,
        files.name,
        caller=setting.caller,
        fresh=files.fresh if setting.own_user else never_fresh,
        recorded=files.recorded_below,
    )
    thread = threading.Thread(target=recorder.serve, name="owners", daemon=True)
    thread.start()
    try:
        yield
    finally:
        recorder.stop()
        thread.join()
        recorder.close()
        replacing |= recorder.replacing


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
    """The owners noted for files that are in `snapshot` now; None where nothing was noted.
    Nothing may run in the snapshot. Raises InvalidArchive for damaged notes."""
    path = os.path.join(snapshot.path, NAME)
    if not os.path.exists(path):
        return None
    notes = Notes(path)
    try:
        with snapshots.written(snapshot) as own, storage_errors(snapshot.path):
            births = dict(_births(own))
    finally:
        notes.close()
    return Emulated(device=KEPT, by_inode=notes.current(births.get))


def _root_device(pid: int) -> int:
    """The device of the root of process `pid`; -1 for one that has ended, and asks no more."""
    try:
        return os.stat(f"/proc/{pid}/root/").st_dev
    except (FileNotFoundError, ProcessLookupError):
        return -1


class _Files:
    """The files of a snapshot by what they are on disk.

    An overlay shows a file that it has brought up with the number it had below, but only until
    it is mounted anew; the number in its upper directory stays. `own` is that directory, or the
    tree of the flat driver.
    """

    def __init__(
        self,
        own: int,
        device: int,
        snapshot: Snapshot,
        snapshots: SnapshotStore,
        setting: Setting,
    ) -> None:
        self._own = own
        self._device = device
        self._stacked = snapshots.disk.driver.max_stack > 1
        self._prepared = snapshot.prepared_ns
        self._creator = Owner(uid=setting.creator[0], gid=setting.creator[1])
        root = setting.creator == (0, 0)
        # What earlier containers made stays theirs; what is not noted is root's anyway.
        self._began = snapshot.began_ns if root else max(snapshot.began_ns, setting.since_ns)
        self._below = snapshots.recorded_owners(snapshot)
        self._lower = snapshots.layers.lower(snapshot.stack) if self._stacked else ()

    def name(self, fd: int, path: bytes) -> Key:
        """See `engine.emulation.recorder.Naming`."""
        state = os.fstat(fd)
        if state.st_dev != self._device:
            return state.st_dev, state.st_ino
        found = self._open(path)
        if found is None:
            return KEPT, state.st_ino
        try:
            # A container that renames meanwhile gets the number that it sees, as for a file
            # without a name.
            same = born(found) == born(fd)
            return KEPT, os.fstat(found).st_ino if same else state.st_ino
        finally:
            os.close(found)

    def recorded(self, path: bytes) -> Owner | None:
        """What the layers below record for the file at `path`, unless it is a new one."""
        owner = self._below.get(path)
        found = None if owner is None or not path else self._open(path)
        if found is None:
            return owner
        try:
            return None if self._is_new(found, path) else owner
        finally:
            os.close(found)

    def recorded_below(self, path: bytes) -> Iterator[bytes]:
        """See `engine.emulation.moves.Recorded`."""
        if not self._stacked:
            upper = path + b"/"
            yield from (each for each in self._below if each == path or each.startswith(upper))

    def fresh(self, fd: int, path: bytes) -> bool:
        """See `engine.emulation.recorder.Fresh`; of what is mounted there, all is the one
        user's that can be seen."""
        if os.fstat(fd).st_dev != self._device:
            return True
        found = self._open(path)
        if found is None:
            return False
        try:
            if born(found) < self._began:
                return False
            return not _has_attributes(os.fstat(found)) or self._is_new(found, path)
        finally:
            os.close(found)

    def claim(self, notes: Notes, replacing: Container[tuple[Key, int]]) -> None:
        """Note that new files are the creator's, where the path alone would say otherwise.

        It does for files that were removed and made anew, unless they were to look like what
        they replace; and for all where the creator is not root. Nothing runs any more.
        """
        if (self._creator.uid, self._creator.gid) != (0, 0):
            # The root itself is no new directory, though the upper one is.
            for fd in itertools.islice(_walk(self._own), 1, None):
                self._claim(fd, notes, replacing)
            return
        for path in filter(None, self._below):
            found = self._open(path)
            if found is not None:
                try:
                    self._claim(found, notes, replacing, path)
                finally:
                    os.close(found)

    def _claim(
        self, fd: int, notes: Notes, replacing: Container[tuple[Key, int]], path: bytes = b""
    ) -> None:
        state = os.fstat(fd)
        if stat.S_ISCHR(state.st_mode) and state.st_rdev == 0:
            return  # The mark of a removed file.
        key, birth = (KEPT, state.st_ino), born(fd)
        if notes.get(key, birth) is not None or (key, birth) in replacing or birth < self._began:
            return
        # A link that was brought up has been noted, as there is nothing else to do to one.
        if not _has_attributes(state) or self._is_new(fd, path):
            notes.set(key, Note(owner=self._creator, born=birth))

    def _is_new(self, fd: int, path: bytes = b"") -> bool:
        if not self._stacked:
            return born(fd) > self._prepared
        if not _has_attributes(os.fstat(fd)):
            return False  # Nothing tells what was brought up.
        names = os.listxattr(proc_path(fd))
        # An overlay marks nothing that has several names below: they part when one is changed.
        return not any(name in names for name in ORIGINS) and not self._has_names_below(path)

    def _has_names_below(self, path: bytes) -> bool:
        """Whether the layers below have a file with several names at `path`."""
        for directory in self._lower if path else ():
            with opened(directory) as root:
                try:
                    fd = openat2(root, path, FILE_FLAGS, RESOLVE)
                except OSError:
                    continue
                try:
                    state = os.fstat(fd)
                finally:
                    os.close(fd)
            return state.st_nlink > 1 and stat.S_ISREG(state.st_mode)
        return False

    def _open(self, path: bytes) -> int | None:
        """The file on disk, by a descriptor that cannot read it; None if it is not there."""
        try:
            return openat2(self._own, path or b".", FILE_FLAGS, RESOLVE)
        except OSError:
            return None


def _has_attributes(state: os.stat_result) -> bool:
    return stat.S_ISREG(state.st_mode) or stat.S_ISDIR(state.st_mode)


def _births(top: int) -> Iterator[tuple[Key, int]]:
    """The keys of all files below the directory `top`, itself included, and when they were
    made. Raises Conflict, OSError."""
    for fd in _walk(top):
        yield (KEPT, os.fstat(fd).st_ino), born(fd)


def _walk(top: int) -> Iterator[int]:
    """Descriptors (O_PATH), each closed before the next, of all files below the directory
    `top`, itself included. Holds one directory open, whatever the depth. Raises Conflict,
    OSError."""
    here = os.dup(top)
    upper: list[tuple[tuple[int, int], Iterator[str]]] = []
    names = iter(os.listdir(here))
    try:
        yield here
        while True:
            name = next(names, None)
            if name is None and not upper:
                return
            if name is None:
                identity, names = upper.pop()
                here = _replaced(here, above(here, identity))
                continue
            fd = os.open(name, FILE_FLAGS, dir_fd=here)
            try:
                yield fd
                if stat.S_ISDIR(os.fstat(fd).st_mode):
                    if len(upper) >= MAX_DEPTH:
                        raise LimitExceeded("depth of a tree", MAX_DEPTH, unit="directories")
                    below = os.open(name, DIR_FLAGS, dir_fd=here)
                    upper.append((identity_of(here), names))
                    here = _replaced(here, below)
                    names = iter(os.listdir(here))
            finally:
                os.close(fd)
    finally:
        os.close(here)


def _replaced(old: int, new: int) -> int:
    os.close(old)
    return new

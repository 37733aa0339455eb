"""Where things are made before they get their name, and go before they are removed.

Every directory in `tmp` has a lock file beside it, NAME.lock, which its maker holds with
flock(2) as long as it lives. Whoever finds one that nobody holds may remove it: what a killed
process left is gone at the next sweep, and what a living one makes is never touched.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from engine.storage.drivers.removal import remove_tree
from engine.storage.later import Later
from imgtools.blob.files import storage_errors
from imgtools.errors import Error

LOCK = ".lock"
LOCK_FLAGS = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
DIR_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class Workspace:
    """The directory `path`, which is made when it is needed."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._mine: dict[str, int] = {}
        self._later: Later | None = None

    @contextmanager
    def unhurried(self) -> Iterator[None]:
        """Remove what may go `later` in the background for the block, at the end of which
        it is gone."""
        later = self._later = Later()
        try:
            yield
        finally:
            self._later = None
            later.close()

    def close(self) -> None:
        """Remove what is left of our own: Ctrl-C can come between any two lines, also of those
        that make a directory or remove it. Nobody may use one any more. Raises nothing."""
        while self._mine:
            name, lock = self._mine.popitem()
            # What cannot be removed now is left to the next sweep.
            with suppress(Error, OSError):
                self._remove(name)
                os.unlink(os.path.join(self.path, name + LOCK))
            if lock >= 0:
                os.close(lock)

    @contextmanager
    def directory(self, *, later: bool = False) -> Iterator[str]:
        """A new empty directory that is removed with all that is left in it in the end; with
        `later` in the background, if this is `unhurried`: what cannot be removed then is left
        to the next sweep.

        Raises StorageError, and Conflict when something is mounted in it by then.
        """
        with storage_errors(self.path):
            os.makedirs(self.path, mode=0o700, exist_ok=True)
            name, lock = self._lock_new()
            try:
                os.mkdir(os.path.join(self.path, name), 0o700)
            except BaseException:
                self._forget(name, lock)
                raise
        try:
            yield os.path.join(self.path, name)
        finally:
            if not (later and self.take_later(lambda: self._end(name, lock))):
                self._end(name, lock)

    def take_later(self, job: Callable[[], object]) -> bool:
        """Have a removal done in the background; False where it is the caller's to do."""
        return self._later is not None and self._later.take(job)

    def _end(self, name: str, lock: int) -> None:
        with storage_errors(self.path):
            try:
                self._remove(name)
            finally:
                self._forget(name, lock)

    def discard(self, path: str, *, later: bool = False) -> bool:
        """Remove the tree `path` of the same file system: its name is gone at once, then what
        it contains; `later` as for a directory. False if there was none. Raises StorageError,
        Conflict."""
        with self.directory(later=later) as into, storage_errors(path):
            try:
                os.rename(path, os.path.join(into, "gone"))
            except FileNotFoundError:
                return False
        return True

    def sweep(self) -> int:
        """Remove what dead processes left; how many directories. Raises StorageError, Conflict."""
        with storage_errors(self.path):
            try:
                names = os.listdir(self.path)
            except FileNotFoundError:
                return 0
            # A directory is made after its lock file and removed before it.
            known = {n.removesuffix(LOCK) for n in names if n.endswith(LOCK)}
            return sum(self._sweep_one(name) for name in sorted(known))

    def _sweep_one(self, name: str) -> bool:
        path = os.path.join(self.path, name + LOCK)
        try:
            lock = os.open(path, LOCK_FLAGS)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return False
        try:
            if not _same(lock, path):
                return False
            found = os.path.lexists(os.path.join(self.path, name))
            self._remove(name)
            os.unlink(path)
            return found
        finally:
            os.close(lock)

    def _lock_new(self) -> tuple[str, int]:
        """A new name, and its lock file locked. A sweeper may take the file in between."""
        while True:
            name = os.urandom(12).hex()
            path = os.path.join(self.path, name + LOCK)
            self._mine[name] = -1
            lock = self._mine[name] = os.open(path, LOCK_FLAGS | os.O_CREAT | os.O_EXCL, 0o600)
            fcntl.flock(lock, fcntl.LOCK_EX)
            if _same(lock, path):
                return name, lock
            del self._mine[name]
            os.close(lock)

    def _remove(self, name: str) -> None:
        fd = os.open(self.path, DIR_FLAGS)
        try:
            remove_tree(os.fsencode(name), fd)
        finally:
            os.close(fd)

    def _forget(self, name: str, lock: int) -> None:
        """Take the lock file away, if its directory is; else both are left for `close`."""
        if os.path.lexists(os.path.join(self.path, name)):
            return
        os.unlink(os.path.join(self.path, name + LOCK))
        # In this order: a number that is closed may be somebody else's by then.
        self._mine.pop(name, None)
        os.close(lock)


def _same(fd: int, path: str) -> bool:
    """Whether the open file is still the one at `path`."""
    try:
        return os.path.samestat(os.fstat(fd), os.lstat(path))
    except FileNotFoundError:
        return False

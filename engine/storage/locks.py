"""Locks between processes: one file for each thing that is locked, held with flock(2).

The kernel frees them when a process ends, however it ends. Nobody waits for a lock that is
held while something is read from a network: who removes things passes over what is locked,
and who waits does so to find the work done.
"""

from __future__ import annotations

import os

from imgtools.blob.files import storage_errors
from imgtools.task import Task
from imgtools.transport.closing import Closing
from imgtools.transport.lock import lock

_POLL = 0.02
_SLOWEST = 0.25


class Held(Closing):
    """A lock that is held until `close`, or the end of the process."""

    def __init__(self, fd: int, path: str, *, shared: bool) -> None:
        self._fd = fd
        self._path = path
        self._shared = shared

    def close(self) -> None:
        """Give the lock back; safe to call twice."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def retire(self) -> None:
        """Give an exclusive lock back and remove its file, because what it was for is gone."""
        if self._fd >= 0 and not self._shared:
            with storage_errors(self._path):
                try:
                    os.unlink(self._path)
                except FileNotFoundError:
                    pass
        self.close()


class Locks:
    """The locks in one directory; `kind` and `key` are parts of file names."""

    def __init__(self, directory: str) -> None:
        self._directory = directory

    def try_exclusive(self, kind: str, key: str) -> Held | None:
        """The lock for one holder alone, None when anybody has it."""
        return self._take(kind, key, shared=False)

    def exclusive(self, kind: str, key: str, *, task: Task) -> Held:
        """Wait for the lock for one holder alone; raises Cancelled."""
        return self._wait(kind, key, shared=False, task=task)

    def shared(self, kind: str, key: str, *, task: Task) -> Held:
        """Wait for the lock that many may have together; raises Cancelled."""
        return self._wait(kind, key, shared=True, task=task)

    def _wait(self, kind: str, key: str, *, shared: bool, task: Task) -> Held:
        pause = _POLL
        while (held := self._take(kind, key, shared=shared)) is None:
            task.cancel.wait(pause)
            pause = min(_SLOWEST, pause * 1.5)
        return held

    def _take(self, kind: str, key: str, *, shared: bool) -> Held | None:
        path = os.path.join(self._directory, f"{kind}-{key}")
        while True:
            with storage_errors(path):
                fd = self._open(path)
                try:
                    state = lock(fd, shared=shared)
                    current = state != "busy" and _is_at(fd, path)
                except BaseException:
                    os.close(fd)
                    raise
            if current:
                return Held(fd, path, shared=shared)
            os.close(fd)
            if state == "busy":
                return None
            # Its last holder removed the file between our opening and locking it.

    def _open(self, path: str) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            return os.open(path, flags, 0o600)
        except FileNotFoundError:
            os.makedirs(self._directory, mode=0o700, exist_ok=True)
            return os.open(path, flags, 0o600)


def _is_at(fd: int, path: str) -> bool:
    try:
        there = os.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        return False
    mine = os.fstat(fd)
    return (mine.st_dev, mine.st_ino) == (there.st_dev, there.st_ino)

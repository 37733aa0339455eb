"""Directories that steps of builds share and that are in no layer (RUN --mount=type=cache).

Each has a name, of which nothing becomes a path, and a lock that its users hold: it is not
removed meanwhile, and who wants it alone waits.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from typing import Literal

from engine.storage.drivers.base import DIR_FLAGS
from engine.storage.images import name_key
from engine.storage.layers_workspace import Workspace
from engine.storage.locks import Held, Locks
from imgtools.blob.files import storage_errors
from imgtools.errors import Conflict
from imgtools.task import Task

LOCK = "cachemount"
DATA, NAME = "data", "name"
MOST = 1000
"""Of one name, for users who each want one of their own."""

Sharing = Literal["shared", "private", "locked"]


class CacheMounts:
    """The cache directories of one store, below `directory`."""

    def __init__(self, directory: str, locks: Locks, workspace: Workspace) -> None:
        self._directory = directory
        self._locks = locks
        self._workspace = workspace

    def open(
        self, name: str, sharing: Sharing, fill: Callable[[int], object], *, task: Task
    ) -> tuple[str, Held]:
        """The path of the directory called `name`, and the lock to be closed when it is not
        used any more. `fill` is given the descriptor of a new one.

        "locked" waits until nobody else uses it, "private" takes another one instead. Raises
        Cancelled, Conflict, StorageError, and what `fill` raises, which leaves nothing.
        """
        key = name_key(name)
        if sharing == "private":
            key, held = self._free(key)
        elif sharing == "locked":
            held = self._locks.exclusive(LOCK, key, task=task)
        else:
            held = self._locks.shared(LOCK, key, task=task)
        try:
            path = os.path.join(self._directory, key)
            with storage_errors(path):
                if not _is_directory(os.path.join(path, DATA)):
                    self._make(path, name, fill)
                os.utime(path)
            return os.path.join(path, DATA), held
        except BaseException:
            held.close()
            raise

    def prune(self, before: float) -> tuple[str, ...]:
        """Remove those that nobody uses and that were last used before `before`, in seconds
        since the epoch; their names. Raises StorageError."""
        found = []
        with storage_errors(self._directory):
            keys = os.listdir(self._directory) if os.path.isdir(self._directory) else []
        for key in keys:
            held = self._locks.try_exclusive(LOCK, key)
            if held is None:
                continue
            path = os.path.join(self._directory, key)
            with held, storage_errors(path):
                if os.stat(path).st_mtime >= before:
                    continue
                with open(os.path.join(path, NAME), encoding="utf-8", errors="replace") as file:
                    found.append(file.read())
                self._workspace.discard(path)
                held.retire()
        return tuple(sorted(found))

    def _free(self, key: str) -> tuple[str, Held]:
        for number in range(MOST):
            each = f"{key}-{number}" if number else key
            held = self._locks.try_exclusive(LOCK, each)
            if held is not None:
                return each, held
        raise Conflict(f"{MOST} steps use a private cache of one name")

    def _make(self, path: str, name: str, fill: Callable[[int], object]) -> None:
        """Make a directory whole; that somebody else was quicker is as good."""
        os.makedirs(self._directory, mode=0o700, exist_ok=True)
        with self._workspace.directory() as inside:
            made = os.path.join(inside, "cache")
            data = os.path.join(made, DATA)
            os.makedirs(data, mode=0o700)
            with open(os.path.join(made, NAME), "w", encoding="utf-8", errors="replace") as file:
                file.write(name)
            fd = os.open(data, DIR_FLAGS)
            try:
                fill(fd)
            finally:
                os.close(fd)
            try:
                os.rename(made, path)
            except OSError:
                if not os.path.isdir(path):
                    raise
                # Somebody was quicker, or its content was taken away: a step may remove what
                # it was lent.
                if not os.path.lexists(os.path.join(path, DATA)):
                    os.rename(data, os.path.join(path, DATA))


def _is_directory(path: str) -> bool:
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except FileNotFoundError:
        return False

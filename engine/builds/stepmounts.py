"""The mounts of a RUN (--mount), each opened before the container comes to be.

What a mount shows is decided by descriptors of this process, never by a path that the
container, the image or the context could bend meanwhile.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from typing import cast

from engine.builds.agent import AgentProxy
from engine.builds.filling import fill_cache
from engine.builds.memory import Memory
from engine.builds.sources import Sources
from engine.containers.engine import Engine, RunFailed
from engine.containers.options import OpenedMount
from engine.runtime.errors import Failure
from engine.runtime.kernel import mounting
from engine.storage.cachemounts import Sharing
from engine.storage.drivers.mounts import in_own_namespace
from engine.storage.options import Ownership
from imgtools.blob.files import storage_errors
from imgtools.build.protocols import StepMount
from imgtools.errors import InvalidInput, LimitExceeded
from imgtools.task import Task

MAX_MOUNTS = 48
"""Descriptors that fit one message to the launcher, less its own."""
MODES = {"secret": 0o400, "file": 0o755, "ssh": 0o600}
SAFE = ("nosuid", "nodev")
SHARINGS = ("shared", "private", "locked")


def opened_mounts(
    engine: Engine,
    mounts: Sequence[StepMount],
    undo: ExitStack,
    asking: threading.Lock,
    *,
    task: Task,
) -> tuple[OpenedMount, ...]:
    """The mounts in the order in which they are made: those further up first. `undo` closes and
    removes what was made for them; `asking` is held while it is asked what is ignored.

    Raises InvalidInput, NotFound, LimitExceeded, StorageError, Cancelled."""
    if not mounts:
        return ()
    if len(mounts) > MAX_MOUNTS:
        raise LimitExceeded("the number of mounts of a RUN", MAX_MOUNTS, unit="mounts")
    ordered = sorted(mounts, key=lambda mount: mount.target.rstrip("/").count("/"))
    place = undo.enter_context(engine.store.layers.disk.workspace.directory())
    opening = _Opening(engine, place, undo, asking, task)
    try:
        # Caches are waited for before anything is mounted.
        opening.take_caches(ordered)
        return in_own_namespace(lambda: tuple(opening.open(mount) for mount in ordered))
    except Failure as e:
        raise RunFailed(e) from e


class _Opening:
    """The mounts of one step while they are opened."""

    def __init__(
        self, engine: Engine, place: str, undo: ExitStack, asking: threading.Lock, task: Task
    ) -> None:
        self._engine = engine
        self._undo = undo
        self._task = task
        self._own = undo.enter_context(ExitStack())
        self._sources = Sources(engine.store, place, self._own, asking)
        self._owners = engine.store.layers.disk.ownership is Ownership.REAL
        self._memory: Memory | None = None
        self._caches: dict[str, str] = {}

    def take_caches(self, mounts: Sequence[StepMount]) -> None:
        """Get the directories of caches, and their locks, in one order for all steps: two that
        want the same never wait for each other."""
        wanted = [mount for mount in mounts if mount.kind == "cache"]
        for mount in sorted(wanted, key=lambda mount: mount.cache):
            if mount.sharing not in SHARINGS:
                raise InvalidInput(f"unknown sharing {mount.sharing!r} of the cache {mount.cache}")
            if mount.cache in self._caches:
                continue
            path, held = self._engine.store.cache_mounts.open(
                mount.cache,
                cast("Sharing", mount.sharing),
                partial(self._fill, mount),
                task=self._task,
            )
            self._undo.callback(held.close)
            self._caches[mount.cache] = path

    def open(self, mount: StepMount) -> OpenedMount:
        """One mount, detached."""
        self._task.cancel.check()
        if not mount.target.startswith("/"):
            raise InvalidInput(f"mount of {mount.target!r}: the target has to be absolute")
        words: tuple[str, ...] = (*SAFE, *(("ro",) if mount.read_only else ()))
        match mount.kind:
            case "tmpfs":
                size = () if mount.size is None else (f"size={mount.size}",)
                return OpenedMount(destination=mount.target, options=(*words, *size))
            case "bind":
                return self._bind(mount, words)
            case "cache":
                with storage_errors(mount.target):
                    path = os.fsencode(self._caches[mount.cache])
                    flags = mounting.OPEN_TREE_CLONE | mounting.AT_SYMLINK_NOFOLLOW
                    fd = mounting.open_tree(mounting.AT_FDCWD, path, flags)
                return self._opened(mount, fd, words)
            case "secret" | "file":
                plain = ("noexec",) if mount.kind == "secret" else ()
                with storage_errors(mount.target):
                    name = self._in_memory().file(mount, MODES[mount.kind])
                    fd = self._in_memory().clone(name)
                return self._opened(mount, fd, (*SAFE, "ro", *plain))
            case "ssh":
                with storage_errors(mount.target):
                    name, listening = self._in_memory().socket(mount, MODES["ssh"])
                    self._undo.callback(AgentProxy(listening, mount.socket).close)
                    fd = self._in_memory().clone(name)
                return self._opened(mount, fd, (*SAFE, "noexec"))
        raise InvalidInput(f"unknown kind of mount {mount.kind!r}")

    def _bind(self, mount: StepMount, words: tuple[str, ...]) -> OpenedMount:
        if mount.source is None:
            raise InvalidInput(f"mount of {mount.target}: a bind needs a source")
        fd = self._sources.open(mount.source, writable=not mount.read_only)
        below: tuple[str, ...] = ()
        if mount.source.directory and mounting.has_mount_setattr():
            below = tuple(f"r{word}" for word in words)
        return self._opened(mount, fd, (*words, *below))

    def _opened(self, mount: StepMount, fd: int, words: tuple[str, ...]) -> OpenedMount:
        return OpenedMount(destination=mount.target, fd=self._closing(fd), options=words)

    def _closing(self, fd: int) -> int:
        self._undo.callback(os.close, fd)
        return fd

    def _in_memory(self) -> Memory:
        if self._memory is None:
            self._memory = Memory(owners=self._owners)
            self._undo.callback(self._memory.close)
            self._sources.attached(self._memory.mount)
        return self._memory

    def _fill(self, mount: StepMount, target: int) -> None:
        in_own_namespace(lambda: fill_cache(self._sources, mount, self._owners, target))

"""The mounts of a RUN where nothing can be mounted (a chroot): what they show is moved into the
tree while the step runs, and out of it afterwards.

What was in their place is moved aside meanwhile and comes back, with the times that directories
had, so that the layer knows nothing of it. Secrets are not lent: they would be on the disk.
"""

from __future__ import annotations

import os
import socket
import stat
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

from engine.builds.agent import AgentProxy
from engine.builds.filling import fill_cache
from engine.builds.sources import Sources
from engine.containers.engine import Engine
from engine.emulation.births import born_at
from engine.runtime.kernel.paths import Stub, make_directories, make_file
from engine.runtime.rootfs.stubs import remove_stubs
from engine.storage.drivers.base import DIR_FLAGS
from engine.storage.options import Snapshot
from imgtools.blob.files import storage_errors
from imgtools.build.protocols import StepMount
from imgtools.errors import InvalidInput, Unsupported
from imgtools.task import Task

BACKLOG = 16


@contextmanager
def lent_mounts(
    engine: Engine,
    snapshot: Snapshot,
    mounts: Sequence[StepMount],
    asking: threading.Lock,
    *,
    task: Task,
) -> Iterator[None]:
    """Have what `mounts` show in the tree of `snapshot` for the block.

    A cache is moved there, so nobody shares it meanwhile. Raises Unsupported for a secret,
    InvalidInput, NotFound, LimitExceeded, StorageError, Cancelled.
    """
    with ExitStack() as undo:
        if mounts:
            lender = _Lender(engine, snapshot, undo, asking, task)
            lender.take_caches(mounts)
            for mount in sorted(mounts, key=lambda each: each.target.rstrip("/").count("/")):
                task.cancel.check()
                lender.lend(mount)
        yield


class _Lender:
    """Puts things into one tree; `undo` takes them away again."""

    def __init__(
        self,
        engine: Engine,
        snapshot: Snapshot,
        undo: ExitStack,
        asking: threading.Lock,
        task: Task,
    ) -> None:
        disk = engine.store.layers.disk
        self._engine = engine
        self._undo = undo
        self._task = task
        self._sources = Sources(
            engine.store, undo.enter_context(disk.workspace.directory()), undo, asking
        )
        root = undo.enter_context(engine.store.snapshots.written(snapshot))
        self._root = root
        self._top = os.readlink(f"/proc/self/fd/{root}")
        self._caches: dict[str, str] = {}

    def take_caches(self, mounts: Sequence[StepMount]) -> None:
        """Lock all caches, in one order for all steps: two that want the same never wait for
        each other. Raises Unsupported where one is wanted in two places at once."""
        for mount in sorted(mounts, key=lambda each: each.cache):
            if mount.kind != "cache":
                continue
            if mount.cache in self._caches:
                raise Unsupported(
                    f"cache {mount.cache}: in a chroot it cannot be in two places of a step",
                    hint="give the second mount another id",
                )
            path, held = self._engine.store.cache_mounts.open(
                mount.cache,
                "private" if mount.sharing == "private" else "locked",
                partial(fill_cache, self._sources, mount, True),
                task=self._task,
            )
            self._undo.callback(held.close)
            self._caches[mount.cache] = path

    def lend(self, mount: StepMount) -> None:
        """Put what one mount shows into its place."""
        if not mount.target.startswith("/") or not mount.target.strip("/"):
            raise InvalidInput(f"mount of {mount.target!r}: the target has to be absolute")
        home = ""
        match mount.kind:
            case "cache":
                home = path = self._caches[mount.cache]
            case "bind" if mount.source is not None:
                path = self._sources.copied(mount.source)
            case "tmpfs":
                path = self._sources.directory()
                os.chmod(path, 0o1777)
            case "file":
                path = self._file(mount)
            case "ssh":
                path = self._socket(mount)
            case "secret":
                raise Unsupported(
                    f"secret {mount.target}: in a chroot a file of it would be on the disk",
                    hint="use --mount=type=secret,id=...,env=NAME, which gives a variable",
                )
            case _:
                raise InvalidInput(f"unknown kind of mount {mount.kind!r}")
        with storage_errors(mount.target):
            self._place(mount, path, home)

    def _place(self, mount: StepMount, path: str, home: str) -> None:
        """Move `path` to the target, and in the end back to `home`, if it has one."""
        stubs: list[Stub] = []
        make = make_directories if os.path.isdir(path) else make_file
        fd = make(self._root, os.fsencode(mount.target), made=stubs)
        try:
            target = os.readlink(f"/proc/self/fd/{fd}")
        finally:
            os.close(fd)
        self._undo.callback(lambda: remove_stubs(self._root, tuple(stubs)))
        if not target.startswith(f"{self._top}/"):
            raise InvalidInput(f"mount of {mount.target}: the target is the root itself")
        aside = os.path.join(self._sources.directory(), "aside")
        parent = os.open(os.path.dirname(target), DIR_FLAGS)
        self._undo.callback(os.close, parent)
        name = os.path.basename(target)
        before = os.fstat(parent).st_mtime_ns
        os.rename(name, aside, src_dir_fd=parent)
        self._undo.callback(_restore, parent, name, aside)
        os.rename(path, name, dst_dir_fd=parent)
        lent = _identity(parent, name)
        gone = home or os.path.join(self._sources.directory(), "gone")
        after = os.fstat(parent).st_mtime_ns
        self._undo.callback(_take, parent, name, gone, lent, before, after)

    def _file(self, mount: StepMount) -> str:
        path = os.path.join(self._sources.directory(), "file")
        with storage_errors(mount.target), open(path, "xb") as file:
            file.write(mount.content)
            os.fchown(file.fileno(), mount.uid, mount.gid)
            os.fchmod(file.fileno(), 0o755 if mount.mode is None else mount.mode)
        return path

    def _socket(self, mount: StepMount) -> str:
        directory = self._sources.directory()
        at = os.open(directory, DIR_FLAGS)
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            # The text of a socket's name has to be short.
            listening.bind(f"/proc/self/fd/{at}/agent")
            os.chown("agent", mount.uid, mount.gid, dir_fd=at)
            os.chmod("agent", 0o600 if mount.mode is None else mount.mode, dir_fd=at)
            listening.listen(BACKLOG)
        except BaseException:
            listening.close()
            raise
        finally:
            os.close(at)
        self._undo.callback(AgentProxy(listening, mount.socket).close)
        return os.path.join(directory, "agent")


def _take(
    parent: int, name: str, to: str, lent: tuple[int, ...] | None, before: int, after: int
) -> None:
    """Move what was lent out of the tree, if it is still what was lent. What a step has put in
    its place stays there, and the directory has the times of the step then."""
    now = os.fstat(parent).st_mtime_ns
    if _identity(parent, name) == lent:
        os.rename(name, to, src_dir_fd=parent)
        os.utime(parent, ns=(before, before if now == after else now))


def _restore(parent: int, name: str, aside: str) -> None:
    """Move what was in the place of something lent back to it, if the place is free."""
    now = os.fstat(parent).st_mtime_ns
    if _identity(parent, name) is None:
        os.rename(aside, name, dst_dir_fd=parent)
        os.utime(parent, ns=(now, now))


def _identity(parent: int, name: str) -> tuple[int, ...] | None:
    """What no other file has, None where there is none: a number alone may be given again."""
    try:
        found = os.stat(name, dir_fd=parent, follow_symlinks=False)
        return stat.S_IFMT(found.st_mode), found.st_dev, found.st_ino, born_at(name, parent)
    except FileNotFoundError:
        return None

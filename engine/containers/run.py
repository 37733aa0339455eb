"""One container of an image from begin to end: snapshot, files, config.json, launch, clean-up.

Everything is registered before it is made and undone in the reverse order; after kill -9 the
container has ended by itself, and the next run or prune finds what is left on disk.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from engine.containers.assemble import command
from engine.containers.attend import TerminalRelay, attend, await_start
from engine.containers.directory import container_directory, sweep
from engine.containers.engine import Engine as Engine
from engine.containers.engine import RunFailed as RunFailed
from engine.containers.launch import launch, plan_launch, remove_mount_points
from engine.containers.options import ImageDefaults, RunOptions
from engine.containers.ownership import recording
from engine.containers.setting import make_setting
from engine.containers.signals import Signals
from engine.containers.streams import Streams
from engine.containers.suitable import require_suitable
from engine.runtime.errors import Failure
from engine.storage.images import StoredImage
from engine.storage.options import Snapshot
from engine.storage.store import Store
from imgtools.errors import Conflict
from imgtools.task import Task

NAME_LOCK = "container-name"


def run_container(
    engine: Engine,
    image: StoredImage,
    options: RunOptions,
    *,
    relay: TerminalRelay | None = None,
    console_fd: int = -1,
    keep: str = "",
    task: Task,
) -> int:
    """Run a container of `image` in the foreground and remove it; its exit code. For the main
    thread, which takes the caller's signals.

    `keep` is an id under which its snapshot stays, for `diff_container` and until `forget`.
    With `options.terminal` `relay` joins the terminals and `console_fd` is the socket that the
    container's is sent to. Raises RunFailed, Stopped, Conflict for a name that is taken,
    InvalidInput, Unsupported, StorageError.
    """
    defaults = ImageDefaults.from_config(engine.store.config(image))
    command(defaults, options)
    require_suitable(engine)
    sweep(engine.store, engine.runroot)
    run = _Run(engine, options, defaults, keep)
    # What is undone is undone with the signals still caught.
    with run.signals.caught(), ExitStack() as undo:
        try:
            undo.enter_context(container_name(engine.store, options.name))
            directory = undo.enter_context(container_directory(engine.runroot, run.id))
            snapshot = run.prepare(image, undo, task)
            return run.serve(snapshot, directory, undo, relay, console_fd)
        except Failure as e:
            hint = "the memory limit may be too small to start" if options.limits.memory else ""
            raise RunFailed(e, hint=hint) from e


def run_inside(
    engine: Engine,
    snapshot: Snapshot,
    defaults: ImageDefaults,
    options: RunOptions,
    *,
    relay: TerminalRelay | None = None,
    console_fd: int = -1,
) -> int:
    """Run a container in a `snapshot` that the caller has, and that stays with what is written
    in it; the exit code. Otherwise as `run_container`, errors included."""
    command(defaults, options)
    require_suitable(engine)
    run = _Run(engine, options, defaults, snapshot.id)
    with run.signals.caught(), ExitStack() as undo:
        try:
            directory = undo.enter_context(container_directory(engine.runroot, run.id))
            return run.serve(snapshot, directory, undo, relay, console_fd)
        except Failure as e:
            raise RunFailed(e) from e


@contextmanager
def container_name(store: Store, name: str) -> Iterator[None]:
    """Have the name for the block; raises Conflict if a running container has it."""
    if not name:
        yield
        return
    key = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()
    held = store.parts.locks.try_exclusive(NAME_LOCK, key)
    if held is None:
        raise Conflict(f"the container name {name!r} is in use by a running container")
    try:
        yield
    finally:
        held.retire()


class _Run:
    """The steps of one run. The container's id is its own, even if its snapshot is kept under
    another: cgroups are called after it."""

    def __init__(
        self, engine: Engine, options: RunOptions, defaults: ImageDefaults, keep: str
    ) -> None:
        self.engine = engine
        self.options = options
        self.defaults = defaults
        self.id = secrets.token_hex(32)
        self.kept = bool(keep)
        self.snapshot_id = keep or self.id
        self.signals = Signals()

    def prepare(self, image: StoredImage, undo: ExitStack, task: Task) -> Snapshot:
        """The container's own snapshot of the image, which nobody else removes meanwhile."""
        store = self.engine.store
        name = self.options.name
        use = store.use(image, self.snapshot_id, name=name, persistent=self.kept, task=task)
        undo.callback(use.detach if self.kept else use.end)
        if not self.kept:
            undo.callback(store.snapshots.remove, self.snapshot_id)
        with self.signals.interruptible():
            return store.snapshots.prepare(image.chain_id, self.snapshot_id, volatile=not self.kept)

    def serve(
        self,
        snapshot: Snapshot,
        directory: str,
        undo: ExitStack,
        relay: TerminalRelay | None,
        console_fd: int,
    ) -> int:
        """Launch the container in `snapshot` and serve it until it has ended; its exit code."""
        engine, options, signals = self.engine, self.options, self.signals
        setting = make_setting(engine, options, self.defaults, snapshot, self.id, directory)
        planned = plan_launch(
            engine, options, self.defaults, setting, snapshot, directory, signals.interruptible
        )
        streams = None
        if options.terminal:
            null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
            undo.callback(os.close, null)
            stdio = (null, null, null)
        else:
            streams = undo.enter_context(Streams(interactive=options.interactive))
            stdio = streams.theirs
        signals.check()
        running = launch(engine, planned, stdio, undo, console_fd if options.terminal else -1)
        if streams is not None:
            streams.release()
        await_start(running, signals)
        with ExitStack() as served:
            if setting.single:
                served.enter_context(recording(engine.store.snapshots, snapshot, running, setting))
            code = attend(running, streams, relay, signals)
        if self.kept:
            remove_mount_points(engine, running, snapshot)
        return code

"""The mounts of a RUN (--mount), each opened before the container comes to be.

What a mount shows is decided by descriptors of this process, never by a path that the
container, the image or the context could bend meanwhile.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

from engine.containers.engine import Engine
from engine.containers.options import OpenedMount
from imgtools.build.protocols import StepMount
from imgtools.errors import InvalidInput, Unsupported
from imgtools.task import Task


def opened_mounts(
    engine: Engine, mounts: Sequence[StepMount], undo: ExitStack, *, task: Task
) -> tuple[OpenedMount, ...]:
    """The mounts in the order in which they are made: those further up first. `undo` closes and
    removes what was made for them. Raises InvalidInput, Unsupported, NotFound, StorageError."""
    if not mounts:
        return ()
    if engine.choice.kind == "chroot":
        raise Unsupported(
            "RUN --mount: nothing can be mounted in a chroot",
            hint="build where namespaces can be made; imgtools info says why they cannot",
        )
    ordered = sorted(mounts, key=lambda mount: mount.target.rstrip("/").count("/"))
    return tuple(_opened(engine, mount, undo, task) for mount in ordered)


def _opened(engine: Engine, mount: StepMount, undo: ExitStack, task: Task) -> OpenedMount:
    if mount.kind == "tmpfs":
        size = () if mount.size is None else (f"size={mount.size}",)
        words = ("nosuid", "nodev", *size, *(("ro",) if mount.read_only else ()))
        return OpenedMount(destination=mount.target, options=words)
    raise InvalidInput(f"unknown kind of mount {mount.kind!r}")

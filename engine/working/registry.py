"""The working containers of a store: records by id, found by name, id or the start of one.

A container is there from the instant that its use of the store is recorded as persistent until
the instant that it is not any more; a record without that is what a killed command left, and is
swept. Whoever changes a container has the lock of its use, so that two commands take turns.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from engine.storage.containers import InUse
from engine.storage.images import Records
from engine.storage.options import Snapshot
from engine.storage.store import Store
from engine.working.model import WorkingContainer
from imgtools.errors import Conflict, InvalidInput, InvalidReference, NotFound
from imgtools.task import Task

KIND = "working"
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")
_ID_START = re.compile(r"[0-9a-f]{1,64}")
_NAMES_LOCK, _ALL = "working", "names"
_LONGEST_NAME = 255


class ContainerNotKnown(NotFound):
    """There is no working container of that name or id."""


@dataclass(slots=True)
class Held:
    """A container whose lock we have: the record as it is, and its use."""

    container: WorkingContainer
    use: InUse
    records: Records

    def change(self, container: WorkingContainer) -> None:
        """Record the container anew; raises StorageError."""
        self.records.write(container.id, container.to_json())
        self.container = container


class WorkingContainers:
    """The working containers of one store."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.records = Records(os.path.join(store.parts.layout.base, "working"))

    def all(self) -> tuple[WorkingContainer, ...]:
        """All containers, oldest first."""
        found = (self.get(name) for name in self.records.marks())
        return tuple(sorted(filter(None, found), key=lambda c: (c.created, c.id)))

    def get(self, container_id: str) -> WorkingContainer | None:
        """The container of this very id, None where there is none."""
        container = self.records.read(container_id, WorkingContainer.from_json)
        use = self.store.parts.uses.get(container_id) if container is not None else None
        return container if use is not None and use.persistent else None

    def find(self, text: str) -> WorkingContainer:
        """The container that people mean by a name, an id or the start of one.

        Raises ContainerNotKnown, and InvalidReference for the start of several ids.
        """
        everything = self.all()
        exact = [c for c in everything if text in (c.name, c.id)]
        if exact:
            return exact[0]
        starts = [c for c in everything if _ID_START.fullmatch(text) and c.id.startswith(text)]
        if len(starts) > 1:
            raise InvalidReference(text, "it is the start of the ids of several containers")
        if not starts:
            raise ContainerNotKnown(f'container "{text}": container not known')
        return starts[0]

    @contextmanager
    def held(self, text: str, *, task: Task) -> Iterator[Held]:
        """Have the container `text` alone for the block; waits for whoever has it. Raises as
        `find`, and Cancelled."""
        container_id = self.find(text).id
        use = self.store.parts.uses.resume(container_id, task=task)
        if use is None:
            raise ContainerNotKnown(f'container "{text}": container not known')
        try:
            container = self.get(container_id)
            if container is None:
                raise ContainerNotKnown(f'container "{text}": container not known')
            yield Held(container, use, self.records)
        finally:
            use.detach()

    def snapshot(self, container: WorkingContainer) -> Snapshot:
        """The snapshot that has its files. Raises NotFound, InvalidInput for a damaged one."""
        return self.store.snapshots.get(container.id)

    def register(self, container: WorkingContainer, *, task: Task) -> WorkingContainer:
        """Write the first record of a container that is being made, under its name, or, with
        name "", under the first free one made of that of its image. Raises Conflict for a name
        that is taken, InvalidInput."""
        with self._names(task):
            taken = self._taken()
            name = container.name or _free(default_name(container.image), taken)
            _check_name(name, taken)
            container = replace(container, name=name)
            self.records.write(container.id, container.to_json())
        return container

    def rename(self, text: str, name: str, *, task: Task) -> WorkingContainer:
        """Give a container another name. Raises as `held`, Conflict, InvalidInput."""
        with self.held(text, task=task) as held, self._names(task):
            if held.container.name == name:
                raise InvalidInput("renaming a container with the same name as its current name")
            _check_name(name, self._taken())
            held.change(replace(held.container, name=name))
            return held.container

    def sweep(self) -> int:
        """Remove records that killed commands left; how many."""
        count = 0
        for name in self.records.marks():
            if self.get(name) is not None:
                continue
            dead = self.store.parts.uses.claim_dead(name)
            if dead is None:
                continue
            with dead:
                self.store.snapshots.remove(name)
                count += self.records.remove(name)
                self.store.parts.uses.forget(name)
                dead.retire()
        return count

    def _taken(self) -> dict[str, str]:
        """Names of containers, also of those that are being made, with their ids."""
        self.sweep()
        found = {}
        for key in self.records.marks():
            container = self.records.read(key, WorkingContainer.from_json)
            if container is not None:
                found[container.name] = container.id
        return found

    @contextmanager
    def _names(self, task: Task) -> Iterator[None]:
        with self.store.parts.locks.exclusive(_NAMES_LOCK, _ALL, task=task):
            yield


def default_name(image: str) -> str:
    """What a container of `image` is called: the last part of the name, without tag, and
    "-working-container"; only that of an image without a name, or of none."""
    last = image.rpartition("/")[2].partition("@")[0].partition(":")[0]
    word = re.sub(r"[^a-zA-Z0-9_.-]", "", last)
    if not image or image == "scratch" or not _NAME.fullmatch(word):
        return "working-container"
    return f"{word}-working-container"


def _free(name: str, taken: dict[str, str]) -> str:
    """The name, or the first of name-1, name-2, ... that is free."""
    number, found = 0, name
    while found in taken:
        number += 1
        found = f"{name}-{number}"
    return found


def _check_name(name: str, taken: dict[str, str]) -> None:
    if not _NAME.fullmatch(name) or len(name) > _LONGEST_NAME:
        raise InvalidInput(f"container name {name!r}: expected letters, digits and _ . -")
    if name in taken:
        raise Conflict(
            f'the container name "{name}" is already in use by container "{taken[name]}"'
        )

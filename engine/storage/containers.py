"""Who uses an image just now: a record for each container, build or other user of a snapshot.

A user counts as there while the process that it names lives (process id, start time and
boot), or while somebody holds the lock of its record, which also tells where process ids
cannot be compared: in another pid namespace that shares the store.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from engine.runtime.kernel.proc import boot_id, process_stat
from engine.storage.images import Records
from engine.storage.layout import checked_id
from engine.storage.locks import Held, Locks
from imgtools.blob.files import storage_errors
from imgtools.errors import Conflict, InvalidInput, InvalidManifest, NotFound
from imgtools.frozen import dataclass
from imgtools.spec.descriptor import optional
from imgtools.spec.digest import Digest
from imgtools.task import Task

VERSION = 1
LOCK = "use"


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """A process: its id, when it started (clock ticks after boot), and which boot that was."""

    pid: int
    start: int
    boot: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """A user of an image: `id` is also the id of its snapshot, `image_id` "" where it stands
    on no image; `layer` is the chain_id that it stands on. `kind` (container, build) and
    `name` are for people. `persistent`: it outlives its process and is removed by name."""

    id: str
    kind: str
    owner: Owner
    image_id: str = ""
    layer: Digest | None = None
    name: str = ""
    created: float = 0.0
    persistent: bool = False

    def to_json(self) -> dict[str, Any]:
        """The document of the record."""
        return {
            "version": VERSION,
            "id": self.id,
            "kind": self.kind,
            "pid": self.owner.pid,
            "start": self.owner.start,
            "boot": self.owner.boot,
            "image": self.image_id,
            "layer": str(self.layer) if self.layer else "",
            "name": self.name,
            "created": self.created,
            "persistent": self.persistent,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Use:
        """The user that a record describes; raises InvalidInput."""
        what = "record of a user"
        if value.get("version") != VERSION:
            raise InvalidInput(f"{what} of version {value.get('version')!r}")
        identity = optional(value, "id", str, what)
        pid, start = optional(value, "pid", int, what), optional(value, "start", int, what)
        if identity is None or pid is None or start is None:
            raise InvalidManifest(f"{what} has no id, pid or start")
        layer = optional(value, "layer", str, what)
        return cls(
            id=checked_id(identity),
            kind=optional(value, "kind", str, what) or "",
            owner=Owner(pid=pid, start=start, boot=optional(value, "boot", str, what) or ""),
            image_id=optional(value, "image", str, what) or "",
            layer=Digest.parse(layer) if layer else None,
            name=optional(value, "name", str, what) or "",
            created=float(value.get("created") or 0.0),
            persistent=bool(optional(value, "persistent", bool, what)),
        )


class InUse:
    """A use that was begun: `end` says that it is over, `detach` leaves it to its owner."""

    def __init__(self, use: Use, records: Records, held: Held) -> None:
        self.use = use
        self._records = records
        self._held = held

    def end(self) -> None:
        """Forget the use; its snapshot has been removed. Safe to call twice."""
        self._records.remove(self.use.id, durable=self.use.persistent)
        self._held.retire()

    def settle(self, *, persistent: bool) -> None:
        """Record from now on that the use outlives this process, or (false) that it ends with
        it: what an instant decides. Raises StorageError."""
        self.use = replace(self.use, owner=this_process(), persistent=persistent)
        self._records.write(self.use.id, self.use.to_json())

    def detach(self) -> None:
        """Leave the record: the owner's life, or its being persistent, decides from now on."""
        self._held.close()


class Uses:
    """The users of one store."""

    def __init__(self, records: Records, locks: Locks, proc: str = "/proc") -> None:
        self._records = records
        self._locks = locks
        self._proc = proc

    def begin(self, use: Use) -> InUse:
        """Record a use; the caller holds the lock of its image. Raises Conflict for an id
        that is taken, and StorageError."""
        held = self._locks.try_exclusive(LOCK, checked_id(use.id))
        if held is None:
            raise Conflict(f"{use.id} is in use by another process")
        try:
            if self._read(use.id) is not None:
                raise Conflict(f"{use.id} exists already")
            # No process outlives a power loss: only what has no need of one is written out.
            self._records.write(use.id, use.to_json(), durable=use.persistent)
        except BaseException:
            held.close()
            raise
        return InUse(use, self._records, held)

    def get(self, use_id: str) -> Use | None:
        """The record of a user, None where there is none."""
        return self._read(checked_id(use_id))

    def resume(self, use_id: str, *, task: Task) -> InUse | None:
        """Go on with a persistent use, alone: whoever else does so waits. None when it is not,
        or no longer, there. Raises Cancelled."""
        held = self._locks.exclusive(LOCK, checked_id(use_id), task=task)
        try:
            use = self._read(use_id)
        except BaseException:
            held.close()
            raise
        if use is not None and use.persistent:
            return InUse(use, self._records, held)
        if use is None:
            held.retire()
        held.close()
        return None

    def all(self) -> dict[Use, bool]:
        """All recorded users, with whether they are there."""
        found = {}
        for name in self._records.marks():
            use = self._read(name)
            if use is not None:
                found[use] = self.alive(use)
        return found

    def alive(self, use: Use) -> bool:
        """Whether the user is there; a persistent one is until it is removed."""
        if use.persistent or is_running(use.owner, self._proc):
            return True
        held = self._locks.try_exclusive(LOCK, use.id)
        if held is None:
            return True
        held.close()
        return False

    def claim_dead(self, use_id: str) -> Held | None:
        """The lock of a user that is gone, or that was never recorded, for who removes what
        it left; None when somebody is there."""
        held = self._locks.try_exclusive(LOCK, checked_id(use_id))
        if held is None:
            return None
        try:
            use = self._read(use_id)
        except BaseException:
            held.close()
            raise
        if use is not None and (use.persistent or is_running(use.owner, self._proc)):
            held.close()
            return None
        return held

    def forget(self, use_id: str) -> None:
        """Remove the record of a user, whose lock the caller has and whose snapshot is gone."""
        self._records.remove(use_id)

    def marks(self) -> dict[str, str]:
        """See Records.marks."""
        return self._records.marks()

    def _read(self, use_id: str) -> Use | None:
        """A record; None where there is none, or an empty file: what a power loss leaves of
        one that was not written out, and whose user is gone."""
        path = self._records.path(use_id)
        try:
            with storage_errors(path):
                size = os.stat(path, follow_symlinks=False).st_size
        except NotFound:
            return None
        if not size:
            return None
        return self._records.read(use_id, Use.from_json)


def this_process(proc: str = "/proc") -> Owner:
    """The process that asks, as an owner."""
    pid = os.getpid()
    return Owner(pid=pid, start=_start_of(pid, proc) or 0, boot=boot_id(proc))


def owner_of(pid: int, proc: str = "/proc") -> Owner | None:
    """Another process as an owner, None when there is none."""
    start = _start_of(pid, proc)
    return Owner(pid=pid, start=start, boot=boot_id(proc)) if start is not None else None


def is_running(owner: Owner, proc: str = "/proc") -> bool:
    """Whether this very process is still there."""
    return owner.boot == boot_id(proc) and _start_of(owner.pid, proc) == owner.start


def _start_of(pid: int, proc: str) -> int | None:
    """When the process began; None if there is none, or only its exit status is left."""
    stat = process_stat(pid, proc)
    return None if stat is None or stat.ended else stat.started

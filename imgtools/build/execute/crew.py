"""What all stages of a platform's build share, and what is made ready for one step."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import field
from typing import TYPE_CHECKING

from imgtools.build.events import StepId
from imgtools.build.execute.environment import BuildEnvironment
from imgtools.build.execute.materials import Materials
from imgtools.build.execute.memory import Memory
from imgtools.build.execute.progress import StageRun
from imgtools.build.execute.sources import Sources
from imgtools.build.options import BuildOptions
from imgtools.build.planning.model import Step
from imgtools.build.protocols import Executor, NewLayer
from imgtools.frozen import dataclass
from imgtools.spec.platform import Platform
from imgtools.task import Task

if TYPE_CHECKING:
    from imgtools.build.copying.digests import ContentHashes


@dataclass(frozen=True, slots=True, kw_only=True)
class Crew:
    """`slots` bounds how many steps are executed at once. `layer_made` hears of new layers
    with the index of their stage. `materials` are told of what is fetched. `several` is whether
    several platforms are built, `dry` whether nothing is to be executed."""

    options: BuildOptions
    environment: BuildEnvironment
    platform: Platform
    sources: Sources
    memory: Memory
    hashes: ContentHashes
    slots: threading.BoundedSemaphore
    executor: Callable[[], Executor]
    scratch: str
    materials: Materials = field(default_factory=Materials)
    layer_made: Callable[[int, NewLayer], None] | None = None
    several: bool = False
    dry: bool = False

    def created(self) -> int:
        """The time of what is made now, in seconds since the epoch."""
        fixed = self.options.stamps.created
        return int(time.time()) if fixed is None else fixed

    def file_times(self) -> tuple[int | None, int | None]:
        """What the times of files in new layers are set to, and the latest that they may be."""
        stamps = self.options.stamps
        clamp = stamps.source_date_epoch if stamps.rewrite and stamps.timestamp is None else None
        return stamps.timestamp, clamp


@dataclass(frozen=True, slots=True, kw_only=True)
class StepContext:
    """A step about to be done, and the stage it is in."""

    crew: Crew
    run: StageRun
    step: Step
    id: StepId
    task: Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What executing a step gave: a layer or None, and what goes into history's `{}`."""

    layer: NewLayer | None
    note: str = ""


@dataclass(slots=True, kw_only=True)
class Keyed:
    """A step that can be looked up: all of `keys` name the same result, and so do those that
    `more` finds out, at a cost, when none of them is known. `execute` makes the result, when
    the layers below are in the store. `linked` finds out keys that leave the layers below out,
    where the result does not depend on them: a layer that is known by one can be put on them."""

    keys: tuple[str, ...]
    execute: Callable[[], Made]
    more: Callable[[], tuple[str, ...]] | None = None
    linked: Callable[[], tuple[str, ...]] | None = None
    _further: tuple[str, ...] | None = field(default=None)

    def each_key(self) -> Iterator[str]:
        """The keys, the costly ones last and only if they are asked for."""
        yield from self.keys
        yield from self._costly()

    def all_keys(self) -> tuple[str, ...]:
        """All keys."""
        return self.keys + self._costly()

    def _costly(self) -> tuple[str, ...]:
        if self._further is None:
            self._further = self.more() if self.more is not None else ()
        return self._further

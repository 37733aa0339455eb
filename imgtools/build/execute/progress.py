"""How far the stages of a build are: what each has made, and waiting for what another makes.

A stage's thread fills its `StageRun`; others wait on it. Layers that are known but not in the
store yet (of a base image, of a registry's cache) are obtained when the first step needs them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import field

from imgtools.build.planning.model import StagePlan
from imgtools.build.protocols import BaseImage
from imgtools.errors import Cancelled
from imgtools.frozen import dataclass
from imgtools.spec.digest import Digest
from imgtools.spec.identity import chain_ids
from imgtools.task import Task

Obtain = Callable[[Task], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """What a step gave: its layer, or None; what history says, and when it was made, in
    seconds since the epoch (0.0: with the image)."""

    created_by: str
    layer: Digest | None = None
    chain_id: Digest | None = None
    size: int = 0
    created: float = 0.0
    cached: bool = False
    obtain: Obtain | None = None


@dataclass(slots=True)
class StageRun:
    """A stage that is being carried out. `below` is the run of the stage that it stands on.
    `uncertain` is whether a dry run lost sight of what it makes."""

    plan: StagePlan
    base: BaseImage | None = None
    below: StageRun | None = None
    results: list[StepResult] = field(default_factory=list)
    chain_id: Digest | None = None
    error: BaseException | None = None
    uncertain: bool = False
    _done: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _obtained: int = 0
    _base_obtained: bool = False

    def begin(self) -> None:
        """Start from what is below, which is done."""
        if self.below is not None:
            self.chain_id = self.below.chain_id
        elif self.base is not None:
            ids = chain_ids(self.base.config.diff_ids)
            self.chain_id = ids[-1] if ids else None

    def add(self, result: StepResult) -> None:
        """The next step's result."""
        self.results.append(result)
        if result.layer is not None:
            self.chain_id = result.chain_id

    def finish(self, error: BaseException | None = None) -> None:
        """All steps are done, or one failed."""
        self.error = error
        self._done.set()

    def wait(self, task: Task) -> None:
        """Until the stage is done; raises Cancelled, also if the stage failed: its own error is
        what counts."""
        with task.cancel.calls(self._done.set):
            self._done.wait()
        task.cancel.check()
        if self.error is not None:
            raise Cancelled(f"stage {self.plan.standing.stage.title} failed")

    def make_available(self, obtain_base: Callable[[BaseImage, Task], None], task: Task) -> None:
        """Have all layers up to here in the store."""
        for run in self.from_base():
            run._make_own_available(obtain_base, task)

    def from_base(self) -> list[StageRun]:
        """The runs that this one stands on, the lowest first, and itself."""
        found: list[StageRun] = []
        run: StageRun | None = self
        while run is not None:
            found.append(run)
            run = run.below
        return found[::-1]

    def _make_own_available(
        self, obtain_base: Callable[[BaseImage, Task], None], task: Task
    ) -> None:
        with self._lock:
            if self.base is not None and not self._base_obtained:
                obtain_base(self.base, task)
                self._base_obtained = True
            while self._obtained < len(self.results):
                obtain = self.results[self._obtained].obtain
                if obtain is not None:
                    obtain(task)
                self._obtained += 1

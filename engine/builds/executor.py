"""Runs the RUN steps of a build in containers: `imgtools.build`'s Executor.

The engine behind it, launcher and all, is started when the first step needs it: a build of
which everything is remembered launches nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

from engine.builds.store import snapshot_of
from engine.probe.choose import require_isolation
from engine.probe.model import Choice
from imgtools.build.protocols import Isolation, Output, RunSpec, Working
from imgtools.task import Task

if TYPE_CHECKING:
    from engine.containers.engine import Engine


class BuildExecutor:
    """Implements `imgtools.build.protocols.Executor`; for several threads."""

    def __init__(self, choice: Choice, start: Callable[[], Engine]) -> None:
        """`start` gives the engine; it is called once, when it is needed. Its store is that
        of the `BuildStore` whose trees are run in."""
        self._choice = choice
        self._start = start
        self._mutex = threading.Lock()
        self._asking = threading.Lock()
        self._engine: Engine | None = None

    @property
    def isolation(self) -> Isolation:
        """See Executor: what was chosen, and what speaks against each stronger kind."""
        choice = self._choice
        against = "; ".join(f"{one.kind}: {one.why}" for one in choice.rejected)
        if choice.kind == "none":
            advice = "; or ".join(choice.improve)
            reason = "; ".join(text for text in (choice.why, against, advice) if text)
            return Isolation(kind="none", reason=reason, runs=False)
        reason = choice.why + (f" ({against})" if against else "")
        return Isolation(kind=choice.kind, reason=reason)

    def run(self, working: Working, spec: RunSpec, *, output: Output, task: Task) -> int:
        """See Executor. Raises Unsupported where nothing can be run, RunFailed, InvalidInput,
        NotFound for the source of a mount, StorageError, Cancelled."""
        require_isolation(self._choice)
        snapshot = snapshot_of(working)
        engine = self.engine()
        # Not loaded by a build of which everything is remembered; else while the launcher
        # gets ready.
        from engine.builds.settings import step_options
        from engine.containers.steps import run_step

        options = step_options(spec, self._choice)
        if self._choice.kind == "chroot":
            from engine.builds.lending import lent_mounts

            with lent_mounts(engine, snapshot, spec.mounts, self._asking, task=task):
                return run_step(engine, snapshot, options, output=output, task=task)
        from engine.builds.stepmounts import opened_mounts

        with ExitStack() as undo:
            mounts = opened_mounts(engine, spec.mounts, undo, self._asking, task=task)
            options = replace(options, mounts=mounts)
            return run_step(engine, snapshot, options, output=output, task=task)

    def engine(self) -> Engine:
        """The engine, started if it is not. What killed containers have left is removed then."""
        with self._mutex:
            if self._engine is None:
                from engine.containers.directory import sweep

                self._engine = self._start()
                sweep(self._engine.store, self._engine.runroot)
            return self._engine

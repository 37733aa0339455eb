"""One stage carried out, step by step: found in the cache, or executed and remembered.

Steps that make no layer only change the config and cost nothing. The key of every other step
stands on the chain_id of the layers below, so equal trees give equal keys however they came
to be.
"""

from __future__ import annotations

import time
from dataclasses import replace

from imgtools.build.events import StepFailed, StepFinished, StepId, StepStarted
from imgtools.build.execute.crew import Crew, Keyed, StepContext
from imgtools.build.execute.environment import PlannedStep
from imgtools.build.execute.errors import CommandFailed
from imgtools.build.execute.progress import StageRun, StepResult
from imgtools.build.execute.step_run import prepare_run
from imgtools.build.language.errors import ContainerfileError
from imgtools.build.planning.history import copied
from imgtools.build.planning.model import CopyWork, RunWork, StageRef, Step, Work
from imgtools.build.protocols import CacheRecord
from imgtools.errors import Cancelled, Error
from imgtools.spec.identity import chain_id_on
from imgtools.task import Task


class StageRunner:
    """Carries out one stage; `planned` fills instead in a dry run."""

    def __init__(self, crew: Crew, run: StageRun) -> None:
        self._crew = crew
        self._run = run
        self._task = Task()
        self._unknown = False
        self.planned: list[PlannedStep] = []

    def carry_out(self, task: Task) -> None:
        """All steps in order; the run is finished whatever happens. Raises Error."""
        run, self._task = self._run, task
        try:
            if run.below is not None:
                run.below.wait(self._task)
            self._begin()
            for number, step in enumerate(run.plan.steps, 2):
                self._task.cancel.check()
                run.add(self._step(step, self._id(number)))
        except BaseException as e:
            run.finish(e)
            raise
        run.finish()

    def preview(self, task: Task) -> None:
        """What would become of all steps, nothing of it executed. Stages in front were
        previewed."""
        run, self._task = self._run, task
        below = run.below
        self._unknown = below is not None and below.uncertain
        run.begin()
        for number, step in enumerate(run.plan.steps, 2):
            at = self._id(number)
            fate, key = "config", ""
            if step.work is not None:
                fate, key = self._fate(step, step.work, at)
            self.planned.append(
                PlannedStep(
                    stage=at.stage,
                    number=number,
                    text=step.text,
                    fate=fate,
                    key=key,
                    platform=at.platform,
                )
            )
        run.uncertain = self._unknown
        run.finish()

    def _fate(self, step: Step, work: Work, at: StepId) -> tuple[str, str]:
        runs = self._crew.sources.runs
        refs = [m.source for m in work.mounts] if isinstance(work, RunWork) else []
        if isinstance(work, CopyWork):
            refs = [s.source for s in work.sources if hasattr(s, "source")]
        if self._unknown or any(isinstance(r, StageRef) and runs[r.index].uncertain for r in refs):
            self._unknown = True
            return "run", ""
        keyed = self._keyed(
            work, StepContext(crew=self._crew, run=self._run, step=step, id=at, task=self._task)
        )
        record = self._find(keyed)
        if record is None:
            found = self._linked(keyed)
            record = self._on_top(found, keyed) if found is not None else None
        if record is None:
            self._unknown = True
            return "run", keyed.keys[0]
        self._run.add(self._recalled(step, record))
        return "cached", keyed.keys[0]

    def _begin(self) -> None:
        """FROM, which people count as the first step: what it names is known by now."""
        at, report = self._id(1), self._crew.environment.report
        report(StepStarted(step=at, text=self._run.plan.standing.stage.text))
        began = time.monotonic()
        self._run.begin()
        report(StepFinished(step=at, cached=False, seconds=time.monotonic() - began))

    def _id(self, number: int) -> StepId:
        return StepId(
            stage=self._run.plan.standing.stage.title,
            number=number,
            total=len(self._run.plan.steps) + 1,
            platform=str(self._crew.platform) if self._crew.several else "",
        )

    def _step(self, step: Step, at: StepId) -> StepResult:
        report = self._crew.environment.report
        report(StepStarted(step=at, text=step.text))
        began = time.monotonic()
        context = StepContext(crew=self._crew, run=self._run, step=step, id=at, task=self._task)
        try:
            if step.work is None:
                result = StepResult(created_by=step.created_by)
            else:
                result = self._made(step, step.work, context)
        except Cancelled:
            raise
        except Error as e:
            if not isinstance(e, CommandFailed | ContainerfileError):
                place = step.instruction.location
                e = e.with_context(f"{place.file}:{place.first}")
            code = getattr(e, "code", -1)
            tail = e.tail if isinstance(e, CommandFailed) else ()
            if not e.again:
                report(StepFailed(step=at, text=step.text, message=e.message, code=code, tail=tail))
            raise e
        report(
            StepFinished(
                step=at,
                cached=result.cached,
                seconds=time.monotonic() - began,
                layer=str(result.layer or ""),
                size=result.size,
            )
        )
        return result

    def _keyed(self, work: Work, context: StepContext) -> Keyed:
        if isinstance(work, RunWork):
            return prepare_run(work, context)
        # Loaded where such a step is: that takes as long as some steps do.
        if isinstance(work, CopyWork):
            from imgtools.build.execute.step_copy import prepare_copy

            return prepare_copy(work, context)
        from imgtools.build.execute.step_workdir import prepare_workdir

        return prepare_workdir(work, context)

    def _made(self, step: Step, work: Work, context: StepContext) -> StepResult:
        keyed = self._keyed(work, context)
        with self._crew.memory.alone(keyed.keys[0], self._task):
            record = self._find(keyed) or self._rebased(keyed)
            if record is not None:
                return self._recalled(step, record)
            self._run.make_available(self._crew.sources.obtain_image, self._task)
            with self._crew.slots:
                self._task.cancel.check()
                made = keyed.execute()
            layer = made.layer
            record = CacheRecord(
                key=keyed.keys[0],
                parent=self._run.chain_id,
                chain_id=layer.chain_id if layer is not None else self._run.chain_id,
                diff_id=layer.diff_id if layer is not None else None,
                size=layer.size if layer is not None else 0,
                # Not the time that images get: by this one it is told how old a step is.
                created=float(int(time.time())),
                note=made.note,
            )
            self._remember(record, keyed)
        if layer is not None and self._crew.layer_made is not None:
            self._crew.layer_made(self._run.plan.standing.stage.index, layer)
        return replace(self._recalled(step, record), cached=False, obtain=None)

    def _find(self, keyed: Keyed) -> CacheRecord | None:
        found = None
        tried = []
        for key in keyed.each_key():
            found = self._crew.memory.find(key, self._task)
            # Who fills a cache may have put a layer under a key that stands on other layers.
            if found is not None and found.parent == self._run.chain_id:
                break
            found = None
            tried.append(key)
        if found is not None and not self._crew.dry:
            for key in tried:
                self._crew.memory.remember(found, key, self._task)
        return found

    def _remember(self, record: CacheRecord, keyed: Keyed) -> None:
        """Remember what was made just now."""
        for key in keyed.all_keys():
            self._crew.memory.remember(record, key, self._task, made=True)
        if keyed.linked is not None and record.diff_id is not None:
            for key in keyed.linked():
                self._crew.environment.store.remember(replace(record, key=key))

    def _linked(self, keyed: Keyed) -> CacheRecord | None:
        """The record of the same step on other layers, if those do not matter to it."""
        store = self._crew.environment.store
        for key in keyed.linked() if keyed.linked is not None else ():
            found = self._crew.memory.find_linked(key, store)
            if found is not None:
                return found
        return None

    def _on_top(self, found: CacheRecord, keyed: Keyed) -> CacheRecord | None:
        """What `found` is on the layers that are below here."""
        if found.diff_id is None:
            return None
        parent = self._run.chain_id
        chain = chain_id_on(parent, found.diff_id)
        return replace(found, key=keyed.keys[0], parent=parent, chain_id=chain)

    def _rebased(self, keyed: Keyed) -> CacheRecord | None:
        """The record of a step that is known on other layers, its layer put on these."""
        found = self._linked(keyed)
        record = self._on_top(found, keyed) if found is not None else None
        if found is None or record is None or found.chain_id is None or found.diff_id is None:
            return None
        self._run.make_available(self._crew.sources.obtain_image, self._task)
        store = self._crew.environment.store
        with self._crew.slots, store.open_layer(found.chain_id) as tar:
            self._task.cancel.check()
            store.apply(record.parent, found.diff_id, tar, found.size, task=self._task)
        self._remember(record, keyed)
        return record

    def _recalled(self, step: Step, record: CacheRecord) -> StepResult:
        memory = self._crew.memory
        return StepResult(
            created_by=copied(step.created_by, record.note),
            layer=record.diff_id,
            chain_id=record.chain_id,
            size=record.size,
            created=record.created,
            cached=True,
            obtain=lambda task: memory.obtain(record, task),
        )

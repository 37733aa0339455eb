"""The build of one file for one or several platforms: surveyed, planned, carried out."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from imgtools.build.contexts.hashes import FileHashes
from imgtools.build.events import BuildNote, BuildPlanned
from imgtools.build.execute.admitting import admitted_plan
from imgtools.build.execute.checking import base_images, base_platforms, check_options, tell_checks
from imgtools.build.execute.crew import Crew
from imgtools.build.execute.environment import (
    BuildEnvironment,
    BuildResult,
    LocalCache,
    PlannedStep,
)
from imgtools.build.execute.imaging import finished_build, merged_results
from imgtools.build.execute.memory import Memory
from imgtools.build.execute.platforms import all_platforms, arguments_of
from imgtools.build.execute.progress import StageRun
from imgtools.build.execute.sources import Contexts, Sources
from imgtools.build.execute.stage import StageRunner
from imgtools.build.execute.survey import Survey, Surveyor
from imgtools.build.execute.together import together
from imgtools.build.language.model import Containerfile
from imgtools.build.options import BuildOptions
from imgtools.build.planning.arguments import Arguments
from imgtools.build.planning.evaluate import Scope, evaluate_stage, start_state, unused_arguments
from imgtools.build.planning.model import RunWork, Stage, StageRef, StageState
from imgtools.build.planning.stages import find_target, split_stages
from imgtools.build.protocols import Executor, NewLayer
from imgtools.frozen import dataclass
from imgtools.spec.platform import Platform
from imgtools.task import Task

LEAST_JOBS = 4
"""Steps at a time where there are fewer processors: many only wait for a network."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ready:
    """One platform's build, surveyed and evaluated: the runs of its stages by index, in an
    order in which what a stage stands on comes first."""

    crew: Crew
    runs: Mapping[int, StageRun]
    target: int
    survey: Survey


class Builder:
    """Builds one file; `undo` closes what was opened for it."""

    def __init__(
        self,
        options: BuildOptions,
        environment: BuildEnvironment,
        file: Containerfile,
        contexts: Contexts,
        scratch: str,
        undo: ExitStack,
        task: Task,
    ) -> None:
        self._options = options
        self._environment = environment
        self._file = file
        self._contexts = contexts
        self._undo = undo
        self._task = task
        self._hashes = undo.enter_context(FileHashes(environment.hashes or None))
        self._scratch = scratch
        oldest = None if options.cache.ttl is None else time.time() - options.cache.ttl
        cache = environment.cache or LocalCache(environment.store)
        recall = options.cache.enabled and options.layers
        self._memory = Memory(cache, recall=recall, oldest=oldest)
        jobs = options.jobs or max(LEAST_JOBS, os.cpu_count() or 1)
        self._slots = threading.BoundedSemaphore(jobs)
        self._lock = threading.Lock()
        self._executor: Executor | None = None
        self._started = time.time()

    def build(self) -> BuildResult:
        """Carry everything out; the images."""
        ready = self._all_ready(dry=False)
        self._announce(ready)
        jobs = [job for each in ready for job in self._jobs(each)]
        together(jobs, self._task)
        return merged_results(
            finished_build(
                each.crew, each.survey, each.target, self._file, self._started, task=self._task
            )
            for each in ready
        )

    def preview(self) -> BuildResult:
        """What would be done."""
        planned: list[PlannedStep] = []
        for each in self._all_ready(dry=True):
            for run in each.runs.values():
                runner = StageRunner(each.crew, run)
                runner.preview(self._task)
                planned += runner.planned
        return BuildResult(planned=tuple(planned))

    def _jobs(self, ready: _Ready) -> Iterator[Callable[[Task], None]]:
        for run in ready.runs.values():
            yield StageRunner(ready.crew, run).carry_out

    def _all_ready(self, *, dry: bool) -> list[_Ready]:
        unused = unused_arguments(self._file, self._options.build_args)
        if unused:
            text = f"build arguments that nothing declares: {', '.join(unused)}"
            self._environment.report(BuildNote(level="warning", text=text))
        platforms = self._platforms()
        several = len(platforms) > 1
        ready = [self._ready(platform, several=several, dry=dry) for platform in platforms]
        self._check(ready)
        return ready

    def _platforms(self) -> tuple[Platform, ...]:
        if self._options.all_platforms:
            return all_platforms(self._options, self._environment, self._file, task=self._task)
        return self._options.platforms or (self._environment.host,)

    def _check(self, ready: Sequence[_Ready]) -> None:
        """Tell what build checks find, now that images are known and nothing is executed yet."""
        environment = self._environment
        patterns = self._contexts.open("", self._task).patterns
        asked = [
            check_options(
                self._options,
                patterns,
                host=environment.host,
                target=each.crew.platform,
                images=base_images(each.survey),
                platforms=base_platforms(each.survey),
            )
            for each in ready
        ]
        tell_checks(self._file, asked, environment.report)

    def _ready(self, platform: Platform, *, several: bool, dry: bool) -> _Ready:
        options, environment, file = self._options, self._environment, self._file
        arguments = arguments_of(options, environment.host, platform, file)
        stages = split_stages(file, arguments, first=options.from_)
        target = find_target(stages, options.target)
        surveyor = Surveyor(
            options, environment, file, stages, arguments, platform, task=self._task
        )
        survey = surveyor.survey(target)
        runs = self._runs(survey, stages, arguments)
        sources = Sources(environment.store, self._contexts, survey.images, runs, self._undo)

        def made(index: int, layer: NewLayer) -> None:
            if index == target and environment.layer is not None:
                environment.layer(layer)

        crew = Crew(
            options=options,
            environment=environment,
            platform=platform,
            sources=sources,
            memory=self._memory,
            hashes=self._hashes,
            slots=self._slots,
            executor=self._obtain_executor,
            scratch=self._scratch,
            layer_made=made,
            several=several,
            dry=dry,
        )
        return _Ready(crew=crew, runs=runs, target=target, survey=survey)

    def _obtain_executor(self) -> Executor:
        with self._lock:
            if self._executor is None:
                self._executor = self._environment.executor()
            return self._executor

    def _runs(
        self, survey: Survey, stages: Sequence[Stage], arguments: Arguments
    ) -> dict[int, StageRun]:
        runs: dict[int, StageRun] = {}
        named = {context.name: context.value for context in self._options.contexts}
        env = [
            (name, value) for name, _, value in (e.partition("=") for e in self._options.edits.env)
        ]
        for index, standing in survey.stages.items():
            source = standing.source
            below = runs[source.index] if isinstance(source, StageRef) else None
            base: StageState | Mapping[str, Any] | None = None
            if below is not None:
                base = below.plan.end
            elif standing.image is not None:
                base = standing.image.config.document
            scope = Scope(
                file=self._file,
                stages=stages,
                stage=standing.stage,
                contexts=named,
                arguments=arguments,
                proxy=self._options.proxy,
                mounts=self._options.mounts,
                allow_insecure=self._options.allow_insecure,
            )
            plan = evaluate_stage(standing, start_state(base, env), scope)
            plan = admitted_plan(self._options.source_policy, plan)
            runs[index] = StageRun(plan=plan, base=standing.image, below=below)
        return runs

    def _announce(self, ready: Sequence[_Ready]) -> None:
        """Say how RUN is isolated, if there is a RUN."""
        steps = [step for each in ready for run in each.runs.values() for step in run.plan.steps]
        kind = reason = ""
        if any(isinstance(step.work, RunWork) for step in steps):
            isolation = self._obtain_executor().isolation
            kind, reason = isolation.kind, isolation.reason
        titles = tuple(
            run.plan.standing.stage.title for each in ready[:1] for run in each.runs.values()
        )
        # FROM is a step too.
        count = len(steps) + sum(len(each.runs) for each in ready)
        self._environment.report(
            BuildPlanned(
                steps=count,
                stages=titles,
                isolation=kind,
                reason=reason,
                platforms=tuple(str(each.crew.platform) for each in ready),
            )
        )

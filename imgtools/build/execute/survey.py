"""What has to be known before a plan can be made: which stages the target needs, and the
configs of the images that they stand on, triggers included. Reads no layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field, replace

from imgtools.build.contexts.classify import ContextKind, classify
from imgtools.build.execute.admitting import admitted_image
from imgtools.build.execute.environment import BuildEnvironment
from imgtools.build.language.model import Containerfile, Instruction, OnBuild, Run
from imgtools.build.language.parser import parse_trigger
from imgtools.build.options import BuildOptions
from imgtools.build.planning.arguments import Arguments
from imgtools.build.planning.inherited import checked_settings
from imgtools.build.planning.model import (
    ContextRef,
    ImageRef,
    SourceRef,
    Stage,
    StageRef,
    StandingStage,
)
from imgtools.build.planning.stages import base_of, sources_in
from imgtools.build.protocols import BaseImage
from imgtools.errors import Error
from imgtools.frozen import dataclass
from imgtools.spec.platform import Platform
from imgtools.task import Task, WorkerPool


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """The stages that are needed, by index; and images that are only copied from, by name."""

    stages: Mapping[int, StandingStage]
    images: Mapping[str, BaseImage] = field(default_factory=dict)


class Surveyor:
    """Finds out what stages of one platform stand on."""

    def __init__(
        self,
        options: BuildOptions,
        environment: BuildEnvironment,
        file: Containerfile,
        stages: Sequence[Stage],
        arguments: Arguments,
        platform: Platform,
        *,
        task: Task,
    ) -> None:
        self._options = options
        self._environment = environment
        self._file = file
        self._stages = stages
        self._arguments = arguments
        self._platform = platform
        self._task = task
        self._contexts = {context.name: context.value for context in options.contexts}

    def survey(self, target: int) -> Survey:
        """All that the stage `target` needs. Raises ContainerfileError, ImageNotFound, and
        what looking up images raises."""
        wanted = {target} if self._options.skip_unused_stages else set(range(target + 1))
        found: dict[int, StandingStage] = {}
        images: dict[str, BaseImage] = {}
        while wanted - set(found):
            waiting = sorted(wanted - set(found))
            with WorkerPool(self._task) as pool:
                looked = pool.map(self._stand, waiting)
            for standing in looked:
                found[standing.stage.index] = standing
                wanted |= _stages_of((standing.source, *standing.needs))
            # The triggers of a stage depend on the stage below, which may not be known yet.
            self._add_triggers(found, wanted)
        for index in sorted(found):
            source = found[index].source
            if isinstance(source, StageRef):
                # Whatever --platform says: a stage goes on from an image that is there.
                found[index] = replace(found[index], platform=found[source.index].platform)
        for ref in {ref for standing in found.values() for ref in standing.needs}:
            if isinstance(ref, ImageRef | ContextRef) and self._is_image(ref):
                images[ref.name] = self._look_up(ref, self._platform)
        return Survey(stages=dict(sorted(found.items())), images=images)

    def _stand(self, index: int) -> StandingStage:
        stage = self._stages[index]
        source = base_of(stage, self._stages, self._contexts)
        if isinstance(source, ContextRef) and source.name == stage.name:
            # The context takes the place of what the stage would have made.
            stage = replace(stage, instructions=())
        host = self._environment.host
        platform = Platform.parse(stage.platform, host) if stage.platform else self._platform
        image = None
        triggers: tuple[Instruction, ...] = ()
        if isinstance(source, ImageRef | ContextRef) and self._is_image(source):
            try:
                image = self._look_up(source, platform)
            except Error as e:
                at = stage.head.location
                raise e.with_context(f"{at.file}:{at.first}: FROM {stage.base}") from e.__cause__
            texts = checked_settings(image.config.document, stage.base).get("OnBuild") or ()
            triggers = tuple(parse_trigger(text, stage.base) for text in texts)
        return StandingStage(
            stage=stage,
            source=source,
            platform=platform,
            image=image,
            triggers=triggers,
            needs=self._needs(stage, triggers),
        )

    def _add_triggers(self, found: dict[int, StandingStage], wanted: set[int]) -> None:
        for index, standing in found.items():
            below = (
                found.get(standing.source.index) if isinstance(standing.source, StageRef) else None
            )
            if below is None or standing.triggers:
                continue
            triggers = tuple(
                instruction.inner
                for instruction in below.stage.instructions
                if isinstance(instruction, OnBuild)
            )
            if triggers:
                needs = self._needs(standing.stage, triggers)
                found[index] = replace(standing, triggers=triggers, needs=needs)
                wanted |= _stages_of(needs)

    def _needs(self, stage: Stage, triggers: Sequence[Instruction]) -> tuple[SourceRef, ...]:
        mounts = self._options.mounts
        instructions = [
            replace(each, mounts=(*mounts, *each.mounts)) if isinstance(each, Run) else each
            for each in (*triggers, *stage.instructions)
        ]
        return sources_in(
            instructions, stage, self._stages, self._contexts, self._arguments, self._file
        )

    def _is_image(self, ref: ImageRef | ContextRef) -> bool:
        return isinstance(ref, ImageRef) or image_of(self._contexts.get(ref.name, "")) != ""

    def _look_up(self, ref: ImageRef | ContextRef, platform: Platform) -> BaseImage:
        name = ref.name if isinstance(ref, ImageRef) else ""
        if isinstance(ref, ContextRef):
            name = image_of(self._contexts[ref.name])
        name = admitted_image(self._options.source_policy, name)
        return self._environment.store.look_up(name, platform, self._options.pull, task=self._task)


def image_of(value: str) -> str:
    """The image that a --build-context names, as a reference; "" for one that is files."""
    kind = classify(value)
    if kind is ContextKind.LAYOUT:
        return "oci:" + value.partition(":")[2].removeprefix("//")
    if kind is not ContextKind.IMAGE or value.startswith("docker://"):
        return value if kind is ContextKind.IMAGE else ""
    return value.partition(":")[2].removeprefix("//")


def _stages_of(refs: Sequence[SourceRef]) -> set[int]:
    return {ref.index for ref in refs if isinstance(ref, StageRef)}

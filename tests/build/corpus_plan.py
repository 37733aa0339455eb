"""Plans real Containerfiles without a network: every stage as the target, on images that exist
in name only. What BuildKit would need a registry for, images' configs, is a stand-in, so that
what is told apart are files that can be evaluated and files that cannot.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from imgtools.build.execute.environment import BuildEnvironment
from imgtools.build.execute.survey import Survey, Surveyor
from imgtools.build.language.model import Containerfile, Run
from imgtools.build.language.parser import parse
from imgtools.build.options import BuildOptions
from imgtools.build.planning.arguments import Arguments, global_arguments, platform_arguments
from imgtools.build.planning.evaluate import Scope, evaluate_stage, start_state
from imgtools.build.planning.model import Stage, StagePlan, StageRef, StageState
from imgtools.build.planning.stages import leading_args, split_stages
from imgtools.build.protocols import BaseImage, Executor, SnapshotStore
from imgtools.errors import Error
from imgtools.spec.config import Config
from imgtools.spec.manifest import RawManifest
from imgtools.spec.platform import Platform
from imgtools.spec.strict_json import dumps
from imgtools.task import Task

HOST = Platform(os="linux", architecture="amd64")
CONFIG = "application/vnd.oci.image.config.v1+json"
STAND_IN = "stand-in"
"""The value of arguments in front of FROM that have no default."""
VARIABLES = ("PATH=/usr/local/bin:/usr/bin:/bin", "APP_UID=1654", "NB_UID=1000", "NB_GID=100")
"""What images that many files build on have in their environment."""
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


@dataclass(slots=True)
class StandIns:
    """Finds an image for every name, and remembers which names there were."""

    names: list[str] = field(default_factory=list)

    def look_up(self, name: str, platform: Platform | None, pull: str, *, task: Task) -> BaseImage:
        """An image without layers that has nothing but a PATH."""
        self.names.append(name)
        platform = platform or HOST
        document = {
            "architecture": platform.architecture,
            "os": platform.os,
            "config": {"Env": list(VARIABLES)},
            "rootfs": {"type": "layers", "diff_ids": []},
        }
        config = Config.from_json(document)
        described = {"mediaType": CONFIG, "digest": f"sha256:{'0' * 64}", "size": 2}
        manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": described, "layers": []}
        return BaseImage(
            name=name,
            pinned="",
            platform=platform,
            manifest=RawManifest.of(dumps(manifest)),
            config=config,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedFile:
    """What came of a file: `images` that it names, in all stages; `missing` are arguments in
    front of FROM that got a stand-in; `steps` are those of the last target; `runs` how many
    RUN there are; `errors` per target that could not be planned."""

    images: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    runs: int = 0
    stages: int = 0
    steps: int = 0
    errors: Mapping[str, Error] = field(default_factory=dict)


def plan_file(content: bytes, name: str) -> PlannedFile:
    """Plan every stage of a file as the target. Raises what parsing and splitting into stages
    raise; what is wrong with single targets is in the result."""
    file = parse(content, name)
    known = platform_arguments(HOST, HOST, "")
    missing = tuple(
        name
        for instruction in leading_args(file)
        for name, default in instruction.pairs
        if default is None and name not in known
    )
    given = dict.fromkeys(missing, STAND_IN)
    options = BuildOptions(build_args=given)
    arguments = global_arguments(
        leading_args(file),
        given,
        known,
        escape=file.directives.escape,
        refuse=lambda error, at: error,
    )
    stages = split_stages(file, arguments)
    store = StandIns()
    environment = BuildEnvironment(
        store=cast("SnapshotStore", store), executor=_no_executor, host=HOST, directory="/"
    )
    errors: dict[str, Error] = {}
    steps = 0
    for stage in stages:
        surveyor = Surveyor(options, environment, file, stages, arguments, HOST, task=Task())
        try:
            plans = evaluate(surveyor.survey(stage.index), file, stages, arguments)
            steps = sum(len(plan.steps) for plan in plans)
        except Error as error:
            errors[stage.title] = error
    images = tuple(dict.fromkeys(store.names))
    return PlannedFile(
        images=images,
        missing=missing,
        runs=sum(isinstance(instruction, Run) for instruction in file.instructions),
        stages=len(stages),
        steps=steps,
        errors=errors,
    )


def evaluate(
    survey: Survey, file: Containerfile, stages: tuple[Stage, ...], arguments: Arguments
) -> list[StagePlan]:
    """The plans of all stages that were surveyed; raises ContainerfileError."""
    plans: dict[int, StagePlan] = {}
    for index, standing in survey.stages.items():
        base: StageState | Mapping[str, Any] | None = None
        if isinstance(standing.source, StageRef):
            base = plans[standing.source.index].end
        elif standing.image is not None:
            base = standing.image.config.document
        scope = Scope(
            file=file,
            stages=stages,
            stage=standing.stage,
            contexts=(),
            arguments=arguments,
            proxy={},
            allow_insecure=True,
        )
        plans[index] = evaluate_stage(standing, start_state(base), scope)
    return list(plans.values())


def _no_executor() -> Executor:
    raise AssertionError("planning executes nothing")

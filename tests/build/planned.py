"""A Containerfile planned without anything being read, for tests of plans."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from imgtools.build.language.errors import ContainerfileError
from imgtools.build.language.parser import parse, parse_trigger
from imgtools.build.planning.arguments import global_arguments, platform_arguments
from imgtools.build.planning.evaluate import Scope, evaluate_stage, start_state
from imgtools.build.planning.model import StagePlan, StageRef, StandingStage
from imgtools.build.planning.stages import base_of, leading_args, sources_in, split_stages
from imgtools.spec.platform import Platform

HOST = Platform(os="linux", architecture="amd64")


def planned(
    text: str,
    given: Mapping[str, str] | None = None,
    *,
    base: Mapping[str, Any] | None = None,
    contexts: Sequence[str] = (),
    target: Platform = HOST,
    proxy: Mapping[str, str] | None = None,
    env: Sequence[tuple[str, str]] = (),
    mounts: tuple[str, ...] = (),
    insecure: bool = False,
) -> list[StagePlan]:
    """The plans of all stages, all images having the config `base`."""
    file = parse(textwrap.dedent(text).encode(), "Containerfile")
    arguments = global_arguments(
        leading_args(file),
        given or {},
        platform_arguments(HOST, target, ""),
        escape=file.directives.escape,
        refuse=lambda error, at: ContainerfileError(str(error), at),
    )
    stages = split_stages(file, arguments)
    plans: list[StagePlan] = []
    for stage in stages:
        source = base_of(stage, stages, contexts)
        below = plans[source.index].end if isinstance(source, StageRef) else None
        triggers = tuple(
            parse_trigger(trigger, stage.base)
            for trigger in ((base or {}).get("config") or {}).get("OnBuild") or ()
            if below is None
        )
        standing = StandingStage(
            stage=stage,
            source=source,
            platform=target,
            triggers=triggers,
            needs=sources_in(
                (*triggers, *stage.instructions), stage, stages, contexts, arguments, file
            ),
        )
        scope = Scope(
            file=file,
            stages=stages,
            stage=stage,
            contexts=contexts,
            arguments=arguments,
            proxy=proxy or {},
            mounts=mounts,
            allow_insecure=insecure,
        )
        plans.append(evaluate_stage(standing, start_state(below or base, env), scope))
    return plans


def settings_of(
    text: str, given: Mapping[str, str] | None = None, **more: Any
) -> Mapping[str, Any]:
    """The config's settings at the end of the last stage."""
    return planned(text, given, **more)[-1].end.settings

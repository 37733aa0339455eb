"""Instructions about an image's config that stand in no file: those of `commit --change`, and the
triggers of an image of which a working container is made.

They mean what they would at the end of a Containerfile whose stage has that config.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from imgtools.build.language.model import Containerfile, From, Location
from imgtools.build.language.parser import parse_changes, parse_trigger
from imgtools.build.planning import config_state as config
from imgtools.build.planning.arguments import Arguments, platform_arguments
from imgtools.build.planning.evaluate import Scope, changed_config, changes_and_work
from imgtools.build.planning.model import CopyWork, RunWork, Stage, StageState, Step
from imgtools.spec.platform import Platform

NAME = "--change"


def with_changes(
    document: Mapping[str, Any], changes: Sequence[str], host: Platform
) -> dict[str, Any]:
    """An image's config document after `changes`, lines of one Containerfile; `host` is this
    machine's platform. Raises ContainerfileError, Unsupported, LimitExceeded."""
    return _after(document, parse_changes("\n".join(changes), NAME), host)


def without_triggers(
    document: Mapping[str, Any], image: str, host: Platform, proxy: Mapping[str, str]
) -> tuple[dict[str, Any], tuple[Step, ...]]:
    """An image's config document as its child has it, its ONBUILD carried out and gone, and what
    else its ONBUILD asks for: steps with work, in order. `proxy` are variables that every RUN
    gets. Raises ContainerfileError, Unsupported."""
    settings = document.get("config") or {}
    triggers = tuple(parse_trigger(text, image) for text in settings.get("OnBuild") or ())
    rest = {**document, "config": config.without_triggers(settings)}
    file = Containerfile(name=f"ONBUILD of {image}", instructions=triggers)
    state, scope = _beginning(rest, file, host, proxy)
    after, steps = changes_and_work(state, scope)
    asked = tuple(each for each in steps if isinstance(each.work, RunWork | CopyWork))
    return _document(rest, after), asked


def _after(document: Mapping[str, Any], file: Containerfile, host: Platform) -> dict[str, Any]:
    return _document(document, changed_config(*_beginning(document, file, host, {})))


def _document(document: Mapping[str, Any], after: StageState) -> dict[str, Any]:
    found = {**document, "config": dict(after.settings)}
    return {**found, "author": after.author} if after.author else found


def _beginning(
    document: Mapping[str, Any], file: Containerfile, host: Platform, proxy: Mapping[str, str]
) -> tuple[StageState, Scope]:
    """What holds in front of the instructions of `file`."""
    settings = document.get("config") or {}
    state = StageState(
        settings=settings,
        variables=config.environment(settings),
        author=str(document.get("author") or ""),
    )
    target = Platform.from_json(document) or host
    known = platform_arguments(host, target, "")
    scope = Scope(
        file=file,
        stages=(),
        stage=_no_stage(file),
        contexts=(),
        arguments=Arguments(given={}, known=known),
        proxy=proxy,
    )
    return state, scope


def _no_stage(file: Containerfile) -> Stage:
    """What stands for the stage: from nothing, and without a name."""
    head = From(
        keyword="FROM",
        written="FROM",
        text="FROM scratch",
        location=Location(file=file.name, first=1, last=1),
        image="scratch",
    )
    return Stage(index=0, name="", head=head, base=head.image, platform="", instructions=())

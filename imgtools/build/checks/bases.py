"""Checks of FROM: its arguments, their defaults, its platform."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Mapping, Sequence

from imgtools.build.checks.model import CheckOptions, Found
from imgtools.build.checks.stages import (
    Stage,
    expand_or_none,
    global_args,
    global_variables,
    named_stage,
    stages_of,
)
from imgtools.build.language.expand import Expanded
from imgtools.build.language.model import Containerfile, From
from imgtools.errors import InvalidInput
from imgtools.spec.reference import Reference


def suggestion(name: str, known: Collection[str]) -> str:
    """A question that names the known variable `name` may have been meant for, "" if none is
    close enough."""
    close = difflib.get_close_matches(name, sorted(known), 1, 0.7)
    return f" (did you mean {close[0]}?)" if close else ""


def check_arguments(
    file: Containerfile, stages: Sequence[Stage], variables: Mapping[str, str]
) -> Iterator[Found]:
    """UndefinedArgInFrom: names in FROM that no ARG in front of the first one declares."""
    declared = {name for found in global_args(file) for name, _ in found.pairs} | set(variables)
    for stage in stages:
        unknown: set[str] = set()
        for word in (stage.head.image, stage.head.platform):
            if expanded := expand_or_none(word, variables, file.directives.escape):
                unknown |= expanded.unmatched - declared
        for name in sorted(unknown):
            yield Found(
                "UndefinedArgInFrom",
                f"argument '{name}' in FROM is not declared{suggestion(name, declared)}",
                stage.head,
            )


def check_defaults(file: Containerfile, options: CheckOptions) -> Iterator[Found]:
    """InvalidDefaultArgInFrom: without any --build-arg FROM names an image that cannot be."""
    try:
        variables = global_variables(file, options, {})
    except InvalidInput:
        return
    stages = stages_of(file, variables)
    for stage in stages:
        expanded = expand_or_none(stage.head.image, variables, file.directives.escape)
        if expanded is None or not (expanded.matched or expanded.unmatched):
            continue
        if named_stage(stage.base, stages[: stage.index]) is None and not _is_name(stage.base):
            yield Found(
                "InvalidDefaultArgInFrom",
                f"the defaults of arguments make '{stage.head.image}' an empty or invalid name",
                stage.head,
            )


def _is_name(text: str) -> bool:
    try:
        Reference.parse(text)
    except InvalidInput:
        return False
    return True


def check_platforms(
    file: Containerfile, stages: Sequence[Stage], variables: Mapping[str, str]
) -> Iterator[Found]:
    """RedundantTargetPlatform and FromPlatformFlagConstDisallowed."""
    for stage in stages:
        head = stage.head
        expanded = expand_or_none(head.platform, variables, file.directives.escape)
        if not head.platform or expanded is None:
            continue
        if expanded.matched or expanded.unmatched:
            if _is_target(expanded, variables):
                yield Found(
                    "RedundantTargetPlatform",
                    f"platform {head.platform} is what FROM takes anyway",
                    head,
                )
        elif not _is_in_name(head, expanded.text):
            yield Found(
                "FromPlatformFlagConstDisallowed",
                f"FROM --platform={expanded.text} is always the same platform: use an argument, "
                "or name the stage after it",
                head,
            )


def check_images(stages: Sequence[Stage], options: CheckOptions) -> Iterator[Found]:
    """InvalidBaseImagePlatform: an image of a single platform is taken for any other."""
    for stage in stages:
        asked, found = options.platforms.get(stage.index, (None, None))
        if asked is None or found is None or not found.os or not found.architecture:
            continue
        if (asked.os, asked.architecture) != (found.os, found.architecture):
            text = f"base image {stage.base} is for {found}, and {asked} is built"
            yield Found("InvalidBaseImagePlatform", text, stage.head)


def _is_target(expanded: Expanded, variables: Mapping[str, str]) -> bool:
    return (
        expanded.matched == {"TARGETPLATFORM"}
        and not expanded.unmatched
        and expanded.text == variables["TARGETPLATFORM"]
    )


def _is_in_name(head: From, platform: str) -> bool:
    """Whether the stage's name has the system or the architecture of `platform` in it."""
    return any(part and part in head.name for part in platform.lower().split("/")[:2])

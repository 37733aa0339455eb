"""Applies all build checks to a file, and says which of their findings count."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from imgtools.build.checks.bases import (
    check_arguments,
    check_defaults,
    check_images,
    check_platforms,
)
from imgtools.build.checks.instructions import check_file, check_forms, check_once, check_secrets
from imgtools.build.checks.model import CheckOptions, CheckWarning, Found
from imgtools.build.checks.naming import (
    check_casing,
    check_descriptions,
    check_from,
    check_stage_names,
    check_unused,
)
from imgtools.build.checks.scopes import check_scopes
from imgtools.build.checks.settings import settings_in, settings_of
from imgtools.build.checks.stages import global_variables, stages_of
from imgtools.build.language.errors import ContainerfileError
from imgtools.build.language.model import Containerfile, Location
from imgtools.errors import InvalidInput


def run_checks(file: Containerfile, options: CheckOptions) -> tuple[CheckWarning, ...]:
    """The violations in `file`, in the order of its lines.

    All stages are checked, whatever the target. Raises InvalidInput if the settings of checks
    (directive or build argument) are malformed.
    """
    settings = settings_of(file, options)
    warnings: dict[CheckWarning, None] = {}
    for found in _findings(file, options):
        here = settings
        if found.instruction is not None:
            here = settings.merged(settings_in(found.instruction.comments))
        if here.applies(found.rule):
            place = _place(file, found)
            warnings[CheckWarning(rule=found.rule, text=found.text, location=place)] = None
    return tuple(sorted(warnings, key=lambda warning: warning.location.first))


def refuse(file: Containerfile, options: CheckOptions, warnings: Sequence[CheckWarning]) -> None:
    """Raises ContainerfileError if there are warnings and the settings make them errors."""
    if not warnings or not settings_of(file, options).error:
        return
    rules = ", ".join(sorted({warning.rule for warning in warnings}))
    first = warnings[0]
    raise ContainerfileError(
        f"build checks failed: {rules}",
        first.location,
        excerpt="".join(file.lines[first.location.first - 1 : first.location.first]),
        hint="correct them, or see '# check=' for how to skip a rule",
    )


def _findings(file: Containerfile, options: CheckOptions) -> Iterator[Found]:
    yield from check_file(file)
    yield from check_from(file)
    yield from check_descriptions(file)
    yield from check_defaults(file, options)
    try:
        variables = global_variables(file, options, options.build_args)
    except InvalidInput:
        # The build cannot get past this either, and says what is wrong with it.
        variables = {"TARGETPLATFORM": str(options.target_platform)}
    stages = stages_of(file, variables, options.contexts)
    yield from check_stage_names(stages)
    yield from check_casing(stages)
    yield from check_unused(stages, options)
    yield from check_arguments(file, stages, variables)
    yield from check_platforms(file, stages, variables)
    yield from check_images(stages, options)
    yield from check_forms(stages)
    yield from check_once(stages)
    yield from check_secrets(stages)
    yield from check_scopes(stages, variables, options, file.directives.escape)


def _place(file: Containerfile, found: Found) -> Location:
    if found.location is not None:
        return found.location
    if found.instruction is not None:
        return found.instruction.location
    return Location(file=file.name, first=1, last=1)

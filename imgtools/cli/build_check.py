"""--check: BuildKit's build checks of a Containerfile, instead of building it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

from imgtools.build.checks.model import CheckWarning
from imgtools.build.checks.run import run_checks
from imgtools.build.execute.checking import check_options
from imgtools.build.execute.environment import BuildEnvironment
from imgtools.build.execute.inputs import open_inputs
from imgtools.build.execute.platforms import known_images
from imgtools.build.language.parser import parse
from imgtools.build.options import BuildOptions
from imgtools.cli.build_failure import excerpt
from imgtools.cli.output import write_json, write_lines
from imgtools.cli.text import one_line
from imgtools.task import Task


def show_checks(
    options: BuildOptions, environment: BuildEnvironment, *, as_json: bool, task: Task
) -> int:
    """Print what is found on standard output; the exit code, 1 if that is anything, as with
    `docker build --check`. Variables of base images that cannot be had are not judged. Raises
    what opening the context and parsing do."""
    with ExitStack() as undo:
        scratch = undo.enter_context(environment.store.scratch())
        inputs = open_inputs(options, environment, scratch, undo, task=task)
        file = parse(inputs.containerfile, inputs.name)
        platform = options.platforms[0] if options.platforms else environment.host
        asked = check_options(
            options,
            inputs.context.patterns,
            host=environment.host,
            target=platform,
            images=known_images(options, environment, file, platform, task=task),
        )
        found = run_checks(file, asked)
    if as_json:
        write_json({"event": "checks", "warnings": [_object(warning) for warning in found]})
    else:
        write_lines(check_lines(found, file.lines))
    return 1 if found else 0


def check_lines(found: Sequence[CheckWarning], source: Sequence[str]) -> list[str]:
    """Each finding with its place, rule and line; then their number."""
    lines: list[str] = []
    for warning in found:
        place = warning.location
        lines.append(one_line(f"{place.file}:{place.first}: {warning.rule}: {warning.text}"))
        if 0 < place.first <= len(source):
            lines += excerpt(source[place.first - 1], place.first, 0)
    count = len(found)
    lines.append(f"{count} warning{'s' * (count != 1)}" if count else "no warnings")
    return lines


def _object(warning: CheckWarning) -> dict[str, object]:
    place = warning.location
    return {"rule": warning.rule, "text": warning.text, "file": place.file, "line": place.first}

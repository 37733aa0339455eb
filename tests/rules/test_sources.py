"""Applies the rules of checks.py to the project, and a few that are about the tree as a whole.

Lengths are a ratchet: allowances.toml lists what is too long today, and may only shrink.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator

import pytest

import imgtools
from tests.rig import REPOSITORY
from tests.rules import checks
from tests.rules.sources import Source, listed, sources

COMMAND_LINES = ("imgtools/cli/", "engine/cli/")

# In pieces, so that this file does not break its own rule.
MACHINE_PATHS = re.compile(
    b"|".join((rb"/work" + rb"/(?:main|shared|\.)", rb"/tmp/bash" + rb"_jobs", rb"/root/" + rb"\."))
)


@pytest.fixture(scope="module")
def product() -> list[Source]:
    """The sources of what users install."""
    found = sources("imgtools", "engine")
    assert found
    return found


@pytest.mark.parametrize(
    "check",
    [checks.module_state, checks.swallowed_errors, checks.docstring, checks.foreign_imports],
)
def test_product_keeps_the_rule(
    product: list[Source], check: Callable[[Source], Iterator[str]]
) -> None:
    """In every file."""
    assert [text for source in product for text in check(source)] == []


def test_only_the_command_line_touches_the_process(product: list[Source]) -> None:
    """Arguments, environment and terminal."""
    library = [source for source in product if not source.path.startswith(COMMAND_LINES)]
    assert [text for source in library for text in checks.process_state(source)] == []


def test_everything_else_is_documented_and_swallows_nothing() -> None:
    """Tests, scripts and benchmarks too."""
    rest = sources("tests", "testdata", "bench", "interop", "scripts")
    both = (checks.docstring, checks.swallowed_errors)
    assert [text for source in rest for check in both for text in check(source)] == []


def test_nothing_grows_too_long() -> None:
    """Files and functions, but for the allowances; an allowance not needed any more has to go.

    Test files may be as long as their tables are; their functions may not.
    """
    allowed = tomllib.loads((REPOSITORY / "tests/rules/allowances.toml").read_text())["lines"]
    measured = {
        name: (lines, limit)
        for source in sources(
            "imgtools", "engine", "bench", "interop", "scripts", "testdata", "tests"
        )
        for name, lines, limit in checks.lengths(source)
        if ":" in name or not name.rpartition("/")[2].startswith("test_")
    }
    too_long = [
        f"{name}: {lines} lines, limit {max(limit, allowed.get(name, 0))}"
        for name, (lines, limit) in measured.items()
        if lines > allowed.get(name, 0)
    ]
    assert too_long == []
    generous = [
        f"{name}: allowed {lines}, has {measured.get(name, ('no more than the limit',))[0]}"
        for name, lines in allowed.items()
        if measured.get(name, (0,))[0] != lines
    ]
    assert generous == []


def test_no_file_names_a_path_of_somebody_s_machine() -> None:
    """What is tracked has to mean the same everywhere."""
    offences = [
        f"{path}: {match[0].decode()}"
        for path in listed()
        if (match := MACHINE_PATHS.search((REPOSITORY / path).read_bytes()))
    ]
    assert offences == []


def test_version_is_the_same_in_both_places() -> None:
    """The package tells its version without reading its own metadata, which would be slow."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert imgtools.__version__ == project["version"]

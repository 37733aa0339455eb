"""Runs the formatter, the linter, the type checker and the import contract over the project.

Their settings are in pyproject.toml; `make lint` runs the same.
"""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.rig import REPOSITORY

# Every other test depends on these, so they are held to what the product is held to.
RIG = ("tests/rig", "tests/rules", "tests/conftest.py", "tests/test_rig.py")

TOOLS = {
    "ruff check": [sys.executable, "-m", "ruff", "check", "--no-cache", "."],
    "ruff format": [sys.executable, "-m", "ruff", "format", "--no-cache", "--check", "."],
    "mypy": [sys.executable, "-m", "mypy", "--strict"],
    "mypy on the rig": [sys.executable, "-m", "mypy", "--strict", *RIG],
    "import-linter": [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"],
}


@pytest.mark.parametrize("tool", TOOLS)
def test_tool_has_no_complaint(tool: str) -> None:
    """Status 0."""
    done = subprocess.run(
        TOOLS[tool],
        cwd=REPOSITORY,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_tools_look_at_every_package_that_is_shipped() -> None:
    """A package added to the wheel but to no tool would go unchecked."""
    settings = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    tool = settings["tool"]
    shipped = tool["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert tool["mypy"]["packages"] == shipped
    assert tool["importlinter"]["root_packages"] == shipped

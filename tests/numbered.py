"""Which tests hold a numbered case, told by the beginning of their names."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]


def numbered_tests(files: Iterable[Path], pattern: str) -> dict[str, list[str]]:
    """The ids of the tests in `files` by what the first group of `pattern` matches in the
    beginning of their names."""
    found: dict[str, list[str]] = {}
    for path in sorted(files):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and (match := re.match(pattern, node.name)):
                name = path.resolve().relative_to(REPOSITORY)
                found.setdefault(match[1], []).append(f"{name}::{node.name}")
    return found

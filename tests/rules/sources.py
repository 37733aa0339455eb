"""Finds the files the rules are about: what git tracks, or would if it were added.

Ignored files (environments, caches) are nobody's sources.
"""

from __future__ import annotations

import ast
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.rig import REPOSITORY


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A Python file: its path from the root of the repository, its text and its syntax tree."""

    path: str
    text: str
    tree: ast.Module

    @classmethod
    def of(cls, path: str, text: str) -> Source:
        """Parse `text` as the file at `path`."""
        return cls(path=path, text=text, tree=ast.parse(text, filename=path))

    @property
    def module(self) -> str:
        """The dotted name."""
        return self.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def listed(*patterns: str, untracked: bool = False) -> list[Path]:
    """Paths from the repository's root of the files git has that match `patterns` (none: all)."""
    others = ["--others", "--exclude-standard"] if untracked else []
    command = ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", *others, "--"]
    done = subprocess.run([*command, *patterns], cwd=REPOSITORY, check=True, stdout=subprocess.PIPE)
    paths = {Path(name.decode()) for name in done.stdout.split(b"\0") if name}
    return sorted(path for path in paths if (REPOSITORY / path).is_file())


def sources(*directories: str) -> list[Source]:
    """The Python files below `directories`."""
    return [
        Source.of(path.as_posix(), (REPOSITORY / path).read_text(encoding="utf-8"))
        for path in listed(*directories, untracked=True)
        if path.suffix == ".py"
    ]

"""Parser directives: `# syntax=`, `# escape=` and `# check=` before anything else in a file.

BuildKit reads them twice, and so do we: what parses the file wants `#` and allows blanks in
front of it; what chooses a frontend also steps over a `#!` line, and knows `//` and JSON.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from imgtools.build.language.errors import brief
from imgtools.build.language.model import Directives
from imgtools.build.language.source import SPACE_CHARACTERS, Source

NAMES = ("syntax", "escape", "check")
FRONTENDS = ("docker/dockerfile", "docker/dockerfile-upstream")
"""The repositories of the language that we speak."""
BUILT_IN = "dockerfile.v0"
"""What BUILDKIT_SYNTAX names to have the frontend that comes with the builder."""

_BLANKS = "\t\n\f\r "
_DIRECTIVE = re.compile(rf"([a-zA-Z][a-zA-Z0-9]*)[{_BLANKS}]*=")


def read_directives(source: Source) -> tuple[Directives, int]:
    """The directives of a file, and how many of its lines are such.

    Raises ContainerfileError for one that is there twice, an escape that is neither backslash
    nor backtick, and for a file that is meant for another frontend altogether.
    """
    found: dict[str, str] = {}
    for line in source.lines:
        pair = _directive(line.lstrip(SPACE_CHARACTERS), "#")
        if pair is None:
            break
        name, value = pair
        number = len(found) + 1
        if name in found:
            raise source.error(f"the directive {name} is there twice", number, column=1)
        if name == "escape" and value not in ("\\", "`"):
            raise source.error(
                f"escape={brief(value)}: expected a backslash or a backtick",
                number,
                column=source.lines[number - 1].find("=") + 2,
            )
        found[name] = value
    lines = source.lines[: len(NAMES) + 1]
    shebang = bool(lines) and lines[0].startswith("#!")
    detected = _detected(lines[shebang:], "#")
    _refuse_other_language(source, lines[shebang:], shebang + 1)
    directives = Directives(
        syntax=detected.get("syntax", "").partition(" ")[0],
        escape=found.get("escape", "\\"),
        check=detected.get("check", "").partition(" ")[0],
    )
    return directives, len(found)


def foreign_frontend(syntax: str) -> bool:
    """Whether `# syntax=` names an image that is not docker's Dockerfile frontend."""
    if not syntax:
        return False
    repository = re.sub(r"^(docker\.io|index\.docker\.io|registry-1\.docker\.io)/", "", syntax)
    return re.split("[:@]", repository)[0] not in FRONTENDS


def _directive(line: str, comment: str) -> tuple[str, str] | None:
    if not line.startswith(comment):
        return None
    text = line[len(comment) :].lstrip(SPACE_CHARACTERS)
    match = _DIRECTIVE.match(text)
    if not match or match.end() == len(text) or match[1].lower() not in NAMES:
        return None
    return match[1].lower(), text[match.end() :].strip(_BLANKS)


def _detected(lines: Sequence[str], comment: str) -> dict[str, str]:
    """The directives at the head of `lines`; what follows one that is there twice is nothing."""
    found: dict[str, str] = {}
    for line in lines:
        pair = _directive(line, comment)
        if pair is None or pair[0] in found:
            break
        found[pair[0]] = pair[1]
    return found


def _refuse_other_language(source: Source, lines: Sequence[str], number: int) -> None:
    """`//syntax=` and a JSON document with "syntax" say that a file is for a frontend of its
    own; in our language neither is an instruction."""
    syntax = _detected(lines, "//").get("syntax", "")
    if not syntax and lines and lines[0].startswith("{"):
        import json

        try:
            document = json.loads("\n".join(source.lines[number - 1 :]))
        except (ValueError, RecursionError):
            return
        value = document.get("syntax") if isinstance(document, dict) else None
        syntax = value if isinstance(value, str) else ""
    if syntax:
        raise source.error(
            f"the file is written for the frontend {brief(syntax)}",
            number,
            column=1,
            hint="only the language of Dockerfiles is understood",
        )

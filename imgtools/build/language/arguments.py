"""How the rest of a line becomes arguments: words, shell words, names with values.

These are the line parsers of BuildKit (frontend/dockerfile/parser/line_parsers.go). Quotes and
escapes stay; they go when a word is expanded.
"""

from __future__ import annotations

import re

from imgtools.build.language.errors import brief
from imgtools.build.language.source import SPACES
from imgtools.errors import InvalidInput

BLANKS = re.compile(r"[\t\v\f\r ]+")
"""What separates words where quotes mean nothing."""


def _shell_word(escape: str) -> re.Pattern[str]:
    e = re.escape(escape)
    pieces = (
        rf"[^{SPACES}'\"{e}]++",
        r"'[^']*+(?:'|\Z)",
        rf'"(?:[^"{e}]++|{e}.)*+(?:"|(?={e}?\Z))',
        rf"{e}.",
    )
    return re.compile(rf"(?:{'|'.join(pieces)})++", re.DOTALL)


_SHELL_WORD = {escape: _shell_word(escape) for escape in ("\\", "`")}


def blank_separated(rest: str) -> tuple[str, ...]:
    """The words of ADD, COPY, EXPOSE, FROM and VOLUME; quotes are characters."""
    return tuple(BLANKS.split(rest)) if rest else ()


def shell_words(rest: str, escape: str) -> tuple[str, ...]:
    """The words of ARG, ENV and LABEL: quotes and escapes keep blanks inside a word and stay.
    A quote that is left open ends with the line; an escape at its very end is dropped."""
    return tuple(_SHELL_WORD[escape].findall(rest))


def pairs(rest: str, escape: str, keyword: str) -> tuple[str, ...]:
    """The arguments of ENV and LABEL: name, value and "=" for each `name=value`; or, if the
    first word has no "=", the first word, all that follows it, and "".

    Raises InvalidInput for a name without value.
    """
    words = shell_words(rest, escape)
    if not words:
        return ()
    if "=" not in words[0]:
        parts = BLANKS.split(rest, maxsplit=1)
        if len(parts) < 2:
            raise InvalidInput(
                f"{keyword} {brief(parts[0])} has no value", hint=f"write {keyword} name=value"
            )
        return (*parts, "")
    found: list[str] = []
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise InvalidInput(
                f"{brief(word)} has no value",
                hint="write name=value, and put a value that has blanks in quotes",
            )
        found += (name, value, "=")
    return tuple(found)

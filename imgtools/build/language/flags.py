"""Flags of instructions: `--name`, `--name=value`, quoted or escaped, in front of arguments."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum

from imgtools.build.language.errors import brief
from imgtools.build.language.lexer import LogicalLine
from imgtools.frozen import dataclass

_BLANKS = "\t\n\v\f\r "
_QUOTES = "'\""
# What means itself, by the quote that is open and the escape character.
_PLAIN = {
    (quote, escape): re.compile(f"[^{quote or _BLANKS + _QUOTES}{re.escape(escape)}]+")
    for quote in ("", *_QUOTES)
    for escape in ("\\", "`")
}


class Kind(Enum):
    """What a flag takes: true or false, a value, or a value each time it is given."""

    SWITCH = "switch"
    VALUE = "value"
    VALUES = "values"


@dataclass(frozen=True, slots=True)
class Flag:
    """A flag as written, without quotes and escapes, and where it is in its line."""

    text: str
    offset: int


@dataclass(frozen=True, slots=True)
class Flags:
    """The flags of an instruction by their names."""

    values: Mapping[str, tuple[str, ...]]

    def value(self, name: str) -> str:
        """The value of a flag, "" where it is not given."""
        return self.values.get(name, ("",))[0]

    def several(self, name: str) -> tuple[str, ...]:
        """All values of a flag."""
        return self.values.get(name, ())

    def switch(self, name: str) -> bool | None:
        """Whether a flag is on, None where it is not given."""
        return self.values[name] == ("true",) if name in self.values else None


def take_flags(line: LogicalLine, at: int, end: int, escape: str) -> tuple[tuple[Flag, ...], int]:
    """The flags from `at` on, and where the arguments begin; a word `--` ends them. Raises
    ContainerfileError for a quote that is not closed."""
    text, flags = line.text, list[Flag]()
    while True:
        while at < end and text[at] in _BLANKS:
            at += 1
        if not text.startswith("--", at, end):
            return tuple(flags), at
        start = at
        word, at = _word(line, start, end, escape)
        if word == "--":
            return tuple(flags), at
        flags.append(Flag(word, start))


def _word(line: LogicalLine, at: int, end: int, escape: str) -> tuple[str, int]:
    """The word at `at` and where it ends; the quote that is open inside it is `quote`."""
    text, parts, quote, opened = line.text, list[str](), "", 0
    while at < end:
        character = text[at]
        if character == quote:
            quote = ""
            at += 1
        elif not quote and character in _QUOTES:
            quote, opened = character, at
            at += 1
        elif character == escape:
            parts.append(text[at + 1 : min(at + 2, end)])
            at = min(at + 2, end)
        elif not quote and character in _BLANKS:
            break
        else:
            found = _PLAIN[quote, escape].match(text, at, end)
            stop = found.end() if found else at + 1
            parts.append(text[at:stop])
            at = stop
    if quote:
        raise line.error("the quote is not closed", opened)
    return "".join(parts), at


def parse_flags(
    flags: tuple[Flag, ...], known: Mapping[str, Kind], line: LogicalLine, keyword: str
) -> Flags:
    """The flags of `keyword` by what it knows. Raises ContainerfileError for a flag that is not
    known (with the one that was meant), given twice, or without the value that it needs."""
    values: dict[str, list[str]] = {}
    for flag in flags:
        name, equals, value = flag.text[2:].partition("=")
        shown = f"--{brief(name)}"
        kind = known.get(name)
        if kind is None:
            raise line.error(
                f"{keyword} has no flag {shown}", flag.offset, hint=_meant(name, known, keyword)
            )
        if name in values and kind is not Kind.VALUES:
            raise line.error(f"the flag {shown} is there twice", flag.offset)
        # A switch may stand alone, everything else may have an empty value.
        if not (not equals or value if kind is Kind.SWITCH else equals):
            raise line.error(f"the flag {shown} has no value", flag.offset)
        if kind is Kind.SWITCH:
            value = value.lower() or "true"
            if value not in ("true", "false"):
                raise line.error(f"{shown}={brief(value)}: expected true or false", flag.offset)
        values.setdefault(name, []).append(value)
    return Flags({name: tuple(given) for name, given in values.items()})


def _meant(name: str, known: Mapping[str, Kind], keyword: str) -> str:
    from difflib import get_close_matches

    close = get_close_matches(name.lower()[:40], known, 1)
    if close:
        return f"did you mean --{close[0]}?"
    if not known:
        return f"{keyword} takes no flags; end flags with -- if this is an argument"
    return "it has " + ", ".join(f"--{each}" for each in known)

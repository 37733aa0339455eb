"""COPY's words for sources and destinations as paths: cleaned, split at their first wildcard.

Pure text. `..` and a leading slash stay within the root, as in BuildKit; wildcards are those of
Go's filepath.Match, one path element each.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from imgtools.build.ignore.gomatch import has_wildcards, literal_text
from imgtools.errors import InvalidInput
from imgtools.frozen import dataclass

PIVOT = "/./"


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceWord:
    """A source as written: `literal` leads to where `pattern` (elements, the first of which
    has a wildcard) begins to count; no pattern, no wildcard."""

    literal: tuple[str, ...]
    pattern: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ParentsWord:
    """A source of COPY --parents: the directory `pivot` (or directories: its elements may be
    patterns), and below it the pattern of what is copied, in the language of ignore files."""

    pivot: tuple[str, ...]
    pattern: str


def clean(word: str) -> tuple[str, ...]:
    """The elements of `word` seen from the root: no empty ones, no dots, `..` resolved."""
    parts: list[str] = []
    for part in word.split("/"):
        if part == "..":
            if parts:
                parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    return tuple(parts)


def source_word(word: str) -> SourceWord:
    """`word` of a COPY or ADD without --parents."""
    parts = clean(word)
    for index, part in enumerate(parts):
        if has_wildcards(part):
            return SourceWord(literal=parts[:index], pattern=parts[index:])
    return SourceWord(literal=parts)


def unescaped(path: str) -> str | None:
    """`path` without its escapes, None if it has none. For names that are not there as they
    are written: a backslash may be part of a name."""
    if "\\" not in path:
        return None
    try:
        return literal_text(path)
    except InvalidInput:
        return None


def parents_word(word: str) -> ParentsWord:
    """`word` of a COPY --parents, split at its first `/./` if it has one."""
    before, found, after = word.partition(PIVOT)
    if not found:
        before, after = "", word
    return ParentsWord(pivot=clean(before), pattern="/".join(clean(after)))


def wants_directory(destination: str) -> bool:
    """Whether a destination says by its end that it is a directory."""
    return destination.endswith(("/", "/.", "/.."))


def nearest(name: str, names: Iterable[str]) -> str | None:
    """Which of `names` somebody may have meant by `name`, None for none."""
    candidates = list(names)
    for candidate in candidates:
        if candidate.casefold() == name.casefold():
            return candidate
    close = difflib.get_close_matches(name, candidates[:2000], n=1, cutoff=0.7)
    return close[0] if close else None

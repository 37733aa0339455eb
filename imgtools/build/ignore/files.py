"""Ignore files: which one a build reads, and the patterns in it.

The format is that of .dockerignore (moby/patternmatcher/ignorefile); the order of names is that
of buildah, whose .containerignore goes before Docker's name.
"""

from __future__ import annotations

from imgtools.build.ignore.patterns import clean, parse_pattern, trim
from imgtools.errors import InvalidInput
from imgtools.frozen import dataclass

_NAMES = (".containerignore", ".dockerignore")


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A place where an ignore file may be. `place` says what `name` is relative to: caller (the
    user's own path; it has to be there), containerfile (the directory of the Containerfile) or
    context (the root of the context)."""

    place: str
    name: str


def candidates(containerfile: str | None, ignorefile: str | None = None) -> tuple[Candidate, ...]:
    """Where to look for the ignore file of a build, in order; the first that exists is read and
    the others are not.

    `containerfile` is the path of the Containerfile as it was named, None if it has none (it
    came through a pipe or in the command); `ignorefile` what the user named instead.
    """
    if ignorefile is not None:
        return (Candidate(place="caller", name=ignorefile),)
    own = containerfile.rpartition("/")[2] if containerfile else ""
    return (
        *(Candidate(place="containerfile", name=own + name) for name in _NAMES if own),
        *(Candidate(place="context", name=name) for name in _NAMES),
    )


def parse_ignore(content: bytes, *, name: str = ".dockerignore") -> tuple[str, ...]:
    """The patterns of an ignore file, cleaned, in order.

    A byte order mark and lines that begin with `#` are dropped, space around a pattern and a
    slash in front of it too. Raises InvalidInput, with `name` and the line, for a bad pattern.
    """
    text = content.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")
    patterns = []
    for number, line in enumerate(text.split("\n"), start=1):
        pattern = "" if line.startswith("#") else trim(line)
        if not pattern:
            continue
        negated = pattern.startswith("!")
        if negated:
            pattern = trim(pattern[1:])
        if pattern:
            pattern = clean(pattern)
        if len(pattern) > 1:
            pattern = pattern.removeprefix("/")
        pattern = "!" * negated + pattern
        try:
            parse_pattern(pattern)
        except InvalidInput as error:
            raise error.with_context(f"{name}:{number}") from None
        patterns.append(pattern)
    return tuple(patterns)

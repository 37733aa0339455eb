"""Versions and constraints as in `images-by-semver`: the syntax of Masterminds/semver v3.

A constraint is comparisons joined by space or comma, groups of them joined by `||`, and
`A - B` for a range. Versions may be partial and begin with v; a pre-release satisfies a
group only if one of the group's comparisons names one.
"""

from __future__ import annotations

import re
from functools import total_ordering
from typing import NamedTuple

from imgtools.errors import InvalidInput
from imgtools.frozen import dataclass

_LONGEST = 1024
_MOST = 2**64
_TAIL = r"(?:-([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?"
_VERSION = re.compile(rf"v?([0-9]+)(?:\.([0-9]+))?(?:\.([0-9]+))?{_TAIL}")
_PART = r"[0-9xX*|]+"
_PARTIAL = rf"v?{_PART}(?:\.{_PART})?(?:\.{_PART})?{_TAIL.replace('-([', '-(?:[')}"
_RANGE = re.compile(rf"\s*({_PARTIAL})\s+-\s+({_PARTIAL})\s*", re.ASCII)
_COMPARISON = re.compile(
    rf"\s*(=>|=<|>=|<=|!=|~>|=|>|<|~|\^|)\s*v?({_PART})(?:\.({_PART}))?(?:\.({_PART}))?{_TAIL}",
    re.ASCII,
)
_SEPARATOR = re.compile(r"\s*,|\s+(?=\S)", re.ASCII)
_SPACE = re.compile(r"\s*", re.ASCII)
_SYNONYMS = {"": "=", "=>": ">=", "=<": "<=", "~>": "~"}
_ANY = ("x", "X", "*")


class InvalidVersion(InvalidInput):
    """A text that is no version."""


class InvalidConstraint(InvalidInput):
    """A constraint that breaks the grammar."""


@total_ordering
@dataclass(frozen=True, slots=True)
class Version:
    """A version; ordered as semver.org section 11 has it, without regard to build metadata."""

    major: int
    minor: int
    patch: int
    prerelease: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Version:
        """The version `text`, which may lack minor and patch; raises InvalidVersion."""
        found = _VERSION.fullmatch(text) if len(text) <= _LONGEST else None
        if found is None:
            raise InvalidVersion(f"{text[:80]!r} is not a version")
        numbers = tuple(int(part or 0) for part in found.groups()[:3])
        return cls(numbers[0], numbers[1], numbers[2], _prerelease(text, found[4]))

    def __post_init__(self) -> None:
        if max(self.major, self.minor, self.patch) >= _MOST:
            raise InvalidVersion(f"a part of version {self.major}.{self.minor} is too large")

    @property
    def numbers(self) -> tuple[int, int, int]:
        """The three numbers."""
        return self.major, self.minor, self.patch

    def __lt__(self, other: Version) -> bool:
        return self._key() < other._key()

    def _key(self) -> tuple[object, ...]:
        # A release comes after its pre-releases, a number before a word.
        parts = tuple(
            (0, int(p), "") if p.isdigit() and int(p) < _MOST else (1, 0, p)
            for p in self.prerelease
        )
        return (self.numbers, not parts, parts)


def _prerelease(text: str, part: str | None) -> tuple[str, ...]:
    parts = tuple(part.split(".")) if part else ()
    if any(p.isdigit() and len(p) > 1 and p[0] == "0" for p in parts):
        raise InvalidVersion(f"{text[:80]!r} has a number with a leading zero in its pre-release")
    return parts


class Constraint:
    """A parsed constraint; `allows` says whether a version satisfies it."""

    def __init__(self, text: str) -> None:
        """Raises InvalidConstraint."""
        self.text = text
        if len(text) > _LONGEST:
            raise InvalidConstraint(f"a version constraint is longer than {_LONGEST} characters")
        rewritten = _RANGE.sub(r">= \1, <= \2 ", text)
        self._groups = tuple(_group(text, part) for part in rewritten.split("||"))

    def allows(self, version: Version) -> bool:
        """Whether one group of comparisons holds in full."""
        for group in self._groups:
            if version.prerelease and not any(c.version.prerelease for c in group):
                continue
            if all(c.holds(version) for c in group):
                return True
        return False


def _group(text: str, part: str) -> tuple[_Comparison, ...]:
    found: list[_Comparison] = []
    position = 0
    while True:
        match = _COMPARISON.match(part, position)
        if match is None:
            break
        found.append(_comparison(text, match))
        position = match.end()
        if _SPACE.fullmatch(part, position):
            return tuple(found)
        separator = _SEPARATOR.match(part, position)
        if separator is None:
            break
        position = separator.end()
    raise InvalidConstraint(
        f"invalid version constraint {text!r}: {part[position:].strip()[:40]!r} is not a comparison"
        " such as >=1.2"
    )


def _comparison(text: str, match: re.Match[str]) -> _Comparison:
    given: list[int] = []
    for part in match.group(2, 3, 4):
        if part is None or part in _ANY:
            break
        if not part.isdigit():
            raise InvalidConstraint(f"invalid version constraint {text!r}: {part!r} is no number")
        given.append(int(part))
    numbers = (*given, 0, 0, 0)[:3]
    try:
        version = Version(numbers[0], numbers[1], numbers[2], _prerelease(text, match[5]))
    except InvalidVersion as e:
        raise InvalidConstraint(f"invalid version constraint {text!r}: {e.message}") from e
    return _Comparison(_SYNONYMS.get(match[1], match[1]), version, len(given))


class _Comparison(NamedTuple):
    """An operator and a version, of which `precision` numbers were given."""

    operator: str
    version: Version
    precision: int

    def holds(self, found: Version) -> bool:
        """Whether `found` satisfies it; pre-releases are the group's business."""
        wanted, precision = self.version, self.precision
        match self.operator:
            case "=":
                return found == wanted if precision == 3 else self._tilde(found)
            case "!=":
                return self._differs(found)
            case "<":
                return found < wanted
            case ">=":
                return found >= wanted
            case ">" if precision in (1, 2):
                return found.numbers[:precision] > wanted.numbers[:precision]
            case ">":
                return found > wanted
            case "<=" if precision == 3:
                return found <= wanted
            case "<=":
                shown = precision or 2
                return found.numbers[:shown] <= wanted.numbers[:shown]
            case "~":
                return self._tilde(found)
        return self._caret(found)

    def _tilde(self, found: Version) -> bool:
        wanted = self.version
        if found < wanted:
            return False
        if wanted.numbers == (0, 0, 0) and self.precision in (0, 3):
            return True
        shown = 1 if self.precision == 1 else 2
        return found.numbers[:shown] == wanted.numbers[:shown]

    def _caret(self, found: Version) -> bool:
        wanted = self.version
        if found < wanted:
            return False
        if wanted.major or self.precision == 1:
            shown = 1
        else:
            # Below 1.0 the first number that is not zero is what must not change.
            shown = 2 if wanted.minor or self.precision == 2 else 3
        return found.numbers[:shown] == wanted.numbers[:shown]

    def _differs(self, found: Version) -> bool:
        wanted, shown = self.version, self.precision
        if shown in (1, 2):
            if found.numbers[:shown] != wanted.numbers[:shown]:
                return True
            return shown == 2 and found.prerelease != wanted.prerelease
        return found != wanted

"""What `${x#p}`, `${x%p}` and `${x/p/r}` do to a value: shell patterns of `*`, `?` and escapes.

The rules are those of BuildKit's shell lexer: no brackets, `*` and `?` stop at a newline, a
backslash may stand before `*`, `?`, itself, `}` and `/` only. Sets of positions are the bits of
one integer, so that no pattern takes more than a pass over the value per token.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from imgtools.errors import InvalidInput

# One environment string of a process cannot be longer (MAX_ARG_STRLEN of Linux).
MAX_VALUE = 128 * 1024

_STAR = "*"
_ANY = "?"


def parse_pattern(pattern: str) -> tuple[str, ...]:
    """The tokens of a pattern: `*`, `?`, or `=` and the character meant literally.

    Raises InvalidInput for a backslash before anything that needs none.
    """
    tokens = []
    position = 0
    while position < len(pattern):
        character = pattern[position]
        position += 1
        if character in "*?":
            tokens.append(character)
        elif character != "\\":
            tokens.append("=" + character)
        else:
            escaped = pattern[position : position + 1]
            if not escaped or escaped not in "*?\\}/":
                raise InvalidInput(f"pattern {pattern!r} has an invalid escape \\{escaped}")
            position += 1
            tokens.append("=" + escaped)
    return tuple(tokens)


def trim_prefix(value: str, pattern: str, *, longest: bool) -> str:
    """`value` without the shortest, or longest, beginning that `pattern` matches."""
    found = _Positions(value, parse_pattern(pattern)).ends(1)
    return value[_last(found) if longest else _first(found) :] if found else value


def trim_suffix(value: str, pattern: str, *, longest: bool) -> str:
    """`value` without the shortest, or longest, end that `pattern` matches."""
    found = _Positions(value[::-1], parse_pattern(pattern)[::-1]).ends(1)
    if not found:
        return value
    return value[: len(value) - (_last(found) if longest else _first(found))]


def replace(value: str, pattern: str, replacement: str, *, every: bool, limit: int) -> str:
    """`value` with the first, or every, match of `pattern` replaced: leftmost, then longest.

    Raises InvalidInput if the result has more than `limit` characters.
    """
    pieces = []
    done = 0
    size = 0
    for start, end in _matches(value, parse_pattern(pattern)):
        pieces += [value[done:start], replacement]
        size += start - done + len(replacement)
        if size > limit:
            raise InvalidInput(f"replacing {pattern!r} makes more than {limit} characters")
        done = end
        if not every:
            break
    return "".join(pieces) + value[done:]


def _matches(value: str, tokens: tuple[str, ...]) -> Iterator[tuple[int, int]]:
    """Where the pattern matches, from left to right. An empty match right behind another one
    does not count, which is the rule of Go's regular expressions."""
    spans = _spans(value, tokens) if _STAR in tokens else _fixed_spans(value, tokens)
    previous = -1
    for start, end in spans:
        if end > start or start != previous:
            yield start, end
        previous = end


def _fixed_spans(value: str, tokens: tuple[str, ...]) -> Iterator[tuple[int, int]]:
    expression = "".join("." if token == _ANY else re.escape(token[1:]) for token in tokens)
    return (found.span() for found in re.finditer(expression, value))


def _spans(value: str, tokens: tuple[str, ...]) -> Iterator[tuple[int, int]]:
    """The spans of a pattern with `*` in it."""
    mirrored = _Positions(value[::-1], tokens[::-1]).ends((1 << (len(value) + 1)) - 1)
    # A match that begins at s ends, read backwards, at len(value) - s: highest bit first.
    starts = f"{mirrored:0{len(value) + 1}b}"
    forwards = _Positions(value, tokens)
    position = starts.find("1")
    while position >= 0:
        end = _last(forwards.ends(1 << position))
        yield position, end
        position = starts.find("1", max(end, position + 1))


class _Positions:
    """Where a pattern can end in a value, for all starts at once. Bit N stands for the place in
    front of character N."""

    def __init__(self, value: str, tokens: tuple[str, ...]) -> None:
        if len(value) > MAX_VALUE:
            raise InvalidInput(
                f"a value of {len(value)} characters is matched with a pattern, "
                f"at most {MAX_VALUE} are allowed"
            )
        self._tokens = tokens
        mirrored = value[::-1]
        self._places = {
            token: _bits(re.sub(f"(?s){_expression(token)}|(.)", _digit, mirrored))
            for token in set(tokens)
        }

    def ends(self, starts: int) -> int:
        """The ends of all matches that begin at one of `starts`."""
        reached = starts
        for token in self._tokens:
            places = self._places[token]
            if token == _STAR:
                # The carry of the sum runs through each stretch from its lowest start.
                reached |= ((reached & places) + places) ^ places
            else:
                reached = (reached & places) << 1
        return reached


def _expression(token: str) -> str:
    return re.escape(token[1:]) if token[0] == "=" else "[^\n]"


def _digit(found: re.Match[str]) -> str:
    return "0" if found[1] is not None else "1"


def _bits(digits: str) -> int:
    return int(digits or "0", 2)


def _first(positions: int) -> int:
    return (positions & -positions).bit_length() - 1


def _last(positions: int) -> int:
    return positions.bit_length() - 1

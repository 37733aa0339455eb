"""Patterns of ignore files as regular expressions, by the rules of moby/patternmatcher.

They are filepath.Match patterns with one more wildcard, `**`: at the end of a pattern anything at
all, elsewhere any number of leading directories, none included. A pattern is cleaned as a path
first, and never matches the context itself.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable

from imgtools.build.ignore.gomatch import Token, tokenize, translate
from imgtools.errors import InvalidInput
from imgtools.frozen import dataclass

# What unicode.IsSpace of Go calls a space.
_SPACES = (
    "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)

_DIRECTORIES = Token(kind="directories")
_ANYTHING = Token(kind="anything")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pattern:
    """One pattern: `text` is cleaned and without its `!`, `negated` whether it had one."""

    text: str
    negated: bool
    tokens: tuple[Token, ...]

    @property
    def literal(self) -> str | None:
        """The only path it matches, None if it has a wildcard."""
        if any(token.kind != "literal" for token in self.tokens):
            return None
        return "".join(token.literal for token in self.tokens)


def trim(text: str) -> str:
    """`text` without the spaces (Go's) around it."""
    return text.strip(_SPACES)


def clean(path: str) -> str:
    """The shortest path of the same meaning, as Go's path.Clean: "." for the empty one."""
    cleaned = posixpath.normpath(path) if path else "."
    return cleaned[1:] if cleaned.startswith("//") else cleaned


def parse_pattern(text: str) -> Pattern | None:
    """One line of patterns as given, None for a blank one.

    Raises InvalidInput for a lone `!` and for a pattern that filepath.Match does not accept.
    """
    text = trim(text)
    if not text:
        return None
    text = clean(text)
    negated = text.startswith("!")
    if negated:
        text = text[1:]
        if not text:
            raise InvalidInput("bad pattern '!': nothing follows that could be kept")
    return Pattern(text=text, negated=negated, tokens=_with_double_stars(text))


def _with_double_stars(text: str) -> tuple[Token, ...]:
    """The tokens with each pair of stars as one `**`, and the slash behind it taken in."""
    tokens = tokenize(text)
    result: list[Token] = []
    position = 0
    while position < len(tokens):
        if [token.kind for token in tokens[position : position + 2]] != ["star", "star"]:
            result.append(tokens[position])
            position += 1
            continue
        position += 2
        if position < len(tokens) and tokens[position].literal == "/":
            position += 1
        result.append(_DIRECTORIES if position < len(tokens) else _ANYTHING)
    # `**name` is any path that ends so, while `**na?e` and `**/name` begin at a directory.
    ending = text.startswith("**") and text[2:3] != "/" and "\\" not in text
    if ending and len(result) > 1 and _all_literal(result[1:]):
        result[0] = _ANYTHING
    return tuple(result)


def _all_literal(tokens: list[Token]) -> bool:
    return all(token.kind == "literal" for token in tokens)


def compile_run(patterns: list[Pattern]) -> Callable[[str], bool]:
    """A test for whether any of `patterns` matches a path. A parent that matches does not count.

    Names and endings without wildcards are looked up together; the rest is one regular
    expression, but for patterns whose expression could take a long time.
    """
    paths, names, ends, regular, odd = set(), set(), [], [], []
    for pattern in patterns:
        first, rest = pattern.tokens[0], list(pattern.tokens[1:])
        tail = "".join(token.literal for token in rest)
        if pattern.literal is not None:
            paths.add(pattern.literal)
        elif first in (_DIRECTORIES, _ANYTHING) and rest and _all_literal(rest):
            if first is _ANYTHING:
                ends.append(tail)
            elif "/" in tail:
                paths.add(tail)
                ends.append("/" + tail)
            else:
                names.add(tail)
        elif _is_odd(pattern.tokens):
            odd.append(pattern.tokens)
        else:
            regular.append(_expression(pattern.tokens))
    expression = re.compile("|".join(regular), re.DOTALL).fullmatch if regular else None
    endings = tuple(ends)

    def matches(path: str) -> bool:
        return (
            path in paths
            or (bool(names) and path[path.rfind("/") + 1 :] in names)
            or (bool(endings) and path.endswith(endings))
            or (expression is not None and expression(path) is not None)
            or any(matches_by_places(tokens, path) for tokens in odd)
        )

    return matches


def _is_odd(tokens: tuple[Token, ...]) -> bool:
    """Whether an atomic part of the pattern's expression could take the wrong place: a class in
    it takes a slash, or it ends in the middle of a directory's name (`**/a**b`)."""
    parts = _parts(tokens)
    atomic = len(parts) > 2 or any([t.kind for t in part].count("star") > 1 for part in parts)
    slash = any(token.kind == "class" and token.slash for token in tokens)
    glued = any(part and part[-1].literal != "/" for part in parts[:-1])
    return atomic and (slash or glued)


def _parts(tokens: tuple[Token, ...]) -> list[list[Token]]:
    """What stands between the `**` of a pattern."""
    parts: list[list[Token]] = [[]]
    for token in tokens:
        if token is _DIRECTORIES:
            parts.append([])
        else:
            parts[-1].append(token)
    return parts


def _expression(tokens: tuple[Token, ...]) -> str:
    """The regular expression of a pattern that is not odd: each part between two `**` is atomic,
    and so found once."""
    first, *rest = [_part_expression(part) for part in _parts(tokens)]
    if not rest:
        return first
    middle = "".join(f"(?>(?:.*?/)??{part})" for part in rest[:-1] if part)
    return f"{first}{middle}(?:.*/)?{rest[-1]}"


def _part_expression(part: list[Token]) -> str:
    if part and part[-1] is _ANYTHING:
        return translate(part[:-1]) + ".*"
    return translate(part)


def matches_by_places(tokens: tuple[Token, ...], path: str) -> bool:
    """Whether the tokens match the whole path, found without going back: the places the match
    may have come to are the bits of a number, bit N in front of character N."""
    reached = 1
    places = {
        expression: _places(expression, path)
        for expression in {"/", "[^/]", *(token.expression for token in tokens)}
    }
    for token in tokens:
        if token.kind == "anything":
            return bool(reached)
        if token.kind == "directories":
            lowest = reached & -reached
            reached |= (places["/"] & ~(lowest - 1)) << 1 if reached else 0
        elif token.kind == "star":
            inside = places["[^/]"]
            # The carry of the sum runs through each name from its lowest place.
            reached |= ((reached & inside) + inside) ^ inside
        else:
            reached = (reached & places[token.expression]) << 1
    return bool(reached >> len(path) & 1)


def _places(expression: str, path: str) -> int:
    """The places in front of the characters that `expression` matches."""
    if not expression or not path:
        return 0
    digits = bytearray(b"0" * len(path))
    for found in re.finditer(expression, path, re.DOTALL):
        digits[-1 - found.start()] = ord("1")
    return int(digits, 2)

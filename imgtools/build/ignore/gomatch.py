"""Shell patterns by the rules of Go's filepath.Match, which COPY's globs and ignore files use.

`*` is any run of characters but `/`, `?` any one but `/`, `[a-z]` and `[^a-z]` one of a class (a
negated class takes a `/` too), and a backslash makes the next character an ordinary one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from imgtools.errors import InvalidInput
from imgtools.frozen import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A piece of a pattern: `kind` is literal, any, star or class; `literal` the character that
    a literal means; `expression` the regular expression of all but a star; `slash` whether it
    can match a slash."""

    kind: str
    expression: str = ""
    literal: str = ""
    slash: bool = False


def match(pattern: str, name: str) -> bool:
    """Whether `pattern` matches the whole of `name`. Raises InvalidInput for a bad pattern."""
    return compile_pattern(pattern).fullmatch(name) is not None


def compile_pattern(pattern: str) -> re.Pattern[str]:
    """The regular expression that fullmatches what `pattern` matches.

    Raises InvalidInput for a bad pattern, wherever in it the fault is.
    """
    return re.compile(translate(tokenize(pattern)), re.DOTALL)


def has_wildcards(pattern: str) -> bool:
    """Whether `pattern` can match another name than itself. Raises InvalidInput for a bad one."""
    return any(token.kind != "literal" for token in tokenize(pattern))


def literal_text(pattern: str) -> str:
    """The one name that a pattern without wildcards matches: itself without its escapes."""
    return "".join(token.literal for token in tokenize(pattern))


def translate(tokens: Iterable[Token]) -> str:
    """The regular expression of a token sequence.

    All stars but the last are atomic: they take the first place where what follows matches and
    never come back, as Go does, so that matching cannot take more than quadratic time.
    """
    chunks = [""]
    for token in tokens:
        if token.kind == "star":
            chunks.append("")
        else:
            chunks[-1] += token.expression
    first, *rest = chunks
    if not rest:
        return first
    # An empty chunk is two stars in a row, which are one.
    middle = "".join(f"(?>[^/]*?{chunk})" for chunk in rest[:-1] if chunk)
    return f"{first}{middle}[^/]*{rest[-1]}"


def tokenize(pattern: str) -> tuple[Token, ...]:
    """The tokens of `pattern`. Raises InvalidInput for a class or an escape without its end."""
    tokens = []
    position = 0
    while position < len(pattern):
        character = pattern[position]
        if character == "[":
            token, position = _class(pattern, position + 1)
            tokens.append(token)
            continue
        if character == "*":
            tokens.append(Token(kind="star"))
        elif character == "?":
            tokens.append(Token(kind="any", expression="[^/]"))
        else:
            if character == "\\":
                position += 1
                if position == len(pattern):
                    raise _bad(pattern, "it ends in an escape")
                character = pattern[position]
            tokens.append(
                Token(
                    kind="literal",
                    expression=re.escape(character),
                    literal=character,
                    slash=character == "/",
                )
            )
        position += 1
    return tuple(tokens)


def _class(pattern: str, position: int) -> tuple[Token, int]:
    """A class that opens in front of `position`, and the place behind it."""
    negated = pattern.startswith("^", position)
    position += negated
    ranges: list[tuple[str, str]] = []
    while not (ranges and pattern.startswith("]", position)):
        low, position = _member(pattern, position)
        high = low
        if pattern.startswith("-", position):
            high, position = _member(pattern, position + 1)
        ranges.append((low, high))
    # A range that ends before it begins has no member.
    members = "".join(f"{re.escape(low)}-{re.escape(high)}" for low, high in ranges if low <= high)
    slash = any(low <= "/" <= high for low, high in ranges) != negated
    if members:
        expression = f"[{'^' * negated}{members}]"
    else:
        expression = "." if negated else "(?!)"
    return Token(kind="class", expression=expression, slash=slash), position + 1


def _member(pattern: str, position: int) -> tuple[str, int]:
    """One character of a class and the place behind it."""
    character = pattern[position : position + 1]
    if character == "\\":
        position += 1
        character = pattern[position : position + 1]
    elif character in ("-", "]"):
        raise _bad(pattern, f"{character!r} stands where a member of a class has to")
    if not character or position + 1 == len(pattern):
        raise _bad(pattern, "a class is not closed")
    return character, position + 1


def _bad(pattern: str, reason: str) -> InvalidInput:
    return InvalidInput(f"bad pattern {pattern!r}: {reason}")

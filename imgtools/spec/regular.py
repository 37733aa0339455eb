"""Regular expressions of Go (RE2 syntax), which users write into configuration, matched in
bounded time: whoever names what is matched must not be able to keep us busy.
"""

from __future__ import annotations

import re

from imgtools.errors import InvalidInput

_LONGEST = 10_000

_TOKEN = re.compile(
    r"""(?P<escape>\\.?)
    | (?P<class>\[\^?\]?(?:\[:\^?\w+:\]|\\.|[^\]\\])*\])
    | (?P<end>\$)
    | (?P<foreign>\(\?(?:P?[=!>]|<[=!]|\(|\#|[a-zA-Z]*[aLux])|[*+?}]\+|\{,)
    """,
    re.VERBOSE | re.DOTALL,
)
_IN_CLASS = re.compile(r"\\.|\[:(\^?\w+):\]|[\[&~|]", re.DOTALL)
_ESCAPES = frozenset("AbBdDsSwWafnrtvxz") | frozenset(r"""\.+*?()|[]{}^$-/_~`!@#%&=:;<>,'" """)
_POSIX = {
    "alnum": "0-9A-Za-z",
    "alpha": "A-Za-z",
    "digit": "0-9",
    "lower": "a-z",
    "upper": "A-Z",
    "word": "0-9A-Za-z_",
    "xdigit": "0-9A-Fa-f",
}


class RegularExpression:
    """An expression that means the same to Go and to Python."""

    def __init__(self, expression: str) -> None:
        """Raises InvalidInput for an expression that is invalid or not of both dialects."""
        if len(expression) > _LONGEST:
            raise InvalidInput(f"a regular expression is longer than {_LONGEST} characters")
        from imgtools.spec.expression import Expression

        translated = _translated(expression)
        try:
            re.compile(translated, re.ASCII)
            self._part = Expression(translated)
            self._whole = Expression(rf"\A(?:{translated})\Z")
        except (re.error, OverflowError, RecursionError, InvalidInput) as e:
            raise InvalidInput(f"invalid regular expression {expression!r}: {e}") from e

    def found_in(self, text: str) -> bool:
        """Whether a part of `text` matches; a character beyond ASCII matches nothing."""
        return self._part.found_in(text)

    def matches(self, text: str) -> bool:
        """Whether all of `text` matches."""
        return self._whole.found_in(text)


def _translated(expression: str) -> str:
    """The expression in Python's terms; raises InvalidInput for what has none, or would mean
    something else than in RE2."""

    def refuse(part: str) -> InvalidInput:
        return InvalidInput(
            f"the regular expression {expression!r} uses {part!r}, which is not supported"
        )

    def in_class(found: re.Match[str]) -> str:
        text = found[0]
        if text[0] == "\\":
            return escape(text)
        if len(text) == 1:
            return f"\\{text}"
        if found[1] not in _POSIX:
            raise refuse(text)
        return _POSIX[found[1]]

    def escape(text: str) -> str:
        if text[1:] not in _ESCAPES:
            raise refuse(text)
        return r"\Z" if text == r"\z" else text

    def token(found: re.Match[str]) -> str:
        text = found[0]
        match found.lastgroup:
            case "escape":
                return escape(text)
            case "class":
                opening = 2 if text[1] == "^" else 1
                return text[:opening] + _IN_CLASS.sub(in_class, text[opening:])
            case "end":
                # The end of the text alone, where Python's $ is also before a last newline.
                return r"\Z"
        raise refuse(text)

    return _TOKEN.sub(token, expression)

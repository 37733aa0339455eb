"""The JSON form of instructions: `["executable", "argument"]`.

As in BuildKit, an array that is well formed but holds anything else than strings is an error,
and what is no array, or malformed, is not in this form at all (single quotes, `[ -f x ]`).
"""

from __future__ import annotations

import json
import math
import re

from imgtools.build.language.source import SPACE_CHARACTERS
from imgtools.errors import InvalidInput

_SURROGATE = re.compile("[\ud800-\udfff]")


def json_form(text: str) -> tuple[str, ...] | None:
    """The strings of a JSON array, or None if `text` is none. Raises InvalidInput for an array
    with other elements."""
    text = text.lstrip(SPACE_CHARACTERS)
    if not text.startswith("["):
        return None
    try:
        value = json.loads(text, parse_constant=_refuse, parse_float=_number, parse_int=_number)
    except (ValueError, RecursionError):
        return None
    if not all(isinstance(element, str) for element in value):
        raise InvalidInput(
            "the JSON form takes strings only",
            hint="put every element in double quotes",
        )
    # One half of a surrogate pair alone is no character, so that Go replaces it.
    return tuple(_SURROGATE.sub("\N{REPLACEMENT CHARACTER}", element) for element in value)


def _refuse(constant: str) -> object:
    raise ValueError(f"{constant} is not JSON")


def _number(text: str) -> float:
    """A number, which is only looked at to be refused; one that Go has no room for makes the
    text malformed."""
    if math.isinf(number := float(text)):
        raise ValueError("the number is too large")
    return number

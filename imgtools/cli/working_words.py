"""Words of commands in the options of `imgtools config`: JSON lists, or as a shell splits them."""

from __future__ import annotations

import json
import shlex

from imgtools.errors import InvalidInput


def json_words(text: str) -> tuple[str, ...] | None:
    """The texts of a JSON list, None for anything else."""
    try:
        value = json.loads(text)
    except ValueError:
        return None
    if isinstance(value, list) and all(isinstance(word, str) for word in value):
        return tuple(value)
    return None


def shell_words(text: str, option: str) -> tuple[str, ...]:
    """The words that a shell would see; raises InvalidInput for an open quote."""
    try:
        return tuple(shlex.split(text))
    except ValueError as e:
        raise InvalidInput(f"{option} {text!r}: {e}") from e

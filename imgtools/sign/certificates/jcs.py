"""The one way to write a JSON document (RFC 8785), which is what logs sign.

Only values that log entries have: no fractions, and integers that every reader of JSON keeps
exactly. Anything else is refused rather than written in a way of our own.
"""

from __future__ import annotations

import json
import re

from imgtools.errors import InvalidJSON

EXACT_INTEGER = 2**53 - 1
"""The largest integer that is the same in every reader (RFC 7493 section 2.2)."""

_NESTING = 100
_SURROGATE = re.compile("[\ud800-\udfff]")


def canonical(value: object) -> bytes:
    """`value` as UTF-8: objects sorted by the UTF-16 of their keys, without white space.

    Raises InvalidJSON for floats, integers beyond 2**53 - 1, lone surrogates, keys that are no
    strings, other types and nesting beyond 100 levels.
    """
    return _text(value, 0).encode()


def _text(value: object, depth: int) -> str:
    if depth > _NESTING:
        raise InvalidJSON(f"nested deeper than {_NESTING} levels")
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        if abs(value) > EXACT_INTEGER:
            raise InvalidJSON("an integer is too large to be exact everywhere")
        return str(value)
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, list | tuple):
        return f"[{','.join(_text(item, depth + 1) for item in value)}]"
    if isinstance(value, dict):
        members = sorted(value.items(), key=_order)
        texts = (f"{_string(key)}:{_text(item, depth + 1)}" for key, item in members)
        return f"{{{','.join(texts)}}}"
    raise InvalidJSON(f"no canonical form for {type(value).__name__}")


def _order(member: tuple[object, object]) -> bytes:
    """Where a member goes: by code units of UTF-16, not by code points."""
    key = member[0]
    if not isinstance(key, str):
        raise InvalidJSON("the key of an object is no string")
    return key.encode("utf-16-be", "surrogatepass")


def _string(value: str) -> str:
    # With ensure_ascii off, json escapes exactly what ECMAScript's JSON.stringify does.
    if _SURROGATE.search(value):
        raise InvalidJSON("a string has half of a surrogate pair")
    return json.dumps(value, ensure_ascii=False)

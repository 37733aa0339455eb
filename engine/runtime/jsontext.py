"""JSON with the interpreter's C scanner and encoder, without the `json` module.

`json` brings `re` and costs as much start-up time as all the rest of the runtime.
"""

from __future__ import annotations

import _json

from engine.runtime.errors import InvalidConfig

WHITESPACE = " \t\n\r"


class _Scanner:
    """What the C scanner asks of a decoder."""

    def __init__(self) -> None:
        self.strict = True
        self.object_hook = None
        self.object_pairs_hook = None
        self.parse_float = float
        self.parse_int = int
        self.parse_constant = _no_constant
        self.memo: dict[str, str] = {}


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


def parse(content: bytes, name: str) -> object:
    """The value of the JSON document `content`; `name` is how errors call it.

    Raises InvalidConfig for what is not one whole JSON value in UTF-8.
    """
    try:
        # Not the codec utf-8-sig, which would have to be imported.
        text = content.decode("utf-8").removeprefix("\ufeff")
        scan = _json.make_scanner(_Scanner())  # type: ignore[arg-type]
        start = _skip(text, 0)
        value, end = scan(text, start)
        if _skip(text, end) != len(text):
            raise ValueError(f"more follows the value at character {end}")
    except StopIteration as e:
        raise InvalidConfig(f"{name}: no JSON value at character {e.value}") from e
    except SystemError as e:
        raise InvalidConfig(f"{name}: invalid JSON: {_explain(text)}") from e
    except (ValueError, RecursionError) as e:
        raise InvalidConfig(f"{name}: invalid JSON: {e}") from e
    return value


def _explain(text: str) -> str:
    """What `json` says of a text that the bare scanner failed on: it words its errors only
    where that module is loaded."""
    import json

    try:
        json.loads(text)
    except ValueError as e:
        return str(e)
    return "malformed"


def _skip(text: str, position: int) -> int:
    while position < len(text) and text[position] in WHITESPACE:
        position += 1
    return position


def encode(value: object, indent: int = 0) -> str:
    """`value` (None, bool, int, float, str, list, tuple, dict with str keys) as JSON.

    `indent` spaces per level, 0 for one line. Raises TypeError for other values.
    """
    if not indent:
        encoder = _json.make_encoder(
            None, _refused, _json.encode_basestring_ascii, None, ": ", ", ", False, False, True
        )
        return "".join(encoder(value, 0))
    parts: list[str] = []
    _write(value, parts, indent, "\n")
    return "".join(parts)


def _refused(value: object) -> object:
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _write(value: object, parts: list[str], indent: int, line: str) -> None:
    match value:
        case None:
            parts.append("null")
        case bool():
            parts.append("true" if value else "false")
        case int():
            # Not repr: an enumeration's number is a number.
            parts.append(int.__repr__(value))
        case float():
            parts.append(float.__repr__(value))
        case str():
            parts.append(_json.encode_basestring_ascii(value))
        case dict():
            items = [(_json.encode_basestring_ascii(k), v) for k, v in value.items()]
            _series("{}", items, parts, indent, line)
        case list() | tuple():
            _series("[]", [("", v) for v in value], parts, indent, line)
        case _:
            _refused(value)


def _series(
    brackets: str, items: list[tuple[str, object]], parts: list[str], indent: int, line: str
) -> None:
    inner = line + " " * indent
    parts.append(brackets[0])
    for number, (key, value) in enumerate(items):
        if number:
            parts.append(",")
        parts.append(inner)
        if key:
            parts.append(f"{key}: ")
        _write(value, parts, indent, inner)
    if items:
        parts.append(line)
    parts.append(brackets[1])

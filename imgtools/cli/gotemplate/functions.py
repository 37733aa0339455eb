"""The functions a template may call: Go's built-in ones and those of containers/common.

Each takes values that were already evaluated and returns one; a ValueError carries Go's
message, which the executor turns into "error calling NAME". `and` and `or` are not here:
they do not evaluate all of their arguments.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple

from imgtools.cli.gotemplate.format import go_print, go_printf, go_println, shortest
from imgtools.cli.gotemplate.values import (
    NIL_POINTER,
    Struct,
    Time,
    element_type,
    is_int,
    is_nil,
    truth,
    type_name,
)


class Function(NamedTuple):
    """`types` are those of the parameters; `rest` that of any further ones, if they may be."""

    call: Callable[..., object]
    types: tuple[str, ...]
    rest: str | None = None


def to_json(value: object) -> str:
    """`value` as Go's encoder writes it without escaping HTML."""
    if isinstance(value, dict):
        items = sorted(value.items())
        if isinstance(value, Struct):
            items = [(k, v) for k, v in value.items() if k not in value.omitempty or truth(v)]
        return "{" + ",".join(f"{to_json(k)}:{to_json(v)}" for k, v in items) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(to_json(item) for item in value) + "]"
    if is_nil(value):
        return "null"
    if isinstance(value, float):
        # As in ECMAScript; Go drops the zero of e-07 but has no other one-digit exponents.
        return shortest(value, -6, 21).replace("e-0", "e-")
    text = json.dumps(value, ensure_ascii=False)
    return text.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _length(value: object) -> int:
    if isinstance(value, str) and not isinstance(value, Time):
        return len(value.encode("utf-8", "surrogateescape"))
    if isinstance(value, (dict, list, tuple)) and not isinstance(value, Struct):
        return len(value)
    if is_nil(value):
        raise ValueError("len of nil pointer")
    raise ValueError(f"len of type {type_name(value)}")


def _index(value: object, *keys: object) -> object:
    if is_nil(value):
        raise ValueError("index of untyped nil")
    for key in keys:
        if is_nil(value):
            raise ValueError("index of nil pointer")
        if isinstance(value, (list, tuple, str)) and not isinstance(value, Time):
            items: Any = value.encode() if isinstance(value, str) else value
            value = items[_position(key, len(items) - 1)]
        elif isinstance(value, dict) and not isinstance(value, Struct):
            if not isinstance(key, str):
                if is_nil(key):
                    raise ValueError("value is nil; should be of type string")
                raise ValueError(f"value has type {type_name(key)}; should be string")
            zero = "" if element_type(value) == "string" else None
            value = value.get(key, zero)
        else:
            raise ValueError(f"can't index item of type {type_name(value)}")
    return value


def _position(key: object, last: int) -> int:
    if is_nil(key):
        raise ValueError("cannot index slice/array with nil")
    if not isinstance(key, int) or isinstance(key, bool):
        raise ValueError(f"cannot index slice/array with type {type_name(key)}")
    if not 0 <= key <= last:
        raise ValueError(f"index out of range: {key}")
    return key


def _slice(value: object, *bounds: object) -> object:
    if is_nil(value):
        raise ValueError("slice of untyped nil")
    if len(bounds) > 3:
        raise ValueError(f"too many slice indexes: {len(bounds)}")
    if isinstance(value, str) and len(bounds) == 3:
        raise ValueError("cannot 3-index slice a string")
    if not isinstance(value, (str, list, tuple)) or isinstance(value, Time):
        raise ValueError(f"can't slice item of type {type_name(value)}")
    items: Any = value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value
    places = [_position(bound, len(items)) for bound in bounds]
    low, high = places[0] if places else 0, places[1] if len(places) > 1 else len(items)
    if low > high:
        raise ValueError(f"invalid slice index: {low} > {high}")
    part = items[low:high]
    return part.decode("utf-8", "replace") if isinstance(part, bytes) else list(part)


def _kind(value: object) -> str:
    if isinstance(value, bool):
        return "bool"
    for kind, name in ((int, "int"), (float, "float"), (str, "string")):
        if isinstance(value, kind) and not isinstance(value, Time):
            return name
    return ""


def _equal(first: object, *others: object) -> bool:
    if not others:
        raise ValueError("missing argument for comparison")
    for other in others:
        if _kind(first) != _kind(other):
            if not is_nil(first) and not is_nil(other):
                names = f"{type_name(first)} and {type_name(other)}"
                raise ValueError(f"incompatible types for comparison: {names}")
            continue
        if is_nil(first) or is_nil(other):
            if is_nil(first) and is_nil(other):
                return True
            continue
        for value in (first, other):
            if isinstance(value, (dict, list, tuple)):
                raise ValueError(f"non-comparable type {go_print(value)}: {type_name(value)}")
        if first == other:
            return True
    return False


def _not_equal(a: object, b: object) -> bool:
    return not _equal(a, b)


def _less(a: Any, b: Any) -> bool:
    kind = _kind(a)
    if not kind or not _kind(b):
        raise ValueError("invalid type for comparison")
    if kind != _kind(b):
        names = f"{type_name(a)} and {type_name(b)}"
        raise ValueError(f"incompatible types for comparison: {names}")
    if kind == "bool":
        raise ValueError("invalid type for comparison")
    return bool(a < b)


def _less_equal(a: object, b: object) -> bool:
    return _less(a, b) or _equal(a, b)


def _greater(a: object, b: object) -> bool:
    return not _less_equal(a, b)


def _greater_equal(a: object, b: object) -> bool:
    return not _less(a, b)


def _text(args: tuple[object, ...]) -> str:
    if len(args) == 1 and isinstance(args[0], str):
        return go_print(*args)
    shown = ["<no value>" if is_nil(arg) and arg is not NIL_POINTER else arg for arg in args]
    return go_print(*shown)


_HTML = {"\0": "\ufffd", '"': "&#34;", "'": "&#39;", "&": "&amp;", "<": "&lt;", ">": "&gt;"}
_JS = {"\\": "\\\\", "'": "\\'", '"': '\\"'}


def _html(*args: object) -> str:
    return "".join(_HTML.get(char, char) for char in _text(args))


def _js(*args: object) -> str:
    out = []
    for char in _text(args):
        if char in _JS:
            out.append(_JS[char])
        elif char in "<>&=" or not (char.isprintable()):
            out.append(f"\\u{ord(char):04X}")
        else:
            out.append(char)
    return "".join(out)


def _urlquery(*args: object) -> str:
    from urllib.parse import quote_plus

    return quote_plus(_text(args), safe="~", errors="surrogateescape")


def _call(function: object, *_: object) -> object:
    if is_nil(function):
        raise ValueError("call of nil")
    raise ValueError(f"non-function of type {type_name(function)}")


def _title(text: str) -> str:
    """The first letter of every word in upper case, the others as they are."""
    out, previous = [], " "
    for char in text:
        inside = previous.isalnum() or previous in "_'" or ord(previous) > 0x7F
        inside = inside and not previous.isspace()
        out.append(char if inside and previous != "'" else char.title())
        previous = char
    return "".join(out)


def _split(text: str, separator: str) -> list[str]:
    return text.split(separator) if separator else list(text)


def _join(items: list[str], separator: str) -> str:
    return separator.join(items)


def _pad(text: str, before: int, after: int) -> str:
    if min(before, after) < 0:
        raise ValueError("negative Repeat count")
    if max(before, after) > 1_000_000:
        raise ValueError("padding is above 1000000")
    return " " * before + text + " " * after if text else text


def _truncate(text: str, length: int) -> str:
    data = text.encode("utf-8", "surrogateescape")
    if length < 0:
        raise ValueError(f"slice bounds out of range [:{length}]")
    return text if len(data) < length else data[:length].decode("utf-8", "replace")


FUNCTIONS: dict[str, Function] = {
    "not": Function(lambda value: not truth(value), ("any",)),
    "len": Function(_length, ("any",)),
    "index": Function(_index, ("any",), "any"),
    "slice": Function(_slice, ("any",), "any"),
    "print": Function(go_print, (), "any"),
    "printf": Function(go_printf, ("string",), "any"),
    "println": Function(go_println, (), "any"),
    "html": Function(_html, (), "any"),
    "js": Function(_js, (), "any"),
    "urlquery": Function(_urlquery, (), "any"),
    "call": Function(_call, ("any",), "any"),
    "eq": Function(_equal, ("any",), "any"),
    "ne": Function(_not_equal, ("any", "any")),
    "lt": Function(_less, ("any", "any")),
    "le": Function(_less_equal, ("any", "any")),
    "gt": Function(_greater, ("any", "any")),
    "ge": Function(_greater_equal, ("any", "any")),
    "json": Function(to_json, ("any",)),
    "join": Function(_join, ("[]string", "string")),
    "lower": Function(str.lower, ("string",)),
    "upper": Function(str.upper, ("string",)),
    "title": Function(_title, ("string",)),
    "split": Function(_split, ("string", "string")),
    "pad": Function(_pad, ("string", "int", "int")),
    "truncate": Function(_truncate, ("string", "int")),
}
SHORT_CIRCUIT = frozenset(("and", "or"))
NAMES = frozenset(FUNCTIONS) | SHORT_CIRCUIT


def accepts(kind: str, value: object) -> bool:
    """Whether a parameter of the Go type `kind` takes `value`."""
    if kind == "string":
        return isinstance(value, str) and not isinstance(value, Time)
    if kind == "int":
        return is_int(value)
    if kind == "[]string":
        return isinstance(value, (list, tuple)) and element_type(value) == "string"
    return True

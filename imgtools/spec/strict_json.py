"""JSON as strictly as a signed or hashed document deserves.

Duplicate keys, NaN and infinities, a byte order mark, invalid UTF-8 and over-deep nesting
are refused, because two readers that resolve them differently would see two images behind
one digest. Writing follows Go's encoding/json, so that documents equal the peers' byte for
byte.
"""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

from imgtools.errors import InvalidJSON, LimitExceeded

MAX_DEPTH = 100
MANIFEST_LIMIT = 4 * 1024 * 1024
"""Bytes of a manifest, index or config we agree to read (containers/image's iolimits)."""

# An unterminated string is matched to the end, so that no input is scanned twice.
_STRUCTURE = re.compile(rb'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)|[\[\]{}]', re.DOTALL)


def loads(
    data: bytes, what: str = "document", *, limit: int = MANIFEST_LIMIT, values: int | None = None
) -> Any:
    """The value of `data`; `what` names the document in errors, `limit` is in bytes.

    With `values` the document has at most about so many values, commas and brackets in texts
    counted too: what is parsed takes many times the memory of what was read.

    Raises InvalidJSON, or LimitExceeded when the document is too large.
    """
    if len(data) > limit:
        raise LimitExceeded(what, limit)
    if values is not None and sum(map(data.count, (b",", b"[", b"{"))) > values:
        raise LimitExceeded(what, values, unit="values")
    _check_depth(data, what)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as e:
        raise InvalidJSON(f"{what} is not UTF-8: {e.reason} at byte {e.start}") from e
    try:
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except _Refused as e:
        raise InvalidJSON(f"{what} is not valid JSON: {e}") from e
    except json.JSONDecodeError as e:
        raise InvalidJSON(
            f"{what} is not valid JSON: {e.msg} at line {e.lineno} column {e.colno}"
        ) from e
    except (ValueError, RecursionError) as e:
        raise InvalidJSON(f"{what} is not valid JSON: {e}") from e
    return value


def loads_object(
    data: bytes, what: str = "document", *, limit: int = MANIFEST_LIMIT, values: int | None = None
) -> dict[str, Any]:
    """Like `loads`, and the value must be an object."""
    value = loads(data, what, limit=limit, values=values)
    if not isinstance(value, dict):
        raise InvalidJSON(f"{what} is not a JSON object")
    return value


def dumps(value: object) -> bytes:
    """Compact JSON as Go's json.Marshal writes it: UTF-8, with <, >, & and U+2028/9 escaped."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return _LONE_SURROGATE.sub("\ufffd", _escape_like_go(text)).encode()


def dumps_indented(value: object, indent: str = "    ") -> str:
    """Indented JSON as Go's json.MarshalIndent writes it (empty objects and lists on one line)."""
    text = json.dumps(value, ensure_ascii=False, indent=indent, allow_nan=False)
    return _LONE_SURROGATE.sub("\ufffd", _escape_like_go(text))


def _escape_like_go(text: str) -> str:
    for raw, escaped in _GO_ESCAPES:
        if raw in text:
            text = text.replace(raw, escaped)
    return text


# json.loads keeps an escaped half of a pair; Go writes the replacement character for it.
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_GO_ESCAPES = (
    ("<", "\\u003c"),
    (">", "\\u003e"),
    ("&", "\\u0026"),
    ("\u2028", "\\u2028"),
    ("\u2029", "\\u2029"),
)


class _Refused(ValueError):
    pass


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise _Refused(f"duplicate key {key[:80]!r}")
            seen.add(key)
    return value


def _no_constant(name: str) -> NoReturn:
    raise _Refused(f"{name} is not a number in JSON")


def _check_depth(data: bytes, what: str) -> None:
    if data.count(b"[") + data.count(b"{") <= MAX_DEPTH:
        return
    depth = 0
    for token in _STRUCTURE.finditer(data):
        first = data[token.start()]
        if first in b"[{":
            depth += 1
            if depth > MAX_DEPTH:
                raise InvalidJSON(f"{what} is nested deeper than {MAX_DEPTH} levels")
        elif first in b"]}":
            depth -= 1

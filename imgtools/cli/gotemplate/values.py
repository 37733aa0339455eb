"""Go's view of plain Python data: which type a value has, what is true, what is missing.

Templates were written for Go structs and maps, and print differently for the two, so data
may say which it is: `Struct` for a struct, a plain dict for a map, `Time` for time.Time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from imgtools.errors import InvalidInput


class TemplateError(InvalidInput):
    """A template that cannot be parsed or executed; the message is Go's."""


class Struct(dict[str, Any]):
    """A Go struct: fields in order, unknown ones are errors, prints as {a b c}.

    `type_name` is what messages call it. Fields in `omitempty` are left out of JSON when
    they are empty, as Go's tag of that name does.
    """

    def __init__(
        self,
        type_name: str,
        fields: Mapping[str, Any] | Iterable[tuple[str, Any]] = (),
        *,
        omitempty: Iterable[str] = (),
    ) -> None:
        super().__init__(fields)
        self.type_name = type_name
        self.omitempty = frozenset(omitempty)


class Time(str):
    """A time.Time, given as RFC 3339 text: prints as Go's String(), is itself in JSON."""

    __slots__ = ()

    def go_string(self) -> str:
        """As in 2023-01-02 03:04:05.123456789 +0000 UTC; text that is no time is unchanged."""
        import re

        found = re.fullmatch(
            r"(\d{4}-\d\d-\d\d)[Tt](\d\d:\d\d:\d\d)(\.\d+)?(?:[Zz]|([+-]\d\d):(\d\d))", str(self)
        )
        if found is None:
            return str(self)
        date, clock, fraction, hours, minutes = found.groups()
        digits = (fraction or "")[:10].rstrip("0").rstrip(".")
        offset = f"{hours}{minutes}" if hours else "+0000"
        name = "UTC" if hours is None or offset in ("+0000", "-0000") else offset
        return f"{date} {clock}{digits} {'+0000' if name == 'UTC' else offset} {name}"


class _Missing:
    """No value at all: a key that a map does not have, or an untyped nil."""

    def __repr__(self) -> str:
        return "<no value>"


class _NilPointer:
    """A struct's field that is a nil pointer; unlike a missing value it prints as <nil>."""

    def __repr__(self) -> str:
        return "<nil>"


MISSING: Final = _Missing()
NIL_POINTER: Final = _NilPointer()


def is_nil(value: object) -> bool:
    return value is None or value is MISSING or value is NIL_POINTER


def is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def element_type(value: dict[str, Any] | list[Any] | tuple[Any, ...]) -> str:
    """The element type: string when all are (an empty one is taken for that), else interface."""
    items = value.values() if isinstance(value, dict) else value
    return "string" if all(type(item) is str for item in items) else "interface {}"


def type_name(value: object) -> str:
    """The name of the Go type that holds `value`."""
    if is_nil(value):
        return "interface {}"
    if isinstance(value, Struct):
        return value.type_name
    if isinstance(value, dict):
        return f"map[string]{element_type(value)}"
    if isinstance(value, (list, tuple)):
        return f"[]{element_type(value)}"
    names: tuple[tuple[type, str], ...] = (
        (bool, "bool"),
        (int, "int"),
        (float, "float64"),
        (Time, "time.Time"),
        (str, "string"),
    )
    return next((name for kind, name in names if isinstance(value, kind)), type(value).__name__)


def truth(value: object) -> bool:
    """Whether `value` is not the zero value of its type; a struct always is true."""
    if is_nil(value):
        return False
    if isinstance(value, (Struct, Time)):
        return True
    return bool(value)

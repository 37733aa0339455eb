"""Reads one JSON object property by property, with the path of each for the errors.

A property that is null counts as absent, as it does for every other runtime. Unknown
properties are never looked at; a wrong type or range raises InvalidConfig naming the path.
"""

from __future__ import annotations

from engine.runtime.errors import InvalidConfig

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator
    from typing import TypeVar

    T = TypeVar("T")
    Range = tuple[int, int, str]

UINT16: Range = (0, (1 << 16) - 1, "an unsigned 16-bit integer")
UINT32: Range = (0, (1 << 32) - 1, "an unsigned 32-bit integer")
UINT64: Range = (0, (1 << 64) - 1, "an unsigned 64-bit integer")
INT32: Range = (-(1 << 31), (1 << 31) - 1, "a signed 32-bit integer")
INT64: Range = (-(1 << 63), (1 << 63) - 1, "a signed 64-bit integer")
# 2^32-1 means "leave it as it is" to setresuid(2) and chown(2), so it is nobody's id.
ID: Range = (0, (1 << 32) - 2, "an id from 0 to 4294967294")


def invalid(path: str, expected: str, value: object) -> InvalidConfig:
    """The error of a value that is not what it has to be."""
    return InvalidConfig(f"{path}: expected {expected}, got {described(value)}")


def described(value: object) -> str:
    """A JSON value in an error: short, on one line."""
    match value:
        case None:
            return "nothing"
        case bool():
            return "true" if value else "false"
        case str():
            return repr(value if len(value) <= 60 else value[:57] + "...")
        case dict():
            return "an object"
        case list():
            return "an array"
        case _:
            return str(value)[:60]


class Object:
    """A JSON object at `path` ("linux.namespaces[2]")."""

    __slots__ = ("members", "path")

    def __init__(self, value: object, path: str) -> None:
        if not isinstance(value, dict):
            raise invalid(path, "an object", value)
        self.members = value
        self.path = path

    def path_of(self, name: str) -> str:
        """The path of a property."""
        return f"{self.path}.{name}" if self.path else name

    def wrong(self, name: str, expected: str) -> InvalidConfig:
        """The error that a property is not what was expected."""
        return invalid(self.path_of(name), expected, self.members.get(name))

    def text(self, name: str, default: str = "") -> str:
        """A string that a system call can take: no NUL, nothing outside of bytes."""
        value = self.members.get(name)
        if value is None:
            return default
        return checked_text(value, self.path, name)

    def required_text(self, name: str) -> str:
        """A string that is there and not empty."""
        value = self.text(name)
        if not value:
            raise self.wrong(name, "a string that is not empty")
        return value

    def absolute(self, name: str) -> str:
        """An absolute path, or an empty string if there is none."""
        value = self.text(name)
        if value and not value.startswith("/"):
            raise self.wrong(name, "an absolute path")
        return value

    def required_absolute(self, name: str) -> str:
        """An absolute path that is there."""
        self.required_text(name)
        return self.absolute(name)

    def choice(self, name: str, choices: Container[str], expected: str) -> str:
        """One of `choices`, or an empty string if there is none."""
        value = self.text(name)
        if value and value not in choices:
            raise self.wrong(name, expected)
        return value

    def required_choice(self, name: str, choices: Container[str], expected: str) -> str:
        """One of `choices` that is there."""
        self.required_text(name)
        return self.choice(name, choices, expected)

    def flag(self, name: str) -> bool:
        """A boolean, False if there is none."""
        return self.optional_flag(name) or False

    def optional_flag(self, name: str) -> bool | None:
        """A boolean."""
        value = self.members.get(name)
        if value is None or isinstance(value, bool):
            return value
        raise self.wrong(name, "true or false")

    def number(self, name: str, limits: Range) -> int | None:
        """An integer within `limits`."""
        value = self.members.get(name)
        if value is None:
            return None
        return checked_number(value, self.path, name, limits)

    def required_number(self, name: str, limits: Range) -> int:
        """An integer within `limits` that is there."""
        value = self.number(name, limits)
        if value is None:
            raise self.wrong(name, limits[2])
        return value

    def array(self, name: str) -> list[object]:
        """The elements of an array, none if there is none."""
        value = self.members.get(name)
        if value is None:
            return []
        if not isinstance(value, list):
            raise self.wrong(name, "an array")
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        """An array of strings."""
        elements = self.array(name)
        if not elements:
            return ()
        path = self.path_of(name)
        return tuple([checked_text(v, path, i) for i, v in enumerate(elements)])

    def numbers(self, name: str, limits: Range) -> tuple[int, ...]:
        """An array of integers within `limits`."""
        path = self.path_of(name)
        return tuple(checked_number(v, path, i, limits) for i, v in enumerate(self.array(name)))

    def choices(self, name: str, choices: Container[str], expected: str) -> tuple[str, ...]:
        """An array of strings out of `choices`."""
        values = self.texts(name)
        for number, value in enumerate(values):
            if value not in choices:
                raise invalid(f"{self.path_of(name)}[{number}]", expected, value)
        return values

    def objects(self, name: str) -> Iterator[Object]:
        """The elements of an array of objects."""
        for number, value in enumerate(self.array(name)):
            yield Object(value, f"{self.path_of(name)}[{number}]")

    def object(self, name: str) -> Object | None:
        """An object."""
        value = self.members.get(name)
        return None if value is None else Object(value, self.path_of(name))

    def read(self, name: str, reader: Callable[[Object], T]) -> T | None:
        """What `reader` makes of an object, None if there is none."""
        value = self.object(name)
        return None if value is None else reader(value)

    def each(self, name: str, reader: Callable[[Object], T]) -> tuple[T, ...]:
        """What `reader` makes of every element of an array of objects."""
        return tuple([reader(one) for one in self.objects(name)])

    def pairs(self, name: str) -> tuple[tuple[str, str], ...]:
        """An object of strings as pairs, in its order; no name is empty."""
        inner = self.object(name)
        if inner is None:
            return ()
        if "" in inner.members:
            raise InvalidConfig(f"{inner.path}: a name is empty")
        return tuple(
            (checked_text(key, inner.path, "a name"), checked_text(value, inner.path, key))
            for key, value in inner.members.items()
        )


def checked_text(value: object, path: str, name: str | int) -> str:
    """`value` if it is a string that stands for bytes without NUL.

    JSON can hold lone surrogates; those of surrogateescape are bytes, others are nothing.
    """
    if not isinstance(value, str):
        raise invalid(joined(path, name), "a string", value)
    if "\0" in value:
        raise InvalidConfig(f"{joined(path, name)}: contains a NUL character")
    if not value.isascii():
        try:
            value.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError as e:
            raise InvalidConfig(f"{joined(path, name)}: contains half a surrogate pair") from e
    return value


def checked_number(value: object, path: str, name: str | int, limits: Range) -> int:
    """`value` if it is an integer within `limits`."""
    low, high, expected = limits
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise invalid(joined(path, name), expected, value)
    return value


def joined(path: str, name: str | int) -> str:
    """The path of a member, or of an element where `name` is its index."""
    if isinstance(name, int):
        return f"{path}[{name}]"
    return f"{path}.{name}" if path else name

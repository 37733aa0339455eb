"""Reads the tables in Go test files: composite literals of strings, names and further literals.

A literal becomes a dict if its members have keys and a list if not, a string its value, and
anything else (`true`, `nil`, `filepath.ErrBadPattern`) its name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

STRING = r'"(?:[^"\\\n]|\\.)*"|`[^`]*`'
_TYPE = r"map\[string\](?:struct\{\}|\w+)|\[\]\w+"
_TOKEN = re.compile(
    rf"(?P<space>\s+|//[^\n]*|{_TYPE})|(?P<string>{STRING})|(?P<name>[\w.]+)|(?P<mark>[{{}}:,])"
)
_ESCAPE = re.compile(r"\\(?:x(..)|u(.{4})|(.))")
_CONTROL = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}


class Name(str):
    """Something that is not a string: a constant or a field."""

    __slots__ = ()


Value = str | list["Value"] | dict[str, "Value"]


def unquote(literal: str) -> str:
    """The value of a Go string literal."""
    if literal.startswith("`"):
        return literal[1:-1]

    def character(found: re.Match[str]) -> str:
        if digits := found[1] or found[2]:
            return chr(int(digits, 16))
        return _CONTROL.get(found[3], found[3])

    return _ESCAPE.sub(character, literal[1:-1])


def table(source: str, marker: str) -> Value:
    """The literal whose opening brace is the first one behind `marker`."""
    start = source.index("{", source.index(marker) + len(marker))
    return _Reader(source, start).value()


@dataclass
class _Reader:
    source: str
    position: int

    def token(self) -> tuple[str, str]:
        """The next token that means something, and its kind."""
        while True:
            found = _TOKEN.match(self.source, self.position)
            if found is None or found.lastgroup is None:
                raise ValueError(f"not a Go literal: {self.source[self.position :][:60]!r}")
            self.position = found.end()
            if found.lastgroup != "space":
                return found.lastgroup, found[0]

    def value(self) -> Value:
        """A whole literal."""
        return self._value(*self.token())

    def _value(self, kind: str, text: str) -> Value:
        if kind == "string":
            return unquote(text)
        if kind == "name":
            return Name(text)
        members: list[Value] = []
        keyed: dict[str, Value] = {}
        while (following := self.token()) != ("mark", "}"):
            if following == ("mark", ","):
                continue
            if following == ("mark", ":"):
                key = members.pop()
                assert isinstance(key, str)
                keyed[key] = self.value()
            else:
                members.append(self._value(*following))
        return keyed or members

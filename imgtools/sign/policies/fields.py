"""Reading the objects of a policy file: exact fields, each of its type, nothing else.

Both policy.json and its companion are read with this, so that a misspelt word is an error and
never a requirement less.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Collection, Mapping
from typing import Any

from imgtools.errors import InvalidInput
from imgtools.sign.policies.model import Material


class Fields:
    """One object of a policy, by its place in the file (`what`); a field that was asked for is
    taken, and `done` refuses what is left."""

    def __init__(self, value: object, what: str) -> None:
        if not isinstance(value, dict):
            raise InvalidInput(f"{what}: not an object")
        self._left: dict[str, Any] = dict(value)
        self.what = what

    def done(self) -> None:
        """Raise InvalidInput for a field that nobody asked for."""
        for key in self._left:
            raise InvalidInput(f"{self.what}: unknown key {key!r}")

    def has(self, key: str) -> bool:
        """Whether the field is there, and not yet taken."""
        return key in self._left

    def take(self, key: str) -> Any:
        """The value of the field, None without."""
        return self._left.pop(key, None)

    def text(self, key: str) -> str:
        """A string, "" when the field is absent or null, as Go reads it."""
        value = self._left.pop(key, None)
        if value is None:
            return ""
        if not isinstance(value, str):
            raise InvalidInput(f"{self.what}: {key} is not a string")
        return value

    def needed(self, key: str) -> str:
        """A string that has to be there and not empty."""
        value = self.text(key)
        if not value:
            raise InvalidInput(f"{self.what}: {key} is missing")
        return value

    def texts(self, key: str) -> tuple[str, ...] | None:
        """A list of strings that is not empty, None without the field."""
        if key not in self._left:
            return None
        value = self._left.pop(key)
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise InvalidInput(f"{self.what}: {key} is not a list of strings")
        if not value:
            raise InvalidInput(f"{self.what}: {key} contains no entries")
        return tuple(value)

    def material(self, *names: str) -> Material | None:
        """Of the fields `names`, at most one of which may be there, what it has: a path or
        paths, or base64 data; None when there is none.

        An empty path counts as absent, as in containers/image; an empty list is an error.
        """
        found = [given for name in names if (given := self._one(name)) is not None]
        if len(found) > 1:
            fields = " and ".join(given.field for given in found)
            raise InvalidInput(f"{self.what}: {fields} cannot be given together")
        return found[0] if found else None

    def _one(self, name: str) -> Material | None:
        if name.endswith("s"):
            values = self.texts(name)
            if values is None:
                return None
            if name.endswith("Paths"):
                return Material(field=name, paths=values)
            return Material(field=name, data=tuple(self._decoded(name, item) for item in values))
        if not self.has(name):
            return None
        value = self.text(name)
        if not value:
            return None
        if name.endswith("Path"):
            return Material(field=name, paths=(value,))
        return Material(field=name, data=(self._decoded(name, value),))

    def _decoded(self, name: str, text: str) -> bytes:
        try:
            # Go's decoder passes over line ends, which PEM in base64 often has.
            return base64.b64decode(text.replace("\n", "").replace("\r", ""), validate=True)
        except (binascii.Error, ValueError) as e:
            raise InvalidInput(f"{self.what}: {name} is not base64") from e


def kind_of(value: object, what: str, known: Collection[str], noun: str) -> str:
    """The `type` of an object, one of `known`; `noun` says what it is a type of."""
    kind = value.get("type") if isinstance(value, dict) else None
    if not isinstance(kind, str) or kind not in known:
        raise InvalidInput(f"{what}: unknown {noun} type {kind!r}")
    return kind


def listed(value: object, what: str) -> list[Any]:
    """A list that has to have entries."""
    if not isinstance(value, list) or not value:
        raise InvalidInput(f"{what}: the list of requirements must not be empty")
    return value


def scopes_of(value: object, what: str) -> Mapping[str, Any]:
    """An object of scopes, by name."""
    if not isinstance(value, dict):
        raise InvalidInput(f"{what}: not an object")
    return value

"""Reads one JSON object of a bundle, field by field, and refuses what nobody asked for.

The mapping is protojson's (ProtoJSON "JSON representation"), as producers use it: 64-bit
integers as strings or numbers, bytes in standard base64, null for what is not set. What
protojson would read beyond that (other alphabets, snake case) no producer writes.
"""

from __future__ import annotations

import base64
import re
from typing import Any

from imgtools.errors import InvalidSignature

_INT64 = 2**63
_INTEGER = re.compile(r"0|[1-9][0-9]{0,18}")
_SURROGATE = re.compile("[\ud800-\udfff]")


class Fields:
    """The fields of an object that are not read yet; `what` names it in errors."""

    def __init__(self, value: object, what: str) -> None:
        """Raises InvalidSignature for what is no object."""
        if not isinstance(value, dict):
            raise InvalidSignature(f"{what} is not an object")
        self.what = what
        self._left = {key: item for key, item in value.items() if item is not None}
        self._nulls = [key for key, item in value.items() if item is None]
        self._known: set[str] = set()

    def done(self) -> None:
        """Raise InvalidSignature for a field that was not asked for."""
        unknown = [*self._left, *(key for key in self._nulls if key not in self._known)]
        if unknown:
            raise InvalidSignature(f"{self.what} has the unknown field {ascii(unknown[0])[:100]}")

    def take(self, key: str) -> Any:
        """The value of `key`, None when it is not set."""
        self._known.add(key)
        return self._left.pop(key, None)

    def text(self, key: str) -> str:
        """A string, "" when it is not set."""
        found = self.take(key)
        if found is None:
            return ""
        if not isinstance(found, str) or _SURROGATE.search(found):
            raise InvalidSignature(f"{self.what}: {key} is not a string of Unicode text")
        return found

    def data(self, key: str) -> bytes:
        """Bytes, b"" when they are not set."""
        text = self.text(key)
        try:
            return decoded(text)
        except ValueError as e:
            raise InvalidSignature(f"{self.what}: {key} is not base64") from e

    def data_list(self, key: str, most: int) -> tuple[bytes, ...]:
        """At most `most` byte strings, none when they are not set."""
        items = self.items(key, most)
        return tuple(Fields({key: item}, self.what).data(key) for item in items)

    def integer(self, key: str) -> int:
        """An integer from 0 to 2**63 - 1, 0 when it is not set."""
        found = self.take(key)
        if found is None:
            return 0
        if isinstance(found, str) and _INTEGER.fullmatch(found):
            found = int(found)
        if not isinstance(found, int) or isinstance(found, bool) or not 0 <= found < _INT64:
            raise InvalidSignature(f"{self.what}: {key} is not an integer from 0 to 2**63 - 1")
        return found

    def items(self, key: str, most: int) -> list[Any]:
        """A list of at most `most` items, empty when it is not set."""
        found = self.take(key)
        if found is None:
            return []
        if not isinstance(found, list):
            raise InvalidSignature(f"{self.what}: {key} is not a list")
        if len(found) > most:
            raise InvalidSignature(f"{self.what}: {key} has {len(found)} items: at most {most}")
        return found

    def inner(self, key: str, what: str) -> Fields | None:
        """An object, None when it is not set."""
        found = self.take(key)
        return None if found is None else Fields(found, what)


def decoded(text: str) -> bytes:
    """Standard base64 in its one spelling; raises ValueError.

    Bits that the padding leaves over are zero, so that no two texts are the same bytes.
    """
    data = base64.b64decode(text.encode("ascii"), validate=True)
    if base64.b64encode(data).decode("ascii") != text:
        raise ValueError("not in the one spelling of base64")
    return data

"""Digests as the OCI image-spec defines them ("Descriptors", section "Digests").

A `Digest` is validated when it is made, so that it may be used in a URL or a file name
without further checks.
"""

from __future__ import annotations

import hashlib
import re
from typing import Protocol

from imgtools.errors import InvalidDigest
from imgtools.frozen import dataclass

_HEX_LENGTH = {"sha256": 64, "sha384": 96, "sha512": 128}
_HEX = re.compile(r"[0-9a-f]+")
_GRAMMAR = re.compile(r"[a-z0-9]+(?:[+._-][a-z0-9]+)*:[a-zA-Z0-9=_-]+")


class Hasher(Protocol):
    """What `Digest.hasher` returns: the part of hashlib's objects that we use."""

    def update(self, data: bytes | bytearray | memoryview, /) -> None: ...
    def hexdigest(self) -> str: ...


@dataclass(frozen=True, slots=True, order=True)
class Digest:
    """`algorithm:hex`, with the algorithm known to us and the exact number of hex digits."""

    algorithm: str
    hex: str

    def __post_init__(self) -> None:
        length = _HEX_LENGTH.get(self.algorithm)
        if length is None:
            known = ", ".join(_HEX_LENGTH)
            raise InvalidDigest(
                f"unsupported digest algorithm {self.algorithm[:40]!r}: expected one of {known}"
            )
        if len(self.hex) != length or not _HEX.fullmatch(self.hex):
            raise InvalidDigest(
                f"invalid digest {self.algorithm}:{self.hex[:140]}: "
                f"expected {length} lower-case hexadecimal digits"
            )

    @classmethod
    def parse(cls, text: str) -> Digest:
        """The digest written as `text`; raises InvalidDigest."""
        algorithm, colon, encoded = text.partition(":")
        if not colon or not _GRAMMAR.fullmatch(text):
            raise InvalidDigest(f"invalid digest {text[:160]!r}: expected algorithm:hex")
        return cls(algorithm, encoded)

    @classmethod
    def of(cls, data: bytes | bytearray | memoryview, algorithm: str = "sha256") -> Digest:
        """The digest of `data`."""
        hasher = new_hasher(algorithm)
        hasher.update(data)
        return cls(algorithm, hasher.hexdigest())

    def hasher(self) -> Hasher:
        """A fresh hash object of this digest's algorithm."""
        return new_hasher(self.algorithm)

    @property
    def short(self) -> str:
        """The first 12 hex digits, for people."""
        return self.hex[:12]

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.hex}"


def new_hasher(algorithm: str) -> Hasher:
    """A fresh hash object; raises InvalidDigest for an algorithm we do not know."""
    if algorithm not in _HEX_LENGTH:
        raise InvalidDigest(f"unsupported digest algorithm {algorithm[:40]!r}")
    return hashlib.new(algorithm, usedforsecurity=False)

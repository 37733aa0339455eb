"""Parses WWW-Authenticate: what a registry asks for (RFC 9110 section 11.6.1, RFC 6750).

Several headers and several challenges in one header are read; schemes and parameter names
are case-insensitive, values may be quoted with escapes and commas. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import field
from types import MappingProxyType

from imgtools.frozen import dataclass

_EMPTY: Mapping[str, str] = MappingProxyType({})
_HEADER_LIMIT = 16 * 1024

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_SEPARATOR = re.compile(r"[\s,]*")
_SCHEME = re.compile(rf"({_TOKEN})(?=[\s,]|\Z)")
_PARAMETER = re.compile(
    rf'({_TOKEN})\s*=\s*(?:"((?:[^"\\]|\\.)*+)(?:"|\\?\Z)|([^\s",]+)|(?=[\s,]|\Z))'
)
_TOKEN68 = re.compile(r"[ \t]+([A-Za-z0-9._~+/-]+=*)(?=[\s,]|\Z)")
_JUNK = re.compile(r"[^,]+")
_ESCAPE = re.compile(r"\\(.)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenge:
    """One challenge: the scheme in lower case, parameters by lower-case name."""

    scheme: str
    parameters: Mapping[str, str] = field(default_factory=lambda: _EMPTY)

    def get(self, name: str) -> str:
        """The parameter `name`, "" when absent."""
        return self.parameters.get(name, "")


def parse_challenges(headers: Iterable[str]) -> list[Challenge]:
    """The challenges of all WWW-Authenticate headers, in order.

    What cannot be read is left out, never an error: a client goes by what it understands.
    """
    found: list[Challenge] = []
    for header in headers:
        found.extend(_parse(header[:_HEADER_LIMIT]))
    return found


def _parse(header: str) -> list[Challenge]:
    found: list[Challenge] = []
    scheme = ""
    parameters: dict[str, str] = {}
    position = 0

    def finish() -> None:
        if scheme:
            found.append(Challenge(scheme=scheme, parameters=MappingProxyType(parameters)))

    while True:
        separator = _SEPARATOR.match(header, position)
        position = separator.end() if separator else position
        if position >= len(header):
            finish()
            return found
        if scheme and (match := _PARAMETER.match(header, position)):
            name, quoted, bare = match.groups()
            value = _ESCAPE.sub(r"\1", quoted) if quoted is not None else bare or ""
            # The first of several equal names wins, as no sender may repeat one.
            parameters.setdefault(name.lower(), value)
        elif match := _SCHEME.match(header, position):
            finish()
            scheme, parameters = match[1].lower(), {}
            position = match.end()
            # Negotiate and its like carry one opaque token instead of parameters.
            if (opaque := _TOKEN68.match(header, position)) and opaque[1].endswith("="):
                position = opaque.end()
            continue
        else:
            match = _JUNK.match(header, position)
        position = match.end() if match else len(header)

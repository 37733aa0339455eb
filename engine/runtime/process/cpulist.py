"""Lists of CPUs and memory nodes such as `0-3,7` (cpuset(7), "List format")."""

from __future__ import annotations

from engine.runtime.errors import InvalidConfig

MAX_CPUS = 1 << 16
_MAX_LENGTH = 1 << 16


def parse_list(text: str, limit: int, where: str) -> frozenset[int]:
    """The numbers of a list, all below `limit`; an empty text is an empty list.

    Spaces around numbers are ignored. Raises InvalidConfig, which names `where`.
    """
    found: set[int] = set()
    if len(text) > _MAX_LENGTH:
        raise InvalidConfig(f"{where}: the list is too long")
    for part in text.split(",") if text.strip() else ():
        first, dash, last = (word.strip() for word in part.partition("-"))
        low = _number(first, limit, where, part)
        high = _number(last, limit, where, part) if dash else low
        if high < low:
            raise InvalidConfig(f"{where}: {part.strip()!r} is a range that ends before it begins")
        found.update(range(low, high + 1))
    return frozenset(found)


def _number(text: str, limit: int, where: str, part: str) -> int:
    if text.isascii() and text.isdecimal() and len(text) <= 9 and int(text) < limit:
        return int(text)
    raise InvalidConfig(f"{where}: {part.strip()!r} is no number or range below {limit}")

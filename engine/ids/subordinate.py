"""subuid(5) and subgid(5): which ids an administrator lets a user hand out.

A line is `user:first:count`, where user is a name or a number. Malformed lines are skipped, as
newuidmap(1) skips them, and reported.
"""

from __future__ import annotations

from engine.ids.model import IdRange

MAX_SIZE = 1 << 20
ID_LIMIT = (1 << 32) - 1


def parse(text: str, *, name: str, uid: int, file: str) -> tuple[tuple[IdRange, ...], list[str]]:
    """The ranges that `text` grants to the user, in order, and what is wrong with its lines.

    `name` may be empty for a user without one. Lines of others are checked too.
    """
    ranges: list[IdRange] = []
    problems: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        owner, _, rest = line.partition(":")
        first, colon, count = rest.partition(":")
        found = _range(first, count) if colon and owner else None
        if found is None:
            problems.append(f"{file}:{number}: expected user:first:count")
        elif owner == str(uid) or (name and owner == name):
            ranges.append(found)
    return tuple(ranges), problems


def _range(first: str, count: str) -> IdRange | None:
    """A range of ids that exist, at least one."""
    if not (_is_decimal(first) and _is_decimal(count)):
        return None
    found = IdRange(first=int(first), count=int(count))
    return found if found.count and found.end <= ID_LIMIT else None


def _is_decimal(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 10


def subtract(ranges: tuple[IdRange, ...], taken: tuple[IdRange, ...]) -> tuple[IdRange, ...]:
    """`ranges` in their order without the ids of `taken`, and each id only once: overlapping
    lines of a map are refused by the kernel."""
    used = list(taken)
    result: list[IdRange] = []
    for wanted in ranges:
        pieces = [wanted]
        for other in used:
            pieces = [part for piece in pieces for part in _without(piece, other)]
        result += pieces
        used.append(wanted)
    return tuple(result)


def _without(piece: IdRange, other: IdRange) -> list[IdRange]:
    before = IdRange(first=piece.first, count=min(piece.end, other.first) - piece.first)
    start = max(piece.first, other.end)
    after = IdRange(first=start, count=piece.end - start)
    if other.end <= piece.first or other.first >= piece.end:
        return [piece]
    return [part for part in (before, after) if part.count > 0]

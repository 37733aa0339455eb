"""Sparse members: maps of where the stored bytes belong in the file.

Reads the map of GNU's PAX formats 0.1 (0.0 is joined to it) and 1.0 and checks maps of every
format; GNU tar manual, "Storing Sparse Files". What lies between the runs is zero.
"""

from __future__ import annotations

from imgtools.blob.tar.fields import BLOCK_ENTRIES, parse_number
from imgtools.blob.tar.pax import Records, parse_int
from imgtools.errors import InvalidArchive

Runs = tuple[tuple[int, int], ...]


def parse_entries(block: bytes, start: int, count: int) -> list[tuple[int, int]]:
    """Runs of an old GNU header or extension block: `count` slots of 24 bytes at `start`.

    The first slot whose offset begins with NUL ends the list.
    """
    runs = []
    for at in range(start, start + 24 * count, 24):
        if not block[at]:
            break
        runs.append((parse_number(block[at : at + 12]), parse_number(block[at + 12 : at + 24])))
    return runs


def parse_extension(block: bytes) -> tuple[list[tuple[int, int]], bool]:
    """Runs of an old GNU extension block, and whether another one follows."""
    return parse_entries(block, 0, BLOCK_ENTRIES), block[504] != 0


def pax_version(records: Records) -> tuple[int, int] | None:
    """Version of the PAX sparse format that `records` announce; None for an ordinary file."""
    major, minor = records.get(b"GNU.sparse.major", b""), records.get(b"GNU.sparse.minor", b"")
    if (major, minor) == (b"1", b"0"):
        return 1, 0
    if major == b"0" and minor in (b"0", b"1"):
        return 0, int(minor)
    if major or minor:
        raise InvalidArchive(f"unknown sparse format {major[:20]!r}.{minor[:20]!r}")
    return (0, 1) if records.get(b"GNU.sparse.map") else None


def parse_map_0(records: Records) -> Runs:
    """Runs of formats 0.0 and 0.1, from the extended header."""
    text = records.get(b"GNU.sparse.map", b"")
    numbers = [parse_int(part, "GNU.sparse.map") for part in text.split(b",")] if text else []
    blocks = parse_int(records.get(b"GNU.sparse.numblocks", b""), "GNU.sparse.numblocks")
    if len(numbers) != 2 * blocks:
        raise InvalidArchive("sparse map does not have the announced number of runs")
    return tuple(zip(numbers[::2], numbers[1::2], strict=True))


def check_runs(runs: Runs, *, size: int, stored: int) -> None:
    """Raise InvalidArchive unless `runs` ascend, stay within `size` and total `stored` bytes."""
    at = total = 0
    for offset, length in runs:
        if offset < at or length < 0 or offset + length > size:
            raise InvalidArchive("sparse map is out of order or leaves the file")
        at = offset + length
        total += length
    if total != stored:
        raise InvalidArchive(f"sparse map names {total} bytes, the archive stores {stored}")

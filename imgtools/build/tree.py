"""A tree of files to copy from or to look into: a directory by its descriptor, and what is
recorded beside it where the disk cannot say who owns what.

Build contexts, stages and images are all of this kind, so that COPY has one source. Paths are
bytes relative to the root, without slashes at either end (b"" is the root itself).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Protocol

from imgtools.frozen import dataclass

AS_ON_DISK = -1


class Record(Protocol):
    """What the disk does not say of a file: its owner, its st_mode with the type (AS_ON_DISK
    for the disk's own), the numbers of a device, and attributes that could not be set."""

    @property
    def uid(self) -> int: ...
    @property
    def gid(self) -> int: ...
    @property
    def mode(self) -> int: ...
    @property
    def rdev(self) -> tuple[int, int]: ...
    @property
    def xattrs(self) -> Mapping[str, bytes]: ...


class Records(Protocol):
    """Records by path."""

    def get(self, path: bytes) -> Record | None:
        """The record of `path`, None where the disk says it all."""
        ...


class NoRecords:
    """For trees of which the disk says it all."""

    def get(self, path: bytes) -> Record | None:
        """None."""
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """A directory to read: `fd` is its descriptor, open as long as whoever made the tree says.

    `name` is what messages call it. `recorded_owners` is whether the disk's owners mean
    nothing: files without a record are then of 0:0. `identity` tells trees apart whose content
    may be remembered (a path of a context that stays), "" for one that is not worth it.
    """

    fd: int
    name: str
    records: Records = field(default_factory=NoRecords)
    recorded_owners: bool = False
    identity: str = ""

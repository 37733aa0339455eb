"""What a driver does: gives a tree to unpack a layer on, and one to run in.

A driver knows directories, not names or digests. `lower` are the content directories of the
layers that make up a tree, the topmost first.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from engine.storage.options import Ownership, RootMount
from imgtools.blob.files import storage_errors
from imgtools.errors import Conflict

DIR_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
HELD = 64
"""Levels of directories that a walk holds open at once."""


class Driver(Protocol):
    """A way to put trees together."""

    @property
    def name(self) -> str:
        """As in `StoreLocation.driver`."""
        ...

    @property
    def content(self) -> str:
        """Name of the directory with a layer's files."""
        ...

    @property
    def max_stack(self) -> int:
        """How many layers may be stacked (1: every layer has the whole tree)."""
        ...

    @property
    def userxattr(self) -> bool:
        """Whether overlay's marks are `user.overlay.` attributes."""
        ...

    def new_layer(
        self, lower: tuple[str, ...], directory: str, whole: bool
    ) -> AbstractContextManager[int]:
        """The descriptor of a tree that shows `lower`, and in which everything done ends up in
        the directory `content` of `directory`: all of the tree if `whole`, else the
        difference."""
        ...

    def new_snapshot(self, lower: tuple[str, ...], directory: str) -> None:
        """Prepare `directory` for a tree that begins as `lower` and can be written."""
        ...

    def root(
        self, lower: tuple[str, ...], directory: str, *, read_only: bool, volatile: bool
    ) -> RootMount:
        """How the tree prepared in `directory` is mounted; without `directory`, that of the
        layers alone."""
        ...


@contextmanager
def opened(path: str) -> Iterator[int]:
    """A descriptor of a directory of ours. Raises StorageError, NotFound."""
    with storage_errors(path):
        fd = os.open(path, DIR_FLAGS)
    try:
        yield fd
    finally:
        os.close(fd)


def identity_of(fd: int) -> tuple[int, int]:
    """What tells an open directory from all others."""
    st = os.fstat(fd)
    return st.st_dev, st.st_ino


def above(fd: int, expected: tuple[int, int]) -> int:
    """The directory above `fd`, which was open before and is `expected`.

    So that a walk holds only HELD levels open. Raises Conflict if it is another: somebody
    moves directories, and the next one up might be outside the tree. Raises OSError.
    """
    found = os.open(b"..", DIR_FLAGS, dir_fd=fd)
    if identity_of(found) != expected:
        os.close(found)
        raise Conflict("a directory was moved while its tree was read")
    return found


def fresh_root(path: str) -> None:
    """Make the directory `path` as the root of a tree in which nothing is yet."""
    os.mkdir(path)
    os.chmod(path, 0o755)
    os.utime(path, ns=(0, 0))


def keeps_owners(ownership: Ownership) -> bool:
    """Whether a copy has to have the owners of the original."""
    return ownership is Ownership.REAL

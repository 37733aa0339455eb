"""Whether a file is an archive that ADD unpacks: by its content, whatever its name.

An archive is what a tar reader gets a first member from, behind one layer of compression at
most (gzip, bzip2, xz, zstd). An empty tar has none, and is copied like any other file.
"""

from __future__ import annotations

import os

from imgtools.blob.compression import Decompressor
from imgtools.blob.files import storage_error
from imgtools.blob.tar import BLOCK, TarReader
from imgtools.build.tree import Tree
from imgtools.build.trees import open_file
from imgtools.errors import InvalidArchive, LimitExceeded, Unsupported

PROBED = 4 << 20
"""Bytes of a file that are read for its first header at most."""
HOST_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


class DescriptorReader:
    """Reads a descriptor that someone else closes; `limit` bytes at most where it is not None."""

    def __init__(self, fd: int, name: str, limit: int | None = None) -> None:
        self._fd = fd
        self._name = name
        self._left = limit

    def read(self, n: int = -1, /) -> bytes:
        """At most `n` bytes; raises StorageError."""
        if self._left is not None:
            n = min(n, self._left)
        try:
            data = os.read(self._fd, n)
        except OSError as e:
            raise storage_error(e, self._name) from e
        if self._left is not None:
            self._left -= len(data)
        return data


def open_host(path: str) -> int:
    """A descriptor of a file of the host; raises StorageError, NotFound."""
    try:
        return os.open(path, HOST_FLAGS)
    except OSError as e:
        raise storage_error(e, path) from e


def is_archive_in(tree: Tree, path: bytes) -> bool:
    """Whether the regular file `path` of `tree` is an archive; raises StorageError."""
    fd = open_file(tree, path)
    try:
        return _is_archive(fd, f"{os.fsdecode(path)} in {tree.name}")
    finally:
        os.close(fd)


def is_archive_at(path: str) -> bool:
    """Whether a file of the host is an archive; raises StorageError."""
    fd = open_host(path)
    try:
        return _is_archive(fd, path)
    finally:
        os.close(fd)


def _is_archive(fd: int, name: str) -> bool:
    # In small steps: what is wrong behind the first header is no reason not to see that.
    raw = Decompressor(DescriptorReader(fd, name, PROBED), chunk=BLOCK)
    try:
        return TarReader(raw, chunk=BLOCK).next() is not None
    except (InvalidArchive, LimitExceeded, Unsupported):
        return False

"""Layers put together again: a record and the tree that was unpacked, read as the tar it was.

The tree belongs to images, which are hostile: names are looked up beneath it, and nothing is
opened but regular files. Whoever reads checks the digest of what comes out.
"""

from __future__ import annotations

import os
import stat
import zlib
from collections.abc import Generator, Iterator
from typing import BinaryIO

from engine.storage.tar_record import END, FILE, HEAD, MAGIC, PATH, RAW, SIZE
from imgtools.blob.files import storage_errors
from imgtools.blob.tar import TarLimits
from imgtools.blob.tar.data import CHUNK
from imgtools.blob.tar.root import Root, split
from imgtools.errors import Error, StorageError


def _operations(file: BinaryIO, where: str) -> Iterator[tuple[bytes, bytes, int]]:
    """(kind, raw bytes or path, number) of a record; raises StorageError when it is damaged."""
    source = _Unpacked(file, where)
    while True:
        kind, number = HEAD.unpack(source.exactly(HEAD.size))
        if kind == RAW:
            left = number
            while left:
                data = source.exactly(min(left, CHUNK))
                left -= len(data)
                yield kind, data, len(data)
        elif kind == FILE:
            (length,) = PATH.unpack(source.exactly(PATH.size))
            yield kind, source.exactly(length), number
        elif kind == END:
            yield kind, b"", number
            return
        else:
            raise _damaged(where)


class _Unpacked:
    def __init__(self, file: BinaryIO, where: str) -> None:
        self._file = file
        self._where = where
        self._unpacker = zlib.decompressobj()
        self._rest = b""
        size_of(file, where)

    def exactly(self, size: int) -> bytes:
        parts, have = [self._rest], len(self._rest)
        while have < size:
            packed = self._unpacker.unconsumed_tail
            if not packed:
                with storage_errors(self._where):
                    packed = self._file.read(CHUNK)
            try:
                data = self._unpacker.decompress(packed, CHUNK)
            except zlib.error as e:
                raise _damaged(self._where) from e
            if not data and not packed:
                raise _damaged(self._where)
            parts.append(data)
            have += len(data)
        whole = b"".join(parts)
        self._rest = whole[size:]
        return whole[:size]


def size_of(record: BinaryIO, where: str) -> int:
    """The length in bytes of the tar of an open record, which is read past that; raises
    StorageError naming `where`."""
    with storage_errors(where):
        head = record.read(len(MAGIC) + SIZE.size)
    if len(head) != len(MAGIC) + SIZE.size or not head.startswith(MAGIC):
        raise _damaged(where)
    size: int = SIZE.unpack_from(head, len(MAGIC))[0]
    return size


def _damaged(where: str) -> StorageError:
    return StorageError(f"{where}: the record of a layer is damaged", path=where)


class Replay:
    """The tar of a record, read as it was; `size` is its length.

    `tree` is the directory that the layer was unpacked into, of which nothing is believed:
    names are looked up beneath it, and only regular files of the recorded length are read.
    Whoever reads verifies the digest. Raises StorageError when the tree has changed.
    """

    def __init__(self, record: str, tree: str) -> None:
        with storage_errors(record):
            self._file = open(record, "rb", buffering=0)  # noqa: SIM115 - see close
        try:
            self.size = size_of(self._file, record)
            self._file.seek(0)
        except BaseException:
            self._file.close()
            raise
        self._where = record
        self._tree = tree
        self._root: Root | None = None
        self._pieces = self._bytes()
        self._piece = b""

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes, b"" at the end."""
        while not self._piece:
            piece = next(self._pieces, None)
            if piece is None:
                return b""
            self._piece = piece
        data, self._piece = self._piece[:size], self._piece[size:]
        return data

    def close(self) -> None:
        """Release the files; safe to call twice."""
        self._pieces.close()
        self._file.close()
        root, self._root = self._root, None
        if root is not None:
            root.close()

    def _bytes(self) -> Generator[bytes, None, None]:
        for kind, data, number in _operations(self._file, self._where):
            if kind == RAW:
                yield data
            elif kind == FILE:
                yield from self._content(data, number)

    def _content(self, path: bytes, size: int) -> Iterator[bytes]:
        fd = self._open(path, size)
        try:
            left = size
            while left:
                with storage_errors(self._tree):
                    data = os.read(fd, min(left, CHUNK))
                if not data:
                    raise self._changed(path)
                left -= len(data)
                yield data
        finally:
            os.close(fd)

    def _open(self, path: bytes, size: int) -> int:
        if self._root is None:
            self._root = open_root(self._tree)
        found = look_up(self._root, path)
        if found is None or not stat.S_ISREG(found[0].st_mode) or found[0].st_size != size:
            raise self._changed(path)
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        with storage_errors(self._tree):
            return os.open(found[2], flags, dir_fd=found[1])

    def _changed(self, path: bytes) -> StorageError:
        return StorageError(
            f"{os.fsdecode(path)!r} in {self._tree} is not what was unpacked there",
            path=self._tree,
            hint="the store was changed by others; pull the image again",
        )


def open_root(tree: str) -> Root:
    """The root of an unpacked tree; raises StorageError."""
    with storage_errors(tree):
        fd = os.open(tree, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    return Root(fd, TarLimits(), lambda path, mode: None)


def look_up(root: Root, path: bytes) -> tuple[os.stat_result, int, bytes] | None:
    """What an archive path names below `root`, with the descriptor of its directory and its
    name there; None where it is not."""
    try:
        parts = split(path)
        name = parts.pop() if parts else b""
        directory = root.find(b"/".join(parts))
        if directory is None or not name:
            return None
        return os.lstat(name, dir_fd=directory.fd), directory.fd, name
    except (Error, OSError):
        return None


def comes_back(record: BinaryIO, tree: str) -> bool:
    """Whether every file of a record (an open file, read from its start) is in `tree`, with
    its length and as a file of its own.

    Two names of one inode are a file that was written twice, of which the first content is
    gone. Raises StorageError for a damaged record.
    """
    seen: set[int] = set()
    root = open_root(tree)
    try:
        record.seek(0)
        for kind, path, size in _operations(record, tree):
            if kind != FILE:
                continue
            found = look_up(root, path)
            if found is None or not stat.S_ISREG(found[0].st_mode):
                return False
            if found[0].st_size != size or found[0].st_ino in seen:
                return False
            seen.add(found[0].st_ino)
    finally:
        root.close()
    return True

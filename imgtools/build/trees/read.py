"""What is in a tree: nodes, content, names and attributes, as the records beside it say.

Owners and modes come from the record of a path where there is one. Without a record the disk
counts, or 0:0 where the disk's owners mean nothing.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from imgtools.blob.files import storage_error
from imgtools.blob.tar import attributes
from imgtools.build.tree import AS_ON_DISK, Tree
from imgtools.build.trees.beneath import open_beneath
from imgtools.errors import Error, InvalidInput, LimitExceeded

_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EXDEV)
"""Nothing is at a path: also where a link or a file is in the middle of it."""
_NODE_FLAGS = os.O_PATH | os.O_NOFOLLOW
# Without waiting for who writes to a FIFO, and without becoming a terminal's session.
_FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
_DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW


class Node(NamedTuple):
    """What is at a path, links not followed; a tuple because a context has tens of thousands.

    `mode` is st_mode with the type, `rdev` a device's (major, minor); size in bytes, times in
    nanoseconds since the epoch. `dev` and `ino` tell whether two paths are one file.
    """

    mode: int
    uid: int
    gid: int
    rdev: tuple[int, int]
    size: int
    mtime_ns: int
    ctime_ns: int
    nlink: int
    dev: int
    ino: int

    @property
    def identity(self) -> tuple[int, int]:
        """The same for all names of one file."""
        return self.dev, self.ino

    @property
    def is_dir(self) -> bool:
        """Whether it is a directory."""
        return stat.S_ISDIR(self.mode)

    @property
    def is_file(self) -> bool:
        """Whether it is a regular file."""
        return stat.S_ISREG(self.mode)

    @property
    def is_link(self) -> bool:
        """Whether it is a symbolic link."""
        return stat.S_ISLNK(self.mode)


def stat_of(tree: Tree, path: bytes) -> Node | None:
    """What is at `path`, None for nothing (a link in the middle counts as nothing: `resolve`
    follows those). Raises StorageError."""
    try:
        fd = open_beneath(tree.fd, path, _NODE_FLAGS)
    except OSError as e:
        if e.errno in _GONE:
            return None
        raise _failure(tree, path, e) from e
    try:
        return _node(tree, path, os.fstat(fd))
    finally:
        os.close(fd)


def open_file(tree: Tree, path: bytes) -> int:
    """A descriptor to read the regular file `path` from, the caller's to close.

    Raises InvalidInput for anything else than a regular file, NotFound, StorageError.
    """
    try:
        fd = open_beneath(tree.fd, path, _FILE_FLAGS)
    except OSError as e:
        if e.errno in (errno.ELOOP, errno.ENXIO, errno.ENODEV):
            raise _no_file(tree, path) from e
        raise _failure(tree, path, e) from e
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise _no_file(tree, path)
    return fd


def read_small(tree: Tree, path: bytes, limit: int) -> bytes | None:
    """The content of the regular file `path`, None where there is none.

    Raises LimitExceeded beyond `limit` bytes, StorageError.
    """
    node = stat_of(tree, path)
    if node is None or not node.is_file:
        return None
    fd = open_file(tree, path)
    parts, left = [], limit + 1
    try:
        while left and (data := os.read(fd, min(left, 1 << 20))):
            parts.append(data)
            left -= len(data)
    except OSError as e:
        raise _failure(tree, path, e) from e
    finally:
        os.close(fd)
    if not left:
        raise LimitExceeded(_called(tree, path), limit)
    return b"".join(parts)


def readlink(tree: Tree, path: bytes) -> bytes:
    """The target of the symbolic link `path`, as it is written; raises NotFound, StorageError."""
    try:
        fd = open_beneath(tree.fd, path, _NODE_FLAGS)
        try:
            return os.readlink(b"", dir_fd=fd)
        finally:
            os.close(fd)
    except OSError as e:
        raise _failure(tree, path, e) from e


def list_names(tree: Tree, path: bytes) -> list[bytes]:
    """The names in the directory `path`, sorted; raises NotFound, StorageError."""
    try:
        fd = open_beneath(tree.fd, path, _DIRECTORY_FLAGS)
        try:
            return sorted(map(os.fsencode, os.listdir(fd)))
        finally:
            os.close(fd)
    except OSError as e:
        raise _failure(tree, path, e) from e


def walk(
    tree: Tree, path: bytes = b"", skip: Callable[[bytes, Node], bool] | None = None
) -> Iterator[tuple[bytes, Node]]:
    """All that is below the directory `path` (not itself), each directory before its content,
    names in the order of their bytes.

    What `skip` is true for is left out, directories with all below them. One descriptor is
    open at a time, however deep the tree. What vanishes meanwhile is left out. Raises
    NotFound, StorageError.
    """
    levels = [iter(_entries(tree, path, ()))]
    while levels:
        found = next(levels[-1], None)
        if found is None:
            levels.pop()
            continue
        if skip is not None and skip(*found):
            continue
        yield found
        if stat.S_ISDIR(found[1].mode):
            levels.append(iter(_entries(tree, found[0], (errno.ENOENT,))))


def xattrs_of(tree: Tree, path: bytes) -> dict[str, bytes]:
    """The extended attributes of `path` that belong into a layer, those recorded included.

    Raises NotFound, StorageError.
    """
    try:
        fd = open_beneath(tree.fd, path, _NODE_FLAGS)
        try:
            found = _disk_xattrs(fd)
        finally:
            os.close(fd)
    except OSError as e:
        raise _failure(tree, path, e) from e
    record = tree.records.get(path)
    return found if record is None else found | _kept(record.xattrs)


def _entries(tree: Tree, path: bytes, gone: tuple[int, ...]) -> list[tuple[bytes, Node]]:
    """What is in a directory, sorted; nothing where opening it fails with one of `gone`."""
    prefix = path + b"/" if path else b""
    found = []
    try:
        fd = open_beneath(tree.fd, path, _DIRECTORY_FLAGS)
        try:
            for name in os.listdir(fd):
                try:
                    status = os.stat(name, dir_fd=fd, follow_symlinks=False)
                except FileNotFoundError:
                    continue
                below = prefix + os.fsencode(name)
                found.append((below, _node(tree, below, status)))
        finally:
            os.close(fd)
    except OSError as e:
        if e.errno in gone:
            return []
        raise _failure(tree, path, e) from e
    found.sort()
    return found


def _node(tree: Tree, path: bytes, status: os.stat_result) -> Node:
    mode, uid, gid, device = status.st_mode, status.st_uid, status.st_gid, status.st_rdev
    rdev = (os.major(device), os.minor(device)) if device else (0, 0)
    record = tree.records.get(path)
    if record is not None:
        uid, gid = record.uid, record.gid
        if record.mode != AS_ON_DISK:
            mode = record.mode
            if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
                rdev = record.rdev
    elif tree.recorded_owners:
        uid = gid = 0
    return Node(
        mode,
        uid,
        gid,
        rdev,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
        status.st_nlink,
        status.st_dev,
        status.st_ino,
    )


def _disk_xattrs(fd: int) -> dict[str, bytes]:
    """Attributes of an O_PATH descriptor, whose own are out of reach but by its name in /proc."""
    name = f"/proc/self/fd/{fd}"
    if stat.S_ISLNK(os.fstat(fd).st_mode):
        # Nothing that belongs into a layer can be on a link.
        return {}
    try:
        names = os.listxattr(name)
    except OSError as e:
        if e.errno in attributes.NOT_THERE:
            return {}
        raise
    return attributes.read_through(name, names) if names else {}


def _kept(xattrs: Mapping[str, bytes]) -> dict[str, bytes]:
    return {name: value for name, value in xattrs.items() if attributes.kept(name)}


def _called(tree: Tree, path: bytes) -> str:
    return f"{os.fsdecode(path) or '.'} in {tree.name}"


def _no_file(tree: Tree, path: bytes) -> InvalidInput:
    return InvalidInput(f"{_called(tree, path)} is not a regular file")


def _failure(tree: Tree, path: bytes, error: OSError) -> Error:
    return storage_error(error, _called(tree, path))

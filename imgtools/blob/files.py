"""Files that appear whole or not at all: temp file, fsync, rename; and OSError made typed.

The temporary name is in the directory of the final one, so that the rename is atomic, and
begins with a dot, so that no reader takes it for content.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from imgtools.errors import Error, NotFound, StorageError

TEMPORARY_PREFIX = ".imgtools-"

NO_SPACE = (
    "free some space, or name a larger file system: TMPDIR or --tmpdir for temporary files, "
    "--root for the store"
)
"""What to do when a file system is full; most calls do not know what the file is for."""


@contextmanager
def atomic_file(path: str, *, mode: int = 0o644) -> Iterator[BinaryIO]:
    """Write a file that gets its name only when the block ends without error.

    `mode` is subject to the umask. Raises StorageError.
    """
    directory, name = os.path.split(path)
    temporary = os.path.join(
        directory, f"{TEMPORARY_PREFIX}{os.getpid()}-{os.urandom(6).hex()}-{name[:40]}"
    )
    with storage_errors(path):
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        try:
            with os.fdopen(fd, "wb", buffering=0) as file:
                yield file
                os.fsync(file.fileno())
            os.rename(temporary, path)
        except BaseException:
            _unlink_quietly(temporary)
            raise
        sync_directory(directory)


def write_all(file: BinaryIO, data: bytes | memoryview) -> None:
    """Write all of `data` to an unbuffered file, which may take it in parts."""
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


def write_file(path: str, content: bytes, *, mode: int = 0o644) -> None:
    """Make `path` hold `content`, atomically; raises StorageError."""
    with atomic_file(path, mode=mode) as file:
        write_all(file, content)


def sync_directory(path: str) -> None:
    """Make renames in a directory durable; raises StorageError."""
    with storage_errors(path):
        fd = os.open(path or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        except OSError as e:
            # Some file systems (FUSE, overlay on old kernels) cannot sync a directory.
            if e.errno not in (errno.EINVAL, errno.ENOSYS, errno.EBADF):
                raise
        finally:
            os.close(fd)


@contextmanager
def storage_errors(path: str) -> Iterator[None]:
    """Turn an OSError of the block into StorageError or NotFound that names `path`."""
    try:
        yield
    except Error:
        raise
    except OSError as e:
        raise storage_error(e, path) from e


def storage_error(error: OSError, path: str) -> Error:
    """The typed form of an OSError about `path`."""
    text = f"{path}: {(error.strerror or str(error)).lower()}"
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return NotFound(text)
    hints = {
        errno.ENOSPC: NO_SPACE,
        errno.EDQUOT: "the disk quota is used up",
        errno.EACCES: "check the permissions of the file and of its directories",
        errno.EROFS: "the file system is mounted read-only",
    }
    return StorageError(text, path=path, hint=hints.get(error.errno or 0))


def _unlink_quietly(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return

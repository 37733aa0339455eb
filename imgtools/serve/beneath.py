"""Files and directories below a directory, reached one component at a time.

Symbolic links are never followed, so no content of a served folder, however it came there,
can name a file outside of it. Every OSError becomes a typed error.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from imgtools.blob.files import TEMPORARY_PREFIX, storage_error, storage_errors
from imgtools.errors import Conflict, LimitExceeded
from imgtools.transport.lock import lock

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_ATTEMPTS = 20
_ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO})


@contextmanager
def directory(root: int, parts: Sequence[str], *, create: bool = False) -> Iterator[int | None]:
    """A descriptor of the directory `parts` below descriptor `root`; None when not there.

    `create` makes what is missing. Raises StorageError.
    """
    fd = _open_directory(root, parts, create)
    try:
        yield fd
    finally:
        if fd is not None:
            os.close(fd)


def open_file(root: int, parts: Sequence[str]) -> tuple[int, os.stat_result] | None:
    """An open regular file below `root` and its status; None for anything else.

    The caller closes it. Raises StorageError.
    """
    with directory(root, parts[:-1]) as parent:
        if parent is None:
            return None
        try:
            # Non-blocking, so that a FIFO in a hostile folder cannot hold us.
            fd = os.open(
                parts[-1], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=parent
            )
        except OSError as e:
            if e.errno in _ABSENT:
                return None
            raise storage_error(e, "/".join(parts)) from e
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        os.close(fd)
        return None
    return fd, status


def is_file(root: int, parts: Sequence[str]) -> bool:
    """Whether there is a regular file that can be opened; raises StorageError."""
    found = open_file(root, parts)
    if found is not None:
        os.close(found[0])
    return found is not None


def read_file(root: int, parts: Sequence[str], limit: int) -> bytes | None:
    """The content of a small file; None when it is not there.

    Raises LimitExceeded or StorageError.
    """
    found = open_file(root, parts)
    if found is None:
        return None
    with os.fdopen(found[0], "rb", buffering=0) as file:
        content = bytearray()
        while len(content) <= limit:
            data = file.read(limit + 1 - len(content))
            if not data:
                return bytes(content)
            content += data
    raise LimitExceeded("/".join(parts), limit)


def write_file(parent: int, name: str, content: bytes) -> None:
    """Make `name` in the directory `parent` hold `content`, atomically and durably.

    Raises StorageError.
    """
    temporary = temporary_name()
    try:
        fd = os.open(
            temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644, dir_fd=parent
        )
        try:
            view = memoryview(content)
            while view:
                view = view[os.write(fd, view) :]
            os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)
        os.fsync(parent)
    except OSError as e:
        unlink(parent, temporary)
        raise storage_error(e, name) from e


@contextmanager
def locked(parent: int) -> Iterator[None]:
    """Hold the lock that writers of a layout take on its directory; waits for others.

    Raises StorageError.
    """
    # A description of its own: locks of duplicated descriptors do not exclude each other.
    with storage_errors("."):
        fd = os.open(".", _DIRECTORY, dir_fd=parent)
    try:
        with storage_errors("."):
            lock(fd, wait=True)
        yield
    finally:
        os.close(fd)


@contextmanager
def sharing_blobs(root: int, layout: Sequence[str]) -> Iterator[None]:
    """Be one of the writers of a layout's `blobs`, as the oci: transport understands it.

    A writer that is alone removes temporary files there, and its own blobs when it gives
    up; while this is held, nobody is alone. Makes the directory; raises StorageError.
    """
    for _ in range(_ATTEMPTS):
        with directory(root, (*layout, "blobs"), create=True) as fd:
            assert fd is not None, "a directory that is created is there"
            with storage_errors("blobs"):
                lock(fd, shared=True, wait=True)
            if os.fstat(fd).st_nlink:
                yield
                return
    raise Conflict("another process keeps removing the layout")


def unlink(parent: int, name: str) -> bool:
    """Remove a file; False when it is not there. Raises StorageError."""
    try:
        os.unlink(name, dir_fd=parent)
    except FileNotFoundError:
        return False
    except OSError as e:
        raise storage_error(e, name) from e
    return True


def temporary_name() -> str:
    """A fresh name that no reader of a layout takes for content."""
    return f"{TEMPORARY_PREFIX}{os.getpid()}-{os.urandom(8).hex()}"


def _open_directory(root: int, parts: Sequence[str], create: bool) -> int | None:
    fd = os.dup(root)
    try:
        for part in parts:
            below = _step(fd, part, create)
            os.close(fd)
            fd = below
    except OSError as e:
        os.close(fd)
        if e.errno in _ABSENT and not create:
            return None
        raise storage_error(e, "/".join(parts)) from e
    return fd


def _step(fd: int, part: str, create: bool) -> int:
    try:
        return os.open(part, _DIRECTORY, dir_fd=fd)
    except FileNotFoundError:
        if not create:
            raise
    try:
        os.mkdir(part, 0o755, dir_fd=fd)
    except FileExistsError:
        pass
    return os.open(part, _DIRECTORY, dir_fd=fd)

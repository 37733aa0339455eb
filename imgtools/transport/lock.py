"""Locks between processes, and unfinished work that outlived its process.

Locks are flock(2) on the directory or file itself, so that nothing beside it is littered
and the kernel releases them when a process dies. Unfinished work carries its target in its
name and is locked by its writer; what nobody locks any more is cleared by the next writer.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import logging
import os
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from imgtools.blob.files import TEMPORARY_PREFIX, storage_errors
from imgtools.errors import Conflict, Error
from imgtools.spec.digest import Digest
from imgtools.transport.folder import Folder

_log = logging.getLogger(__name__)
# What flock says on file systems that cannot lock, or not a file opened for reading (NFS).
_CANNOT = frozenset({errno.EBADF, errno.EINVAL, errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP})
UNFINISHED_PREFIX = f"{TEMPORARY_PREFIX}part-"
"""How the names of unfinished work begin, whatever it is for."""

_ATTEMPTS = 20
_ANYTHING = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK

LockState = Literal["held", "busy", "impossible"]


def lock(fd: int, *, shared: bool = False, wait: bool = False) -> LockState:
    """Lock an open file or directory, or change its lock; closing `fd` releases it.

    "busy": somebody else holds it (never when `wait`); "impossible": the file system has
    no locks, and callers go on without.
    """
    how = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB)
    try:
        fcntl.flock(fd, how)
    except OSError as e:
        if e.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return "busy"
        if e.errno in _CANNOT:
            return "impossible"
        raise
    return "held"


@contextmanager
def locked(folder: Folder) -> Iterator[None]:
    """Hold a directory exclusively for the block, waiting for whoever has it."""
    with storage_errors(folder.path):
        fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder.fd)
    try:
        with storage_errors(folder.path):
            lock(fd, wait=True)
        yield
    finally:
        os.close(fd)


def unfinished_prefix(target: str) -> str:
    """How the names of unfinished work for `target` (a name, not a path) begin."""
    tag = hashlib.sha256(os.fsencode(target)).hexdigest()[:16]
    return f"{UNFINISHED_PREFIX}{tag}-"


def begin_folder(parent: Folder, target: str) -> tuple[str, Folder]:
    """A new directory for the unfinished `target`, locked for as long as it is open."""
    for _ in range(_ATTEMPTS):
        name = unfinished_prefix(target) + os.urandom(6).hex()
        folder, _made = parent.make(name)
        with storage_errors(folder.path):
            lock(folder.fd)
        # Between mkdir and lock, somebody may have cleared it away as left over.
        if not folder.removed:
            return name, folder
        folder.close()
    raise Conflict(f"{parent.path}: another process keeps removing our unfinished work")


def begin_file(parent: Folder, target: str) -> tuple[str, int]:
    """A new file for the unfinished `target` and its descriptor, which holds the lock."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    for _ in range(_ATTEMPTS):
        name = unfinished_prefix(target) + os.urandom(6).hex()
        with storage_errors(os.path.join(parent.path, target)):
            fd = os.open(name, flags, 0o644, dir_fd=parent.fd)
            lock(fd)
            if os.fstat(fd).st_nlink:
                return name, fd
            os.close(fd)
    raise Conflict(f"{parent.path}: another process keeps removing our unfinished work")


def clear_unfinished(parent: Folder, target: str) -> None:
    """Remove unfinished work for `target` whose writers are gone."""
    prefix = unfinished_prefix(target)
    for name in parent.names():
        if name.startswith(prefix):
            try:
                _clear(parent, name)
            except Error as e:
                # In a directory that several users write, it may not be ours to remove.
                _log.debug("left %s in %s: %s", name, parent.path, e.message)


def _clear(parent: Folder, name: str) -> None:
    path = os.path.join(parent.path, name)
    with storage_errors(path):
        fd = os.open(name, _ANYTHING, dir_fd=parent.fd)
    with Folder(fd, path) as found, storage_errors(path):
        if lock(fd) != "held":
            return
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            for inner in found.names():
                found.remove(inner)
            parent.remove_folder(name)
        else:
            parent.remove(name)


class OnePerDigest:
    """Within a process, lets one thread at a time work on a digest."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._busy: dict[Digest, tuple[threading.Lock, int]] = {}

    @contextmanager
    def __call__(self, digest: Digest) -> Iterator[None]:
        """Hold `digest` for the block."""
        with self._lock:
            held, users = self._busy.get(digest, (threading.Lock(), 0))
            self._busy[digest] = (held, users + 1)
        try:
            with held:
                yield
        finally:
            with self._lock:
                held, users = self._busy[digest]
                if users == 1:
                    del self._busy[digest]
                else:
                    self._busy[digest] = (held, users - 1)

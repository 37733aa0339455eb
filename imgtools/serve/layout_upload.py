"""An upload into a layout: a temporary file that is hashed as it grows.

The file lies in the layout it is for and is locked while its owner lives, so that what a
killed server leaves behind can be told from an upload in progress, and removed.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time

from imgtools.blob.files import TEMPORARY_PREFIX, storage_error
from imgtools.blob.reader import CHUNK
from imgtools.errors import DigestMismatch, NotFound, StorageError
from imgtools.serve import beneath
from imgtools.spec.digest import Digest, new_hasher

_PREFIX = f"{TEMPORARY_PREFIX}upload-"


class LayoutUpload:
    """One session; see `imgtools.serve.storage.Upload` for what the methods mean."""

    def __init__(self, root: int, parts: tuple[str, ...]) -> None:
        """Begin a file in the layout `parts` below `root`; raises StorageError."""
        self.id = _uuid()
        self.parts = parts
        self.size = 0
        self.used = time.monotonic()
        self._root = root
        self._name = _PREFIX + self.id
        self._algorithm = "sha256"
        self._hasher = new_hasher("sha256")
        self._lock = threading.Lock()
        self._fd = self._create()

    @property
    def ended(self) -> bool:
        """Whether it was finished or cancelled."""
        return self._fd < 0

    def acquire(self, patience: float = 0.0) -> bool:
        """Take the session; False when another request has it for longer than `patience`."""
        return self._lock.acquire(timeout=patience)

    def release(self) -> None:
        """Give the session back."""
        self.used = time.monotonic()
        self._lock.release()

    def expect(self, algorithm: str) -> None:
        """Hash with this algorithm from the start; raises InvalidDigest."""
        if not self.size and algorithm != self._algorithm:
            self._hasher = new_hasher(algorithm)
            self._algorithm = algorithm

    def append(self, data: bytes) -> None:
        """Write and hash; raises StorageError."""
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(self._open_fd(), view) :]
        except OSError as e:
            # Part of the chunk may be in the file but not in the hash: nobody can go on.
            self.cancel()
            raise storage_error(e, self._name) from e
        self._hasher.update(data)
        self.size += len(data)

    def finish(self, digest: Digest) -> None:
        """Verify, sync and name the blob; the session ends whether it fails or not."""
        try:
            actual = self._digest(digest.algorithm)
            if actual != digest:
                raise DigestMismatch("blob", expected=str(digest), actual=str(actual))
            self._name_blob(digest)
        except OSError as e:
            raise storage_error(e, self._name) from e
        finally:
            self.cancel()

    def cancel(self) -> None:
        """Remove the file; safe to call twice."""
        fd, self._fd = self._fd, -1
        if fd < 0:
            return
        try:
            with beneath.directory(self._root, self.parts) as parent:
                if parent is not None:
                    beneath.unlink(parent, self._name)
        finally:
            os.close(fd)

    def _create(self) -> int:
        with beneath.directory(self._root, self.parts, create=True) as parent:
            assert parent is not None, "a directory that is created is there"
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            try:
                while True:
                    fd = os.open(self._name, flags, 0o644, dir_fd=parent)
                    fcntl.flock(fd, fcntl.LOCK_EX)
                    if os.fstat(fd).st_nlink:
                        return fd
                    # Another server took the file for a leftover before it was locked.
                    os.close(fd)
            except OSError as e:
                raise storage_error(e, self._name) from e

    def _open_fd(self) -> int:
        if self._fd < 0:
            raise StorageError("the upload has ended", path=self._name)
        return self._fd

    def _digest(self, algorithm: str) -> Digest:
        if algorithm == self._algorithm:
            return Digest(algorithm, self._hasher.hexdigest())
        hasher = new_hasher(algorithm)
        position = 0
        while data := os.pread(self._open_fd(), CHUNK, position):
            hasher.update(data)
            position += len(data)
        return Digest(algorithm, hasher.hexdigest())

    def _name_blob(self, digest: Digest) -> None:
        os.fsync(self._open_fd())
        blobs = (*self.parts, "blobs", digest.algorithm)
        with (
            beneath.directory(self._root, self.parts) as parent,
            beneath.directory(self._root, blobs, create=True) as target,
        ):
            if parent is None or target is None:
                raise NotFound("the repository was removed during the upload")
            os.rename(self._name, digest.hex, src_dir_fd=parent, dst_dir_fd=target)


def remove_leftovers(root: int, parts: tuple[str, ...]) -> None:
    """Remove uploads of servers that are gone from the layout `parts`; raises StorageError."""
    with beneath.directory(root, parts) as parent:
        if parent is None:
            return
        for name in os.listdir(parent):
            if name.startswith(_PREFIX):
                _remove_unlocked(parent, name)


def _remove_unlocked(parent: int, name: str) -> None:
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    except OSError:
        # It was finished or removed meanwhile, or it is not a file we have made.
        return
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return
    else:
        beneath.unlink(parent, name)
    finally:
        os.close(fd)


def _uuid() -> str:
    import uuid

    return str(uuid.uuid4())

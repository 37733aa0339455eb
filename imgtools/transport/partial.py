"""Blobs that are written over several runs: what an interrupted one has, the next one keeps.

The first bytes lie in a hidden file beside the final name, named by the digest and locked by
its writer, where a rename finishes them. Nothing in it is believed: it is hashed again on its
way, and what does not match in the end is thrown away and fetched from the start, once.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
from typing import Self

from imgtools.blob.files import storage_errors
from imgtools.blob.pump import pump
from imgtools.blob.reader import BlobReader
from imgtools.errors import DigestMismatch, SizeMismatch, StorageError
from imgtools.frozen import dataclass
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest
from imgtools.task import Advanced, Tally, Task
from imgtools.transport.base import BlobOpener
from imgtools.transport.closing import Closing
from imgtools.transport.folder import (
    PARTIAL_PREFIX,
    Folder,
    check_reader,
    check_size,
    write_all,
)
from imgtools.transport.journal_files import is_expired
from imgtools.transport.lock import lock
from imgtools.transport.partial_journal import PartialJournal, partial_digest, partial_name

log = logging.getLogger(__name__)

LEAST_BLOB = 8 * 1024 * 1024
"""Bytes from which on a blob is worth being continued."""

_LEAST_KEPT = 1024 * 1024
_FILE = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
# Errors after which the first bytes are of no use, or are what is in the way.
_USELESS = (DigestMismatch, SizeMismatch, StorageError)


@dataclass(frozen=True, slots=True)
class Partials:
    """Where the unfinished blobs of one destination are remembered; `destination` is the
    path of the directory that they are for."""

    journal: PartialJournal
    destination: str

    @classmethod
    def of(cls, journal_dir: str | None, destination: str) -> Self | None:
        """None without a journal: then nothing is kept. Old ones are removed first."""
        if journal_dir is None:
            return None
        journal = PartialJournal(journal_dir)
        journal.prune()
        return cls(journal, destination)

    def remember(self, folder: Folder, digest: Digest) -> bool:
        """Enter the partial file of `digest` in `folder`; False when that cannot be."""
        path = os.path.join(folder.path, partial_name(digest))
        return self.journal.add(self.destination, digest, path)

    def keep(self, folder: Folder, name: str, digest: Digest) -> bool:
        """Make the whole blob in the file `name` a partial one, for a later run.

        False, and the file removed, when it is too small or cannot be remembered.
        """
        if (folder.size(name) or 0) >= LEAST_BLOB and self.remember(folder, digest):
            try:
                folder.move(name, folder, partial_name(digest))
            except StorageError as e:
                log.debug("%s is not kept: %s", digest.short, e.message)
                self.journal.remove(self.destination, digest)
            else:
                return True
        folder.remove(name)
        return False

    def drop_all(self, folder: Folder) -> None:
        """Remove every partial file in `folder`, which is this destination's alone."""
        for name in folder.names():
            digest = partial_digest(name)
            if digest is not None:
                folder.remove(name)
                self.journal.remove(self.destination, digest)


def store_blob(
    folder: Folder,
    name: str,
    descriptor: Descriptor,
    open_blob: BlobOpener,
    *,
    task: Task,
    partials: Partials | None,
) -> None:
    """Give the blob that `open_blob` yields the name `name` in `folder`, once it is verified.

    With `partials` a large blob goes on where an earlier run stopped, and what came before
    an error is left for a later one. Bytes that came in pieces and are wrong are fetched
    again, once. Raises DigestMismatch, SizeMismatch, StorageError and what the reader raises.
    """
    for last in (False, True):
        tally = Tally(task)
        with open_blob() as reader:
            try:
                _store(folder, name, descriptor, reader, tally.task, partials)
            except (DigestMismatch, SizeMismatch):
                if last or not reader.pieced:
                    raise
                reader.abandon()
            else:
                return
        tally.take_back(str(descriptor.digest))


def _store(
    folder: Folder,
    name: str,
    descriptor: Descriptor,
    reader: BlobReader,
    task: Task,
    partials: Partials | None,
) -> None:
    check_reader(reader, descriptor)
    claim = None
    if partials is not None and descriptor.size >= LEAST_BLOB:
        claim = _claim(folder, descriptor, partials)
    if claim is None:
        folder.write_blob(name, descriptor, reader, task=task)
        return
    with claim:
        claim.complete(name, reader, task)


def clear_partial(folder: Folder, *, now: float | None) -> None:
    """Remove partial files nobody is writing, the caller being alone: all of them, or those
    that have waited for too long at `now` (seconds since the epoch)."""
    for name in folder.names():
        if name.startswith(PARTIAL_PREFIX) and (now is None or _has_expired(folder, name, now)):
            folder.remove(name)


class _Claim(Closing):
    """A partial file that is ours: open in `fd`, which holds its lock."""

    def __init__(self, folder: Folder, descriptor: Descriptor, partials: Partials, fd: int) -> None:
        self._folder = folder
        self._descriptor = descriptor
        self._partials = partials
        self._fd = fd
        self._name = partial_name(descriptor.digest)

    def complete(self, name: str, reader: BlobReader, task: Task) -> None:
        """Bring the file to the blob's verified end and give it its name."""
        descriptor, item = self._descriptor, str(self._descriptor.digest)
        try:
            with storage_errors(os.path.join(self._folder.path, name)):
                done = reader.prime(_Prefix(self._fd, task, item))
                os.lseek(self._fd, done, os.SEEK_SET)
                done += pump(reader, lambda data: write_all(self._fd, data), task=task, item=item)
                check_size(descriptor, done)
                os.fsync(self._fd)
            self._folder.move(self._name, self._folder, name)
        except _USELESS:
            self._drop()
            raise
        except BaseException:
            if os.fstat(self._fd).st_size < _LEAST_KEPT:
                self._drop()
            raise
        self._partials.journal.remove(self._partials.destination, descriptor.digest)

    def close(self) -> None:
        """Release the lock; safe to call twice."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def _drop(self) -> None:
        self._folder.remove(self._name)
        self._partials.journal.remove(self._partials.destination, self._descriptor.digest)


class _Prefix:
    """What a partial file holds, read once from its start, with progress."""

    def __init__(self, fd: int, task: Task, item: str) -> None:
        self._fd = fd
        self._task = task
        self._item = item
        self._at = 0

    def read(self, size: int, /) -> bytes:
        self._task.cancel.check()
        data = os.pread(self._fd, size, self._at)
        self._at += len(data)
        if data:
            self._task.progress(Advanced(self._item, len(data), kept=True))
        return data


def _claim(folder: Folder, descriptor: Descriptor, partials: Partials) -> _Claim | None:
    """The partial file of a blob, made if there is none; None when another process is at
    work on it, or when it cannot be locked or remembered."""
    name = partial_name(descriptor.digest)
    path = os.path.join(folder.path, name)
    with storage_errors(path):
        try:
            fd = os.open(name, _FILE, 0o644, dir_fd=folder.fd)
        except OSError as e:
            if e.errno in (errno.ELOOP, errno.EACCES, errno.ENXIO, errno.EISDIR):
                return None
            raise
    claim = _Claim(folder, descriptor, partials, fd)
    try:
        with storage_errors(path):
            state = lock(fd)
            if state == "impossible" and not os.fstat(fd).st_size:
                folder.remove(name)
            elif state == "held" and _is_ours(folder, name, fd):
                if os.fstat(fd).st_size > descriptor.size:
                    os.ftruncate(fd, 0)
                if partials.remember(folder, descriptor.digest):
                    return claim
                folder.remove(name)
    except BaseException:
        claim.close()
        raise
    claim.close()
    return None


def _is_ours(folder: Folder, name: str, fd: int) -> bool:
    """Whether the open file still has that name, and nobody else can have put it there."""
    opened = os.fstat(fd)
    try:
        named = os.stat(name, dir_fd=folder.fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return (
        stat.S_ISREG(opened.st_mode)
        and opened.st_uid == os.geteuid()
        and opened.st_nlink == 1
        and (named.st_dev, named.st_ino) == (opened.st_dev, opened.st_ino)
    )


def _has_expired(folder: Folder, name: str, now: float) -> bool:
    try:
        modified = os.stat(name, dir_fd=folder.fd, follow_symlinks=False).st_mtime
    except OSError:
        return False
    return is_expired(modified, now)

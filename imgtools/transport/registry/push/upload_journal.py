"""Remembers uploads that were interrupted, so that the next process goes on with them.

One small file per blob says where its session is. It is a hint and no more: what cannot be
read, is old, or belongs to somebody else is removed, the registry is asked what it has, and
it verifies the whole blob at the end. Failures to write it never stop an upload.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from imgtools.blob.files import TEMPORARY_PREFIX
from imgtools.errors import Error
from imgtools.frozen import dataclass
from imgtools.spec import strict_json
from imgtools.spec.digest import Digest
from imgtools.transport.journal_files import is_expired, is_ours, read_private
from imgtools.transport.lock import lock

log = logging.getLogger(__name__)

SMALLEST = 8 * 1024 * 1024
"""Bytes of a blob that is worth remembering."""
_PREFIX = "upload-"
_LIMIT = 64 * 1024
_ATTEMPTS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembered:
    """A session: its URL, and how many bytes it had acknowledged."""

    location: str
    offset: int


class Entry:
    """The place for one upload in the journal; nobody else has it while it is open."""

    def __init__(self, directory: str, name: str, lock_fd: int, subject: dict[str, str]) -> None:
        self._path = os.path.join(directory, f"{name}.json")
        self._lock_path = os.path.join(directory, f"{name}.lock")
        self._lock_fd = lock_fd
        self._subject = subject
        self.remembered = self._read()

    def record(self, location: str, offset: int) -> None:
        """Remember the session; `offset` is what the registry has acknowledged, in bytes."""
        value = {**self._subject, "location": location, "offset": offset, "time": time.time()}
        directory, name = os.path.split(self._path)
        temporary = os.path.join(directory, f"{TEMPORARY_PREFIX}{os.getpid()}-{name}")
        with _not_fatal(self._path):
            # Not synced: after a power failure the next upload begins anew, and that is all.
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
            with open(os.open(temporary, flags, 0o600), "wb", buffering=0) as file:
                file.write(json.dumps(value).encode())
            os.rename(temporary, self._path)

    def remove(self) -> None:
        """Forget the session."""
        self.remembered = None
        with _not_fatal(self._path), suppress(FileNotFoundError):
            os.unlink(self._path)

    def close(self) -> None:
        """Let others have the entry; safe to call twice."""
        fd, self._lock_fd = self._lock_fd, -1
        if fd >= 0:
            with _not_fatal(self._lock_path), suppress(FileNotFoundError):
                os.unlink(self._lock_path)
            os.close(fd)

    def _read(self) -> Remembered | None:
        try:
            found = _parse(self._path, self._subject)
        except FileNotFoundError:
            return None
        except (OSError, Error, ValueError) as e:
            log.debug("%s is of no use: %s", self._path, e)
            self.remove()
            return None
        return found


def claim(directory: str, *, registry: str, repository: str, digest: Digest) -> Entry | None:
    """The entry for a blob on its way to a repository, None when another process has it or
    the directory cannot be used. What is older than a week is removed."""
    subject = {"registry": registry, "repository": repository, "digest": str(digest)}
    hashed = hashlib.sha256("\n".join(subject.values()).encode("utf-8", "surrogatepass"))
    name = _PREFIX + hashed.hexdigest()
    with _not_fatal(directory):
        os.makedirs(directory, mode=0o700, exist_ok=True)
        if not is_ours(os.stat(directory), private=False):
            log.debug("%s can be written by others: uploads are not remembered there", directory)
            return None
        _prune(directory, time.time())
        fd = _locked(os.path.join(directory, f"{name}.lock"))
        if fd is not None:
            return Entry(directory, name, fd, subject)
    return None


def _locked(path: str) -> int | None:
    """A descriptor that holds the lock file, None when somebody else does."""
    for _ in range(_ATTEMPTS):
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            state = lock(fd)
            # Between opening and locking it may have been removed by whoever had it.
            if state == "held" and os.fstat(fd).st_nlink:
                found, fd = fd, -1
                return found
            if state != "held":
                return None
        finally:
            if fd >= 0:
                os.close(fd)
    return None


def _parse(path: str, subject: dict[str, str]) -> Remembered | None:
    """Raises OSError, Error or ValueError for what is no entry for `subject`."""
    content, modified = read_private(path, _LIMIT)
    if is_expired(modified, time.time()):
        raise ValueError("it is too old")
    value = strict_json.loads(content, limit=_LIMIT)
    if not isinstance(value, dict) or any(value.get(k) != v for k, v in subject.items()):
        raise ValueError("it is about something else")
    location, offset = value.get("location"), value.get("offset")
    if not isinstance(location, str) or type(offset) is not int or offset < 0:
        raise ValueError("it is incomplete")
    return Remembered(location=location, offset=offset)


def _prune(directory: str, now: float) -> None:
    with os.scandir(directory) as found:
        for entry in found:
            ours = entry.name.startswith((_PREFIX, f"{TEMPORARY_PREFIX}"))
            with _not_fatal(entry.path), suppress(FileNotFoundError):
                if ours and is_expired(entry.stat(follow_symlinks=False).st_mtime, now):
                    os.unlink(entry.path)


@contextmanager
def _not_fatal(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as e:
        log.debug("%s: %s", path, e)

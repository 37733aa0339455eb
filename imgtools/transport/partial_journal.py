"""Remembers which unfinished blobs lie where, so that none is forgotten.

The files themselves are found by their names; an entry says whose they are and lets a later
run, of whatever image, remove those that nobody came back for. Entries are one file each,
readable by their owner alone, because they tell what was copied.
"""

from __future__ import annotations

import hashlib
import logging
import os
import stat
import time
from typing import Any
from urllib.parse import quote, unquote_to_bytes

from imgtools.blob.files import storage_errors, write_file
from imgtools.errors import Error, InvalidDigest
from imgtools.frozen import dataclass
from imgtools.spec import strict_json
from imgtools.spec.digest import Digest
from imgtools.transport.folder import PARTIAL_PREFIX
from imgtools.transport.journal_files import is_expired, is_ours, read_private
from imgtools.transport.lock import UNFINISHED_PREFIX, lock

log = logging.getLogger(__name__)

_ENTRY_LIMIT = 64 * 1024
_FOLDER = "downloads"
_FILE = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """An unfinished blob: `destination` is the directory it is for, `path` its file."""

    destination: str
    digest: str
    path: str


def partial_name(digest: Digest) -> str:
    """The name of the file with the first bytes of a blob."""
    return f"{PARTIAL_PREFIX}{digest.algorithm}-{digest.hex}"


def partial_digest(name: str) -> Digest | None:
    """The digest of the blob whose first bytes a file of this name holds; None for others."""
    if not name.startswith(PARTIAL_PREFIX):
        return None
    try:
        return Digest.parse(name.removeprefix(PARTIAL_PREFIX).replace("-", ":", 1))
    except InvalidDigest:
        return None


class PartialJournal:
    """The entries of one journal directory, which is made when the first is added."""

    def __init__(self, directory: str) -> None:
        self._path = os.path.join(directory, _FOLDER)

    def add(self, destination: str, digest: Digest, path: str) -> bool:
        """Remember a file; False when the journal cannot be written, or others can write it."""
        entry = {
            "destination": _quoted(destination),
            "digest": str(digest),
            "path": _quoted(os.path.abspath(path)),
        }
        try:
            with storage_errors(self._path):
                os.makedirs(self._path, mode=0o700, exist_ok=True)
                if not is_ours(os.stat(self._path), private=False):
                    log.debug("%s can be written by others, and is not used", self._path)
                    return False
            write_file(self._file(destination, digest), strict_json.dumps(entry), mode=0o600)
        except Error as e:
            log.debug("unfinished blobs cannot be remembered: %s", e.message)
            return False
        return True

    def remove(self, destination: str, digest: Digest) -> None:
        """Forget a file; one that nobody remembers is fine."""
        _unlink(self._file(destination, digest))

    def prune(self, now: float | None = None) -> int:
        """Remove files that have waited for too long, and entries whose file is gone.

        `now` is in seconds since the epoch. Returns how many entries went; what cannot be
        read or removed is left.
        """
        now = time.time() if now is None else now
        gone = 0
        for name in self._names():
            path = os.path.join(self._path, name)
            entry = _read(path) if _is_entry(name) else None
            if entry is None:
                # Not an entry, or one that was being written when its writer died.
                stale = is_expired(_modified(path, now), now)
            else:
                stale = _is_stale(entry.path, now)
            if stale:
                _unlink(path)
                gone += 1
        return gone

    def entries(self) -> list[Entry]:
        """Every entry that can be read, in no order."""
        names = (name for name in self._names() if _is_entry(name))
        found = (_read(os.path.join(self._path, name)) for name in names)
        return [entry for entry in found if entry is not None]

    def _names(self) -> list[str]:
        """What is in the journal; nothing where others can write."""
        try:
            return os.listdir(self._path) if is_ours(os.stat(self._path), private=False) else []
        except OSError:
            return []

    def _file(self, destination: str, digest: Digest) -> str:
        key = os.fsencode(f"{destination}\0{digest}")
        return os.path.join(self._path, f"{hashlib.sha256(key).hexdigest()[:32]}.json")


def _is_stale(path: str, now: float) -> bool:
    """Whether the file of an entry is gone, after removing it when it is too old."""
    possible = os.path.isabs(path) and "\0" not in path
    if not possible or partial_digest(os.path.basename(path)) is None:
        return True
    try:
        fd = os.open(path, _FILE)
    except FileNotFoundError:
        return True
    except OSError:
        # On a file system that is not mounted now, or no file of ours.
        return False
    try:
        info = os.fstat(fd)
        ours = stat.S_ISREG(info.st_mode) and info.st_uid == os.geteuid()
        if not ours or not is_expired(info.st_mtime, now) or lock(fd) == "busy":
            return False
        _unlink(path)
        # What the file was in may have been made for it alone.
        folder = os.path.dirname(path)
        if os.path.basename(folder).startswith(UNFINISHED_PREFIX):
            _remove_folder(folder)
        return True
    except OSError as e:
        log.debug("left %s: %s", path, e.strerror)
        return False
    finally:
        os.close(fd)


def _is_entry(name: str) -> bool:
    return name.endswith(".json") and not name.startswith(".")


def _read(path: str) -> Entry | None:
    try:
        content, _ = read_private(path, _ENTRY_LIMIT)
        value: Any = strict_json.loads(content, limit=_ENTRY_LIMIT)
    except (OSError, ValueError, Error):
        return None
    if not isinstance(value, dict):
        return None
    fields = [value.get(name) for name in ("destination", "digest", "path")]
    destination, digest, where = fields
    if not (isinstance(destination, str) and isinstance(digest, str) and isinstance(where, str)):
        return None
    return Entry(destination=_unquoted(destination), digest=digest, path=_unquoted(where))


def _quoted(path: str) -> str:
    """A path as text that JSON can hold, whatever its bytes are."""
    return quote(os.fsencode(path))


def _unquoted(text: str) -> str:
    return os.fsdecode(unquote_to_bytes(text))


def _modified(path: str, now: float) -> float:
    try:
        return os.lstat(path).st_mtime
    except OSError:
        return now


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except OSError as e:
        if not isinstance(e, FileNotFoundError):
            log.debug("left %s: %s", path, e.strerror)


def _remove_folder(path: str) -> None:
    try:
        os.rmdir(path)
    except OSError:
        return  # there is more in it, whose turn comes, or somebody was quicker

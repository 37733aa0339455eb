"""Digests of files' content, remembered from build to build.

A digest counts as long as inode, size and times of the file are what they were when it was
made, and they tell versions apart only if the file was not changed at about the moment it was
read (as in git's index, "racy git"): what is that new is hashed again next time. The memory is
an SQLite file; without one, or with a damaged one, everything is just hashed.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable

from imgtools.blob.files import storage_errors
from imgtools.build.tree import Tree
from imgtools.build.trees import Node, open_file
from imgtools.transport.closing import Closing

log = logging.getLogger(__name__)

_CHUNK = 1 << 20
_FORMAT = 1
_PATIENCE = 5.0
"""Seconds to wait for another process that is writing."""
_KEPT_SECONDS = 30 * 86400
"""How long a file is remembered that no build looks at."""
_TICK_NS = 100_000_000
"""The kernel stamps files with a clock that is up to one tick (10 ms) behind; generously."""
_COARSE_NS = 2_100_000_000
"""For file systems that only count seconds, or pairs of them (FAT)."""
_SECOND_NS = 1_000_000_000
_NUMBER = (1 << 63) - 1
_FRESH_SECONDS = 86400
"""How old the note of a file's last use may become before it is written anew."""

_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS file (tree TEXT, path BLOB, dev INTEGER, ino INTEGER,"
    " size INTEGER, mtime INTEGER, ctime INTEGER, digest BLOB, used INTEGER,"
    " PRIMARY KEY (tree, path)) WITHOUT ROWID"
)
_COLUMNS = "path, dev, ino, size, mtime, ctime, digest, used"

_Stamp = tuple[int, int, int, int, int]
_Entry = tuple[_Stamp, bytes, int]


class FileHashes(Closing):
    """Digests of files, for any number of threads; `with` or `close` keeps what was learned.

    `path` is the file of the memory, None or "" for none. What another process keeps at the
    same time is kept too. Nothing about the memory ever raises: it only costs time.
    """

    def __init__(self, path: str | None) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._known: dict[str, dict[bytes, _Entry]] = {}
        self._learned: dict[tuple[str, bytes], _Entry] = {}
        self._now = int(time.time())

    def digest(self, tree: Tree, path: bytes, node: Node) -> bytes:
        """The SHA-256 of the content of the regular file `path`, which is `node`.

        Raises InvalidInput (it is no regular file any more), NotFound, StorageError.
        """
        stamp = _stamp(node.dev, node.ino, node.size, node.mtime_ns, node.ctime_ns)
        if not tree.identity or not self._path:
            return _hash(tree, path)[0]
        known = self._known.get(tree.identity)
        if known is None:
            known = self._load(tree.identity)
        entry = known.get(path)
        if entry is not None and entry[0] == stamp:
            if entry[2] < self._now - _FRESH_SECONDS:
                self._learn(tree.identity, path, (stamp, entry[1], self._now))
            return entry[1]
        began = time.time_ns()
        digest, read = _hash(tree, path)
        if read == stamp and _settled(stamp, began):
            known[path] = (stamp, digest, self._now)
            self._learn(tree.identity, path, known[path])
        return digest

    def close(self) -> None:
        """Write what was learned; safe to call twice, and to go on afterwards."""
        with self._lock:
            learned, self._learned = self._learned, {}
            if not learned or not self._path:
                return
            rows = [
                (tree, name, *entry[0], entry[1], entry[2])
                for (tree, name), entry in learned.items()
            ]

            def write(database: sqlite3.Connection) -> None:
                oldest = self._now - _KEPT_SECONDS
                with database:
                    database.executemany(
                        "INSERT OR REPLACE INTO file VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows
                    )
                    database.execute("DELETE FROM file WHERE used < ?", (oldest,))

            self._use(write)

    def _learn(self, tree: str, path: bytes, entry: _Entry) -> None:
        with self._lock:
            self._learned[tree, path] = entry

    def _load(self, tree: str) -> dict[bytes, _Entry]:
        with self._lock:
            known = self._known.get(tree)
            if known is not None:
                return known
            known = {}
            self._use(functools.partial(_read, tree, known))
            self._known[tree] = known
            return known

    def _use(self, work: Callable[[sqlite3.Connection], None]) -> None:
        """Do `work` with the memory; what goes wrong with that ends it, and nothing else."""
        path = f"{self._path}"
        try:
            os.makedirs(os.path.dirname(path) or ".", mode=0o700, exist_ok=True)
            with contextlib.closing(sqlite3.connect(path, timeout=_PATIENCE)) as database:
                (version,) = database.execute("PRAGMA user_version").fetchone()
                if version not in (0, _FORMAT):
                    raise sqlite3.DatabaseError(f"it has format {version}")
                if version == 0:
                    database.execute(_SCHEMA)
                    database.execute(f"PRAGMA user_version = {_FORMAT}")
                work(database)
        except (OSError, sqlite3.OperationalError) as e:
            log.debug("the memory of digests at %s is out of reach: %s", path, e)
            # Somebody else has it, or the disk is full: neither makes it worthless. Only
            # tables that are not as we make them do.
            if getattr(e, "sqlite_errorcode", 0) == sqlite3.SQLITE_ERROR:
                _drop(path)
        except (sqlite3.Error, ValueError, TypeError) as e:
            log.debug("the memory of digests at %s is of no use: %s", path, e)
            _drop(path)


def _read(tree: str, known: dict[bytes, _Entry], database: sqlite3.Connection) -> None:
    """Add what is remembered of a tree to `known`."""
    rows = database.execute(f"SELECT {_COLUMNS} FROM file WHERE tree = ?", (tree,))
    for path, dev, ino, size, mtime, ctime, digest, used in rows:
        if isinstance(digest, bytes) and len(digest) == 32 and isinstance(used, int):
            known[path] = ((dev, ino, size, mtime, ctime), digest, used)


def _drop(path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)


def _hash(tree: Tree, path: bytes) -> tuple[bytes, _Stamp]:
    """The digest of a file, and the stamp it had before and after; none if it had two."""
    fd = open_file(tree, path)
    try:
        with storage_errors(f"{os.fsdecode(path)} in {tree.name}"):
            before = _status(fd)
            hasher = hashlib.sha256()
            while data := os.read(fd, _CHUNK):
                hasher.update(data)
            after = _status(fd)
    finally:
        os.close(fd)
    return hasher.digest(), after if before == after else (0, 0, 0, 0, 0)


def _status(fd: int) -> _Stamp:
    found = os.fstat(fd)
    return _stamp(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def _stamp(dev: int, ino: int, size: int, mtime: int, ctime: int) -> _Stamp:
    """What tells versions of a file apart, in numbers that SQLite holds (63 bits)."""
    return dev & _NUMBER, ino & _NUMBER, size, mtime, ctime


def _settled(stamp: _Stamp, began: int) -> bool:
    """Whether a change after reading began at `began` (nanoseconds) would have shown in the
    times of the stamp."""
    newest = max(stamp[3], stamp[4])
    coarse = stamp[3] % _SECOND_NS == 0 and stamp[4] % _SECOND_NS == 0
    return newest < began - (_COARSE_NS if coarse else _TICK_NS)

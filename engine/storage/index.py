"""The index of images and names: SQLite in WAL mode, made from the records and never believed.

Every read compares the marks of the records' files with those of its rows, so an answer is
always that of the records; what is stale is read from its file, and written down when
nobody else is writing. A missing, damaged or older index is made again.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Mapping
from typing import TypeVar

from engine.storage.images import Records, StoredImage, StoredName
from imgtools.errors import Error, StorageError
from imgtools.spec import strict_json
from imgtools.transport.closing import Closing

SCHEMA = 1
_BUSY_MS = 10_000
T = TypeVar("T")

_TABLES = """
CREATE TABLE images (file TEXT PRIMARY KEY, mark TEXT NOT NULL, document BLOB NOT NULL);
CREATE TABLE names (file TEXT PRIMARY KEY, mark TEXT NOT NULL, document BLOB NOT NULL);
"""


class Index(Closing):
    """Images and names as the records in `images` and `names` have them.

    What cannot be written (another user's store, a full disk) makes it
    slower and nothing else.
    """

    def __init__(self, path: str, images: Records, names: Records) -> None:
        self._path = path
        self._records = {"images": images, "names": names}
        self._database: sqlite3.Connection | None = None
        self._mutex = threading.RLock()

    def images(self) -> dict[str, StoredImage]:
        """All images by id; raises StorageError for a record that cannot be read."""
        return self._read("images", StoredImage.from_json)

    def names(self) -> dict[str, StoredName]:
        """All names, those without an image too, by name."""
        return {n.name: n for n in self._read("names", StoredName.from_json).values()}

    def rebuild(self) -> None:
        """Make the index from the records anew; raises StorageError where it cannot be kept."""
        with self._mutex:
            self.close()
            for suffix in ("", "-wal", "-shm"):
                try:
                    os.unlink(self._path + suffix)
                except FileNotFoundError:
                    continue
                except OSError as e:
                    raise StorageError(f"{self._path}: {e.strerror}", path=self._path) from e
            self.images()
            self.names()

    def dump(self) -> dict[str, list[tuple[str, str, bytes]]]:
        """The rows of both tables in order, as they are stored, for comparison."""
        with self._mutex:
            database = self._open()
            return {
                table: database.execute(
                    f"SELECT file, mark, document FROM {table} ORDER BY 1"
                ).fetchall()
                for table in self._records
            }

    def close(self) -> None:
        """Release the database; safe to call twice."""
        with self._mutex:
            database, self._database = self._database, None
            if database is not None:
                database.close()

    def _read(self, table: str, parse: Callable[[Mapping[str, object]], T]) -> dict[str, T]:
        with self._mutex:
            return self._read_alone(table, parse)

    def _read_alone(self, table: str, parse: Callable[[Mapping[str, object]], T]) -> dict[str, T]:
        marks = self._records[table].marks()
        rows = self._rows(table)
        found: dict[str, T] = {}
        stale: dict[str, tuple[str, bytes]] = {}
        for file, mark in marks.items():
            row = rows.get(file)
            parsed = _parsed(row[1], parse) if row is not None and row[0] == mark else None
            if parsed is None:
                document = self._records[table].read(file, lambda d: (d, parse(d)))
                if document is None:
                    continue
                parsed = document[1]
                stale[file] = (mark, strict_json.dumps(document[0]))
            found[file] = parsed
        self._write(table, stale, [file for file in rows if file not in marks])
        return found

    def _rows(self, table: str) -> dict[str, tuple[str, object]]:
        try:
            rows = self._open().execute(f"SELECT file, mark, document FROM {table}").fetchall()
        except sqlite3.DatabaseError as e:
            if not _is_busy(e):
                # Damaged, or of a form that nobody wrote: it is worth nothing.
                self._start_over()
            return {}
        return {str(file): (str(mark), document) for file, mark, document in rows}

    def _write(self, table: str, stale: Mapping[str, tuple[str, bytes]], gone: list[str]) -> None:
        if not stale and not gone:
            return
        database = self._open()
        try:
            # Whoever lists images does not wait for whoever writes: the next one will write.
            database.execute("PRAGMA busy_timeout=0")
            database.execute("BEGIN IMMEDIATE")
            with database:
                database.executemany(f"DELETE FROM {table} WHERE file=?", [(f,) for f in gone])
                database.executemany(
                    f"INSERT OR REPLACE INTO {table} VALUES (?, ?, ?)",
                    [(file, mark, document) for file, (mark, document) in stale.items()],
                )
        except sqlite3.DatabaseError as e:
            if not isinstance(e, sqlite3.OperationalError):
                self._start_over()
        finally:
            if self._database is not None:
                self._database.execute(f"PRAGMA busy_timeout={_BUSY_MS}")

    def _start_over(self) -> None:
        self.close()
        for suffix in ("", "-wal", "-shm"):
            try:
                os.unlink(self._path + suffix)
            except OSError:
                continue  # not ours to remove: `_open` then works in memory

    def _open(self) -> sqlite3.Connection:
        if self._database is None:
            self._database = self._opened_or_new() or _opened(":memory:")
        return self._database

    def _opened_or_new(self) -> sqlite3.Connection | None:
        """The database, made anew if it is no good; None where none can be had."""
        for _ in range(2):
            try:
                return _opened(self._path)
            except OSError:
                return None
            except sqlite3.Error as e:
                if _is_busy(e):
                    return None
                self._start_over()
        return None


def _is_busy(error: sqlite3.Error) -> bool:
    """Whether it is only that somebody else holds the database."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _parsed(document: object, parse: Callable[[Mapping[str, object]], T]) -> T | None:
    """What a row says, None where it is none of ours."""
    if not isinstance(document, bytes):
        return None
    try:
        return parse(strict_json.loads_object(document))
    except (Error, ValueError):
        return None


def _opened(path: str) -> sqlite3.Connection:
    """The database at `path`, its tables made; raises sqlite3.Error."""
    if path != ":memory:":
        os.makedirs(os.path.dirname(path), exist_ok=True)
    database = sqlite3.connect(
        path, timeout=_BUSY_MS / 1000, isolation_level=None, check_same_thread=False
    )
    try:
        database.execute("PRAGMA journal_mode=WAL")
        # A power loss may take the last rows, which the records give again.
        database.execute("PRAGMA synchronous=NORMAL")
        (version,) = database.execute("PRAGMA user_version").fetchone()
        if version == SCHEMA:
            database.execute("SELECT file, mark, document FROM images LIMIT 1")
            return database
        database.execute("BEGIN IMMEDIATE")
        with database:
            (version,) = database.execute("PRAGMA user_version").fetchone()
            if version != SCHEMA:
                for table in ("images", "names"):
                    database.execute(f"DROP TABLE IF EXISTS {table}")
                for statement in filter(str.strip, _TABLES.split(";")):
                    database.execute(statement)
                database.execute(f"PRAGMA user_version={SCHEMA}")
        return database
    except BaseException:
        database.close()
        raise

"""Finds packages in a tree by reading it: nothing of the image is executed, and no link leads
out of it. Sizes are bounded; what is too large or unreadable is a note, never a failure."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from imgtools.build.outputs.sbom import databases
from imgtools.build.outputs.sbom.model import Distribution, Package
from imgtools.build.tree import Tree
from imgtools.build.trees.read import Node, list_names, read_small, stat_of, walk
from imgtools.errors import Cancelled, Error, LimitExceeded
from imgtools.task import Task

DATABASE_LIMIT = 256 << 20
FILE_LIMIT = 4 << 20
MAX_PACKAGES = 200_000
MAX_FILES = 5_000_000
MAX_STEPS = 200_000_000
"""Of SQLite's machine: a database may be made to keep it busy for ever."""

_OS_RELEASE = (b"etc/os-release", b"usr/lib/os-release")
_DPKG, _DPKG_PARTS = b"var/lib/dpkg/status", b"var/lib/dpkg/status.d"
_APK = (b"lib/apk/db/installed", b"usr/lib/apk/db/installed")
_RPM = (
    b"usr/lib/sysimage/rpm/rpmdb.sqlite",
    b"var/lib/rpm/rpmdb.sqlite",
)
_OLD_RPM = (
    b"var/lib/rpm/Packages",
    b"var/lib/rpm/Packages.db",
    b"usr/lib/sysimage/rpm/Packages.db",
)
_NOT_FILES = (b"proc", b"sys", b"dev")


@dataclass(slots=True)
class Scan:
    """One look at a tree; `notes` say what could not be read."""

    tree: Tree
    task: Task
    notes: list[str] = field(default_factory=list)
    _found: set[Package] = field(default_factory=set)

    def packages(self) -> tuple[Package, ...]:
        """All packages, each once, sorted. Raises LimitExceeded, Cancelled, StorageError."""
        system = self.distribution()
        for source in (self._dpkg(system), self._apk(system), self._rpm(system), self._files()):
            for package in source:
                self._found.add(package)
                if len(self._found) > MAX_PACKAGES:
                    raise LimitExceeded(
                        f"the packages of {self.tree.name}", MAX_PACKAGES, unit="packages"
                    )
        return tuple(sorted(self._found))

    def distribution(self) -> Distribution:
        """What the image says it is."""
        for path in _OS_RELEASE:
            content = self._read(path, FILE_LIMIT)
            if content is not None:
                return databases.parse_os_release(_text(content))
        return Distribution()

    def _dpkg(self, system: Distribution) -> Iterator[Package]:
        content = self._read(_DPKG, DATABASE_LIMIT)
        if content is not None:
            yield from databases.parse_dpkg(_text(content), system, _shown(_DPKG))
        parts = stat_of(self.tree, _DPKG_PARTS)
        if parts is None or not parts.is_dir:
            return
        for name in list_names(self.tree, _DPKG_PARTS):
            path = _DPKG_PARTS + b"/" + name
            content = self._read(path, FILE_LIMIT)
            if content is not None and not name.endswith(b".md5sums"):
                yield from databases.parse_dpkg(_text(content), system, _shown(path))

    def _apk(self, system: Distribution) -> Iterator[Package]:
        for path in _APK:
            content = self._read(path, DATABASE_LIMIT)
            if content is not None:
                yield from databases.parse_apk(_text(content), system, _shown(path))
                return

    def _rpm(self, system: Distribution) -> Iterator[Package]:
        for path in _RPM:
            content = self._read(path, DATABASE_LIMIT)
            if content is None:
                continue
            for blob in self._rows(content, path):
                package = databases.parse_rpm_header(blob, system, _shown(path))
                if package is not None:
                    yield package
            return
        for path in _OLD_RPM:
            if stat_of(self.tree, path) is not None:
                self.notes.append(f"{_shown(path)}: only SQLite databases of rpm are read")

    def _rows(self, content: bytes, path: bytes) -> list[bytes]:
        import sqlite3
        from contextlib import closing

        steps = 0

        def interrupt() -> bool:
            nonlocal steps
            steps += 1
            return steps > MAX_STEPS // 100_000 or self.task.cancel.cancelled

        try:
            with closing(sqlite3.connect(":memory:")) as connection:
                connection.deserialize(content)
                connection.execute("PRAGMA trusted_schema=OFF")
                connection.set_progress_handler(interrupt, 100_000)
                rows = connection.execute("SELECT blob FROM Packages").fetchmany(MAX_PACKAGES)
        except (sqlite3.Error, MemoryError) as e:
            self.task.cancel.check()
            self.notes.append(f"{_shown(path)}: {e}")
            return []
        return [row[0] for row in rows if isinstance(row[0], bytes)]

    def _files(self) -> Iterator[Package]:
        """What is known by a file of its own, wherever it is."""
        count = 0
        for path, node in walk(self.tree, skip=_is_no_place):
            count += 1
            if count > MAX_FILES:
                raise LimitExceeded(f"the files of {self.tree.name}", MAX_FILES, unit="files")
            if count % 1000 == 0:
                self.task.cancel.check()
            if not node.is_file:
                continue
            parse = _parser(path)
            if parse is not None and (content := self._read(path, FILE_LIMIT)) is not None:
                package = parse(content, _shown(path))
                if package is not None:
                    yield package

    def _read(self, path: bytes, limit: int) -> bytes | None:
        try:
            return read_small(self.tree, path, limit)
        except Cancelled:
            raise
        except Error as e:
            self.notes.append(e.message)
            return None


def _is_no_place(path: bytes, node: Node) -> bool:
    return path in _NOT_FILES


def _parser(path: bytes) -> Callable[[bytes, str], Package | None] | None:
    directory, name = posixpath.split(path)
    if name in (b"METADATA", b"PKG-INFO"):
        if directory.endswith((b".dist-info", b".egg-info")):
            return _python
    elif name.endswith(b".egg-info"):
        return _python
    elif name == b"package.json":
        above = posixpath.dirname(directory)
        if posixpath.basename(above).startswith(b"@"):
            above = posixpath.dirname(above)
        if posixpath.basename(above) == b"node_modules":
            return _npm
    return None


def _python(content: bytes, found: str) -> Package | None:
    return databases.parse_python(_text(content), found)


def _npm(content: bytes, found: str) -> Package | None:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return databases.parse_npm(value, found)


def _text(content: bytes) -> str:
    return content.decode("utf-8", "replace")


def _shown(path: bytes) -> str:
    return "/" + path.decode("utf-8", "replace")

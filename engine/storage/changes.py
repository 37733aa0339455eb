"""What was changed in a snapshot, as a sorted list of what its layer has to say.

The list depends on the trees before and after alone, not on how the driver keeps them: a
directory of which two or more names were there and none is left is opaque, any other removed
name has a whiteout. Directories on the way to a change are part of the layer, others only if
their own metadata changed. All names of a file with several are in, if one of them is.
"""

from __future__ import annotations

import enum
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import field

from engine.storage.changes_compare import DIR_FLAGS, FILE_FLAGS, Comparison, Side, check_marks
from engine.storage.drivers.base import HELD, above, identity_of
from engine.storage.options import Owner
from imgtools.blob import whiteout
from imgtools.blob.files import storage_error
from imgtools.errors import InvalidInput, LimitExceeded
from imgtools.frozen import dataclass

MAX_DEPTH = 512
"""Levels of directories: as many as unpacking the layer would make (`TarLimits.depth`)."""
WHITEOUT = whiteout.PREFIX.encode()

Exclude = Callable[[str], bool]


class ChangeKind(enum.IntEnum):
    """In the order in which they are written within a directory."""

    OPAQUE = 0
    WHITEOUT = 1
    ENTRY = 2


@dataclass(frozen=True, slots=True)
class Change:
    """What is said of `path` (b"" is the root): it is emptied, gone, or as it is now."""

    kind: ChangeKind
    path: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """All changes in the order of the layer, recorded owners of entries by path, and how many
    sockets were passed over."""

    changes: tuple[Change, ...]
    owners: Mapping[bytes, Owner]
    sockets: int


def survey_changes(comparison: Comparison, root: Side, exclude: Exclude | None) -> Changes:
    """What differs between the two sides of `root`, whose descriptors stay open.

    Raises InvalidInput for a file with the name of a whiteout, Unsupported for marks of
    foreign overlay mounts, LimitExceeded (too deep), StorageError.
    """
    found = _Found()
    walk = _Walk(comparison, exclude, found)
    try:
        walk.run(root)
    except OSError as e:
        path = os.fsdecode(walk.path)
        raise storage_error(e, path) from e
    return Changes(changes=in_order(found), owners=found.owners, sockets=found.sockets)


@dataclass(slots=True)
class _Found:
    """What the walk comes across. `linked` are unchanged names of files that have several."""

    entries: set[bytes] = field(default_factory=set)
    whiteouts: list[bytes] = field(default_factory=list)
    opaque: list[bytes] = field(default_factory=list)
    changed_inodes: set[tuple[int, int]] = field(default_factory=set)
    linked: list[tuple[tuple[int, int], bytes]] = field(default_factory=list)
    owners: dict[bytes, Owner] = field(default_factory=dict)
    sockets: int = 0


def in_order(found: _Found) -> tuple[Change, ...]:
    """The changes with the directories above them, each directory in front of its content."""
    entries = set(found.entries)
    entries.update(path for inode, path in found.linked if inode in found.changed_inodes)
    for path in [*entries, *found.whiteouts, *(opaque + b"/" for opaque in found.opaque)]:
        upper = path.rpartition(b"/")[0]
        while upper and upper not in entries:
            entries.add(upper)
            upper = upper.rpartition(b"/")[0]
    changes = [Change(ChangeKind.ENTRY, path) for path in entries]
    changes += [Change(ChangeKind.WHITEOUT, path) for path in found.whiteouts]
    changes += [Change(ChangeKind.OPAQUE, path) for path in found.opaque]
    changes.sort(key=_key)
    return tuple(changes)


def _key(change: Change) -> list[tuple[int, bytes]]:
    parts = change.path.split(b"/") if change.path else []
    if change.kind is ChangeKind.OPAQUE:
        parts.append(b"")
    key = [(int(ChangeKind.ENTRY), part) for part in parts]
    if key:
        key[-1] = (int(change.kind), parts[-1])
    return key


class _Level:
    """A directory of the walk: both sides (ours to close), path, names to look at."""

    __slots__ = (
        "complete",
        "excluded",
        "held",
        "identities",
        "lower_held",
        "names",
        "path",
        "side",
    )

    def __init__(self, side: Side, path: bytes, complete: bool) -> None:
        self.side = side
        self.path = path
        self.complete = complete
        self.excluded = False
        self.held = True
        self.lower_held = side.lower is not None
        fds = [side.upper] if side.lower is None else [side.upper, side.lower]
        self.identities = [identity_of(fd) for fd in fds]
        self.names: Iterator[tuple[bytes, os.stat_result]] = iter(())

    def child(self, name: bytes) -> bytes:
        return self.path + b"/" + name if self.path else name

    def close(self) -> None:
        """Let go of all descriptors."""
        if self.held:
            os.close(self.side.upper)
        if self.lower_held and self.side.lower is not None:
            os.close(self.side.lower)
        self.held = self.lower_held = False

    def release(self, below: Side) -> None:
        """Let go of the descriptors that `reopen` has from those of a directory in this one."""
        os.close(self.side.upper)
        self.held = False
        if self.side.lower is not None and below.lower is not None:
            os.close(self.side.lower)
            self.lower_held = False

    def reopen(self, below: Side) -> None:
        """Undo `release`. Raises Conflict if directories were moved, OSError."""
        if self.held:
            return
        upper, lower = above(below.upper, self.identities[0]), self.side.lower
        self.side, self.held = Side(upper, lower), True
        if not self.lower_held and below.lower is not None:
            self.side = Side(upper, above(below.lower, self.identities[1]))
            self.lower_held = True


class _Walk:
    def __init__(self, comparison: Comparison, exclude: Exclude | None, found: _Found) -> None:
        self._comparison = comparison
        self._exclude = exclude
        self._found = found
        self.path = b""

    def run(self, root: Side) -> None:
        levels: list[_Level] = []
        try:
            upper = os.dup(root.upper)
            lower = os.dup(root.lower) if root.lower is not None else None
            levels.append(_Level(Side(upper, lower), b"", False))
            self._enter(levels[0])
            self._directory(levels[0], times=False)
            while levels:
                below = self._files(levels[-1])
                if below is None:
                    done = levels.pop()
                    try:
                        if levels:
                            levels[-1].reopen(done.side)
                    finally:
                        done.close()
                    continue
                if len(levels) >= MAX_DEPTH:
                    below.close()
                    raise LimitExceeded("depth of a tree", MAX_DEPTH, unit="directories")
                levels.append(below)
                if len(levels) > HELD:
                    levels[-HELD - 1].release(levels[-HELD].side)
                self._enter(below)
                self._directory(below, times=not below.excluded)
        finally:
            for level in levels:
                level.close()

    def _directory(self, level: _Level, *, times: bool) -> None:
        """Note a directory whose own metadata changed."""
        side = level.side
        before = os.fstat(side.lower) if side.lower is not None else None
        self._owner(level.path, os.fstat(side.upper), before)
        if not self._comparison.same_directory(level.path, side, times=times):
            self._found.entries.add(level.path)

    def _owner(self, path: bytes, st: os.stat_result, before: os.stat_result | None) -> None:
        owner = self._comparison.owner(path, st, before)
        if owner is not None:
            self._found.owners[path] = owner

    def _enter(self, level: _Level) -> None:
        """List a directory, and note what is gone from it."""
        self.path = level.path
        side, found = level.side, self._found
        if not level.complete:
            level.complete = self._comparison.opaque(side.upper, level.path)
        present: list[tuple[bytes, os.stat_result]] = []
        hidden: list[bytes] = []
        for name in _names(side.upper):
            path = level.child(name)
            if self._excluded(path):
                st = os.stat(name, dir_fd=side.upper, follow_symlinks=False)
                level.excluded |= _is_whiteout(st) is _exists(name, side.lower)
                continue
            if name.startswith(WHITEOUT):
                raise InvalidInput(
                    f"file {os.fsdecode(path)!r} has the name of a whiteout and would delete a "
                    "file",
                    hint="rename the file or exclude it",
                )
            st = os.stat(name, dir_fd=side.upper, follow_symlinks=False)
            if stat.S_ISSOCK(st.st_mode):
                found.sockets += 1
            elif not _is_whiteout(st):
                present.append((name, st))
                continue
            if not level.complete and _exists(name, side.lower):
                hidden.append(name)
        level.names = iter(present)
        self._removed(level, {name for name, _ in present}, hidden)

    def _removed(self, level: _Level, present: set[bytes], hidden: list[bytes]) -> None:
        """Note the names of the layer below that are not `present`: if the directory has only
        what was changed, those that are `hidden`."""
        lower = level.side.lower
        if lower is None:
            return
        before: list[bytes] = []
        if level.complete or len(hidden) > 1:
            before = _names(lower)
        gone = [name for name in before if name not in present] if level.complete else hidden
        kept = [name for name in gone if not self._excluded(level.child(name))]
        if level.complete and len(kept) < len(gone):
            level.excluded |= any(
                not _exists(name, level.side.upper) for name in gone if name not in kept
            )
        if len(kept) > 1 and len(kept) == len(before):
            self._found.opaque.append(level.path)
        else:
            self._found.whiteouts += [level.child(name) for name in kept]

    def _files(self, level: _Level) -> _Level | None:
        """Compare names of one directory until a directory turns up; that opened, or None."""
        comparison, side, found = self._comparison, level.side, self._found
        for name, now in level.names:
            path = self.path = level.child(name)
            before = _stat(name, side.lower)
            if stat.S_ISDIR(now.st_mode):
                return _opened(level, name, path, before)
            if comparison.stacked and stat.S_ISREG(now.st_mode):
                _check_file(name, side.upper, path)
            self._owner(path, now, before)
            inode = (now.st_dev, now.st_ino)
            if before is not None and comparison.same(path, name, side, now, before):
                if now.st_nlink > 1:
                    found.linked.append((inode, path))
                continue
            found.entries.add(path)
            if now.st_nlink > 1:
                found.changed_inodes.add(inode)
        return None

    def _excluded(self, path: bytes) -> bool:
        return self._exclude is not None and self._exclude(os.fsdecode(path))


def _opened(level: _Level, name: bytes, path: bytes, before: os.stat_result | None) -> _Level:
    upper = os.open(name, DIR_FLAGS, dir_fd=level.side.upper)
    lower = None
    if before is not None and stat.S_ISDIR(before.st_mode):
        try:
            lower = os.open(name, DIR_FLAGS, dir_fd=level.side.lower)
        except BaseException:
            os.close(upper)
            raise
    return _Level(Side(upper, lower), path, level.complete)


def _check_file(name: bytes, dir_fd: int, path: bytes) -> None:
    fd = os.open(name, FILE_FLAGS, dir_fd=dir_fd)
    try:
        check_marks(fd, path)
    finally:
        os.close(fd)


def _is_whiteout(st: os.stat_result) -> bool:
    """Whether it is overlay's mark of a removed name; in a whole tree nothing that a layer
    could hold either."""
    return stat.S_ISCHR(st.st_mode) and st.st_rdev == 0


def _names(fd: int) -> list[bytes]:
    return sorted(os.fsencode(name) for name in os.listdir(fd))


def _stat(name: bytes, dir_fd: int | None) -> os.stat_result | None:
    if dir_fd is None:
        return None
    try:
        return os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _exists(name: bytes, dir_fd: int | None) -> bool:
    return _stat(name, dir_fd) is not None

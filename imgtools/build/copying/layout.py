"""Where the members of a copy go on the tree below: pure decisions on what is there.

`Layout` is the tree below with what was placed on it so far. Paths are resolved as a container
would see them: links within the root, `..` never above it. What it holds in the end is exactly
what a layer has to say.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import NamedTuple, Protocol

from imgtools.blob import whiteout
from imgtools.blob.tar import EntryType
from imgtools.build.copying.model import Member
from imgtools.errors import InvalidInput, UnsafePath

MAX_LINKS = 40
MAX_PARTS = 1024
WHITEOUT = whiteout.PREFIX.encode()
DIR, SYMLINK = EntryType.DIR, EntryType.SYMLINK
MADE, BELOW = -1, -2


class Below(Protocol):
    """The tree that a layer goes on top of; paths are real ones, b"" is the root."""

    def lstat(self, path: bytes) -> Member | None:
        """What is at `path`, None for nothing; also where something on the way is no
        directory. Links have their target, nothing has attributes."""
        ...

    def names(self, path: bytes) -> list[bytes]:
        """The names in a directory."""
        ...


class NothingBelow:
    """An empty tree."""

    def lstat(self, path: bytes) -> Member | None:
        """The root, which is always there."""
        return None if path else Member(path=b"", type=DIR, mode=0o755)

    def names(self, path: bytes) -> list[bytes]:
        """None."""
        return []


class Placed(NamedTuple):
    """What a path becomes: a member of the source with number `source`, `MADE` for directories
    that no source has, `BELOW` for a file of the tree below at the member's path."""

    member: Member
    source: int


class Layout:
    """The tree below with what was placed on it."""

    def __init__(self, below: Below) -> None:
        self._below = below
        self.placed: dict[bytes, Placed] = {}
        self._shows: dict[bytes, bool] = {b"": True}
        self._touched: set[bytes] = {b""}
        self._emptied: set[bytes] = set()
        self._inside: dict[bytes, list[bytes]] = {}
        self.removals = 0
        """How often a directory, or a link to one, gave way."""

    def look(self, path: bytes) -> Member | None:
        """What is at the real `path` now."""
        placed = self.placed.get(path)
        if placed is not None:
            return placed.member
        if not path or self._shows.get(parent_of(path), True):
            return self._below.lstat(path)
        return None

    def resolve(self, parts: Iterable[bytes], root: bytes = b"") -> bytes:
        """The real path of `parts`, links followed, the last one too; it need not exist.

        `root` (real) is what nothing leads out of. Raises UnsafePath for a loop of links and
        InvalidInput where something on the way is no directory.
        """
        pending = list(parts)[::-1]
        current, links = root, 0
        while pending:
            part = pending.pop()
            if part == b"..":
                current = current if current == root else parent_of(current)
                continue
            path = child_of(current, part)
            node = self.look(path)
            if node is None or node.type is DIR:
                current = path
                continue
            if node.type is not SYMLINK:
                if pending:
                    raise not_a_directory(path)
                return path
            links += 1
            target = node.linkname
            pending += [p for p in target.split(b"/") if p and p != b"."][::-1]
            if links > MAX_LINKS or len(pending) > MAX_PARTS:
                raise UnsafePath(shown(path), "a loop of symbolic links")
            if target[:1] == b"/":
                current = root
        return current

    def make_directory(self, path: bytes, like: Member) -> None:
        """Have a directory at the real `path`, made as `like` with all that are missing above.

        Raises InvalidInput where something else is there or on the way.
        """
        missing = []
        while (node := self.look(path)) is None:
            missing.append(path)
            path = parent_of(path)
        if node.type is not DIR:
            raise not_a_directory(path)
        for made in reversed(missing):
            self.put(made, like, MADE)

    def put(self, path: bytes, member: Member, source: int, *, replace: bool = False) -> None:
        """Place `member` at the real `path`, whose directory is there.

        A directory on a directory gives it its metadata, unless it is implied. Anything else
        takes the place of what is no directory. What does not fit is an error, or gives way
        where `replace` is true. Raises InvalidInput, for names of whiteouts too.
        """
        parent, _, name = path.rpartition(b"/")
        if name[:4] == WHITEOUT:
            raise InvalidInput(
                f"{shown(path)} has the name of a whiteout and would delete a file",
                hint="rename the file or leave it out",
            )
        there = self.look(path)
        if parent not in self._touched:
            self._touch(parent)
        if member.type is DIR:
            if there is not None and there.type is DIR:
                self._touch(path)
                if member.implied:
                    return
                self._shows.setdefault(path, True)
            elif there is not None and not replace:
                raise InvalidInput(
                    f"cannot copy a directory over {shown(path)}, which is a {kind(there)}",
                    hint="remove it first, or copy the content of the directory elsewhere",
                )
            else:
                self.removals += there is not None
                self._shows[path] = False
        elif there is not None and there.type is DIR:
            if not replace:
                raise InvalidInput(
                    f"cannot copy a {kind(member)} over {shown(path)}, which is a directory",
                    hint="give the copy another name, or remove the directory first",
                )
            self.removals += 1
            self._purge(path)
            self._shows[path] = False
        elif there is not None and there.type is SYMLINK:
            self.removals += 1
        if there is None or path not in self.placed:
            self._inside.setdefault(parent, []).append(path)
        self.placed[path] = Placed(member, source)

    def finish(self) -> Iterator[tuple[bytes, Placed | None]]:
        """All that the layer says, in order of a walk: paths with what is placed there, None
        for directories of the tree below that something was placed in (they are repeated, as
        an engine that unpacks layers apart would otherwise make them up), and whiteouts."""
        hidden = list({path for top in self._emptied for path in self._hidden(top)})
        repeated = [path for path in self._touched if path and path not in self.placed]
        rows: list[tuple[bytes, Placed | None]] = [*self.placed.items()]
        rows += [(path, None) for path in repeated + hidden]
        rows.sort(key=_order)
        yield from rows

    def _touch(self, path: bytes) -> None:
        while path not in self._touched:
            self._touched.add(path)
            above = parent_of(path)
            self._inside.setdefault(above, []).append(path)
            path = above

    def _purge(self, path: bytes) -> None:
        """Forget a directory with all below it."""
        if self._shows.get(path, True):
            self._emptied.add(path)
        pending = [path]
        while pending:
            gone = pending.pop()
            self.placed.pop(gone, None)
            self._shows.pop(gone, None)
            self._touched.discard(gone)
            pending += self._inside.pop(gone, ())

    def _hidden(self, top: bytes) -> Iterator[bytes]:
        """Whiteouts for what the tree below has in a directory that went and came again."""
        pending = [top]
        while pending:
            path = pending.pop()
            placed = self.placed.get(path)
            if placed is None or placed.member.type is not DIR:
                continue
            for name in self._below.names(path):
                inner = child_of(path, name)
                if inner not in self.placed:
                    yield child_of(path, WHITEOUT + name)
                    continue
                below = self._below.lstat(inner)
                if below is not None and below.type is DIR:
                    pending.append(inner)


def _order(row: tuple[bytes, Placed | None]) -> bytes:
    return row[0].replace(b"/", b"\0")


def parent_of(path: bytes) -> bytes:
    """The directory of a path, b"" for the root's own."""
    return path.rpartition(b"/")[0]


def child_of(path: bytes, name: bytes) -> bytes:
    """`name` in the directory `path`."""
    return path + b"/" + name if path else name


def shown(path: bytes) -> str:
    """A path of an image as messages say it."""
    return repr("/" + os.fsdecode(path))


def kind(member: Member) -> str:
    """What a member is, for messages."""
    names = {
        EntryType.FILE: "file",
        EntryType.HARDLINK: "file",
        EntryType.SYMLINK: "symbolic link",
        EntryType.FIFO: "FIFO",
        EntryType.DIR: "directory",
    }
    return names.get(member.type, "device")


def not_a_directory(path: bytes) -> InvalidInput:
    """The error for a way that leads through a file."""
    return InvalidInput(
        f"{shown(path)} is not a directory", hint="nothing can be copied below it; remove it first"
    )

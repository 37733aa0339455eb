"""What a container asked for and could not get: owners, device nodes and attributes by file.

Notes are kept in memory and in a file that only grows: a note is there before the program is
told of success, so that killing anything at any time loses none. A line is

    DEVICE INODE BORN UID GID MODE MAJOR MINOR [NAME=VALUE]...

where the last one for a file counts; NAME and VALUE are base16, MODE is octal, "-" for what is on
disk. A last line without end was not finished, and its program was not answered.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable
from dataclasses import replace

from engine.storage.options import AS_ON_DISK, Owner
from imgtools.errors import InvalidArchive, LimitExceeded, StorageError
from imgtools.frozen import dataclass

Key = tuple[int, int]
"""st_dev and st_ino."""

MAX_LINE = 1 << 20
MAX_FILE = 1 << 30
UNCHANGED = 0xFFFFFFFF
"""The id by which chown(2) means: as it is."""
CAPABILITY = "security.capability"


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """The owner of a file that was made at `born` (births.py; 0 if unknown)."""

    owner: Owner
    born: int = 0


def chowned(owner: Owner, uid: int, gid: int, mode: int) -> Owner:
    """`owner` after chown(2) of a file whose st_mode is `mode`; UNCHANGED keeps an id.

    As the kernel does, changing the owner of anything but a directory takes its capabilities.
    """
    xattrs = dict(owner.xattrs)
    if not stat.S_ISDIR(mode):
        xattrs.pop(CAPABILITY, None)
    return replace(
        owner,
        uid=owner.uid if uid == UNCHANGED else uid,
        gid=owner.gid if gid == UNCHANGED else gid,
        xattrs=xattrs,
    )


def mode_after_chown(mode: int) -> int:
    """The mode that chown(2) leaves, root's too: set-user-id goes, set-group-id where the group
    may execute (without, the bit once meant mandatory locks). Directories keep both."""
    if stat.S_ISDIR(mode):
        return mode
    mode &= ~stat.S_ISUID
    return mode & ~stat.S_ISGID if mode & stat.S_IXGRP else mode


class Notes:
    """The notes in the file `path`, made if missing; what it says already is taken up.

    Raises InvalidArchive for a file that is no such file, StorageError.
    """

    def __init__(self, path: str) -> None:
        self._notes: dict[Key, Note] = {}
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
            self._fd = os.open(path, flags, 0o600)
        except OSError as e:
            raise StorageError(f"{path}: {os.strerror(e.errno or 0)}", path=path) from e
        try:
            self._load(path)
        except BaseException:
            os.close(self._fd)
            raise

    def get(self, key: Key, born: int) -> Note | None:
        """The note about a file, if it is still the file it was made about."""
        note = self._notes.get(key)
        return note if note is not None and note.born == born else None

    def set(self, key: Key, note: Note) -> None:
        """Note it, on disk first. Raises OSError if that is refused; then nothing is noted."""
        line = _line(key, note)
        written = os.write(self._fd, line)
        if written < len(line):
            os.ftruncate(self._fd, os.fstat(self._fd).st_size - written)
            raise OSError(28, os.strerror(28))
        self._notes[key] = note

    def items(self) -> Iterable[tuple[Key, Note]]:
        """All notes."""
        return self._notes.items()

    def by_inode(self) -> dict[Key, Owner]:
        """All owners, for `engine.storage.options.Emulated`."""
        return {key: note.owner for key, note in self._notes.items()}

    def current(self, born: Callable[[Key], int | None]) -> dict[Key, Owner]:
        """The owners of files that `born` confirms: it says when the file was made that has a
        device and inode number now, None if there is none. A number given to a new file after
        the old one was removed is left out like this."""
        return {key: note.owner for key, note in self._notes.items() if born(key) == note.born}

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)

    def _load(self, path: str) -> None:
        state = os.fstat(self._fd)
        if not stat.S_ISREG(state.st_mode):
            raise InvalidArchive(f"{path} is not a file")
        if state.st_size > MAX_FILE:
            raise LimitExceeded("the notes about owners", MAX_FILE)
        with open(os.dup(self._fd), "rb") as file:
            file.seek(0)
            whole = 0
            for number, line in enumerate(iter(lambda: file.readline(MAX_LINE + 1), b"")):
                if not line.endswith(b"\n"):
                    if len(line) > MAX_LINE:
                        raise LimitExceeded("a note about an owner", MAX_LINE)
                    break
                try:
                    key, note = _parse(line)
                except ValueError as e:
                    raise InvalidArchive(f"{path}: note {number + 1} is malformed") from e
                self._notes[key] = note
                whole += len(line)
        if whole < state.st_size:
            os.ftruncate(self._fd, whole)


def _line(key: Key, note: Note) -> bytes:
    owner = note.owner
    mode = "-" if owner.mode == AS_ON_DISK else f"{owner.mode:o}"
    fields = [*map(str, (*key, note.born, owner.uid, owner.gid)), mode, *map(str, owner.rdev)]
    for name, value in sorted(owner.xattrs.items()):
        fields.append(f"{name.encode('utf-8', 'surrogateescape').hex()}={value.hex()}")
    return " ".join(fields).encode() + b"\n"


def _parse(line: bytes) -> tuple[Key, Note]:
    device, inode, born, uid, gid, mode, major, minor, *more = line.decode("ascii").split()
    xattrs = {}
    for item in more:
        name, equals, value = item.partition("=")
        if not equals:
            raise ValueError("no value")
        raw = bytes.fromhex(name)
        xattrs[raw.decode("utf-8", "surrogateescape")] = bytes.fromhex(value)
    owner = Owner(
        uid=int(uid),
        gid=int(gid),
        mode=AS_ON_DISK if mode == "-" else int(mode, 8),
        rdev=(int(major), int(minor)),
        xattrs=xattrs,
    )
    return (int(device), int(inode)), Note(owner=owner, born=int(born))

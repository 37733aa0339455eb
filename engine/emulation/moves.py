"""Names that change: a record of the layers below belongs to a path, so whose file is renamed or
linked has to be noted for the file itself before the kernel does that.

What is moved to a path that has a record would seem to have that one's owner, and is noted too.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable

from engine.emulation.calls import Move
from engine.emulation.notifications import Call, Listener
from engine.emulation.target import AT_FDCWD, Target, read_text
from engine.storage.options import Owner

Recorded = Callable[[bytes], Iterable[bytes]]
"""The paths below a path (without slashes around it) that have a record, where the directory
itself can be renamed; where it cannot, the kernel refuses, and programs copy."""


def no_directories(_path: bytes) -> Iterable[bytes]:
    """The Recorded of overlays, which rename no directory of a layer below."""
    return ()


class Moves:
    """Notes whose files are that are about to get another name.

    `base` tells the owner that is recorded for a path, `note` notes whose an open file is, and
    `recorded` the paths that are moved with a directory.
    """

    def __init__(
        self,
        listener: Listener,
        base: Callable[[bytes], Owner | None],
        note: Callable[[int, Target], None],
        recorded: Recorded,
    ) -> None:
        self._listener = listener
        self._base = base
        self._note = note
        self._recorded = recorded

    def prepare(self, call: Call, move: Move) -> None:
        """Note what is needed for a call. Raises nothing for one that will fail, but Gone."""
        try:
            old = read_text(call.pid, move.old)
            new = read_text(call.pid, move.new)
            self._listener.check(call)
            self._move(call, move, old, new)
        except OSError:
            return  # The kernel knows the error.

    def _move(self, call: Call, move: Move, old: bytes, new: bytes) -> None:
        target = Target(call.pid)
        fd = target.open(move.old_dir, old.rstrip(b"/"), follow=move.follow)
        try:
            there = self._path(target, move.new_dir, new)
            self._listener.check(call)
            self._moved(fd, target, target.path_inside(fd), there)
            if move.exchange:
                other = target.open(move.new_dir, new.rstrip(b"/"), follow=False)
                try:
                    self._moved(other, target, there, target.path_inside(fd))
                finally:
                    os.close(other)
        finally:
            os.close(fd)

    def _moved(self, fd: int, target: Target, here: bytes, there: bytes) -> None:
        if not stat.S_ISDIR(os.fstat(fd).st_mode):
            if self._base(here) is not None or self._base(there) is not None:
                self._note(fd, target)
            return
        found = {path[len(here) :] for path in self._recorded(here)}
        found |= {path[len(there) :] for path in self._recorded(there)}
        for below in found:
            try:
                at = target.open(AT_FDCWD, b"/" + here + below, follow=False)
            except OSError:
                continue
            try:
                self._note(at, target)
            finally:
                os.close(at)

    def _path(self, target: Target, directory: int, path: bytes) -> bytes:
        """What a new name is inside, the last component as it is written."""
        above, name = target.parent(directory, path.rstrip(b"/"))
        try:
            inside = target.path_inside(above)
        finally:
            os.close(above)
        return inside + b"/" + name if inside else name

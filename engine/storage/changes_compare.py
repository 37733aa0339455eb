"""Whether a file of a snapshot is what it was in the layer below.

A file counts as the same when nothing of it that a layer holds differs: type, mode, owner,
device, link target, size, modification time, kept attributes, content. Content is read last,
and only of files whose size and time agree.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import replace

from engine.storage.options import Emulated, Owner, Ownership
from engine.storage.ownership import Identity, OwnerTree, identity
from imgtools.blob.tar import attributes
from imgtools.errors import Unsupported
from imgtools.frozen import dataclass

CHUNK = 256 * 1024
FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
DIR_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC
MARKS = ("trusted.overlay.", "user.overlay.")
FOREIGN_MARKS = ("metacopy", "redirect", "whiteout")


@dataclass(frozen=True, slots=True)
class Side:
    """A directory as it is now and as it was: descriptors, `lower` None where there was none."""

    upper: int
    lower: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What telling changes apart needs to know.

    `owners` are the recorded ones of the layers, `emulated` those noted while the snapshot
    ran. `stacked` says that the upper side has only what changed, with overlay's marks; else it
    is a whole tree, all of whose files were copied in the `window`, (from, to) in nanoseconds
    since the epoch: a file whose status did not change after that was not written.
    """

    ownership: Ownership
    owners: OwnerTree
    emulated: Emulated | None
    stacked: bool
    window: tuple[int, int]

    def owner(self, path: bytes, st: os.stat_result, before: os.stat_result | None) -> Owner | None:
        """The record of the file that is at `path` now, `before` being the one below.

        A record of the layers goes with its path as long as the type stays; as the kernel
        does, it gives up the capability of a file that was written to.
        """
        found = self._emulated(st)
        if found is None and before is not None:
            if stat.S_ISDIR(st.st_mode):  # an overlay shows the number of the lower directory
                found = self._emulated(before)
            if found is None and stat.S_IFMT(st.st_mode) == stat.S_IFMT(before.st_mode):
                found = self.owners.get(path)
                written = (st.st_size, st.st_mtime_ns) != (before.st_size, before.st_mtime_ns)
                if found is not None and stat.S_ISREG(st.st_mode) and written:
                    kept = {k: v for k, v in found.xattrs.items() if k != attributes.CAPABILITY}
                    found = replace(found, xattrs=kept)
        return found

    def identity(self, st: os.stat_result, owner: Owner | None) -> Identity:
        """What a file is whose record is `owner`."""
        special = stat.S_ISCHR(st.st_mode) or stat.S_ISBLK(st.st_mode)
        rdev = (os.major(st.st_rdev), os.minor(st.st_rdev)) if special else (0, 0)
        return identity(st.st_mode, st.st_uid, st.st_gid, rdev, owner, self.ownership)

    def same_identity(self, path: bytes, now: os.stat_result, before: os.stat_result) -> bool:
        """Whether owner, mode and device are those of the layer below."""
        return self.identity(now, self.owner(path, now, before)) == self.identity(
            before, self.owners.get(path)
        )

    def same(
        self,
        path: bytes,
        name: bytes,
        side: Side,
        now: os.stat_result,
        before: os.stat_result,
    ) -> bool:
        """Whether the file `name`, no directory, at `path` is what it was. Raises OSError."""
        if side.lower is None or now.st_mtime_ns != before.st_mtime_ns:
            return False
        if now.st_size != before.st_size or not self.same_identity(path, now, before):
            return False
        if self._untouched(now):
            return True
        if stat.S_ISLNK(now.st_mode):
            return os.readlink(name, dir_fd=side.upper) == os.readlink(name, dir_fd=side.lower)
        if not stat.S_ISREG(now.st_mode):
            return True
        upper = os.open(name, FILE_FLAGS, dir_fd=side.upper)
        try:
            lower = os.open(name, FILE_FLAGS, dir_fd=side.lower)
            try:
                return xattrs(upper) == xattrs(lower) and _same_content(upper, lower)
            finally:
                os.close(lower)
        finally:
            os.close(upper)

    def same_directory(self, path: bytes, side: Side, *, times: bool) -> bool:
        """Whether the directory `side` at `path` has the metadata it had; with `times` the
        modification time too. Raises OSError."""
        if side.lower is None:
            return False
        now, before = os.fstat(side.upper), os.fstat(side.lower)
        if times and now.st_mtime_ns != before.st_mtime_ns:
            return False
        if not self.same_identity(path, now, before):
            return False
        return self._untouched(now) or xattrs(side.upper) == xattrs(side.lower)

    def opaque(self, fd: int, path: bytes) -> bool:
        """Whether the directory `fd` hides what is below it. Raises Unsupported."""
        if not self.stacked:
            return True
        check_marks(fd, path)
        for prefix in MARKS:
            try:
                value = os.getxattr(fd, prefix + "opaque")
            except OSError as e:
                if e.errno not in attributes.NOT_THERE:
                    raise
                continue
            if value == b"x":
                raise _foreign(path, "whiteouts as attributes")
            if value == b"y":
                return True
        return False

    def _untouched(self, st: os.stat_result) -> bool:
        begin, end = self.window
        return not self.stacked and begin <= st.st_ctime_ns < end

    def _emulated(self, st: os.stat_result) -> Owner | None:
        if self.emulated is None:
            return None
        return self.emulated.by_inode.get((self.emulated.device, st.st_ino))


def check_marks(fd: int, path: bytes) -> None:
    """Raise Unsupported if the open file `fd` of an overlay's upper directory is not what it
    seems, as mounts with other options than ours leave it."""
    for name in _listed(fd):
        if name.startswith(MARKS) and name.rpartition(".")[2] in FOREIGN_MARKS:
            raise _foreign(path, name)


def xattrs(fd: int) -> Mapping[str, bytes]:
    """The attributes of an open file that belong into a layer. Raises OSError."""
    names = _listed(fd)
    return attributes.read(fd, names) if names else {}


def _listed(fd: int) -> list[str]:
    try:
        return os.listxattr(fd)
    except OSError as e:
        if e.errno not in attributes.NOT_THERE:
            raise
        return []


def _same_content(first: int, second: int) -> bool:
    while True:
        one = os.read(first, CHUNK)
        two = os.read(second, len(one) or CHUNK)
        while len(two) < len(one) and (more := os.read(second, len(one) - len(two))):
            two += more
        if one != two:
            return False
        if not one:
            return True


def _foreign(path: bytes, what: str) -> Unsupported:
    return Unsupported(
        f"{os.fsdecode(path)!r} was written by an overlay mount with other options than ours "
        f"({what})",
        hint="mount snapshots with redirect_dir, metacopy and index off",
    )

"""A tree copied whole: content by reflink where the file system shares blocks, else by
copy_file_range; holes, hard links, owners, modes, times and extended attributes kept.

Both sides are reached through directory descriptors and nothing is followed.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Callable, Iterator

from engine.storage.drivers.base import HELD, above, identity_of
from imgtools.errors import LimitExceeded

FICLONE = 0x40049409
CHUNK = 1 << 30
MAX_DEPTH = 512
"""Levels of directories, as in `TarLimits.depth`: no layer makes deeper ones."""
DIR_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC
READ_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
WRITE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
NO_CLONE = (errno.EOPNOTSUPP, errno.ENOTTY, errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EPERM)
NO_RANGE = (errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EPERM)
PRIVATE = ("trusted.", "user.overlay.", "security.selinux", "security.ima", "security.evm")
"""Attributes of the host or of overlay mounts, not of the tree."""


def copy_metadata(source: int, target: int, *, owner: bool) -> None:
    """Give the open file or directory `target` attributes, owner, mode and times of `source`."""
    st = os.fstat(source)
    if owner:
        os.fchown(target, st.st_uid, st.st_gid)
    _copy_xattrs(source, target)
    os.fchmod(target, stat.S_IMODE(st.st_mode))
    os.utime(target, ns=(st.st_mtime_ns, st.st_mtime_ns))


def copy_tree(source: int, target: int, *, owner: bool) -> None:
    """Copy what is in the directory `source` into the empty directory `target` (descriptors),
    and the metadata of the directory itself. `owner` keeps owners. Sockets are left out.

    Raises LimitExceeded for more than MAX_DEPTH levels, and OSError.
    """
    _Copier(owner).tree(source, target)


class _Level:
    """A pair of directories: descriptors, path, names not yet copied."""

    __slots__ = ("held", "identities", "names", "path", "source", "target")

    def __init__(self, source: int, target: int, path: bytes) -> None:
        self.source = source
        self.target = target
        self.path = path
        self.held = True
        self.identities = identity_of(source), identity_of(target)
        with os.scandir(source) as entries:
            listed = [(os.fsencode(e.name), e.is_dir(follow_symlinks=False)) for e in entries]
        self.names: Iterator[tuple[bytes, bool]] = iter(listed)

    def close(self) -> None:
        """Let go of the descriptors, for good or until `reopen`."""
        if self.held:
            self.held = False
            os.close(self.source)
            os.close(self.target)

    def reopen(self, below: _Level) -> None:
        """Have the descriptors again, by those of a directory in this one."""
        if self.held:
            return
        source = above(below.source, self.identities[0])
        try:
            self.target = above(below.target, self.identities[1])
        except BaseException:
            os.close(source)
            raise
        self.source = source
        self.held = True


class _Copier:
    def __init__(self, owner: bool) -> None:
        self._owner = owner
        self._links: dict[tuple[int, int], bytes] = {}
        self._top = -1
        self._clone = True
        self._range = True

    def tree(self, source: int, target: int) -> None:
        self._top = target
        levels: list[_Level] = []
        try:
            levels.append(_level(os.dup, source, target, b""))
            while levels:
                level = levels[-1]
                below = self._files(level)
                if below is not None:
                    if len(levels) >= MAX_DEPTH:
                        raise LimitExceeded("depth of a tree", MAX_DEPTH, unit="directories")
                    levels.append(self._directory(level, below))
                    if len(levels) > HELD:
                        levels[-HELD - 1].close()
                    continue
                copy_metadata(level.source, level.target, owner=self._owner)
                levels.pop()
                try:
                    if levels:
                        levels[-1].reopen(level)
                finally:
                    level.close()
        finally:
            for level in levels:
                level.close()

    def _files(self, level: _Level) -> bytes | None:
        for name, is_dir in level.names:
            if is_dir:
                return name
            self._one(level, name)
        return None

    def _directory(self, level: _Level, name: bytes) -> _Level:
        os.mkdir(name, 0o700, dir_fd=level.target)
        source = os.open(name, DIR_FLAGS, dir_fd=level.source)
        try:
            target = os.open(name, DIR_FLAGS, dir_fd=level.target)
            try:
                return _level(os.dup, source, target, level.path + name + b"/")
            finally:
                os.close(target)
        finally:
            os.close(source)

    def _one(self, level: _Level, name: bytes) -> None:
        st = os.stat(name, dir_fd=level.source, follow_symlinks=False)
        if st.st_nlink > 1:
            first = self._links.setdefault((st.st_dev, st.st_ino), level.path + name)
            if first != level.path + name:
                self._link(first, level, name)
                return
        if stat.S_ISREG(st.st_mode):
            self._file(level, name)
        elif stat.S_ISLNK(st.st_mode):
            os.symlink(os.readlink(name, dir_fd=level.source), name, dir_fd=level.target)
            self._finish(level, name, st)
        elif not stat.S_ISSOCK(st.st_mode):
            kind = stat.S_IFMT(st.st_mode)
            os.mknod(name, kind | 0o600, st.st_rdev, dir_fd=level.target)
            self._finish(level, name, st)
            os.chmod(name, stat.S_IMODE(st.st_mode), dir_fd=level.target)

    def _link(self, first: bytes, level: _Level, name: bytes) -> None:
        """Link to a file copied before: all directories on the way to it are ours."""
        *parents, last = first.split(b"/")
        fd = os.dup(self._top)
        try:
            for parent in parents:
                below = os.open(parent, DIR_FLAGS, dir_fd=fd)
                os.close(fd)
                fd = below
            os.link(last, name, src_dir_fd=fd, dst_dir_fd=level.target, follow_symlinks=False)
        finally:
            os.close(fd)

    def _finish(self, level: _Level, name: bytes, st: os.stat_result) -> None:
        at = level.target
        if self._owner:
            os.chown(name, st.st_uid, st.st_gid, dir_fd=at, follow_symlinks=False)
        os.utime(name, ns=(st.st_mtime_ns, st.st_mtime_ns), dir_fd=at, follow_symlinks=False)

    def _file(self, level: _Level, name: bytes) -> None:
        source = os.open(name, READ_FLAGS, dir_fd=level.source)
        try:
            target = os.open(name, WRITE_FLAGS, 0o600, dir_fd=level.target)
            try:
                self._content(source, target, os.fstat(source))
                copy_metadata(source, target, owner=self._owner)
            finally:
                os.close(target)
        finally:
            os.close(source)

    def _content(self, source: int, target: int, st: os.stat_result) -> None:
        if not st.st_size:
            return
        if self._clone:
            try:
                fcntl.ioctl(target, FICLONE, source)
                return
            except OSError as e:
                if e.errno not in NO_CLONE:
                    raise
                self._clone = False
        for start, end in _runs(source, st):
            self._copy_range(source, target, start, end)
        os.ftruncate(target, st.st_size)

    def _copy_range(self, source: int, target: int, start: int, end: int) -> None:
        while self._range and start < end:
            try:
                done = os.copy_file_range(source, target, min(end - start, CHUNK), start, start)
            except OSError as e:
                if e.errno not in NO_RANGE:
                    raise
                self._range = False
                break
            if done == 0:
                return
            start += done
        while start < end:
            data = os.pread(source, min(end - start, 1 << 20), start)
            if not data:
                return
            start += os.pwrite(target, data, start)


def _level(dup: Callable[[int], int], source: int, target: int, path: bytes) -> _Level:
    """A level with descriptors of its own."""
    first = dup(source)
    try:
        second = dup(target)
    except BaseException:
        os.close(first)
        raise
    try:
        return _Level(first, second, path)
    except BaseException:
        os.close(first)
        os.close(second)
        raise


def _runs(fd: int, st: os.stat_result) -> Iterator[tuple[int, int]]:
    """(start, end) of the parts of a file that are no holes."""
    if st.st_blocks * 512 >= st.st_size:
        yield 0, st.st_size
        return
    end = 0
    while end < st.st_size:
        try:
            start = os.lseek(fd, end, os.SEEK_DATA)
            end = os.lseek(fd, start, os.SEEK_HOLE)
        except OSError as e:
            if e.errno == errno.ENXIO:  # nothing but a hole to the end
                return
            raise
        yield start, end


def _copy_xattrs(source: int, target: int) -> None:
    try:
        names = os.listxattr(source)
    except OSError as e:
        if e.errno != errno.ENOTSUP:
            raise
        return
    for name in names:
        if not name.startswith(PRIVATE):
            os.setxattr(target, name, os.getxattr(source, name))

"""A tree copied whole: content by reflink where the file system shares blocks, else through
memory or, if it is long, by copy_file_range; holes, hard links, owners, modes, times and
extended attributes kept. A plain file takes nine system calls.

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
SMALL = 256 * 1024
"""Bytes of content up to which reading and writing it is quicker than copy_file_range."""
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
    _copy_xattrs(_xattrs(source), source, target)
    os.fchmod(target, stat.S_IMODE(st.st_mode))
    os.utime(target, ns=(st.st_mtime_ns, st.st_mtime_ns))


def copy_tree(
    source: int, target: int, *, owner: bool, skip: Callable[[bytes], bool] | None = None
) -> None:
    """Copy what is in the directory `source` into the empty directory `target` (descriptors),
    and the metadata of the directory itself. `owner` keeps owners. Sockets are left out, and
    paths that `skip` is true for, with all below.

    Raises LimitExceeded for more than MAX_DEPTH levels, and OSError.
    """
    _Copier(owner, skip).tree(source, target)


class _Level:
    """A pair of directories: descriptors, path, names not yet copied."""

    __slots__ = ("fresh", "held", "identities", "names", "path", "source", "target")

    def __init__(self, source: int, target: int, path: bytes) -> None:
        self.source = source
        self.target = target
        self.path = path
        self.held = True
        self.identities = identity_of(source), identity_of(target)
        self.fresh: dict[int, tuple[int, int, int]] = {}
        """(mode, uid, gid) that a file made in `target` with a given mode turns out to have:
        up to umask, default ACLs and setgid."""
        with os.scandir(source) as entries:
            listed = [(os.fsencode(e.name), _kind(e)) for e in entries]
        self.names: Iterator[tuple[bytes, int]] = iter(listed)

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
    def __init__(self, owner: bool, skip: Callable[[bytes], bool] | None) -> None:
        self._owner = owner
        self._skip = skip
        self._links: dict[tuple[int, int], bytes] = {}
        self._top = -1
        self._clone = True
        self._range = True
        self._self = os.geteuid(), os.getegid()

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
        for name, kind in level.names:
            if self._skip is not None and self._skip(level.path + name):
                continue
            if kind == stat.S_IFDIR:
                return name
            if kind == stat.S_IFREG:
                self._file(level, name)
            else:
                self._other(level, name)
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

    def _other(self, level: _Level, name: bytes) -> None:
        """Copy what is neither a directory nor a regular file."""
        st = os.stat(name, dir_fd=level.source, follow_symlinks=False)
        if st.st_nlink > 1 and self._linked(level, name, st):
            return
        if stat.S_ISLNK(st.st_mode):
            os.symlink(os.readlink(name, dir_fd=level.source), name, dir_fd=level.target)
            self._finish(level, name, st)
        elif not stat.S_ISSOCK(st.st_mode):
            kind = stat.S_IFMT(st.st_mode)
            os.mknod(name, kind | 0o600, st.st_rdev, dir_fd=level.target)
            self._finish(level, name, st)
            os.chmod(name, stat.S_IMODE(st.st_mode), dir_fd=level.target)

    def _linked(self, level: _Level, name: bytes, st: os.stat_result) -> bool:
        """Whether the file `name` is copied already, under another name, and linked now."""
        path = level.path + name
        first = self._links.setdefault((st.st_dev, st.st_ino), path)
        if first == path:
            return False
        self._link(first, level, name)
        return True

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
            st = os.fstat(source)
            if st.st_nlink > 1 and self._linked(level, name, st):
                return
            mode = stat.S_IMODE(st.st_mode)
            owner = (st.st_uid, st.st_gid)
            xattrs = _xattrs(source)
            plain = mode < 0o1000 and owner == self._self and not xattrs
            initial = mode if plain else 0o600
            target = os.open(name, WRITE_FLAGS, initial, dir_fd=level.target)
            try:
                if st.st_size:
                    self._content(source, target, st)
                made = level.fresh.get(initial)
                if made is None:
                    new = os.fstat(target)
                    made = stat.S_IMODE(new.st_mode), new.st_uid, new.st_gid
                    level.fresh[initial] = made
                if self._owner and owner != made[1:]:
                    os.fchown(target, *owner)
                _copy_xattrs(xattrs, source, target)
                if xattrs or mode != made[0]:  # an ACL changes the mode
                    os.fchmod(target, mode)
                os.utime(target, ns=(st.st_mtime_ns, st.st_mtime_ns))
            finally:
                os.close(target)
        finally:
            os.close(source)

    def _content(self, source: int, target: int, st: os.stat_result) -> None:
        if self._clone:
            try:
                fcntl.ioctl(target, FICLONE, source)
                return
            except OSError as e:
                if e.errno not in NO_CLONE:
                    raise
                self._clone = False
        size = st.st_size
        if st.st_blocks * 512 < size:
            for start, end in _runs(source, size):
                self._copy_range(source, target, start, end)
            os.ftruncate(target, size)
            return
        done = 0
        if size <= SMALL:
            done = os.write(target, os.read(source, size))
        if done < size:
            self._copy_range(source, target, done, size)

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


def _kind(entry: os.DirEntry[str]) -> int:
    """S_IFDIR, S_IFREG, or 0 for all else."""
    if entry.is_file(follow_symlinks=False):
        return stat.S_IFREG
    return stat.S_IFDIR if entry.is_dir(follow_symlinks=False) else 0


def _runs(fd: int, size: int) -> Iterator[tuple[int, int]]:
    """(start, end) of the parts of a file that are no holes."""
    end = 0
    while end < size:
        try:
            start = os.lseek(fd, end, os.SEEK_DATA)
            end = os.lseek(fd, start, os.SEEK_HOLE)
        except OSError as e:
            if e.errno == errno.ENXIO:  # nothing but a hole to the end
                return
            raise
        yield start, end


def _xattrs(fd: int) -> list[str]:
    """Names of the attributes of a file."""
    try:
        return os.listxattr(fd)
    except OSError as e:
        if e.errno != errno.ENOTSUP:
            raise
        return []


def _copy_xattrs(names: list[str], source: int, target: int) -> None:
    for name in names:
        if not name.startswith(PRIVATE):
            os.setxattr(target, name, os.getxattr(source, name))

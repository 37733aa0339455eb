"""A directory tree as a layer: sorted, reproducible, names never followed out of the tree.

The walk holds a descriptor per directory and opens every name relative to it without
following links. Ordinary files take a path that formats their header from cached pieces;
everything else goes through `header.encode`, which gives the same bytes.
"""

from __future__ import annotations

import logging
import os
import stat
import sys
from collections.abc import Callable, Iterator
from typing import NoReturn
from zlib import adler32

from imgtools.blob import whiteout
from imgtools.blob.tar import attributes, short
from imgtools.blob.tar.entry import BLOCK, Entry, EntryType
from imgtools.blob.tar.header import NAME_MAX, SIZE_MAX
from imgtools.blob.tar.options import PackOptions, PackResult
from imgtools.blob.tar.short import PADDING, TAIL, TAIL_SUM
from imgtools.blob.tar.writer import TarWriter
from imgtools.errors import Conflict, InvalidInput, SizeMismatch, StorageError

log = logging.getLogger(__name__)

SMALL = 256 * 1024
FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
DIR_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC
WHITEOUT = whiteout.PREFIX.encode()
FS_ENCODING = sys.getfilesystemencoding()
FS_ERRORS = sys.getfilesystemencodeerrors()

SPECIAL = {
    stat.S_IFLNK: EntryType.SYMLINK,
    stat.S_IFCHR: EntryType.CHAR,
    stat.S_IFBLK: EntryType.BLOCK,
    stat.S_IFIFO: EntryType.FIFO,
}


def pack_tree(
    root: str | bytes | int, write: Callable[[bytes], object], options: PackOptions | None = None
) -> PackResult:
    """Write the content of the directory `root` (path or descriptor) as a tar archive.

    Order is by bytes of the name within each directory, a directory in front of its content.
    Files with several names in the tree become one file and hard links to its first name.
    Raises StorageError when the tree cannot be read, Conflict when a file changes while it is
    read, InvalidInput for a whiteout name, and what `write` raises.
    """
    writer = TarWriter(write, subsecond=(options or PackOptions()).subsecond)
    packer = _Packer(writer, options or PackOptions())
    name = root if isinstance(root, int) else os.fsdecode(root)
    try:
        fd = os.dup(root) if isinstance(root, int) else os.open(root, DIR_FLAGS & ~os.O_NOFOLLOW)
    except OSError as e:
        raise StorageError(f"cannot open {name}: {e.strerror}", path=str(name)) from e
    packer.walk(fd)
    writer.finish()
    return PackResult(entries=packer.entries, size=writer.offset, sockets=packer.sockets)


class _Level:
    """One directory of the walk: its descriptor, path with slash, names not yet packed."""

    __slots__ = ("fd", "names", "prefix", "xattrs")

    def __init__(
        self,
        fd: int,
        prefix: bytes,
        names: Iterator[tuple[bytes, os.DirEntry[str]]],
        xattrs: bool,
    ) -> None:
        self.fd = fd
        self.prefix = prefix
        self.names = names
        self.xattrs = xattrs


class _Packer:
    def __init__(self, writer: TarWriter, options: PackOptions) -> None:
        self._writer = writer
        self._options = options
        self._quick = options.numeric_only and (not options.subsecond or options.mtime is not None)
        self._links: dict[tuple[int, int], bytes] = {}
        self._owners: dict[tuple[int, int, int], bytes] = {}
        self._path = b""
        self.entries = 0
        self.sockets = 0

    def walk(self, root: int) -> None:
        """Pack everything below `root`, a descriptor that is closed in any case."""
        levels: list[_Level] = []
        try:
            if self._options.root_entry:
                self._slow(b"./", root, os.fstat(root), True)
            levels.append(self._level(root, b""))
            while levels:
                below = self._files(levels[-1])
                if below is None:
                    os.close(levels.pop().fd)
                else:
                    levels.append(below)
        except OSError as e:
            path = os.fsdecode(self._path)
            raise StorageError(f"cannot pack {path!r}: {e.strerror or e}", path=path) from e
        finally:
            for level in levels:
                os.close(level.fd)

    def _level(self, fd: int, prefix: bytes) -> _Level:
        """The directory `fd`, listed; the level owns the descriptor even if this fails."""
        try:
            with os.scandir(fd) as entries:
                names = sorted([(e.name.encode(FS_ENCODING, FS_ERRORS), e) for e in entries])
            return _Level(fd, prefix, iter(names), self._options.xattrs and _has_xattrs(fd))
        except BaseException:
            os.close(fd)
            raise

    def _files(self, level: _Level) -> _Level | None:
        """Pack names of one directory until a directory turns up; that one opened, or None."""
        dir_fd, prefix, xattrs = level.fd, level.prefix, level.xattrs
        # the hot path: a local for everything that is used per file
        os_open, fstat, read, close = os.open, os.fstat, os.read, os.close
        listxattr, sum_of = os.listxattr, adler32
        options, add = self._options, self._writer.add_encoded
        exclude, allow_whiteouts = options.exclude, options.whiteouts
        owners = self._owners
        clamp, fixed = options.mtime_clamp, options.mtime
        quick = self._quick
        for name, item in level.names:
            path = prefix + name
            self._path = path
            if exclude is not None and exclude(path.decode("utf-8", "surrogateescape")):
                continue
            if not allow_whiteouts and name[:4] == WHITEOUT:
                _refuse_whiteout(path)
            if not item.is_file(follow_symlinks=False):
                if item.is_dir(follow_symlinks=False):
                    return self._directory(path + b"/", name, dir_fd, xattrs)
                self._special(path, name, dir_fd)
                continue
            fd = os_open(name, FILE_FLAGS, dir_fd=dir_fd)
            try:
                st = fstat(fd)
                mode, _, _, links, uid, gid, size, _, mtime, _ = st
                if (
                    not quick
                    or links != 1
                    or size > SMALL
                    or len(path) > NAME_MAX
                    or not path.isascii()
                    or mode & 0o170000 != 0o100000
                    or (xattrs and listxattr(fd))
                ):
                    self._slow(path, fd, st, xattrs)
                    continue
                data = read(fd, size + 1)
                if len(data) != size:
                    raise _changed(path)
            finally:
                close(fd)
            if fixed is not None:
                mtime = fixed
            elif clamp is not None and mtime > clamp:
                mtime = clamp
            owner = owners.get((mode, uid, gid)) or self._owner(mode, uid, gid)
            if not owner or not 0 <= mtime <= SIZE_MAX:
                self._add(self._entry(path, EntryType.FILE, st), data)
                continue
            field = path.ljust(NAME_MAX, b"\0")  # short.file_block, inlined
            head = b"%b%b%011o\0%011o\0" % (field, owner, size, int(mtime))
            block = b"%b%06o%b" % (head, (sum_of(head) & 0xFFFF) + TAIL_SUM, TAIL)
            self.entries += 1
            padding = PADDING[size % BLOCK]
            add([block, data, padding], BLOCK + size + len(padding))
        return None

    def _directory(self, path: bytes, name: bytes, dir_fd: int, xattrs: bool) -> _Level:
        fd = os.open(name, DIR_FLAGS, dir_fd=dir_fd)
        try:
            self._slow(path, fd, os.fstat(fd), xattrs)
        except BaseException:
            os.close(fd)
            raise
        return self._level(fd, path)

    def _owner(self, mode: int, uid: int, gid: int) -> bytes:
        """The mode, uid and gid fields of a header; b"" when the owner does not fit them."""
        found = short.owner_fields(mode, *self._map(uid, gid))
        if found:
            self._owners[mode, uid, gid] = found
        return found

    def _map(self, uid: int, gid: int) -> tuple[int, int]:
        options = self._options
        if options.map_owner is not None:
            uid, gid = options.map_owner(uid, gid)
        return (
            uid if options.uid is None else options.uid,
            gid if options.gid is None else options.gid,
        )

    def _entry(self, path: bytes, kind: EntryType, st: os.stat_result) -> Entry:
        options = self._options
        uid, gid = self._map(st.st_uid, st.st_gid)
        mtime_ns = st.st_mtime_ns
        if options.mtime is not None:
            mtime_ns = options.mtime * 1_000_000_000
        elif options.mtime_clamp is not None:
            mtime_ns = min(mtime_ns, options.mtime_clamp * 1_000_000_000)
        uname, gname = ("", "") if options.numeric_only else _names(uid, gid)
        return Entry(
            path=path.decode("utf-8", "surrogateescape"),
            type=kind,
            mode=stat.S_IMODE(st.st_mode),
            uid=uid,
            gid=gid,
            uname=uname,
            gname=gname,
            size=st.st_size if kind is EntryType.FILE else 0,
            mtime_ns=mtime_ns,
        )

    def _add(self, entry: Entry, data: bytes | _Descriptor | None) -> None:
        try:
            self._writer.add(entry, data)
        except SizeMismatch as e:
            raise _changed(self._path) from e
        self.entries += 1

    def _slow(self, path: bytes, fd: int, st: os.stat_result, xattrs: bool) -> None:
        """Pack the open file or directory `fd`, whatever is special about it."""
        kind = EntryType.DIR if path[-1:] == b"/" else EntryType.FILE
        if stat.S_ISDIR(st.st_mode) is not (kind is EntryType.DIR) or (
            kind is EntryType.FILE and not stat.S_ISREG(st.st_mode)
        ):
            raise _changed(path)
        names = os.listxattr(fd) if xattrs else None
        if kind is EntryType.DIR and not names and self._short(path, b"5", st):
            return
        entry = self._entry(path, kind, st)
        if kind is EntryType.DIR:
            data = None
        elif self._linked(entry, path, st):
            self._add(entry, None)
            return
        else:
            data = _Descriptor(fd)
        if names:
            entry.xattrs = attributes.read(fd, names)
        self._add(entry, data)

    def _short(self, path: bytes, flag: bytes, st: os.stat_result, link: bytes = b"") -> bool:
        """Pack a member without data if one plain header holds it; returns whether it did."""
        mode, _, _, links, uid, gid, _, _, seconds, _ = st
        options = self._options
        if options.mtime is not None:
            seconds = options.mtime
        elif options.mtime_clamp is not None and seconds > options.mtime_clamp:
            seconds = options.mtime_clamp
        owner = self._owners.get((mode, uid, gid)) or self._owner(mode, uid, gid)
        if (
            not (self._quick and owner)
            or (links > 1 and flag != b"5")
            or not short.is_short(path, link, 0, int(seconds))
        ):
            return False
        block = short.bare_block(path, flag, owner, int(seconds), link)
        self._writer.add_encoded([block], BLOCK)
        self.entries += 1
        return True

    def _linked(self, entry: Entry, path: bytes, st: os.stat_result) -> bool:
        """Whether `entry` is another name of a file already packed; made a hard link then."""
        if st.st_nlink < 2:
            return False
        first = self._links.setdefault((st.st_dev, st.st_ino), path)
        if first is path:
            return False
        entry.type, entry.size = EntryType.HARDLINK, 0
        entry.linkname = first.decode("utf-8", "surrogateescape")
        return True

    def _special(self, path: bytes, name: bytes, dir_fd: int) -> None:
        """Pack what has no content: link, device, FIFO. None of them has kept attributes."""
        st = os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
        if stat.S_ISSOCK(st.st_mode):
            log.debug("socket %r left out of the layer", path)
            self.sockets += 1
            return
        if stat.S_ISLNK(st.st_mode):
            target = os.readlink(name, dir_fd=dir_fd)
            if self._short(path, b"2", st, target):
                return
        kind = SPECIAL.get(stat.S_IFMT(st.st_mode))
        if kind is None:
            raise _changed(path)
        entry = self._entry(path, kind, st)
        if not self._linked(entry, path, st):
            if kind is EntryType.SYMLINK:
                entry.linkname = target.decode("utf-8", "surrogateescape")
            elif kind is not EntryType.FIFO:
                entry.devmajor, entry.devminor = os.major(st.st_rdev), os.minor(st.st_rdev)
        self._add(entry, None)


class _Descriptor:
    """A file descriptor to read from; someone else closes it."""

    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def read(self, n: int, /) -> bytes:
        return os.read(self._fd, n)


def _has_xattrs(fd: int) -> bool:
    """Whether the file system of `fd` has extended attributes at all."""
    try:
        os.listxattr(fd)
    except OSError as e:
        if e.errno not in attributes.NOT_THERE:
            raise
        return False
    return True


def _names(uid: int, gid: int) -> tuple[str, str]:
    """User and group name on this host, "" for ids without one."""
    import grp
    import pwd

    try:
        user = pwd.getpwuid(uid).pw_name
    except KeyError:
        user = ""
    try:
        group = grp.getgrgid(gid).gr_name
    except KeyError:
        group = ""
    return user, group


def _changed(path: bytes) -> Conflict:
    return Conflict(
        f"{os.fsdecode(path)!r} changed while it was packed", hint="pack a tree nobody writes to"
    )


def _refuse_whiteout(path: bytes) -> NoReturn:
    raise InvalidInput(
        f"file {os.fsdecode(path)!r} has the name of a whiteout and would delete a file",
        hint="rename the file or leave it out",
    )

"""Members as tar entries: the headers of ordinary ones formatted at once, files read through
one directory descriptor after the other, everything checked not to have changed meanwhile.

What the survey saw is what a cache key was made of: a file that is another one by now would
make a layer that the key does not mean.
"""

from __future__ import annotations

import errno
import os

from imgtools.blob import whiteout
from imgtools.blob.files import storage_error
from imgtools.blob.tar import BLOCK, Entry, EntryType, Readable, TarWriter
from imgtools.blob.tar.short import PADDING, bare_block, file_block, is_short, owner_fields
from imgtools.build.copying.model import CopyRequest, HostOrigin, Member, TreeOrigin
from imgtools.build.copying.sniffing import DescriptorReader
from imgtools.build.tree import Tree
from imgtools.build.trees import Node
from imgtools.build.trees.beneath import open_beneath
from imgtools.errors import Conflict, SizeMismatch
from imgtools.task import CancelToken

SECOND = 1_000_000_000
SMALL = 256 * 1024
FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
DIR_FLAGS = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW
REPLACED = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO, errno.EXDEV)
FLAGS = {EntryType.DIR: b"5", EntryType.SYMLINK: b"2", EntryType.FIFO: b"6"}


class SourceFiles:
    """Opens files of trees; keeps the directory of the last one open until `close`."""

    def __init__(self) -> None:
        self._tree: Tree | None = None
        self._directory = b""
        self._fd = -1

    def open(self, origin: TreeOrigin, member: Member) -> int:
        """A descriptor of the regular file that `member` was; the caller's to close.

        Raises StorageError if it cannot be read, Conflict if it is something else by now.
        """
        tree, path = origin.tree, origin.path_of(member)
        directory, _, name = path.rpartition(b"/")
        try:
            if self._tree is not tree or self._directory != directory:
                self.close()
                self._fd = open_beneath(tree.fd, directory, DIR_FLAGS)
                self._tree, self._directory = tree, directory
            return os.open(name, FILE_FLAGS, dir_fd=self._fd)
        except OSError as e:
            if e.errno in REPLACED:
                raise changed(origin.shown(member)) from e
            raise storage_error(e, origin.shown(member)) from e

    def close(self) -> None:
        """Close what is open."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._tree = -1, None


class _Interruptible:
    """Data that can be cancelled between two reads."""

    def __init__(self, data: Readable, cancel: CancelToken) -> None:
        self._data = data
        self._cancel = cancel

    def read(self, n: int, /) -> bytes:
        self._cancel.check()
        return self._data.read(n)


class Emitter:
    """Writes members through `writer`; owns no file."""

    def __init__(self, writer: TarWriter, request: CopyRequest, cancel: CancelToken) -> None:
        self._writer = writer
        self._cancel = cancel
        self._fixed = request.mtime
        self._clamp = request.mtime_clamp
        self._owners: dict[tuple[int, int, int], bytes] = {}
        self.entries = 0

    def bare(self, path: bytes, member: Member) -> None:
        """Write what has no content: directory, link, FIFO, device."""
        name = path + b"/" if member.type is EntryType.DIR else path
        seconds, owner = self._seconds(member), self._owner(member)
        flag = FLAGS.get(member.type)
        if (
            flag is None
            or not owner
            or member.xattrs
            or not is_short(name, member.linkname, 0, seconds)
        ):
            self._writer.add(self._entry(path, member))
        else:
            self._writer.add_encoded(
                [bare_block(name, flag, owner, seconds, member.linkname)], BLOCK
            )
        self.entries += 1

    def link(self, path: bytes, member: Member, target: bytes) -> None:
        """Write another name of the file `target` of this layer."""
        entry = self._entry(path, member)
        entry.type, entry.size, entry.xattrs = EntryType.HARDLINK, 0, {}
        entry.linkname = _text(target)
        self._writer.add(entry)
        self.entries += 1

    def whiteout(self, path: bytes) -> None:
        """Write a file whose name (`path` has it already) hides another."""
        self._writer.add(Entry(path=_text(path), mode=0))
        self.entries += 1

    def file(self, path: bytes, member: Member, fd: int, origin: TreeOrigin | HostOrigin) -> None:
        """Write a file of `origin`, read from `fd`; raises Conflict if it was changed."""
        size = member.size
        if size > SMALL:
            shown = origin.shown(member)
            self.stream(path, member, DescriptorReader(fd, shown), shown)
            check_unchanged(fd, member, origin)
            return
        try:
            data = os.read(fd, size + 1)
        except OSError as e:
            raise storage_error(e, origin.shown(member)) from e
        check_unchanged(fd, member, origin)
        if len(data) != size:
            raise changed(origin.shown(member))
        self.content(path, member, data)

    def content(self, path: bytes, member: Member, data: bytes) -> None:
        """Write a file with the content `data`, as long as `member` says."""
        seconds, owner = self._seconds(member), self._owner(member)
        size = len(data)
        if owner and not member.xattrs and is_short(path, b"", size, seconds):
            padding = PADDING[size % BLOCK]
            block = file_block(path, owner, size, seconds)
            self._writer.add_encoded([block, data, padding], BLOCK + size + len(padding))
        else:
            self._writer.add(self._entry(path, member), data)
        self.entries += 1

    def stream(self, path: bytes, member: Member, data: Readable, shown: str) -> None:
        """Write a file read from `data`; raises Conflict if that is not as long as was seen."""
        try:
            self._writer.add(self._entry(path, member), _Interruptible(data, self._cancel))
        except SizeMismatch as e:
            raise changed(shown) from e
        self.entries += 1

    def _seconds(self, member: Member) -> int:
        if self._fixed is not None:
            return self._fixed
        seconds = member.mtime_ns // SECOND
        if self._clamp is not None and seconds > self._clamp:
            return self._clamp
        return seconds

    def _owner(self, member: Member) -> bytes:
        key = (member.mode, member.uid, member.gid)
        found = self._owners.get(key)
        if found is None:
            found = self._owners[key] = owner_fields(*key)
        return found

    def _entry(self, path: bytes, member: Member) -> Entry:
        return Entry(
            path=_text(path),
            type=member.type,
            mode=member.mode,
            uid=member.uid,
            gid=member.gid,
            size=member.size,
            mtime_ns=self._seconds(member) * SECOND,
            linkname=_text(member.linkname),
            devmajor=member.device[0],
            devminor=member.device[1],
            xattrs=dict(member.xattrs),
        )


def is_whiteout_name(path: bytes) -> bool:
    """Whether the last component of `path` is the name of a whiteout."""
    return path.rpartition(b"/")[2].startswith(whiteout.PREFIX.encode())


def changed(shown: str) -> Conflict:
    """The error for a file that is not any more what the survey saw."""
    return Conflict(
        f"{shown} changed while it was copied", hint="build from files that nobody writes to"
    )


def check_unchanged(fd: int, member: Member, origin: TreeOrigin | HostOrigin) -> None:
    """Raise Conflict unless `fd` is the file that the survey saw, unchanged."""
    node = member.node
    if node is None:
        return
    st = os.fstat(fd)
    if (
        st.st_size != node.size
        or st.st_mtime_ns != node.mtime_ns
        or st.st_ino != node.ino
        or (isinstance(origin, TreeOrigin) and _rewritten(origin.tree, st, node))
        or st.st_mode & 0o170000 != 0o100000
    ):
        raise changed(origin.shown(member))


def _rewritten(tree: Tree, st: os.stat_result, node: Node) -> bool:
    """Whether a file of a directory that others write to was written to, which its times may
    not say: they can be set back, all but this one. Layers are linked to, and nothing else."""
    return bool(tree.identity) and st.st_ctime_ns != node.ctime_ns


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")

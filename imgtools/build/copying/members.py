"""From what a tree has to what a layer is to have: types, owners, modes and attributes.

--chown and --chmod are applied here, so that nothing after this asks for them again.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping

from imgtools.blob.files import storage_error
from imgtools.blob.tar import EntryType, attributes
from imgtools.blob.tar.entry import TYPES_OF_FILES
from imgtools.build.copying.model import NO_XATTRS, CopyRequest, Member
from imgtools.build.copying.modes import mode_change
from imgtools.build.tree import Tree
from imgtools.build.trees import Node, readlink, xattrs_of
from imgtools.build.trees.beneath import open_beneath

SECOND = 1_000_000_000
DIR_FLAGS = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW


class MemberMaker:
    """Makes the members of one request; `sockets` counts what no layer can have."""

    def __init__(self, request: CopyRequest) -> None:
        """Raises InvalidInput for a malformed --chmod."""
        self._owner = request.owner
        self._keep = request.keep_owner
        self._change = mode_change(request.chmod)
        self._modes: dict[int, int] = {}
        self._first: dict[tuple[int, int], Member] = {}
        self._attributes = AttributeReader()
        self.sockets = 0

    def apart(self, mode: int, size: int, mtime: int) -> Member:
        """A file that is in no tree."""
        uid, gid = self._owner or (0, 0)
        return Member(
            path=b"",
            type=EntryType.FILE,
            mode=self._mode(stat.S_IFREG | mode),
            uid=uid,
            gid=gid,
            size=size,
            mtime_ns=mtime * SECOND,
        )

    def top(self, tree: Tree, path: bytes, node: Node) -> Member:
        """What a source turned out to be; names of one file are related from here on."""
        self._first.clear()
        made = self.member(tree, path, b"", node)
        if made is None:
            return Member(path=b"", type=EntryType.FILE, mode=0, node=node)
        return made

    def member(self, tree: Tree, path: bytes, below: bytes, node: Node) -> Member | None:
        """`path` of `tree`, seen as `node`, called `below` from its top; None for a socket."""
        mode, uid, gid, rdev, size, mtime_ns, _, nlink, dev, ino = node
        kind = TYPES_OF_FILES.get(mode & 0o170000)
        if kind is None:
            self.sockets += 1
            return None
        if self._owner is not None:
            uid, gid = self._owner
        elif not self._keep:
            uid = gid = 0
        made = Member(
            path=below,
            type=kind,
            mode=self._mode(mode),
            uid=uid,
            gid=gid,
            size=size if kind is EntryType.FILE else 0,
            mtime_ns=mtime_ns,
            node=node,
        )
        if kind is EntryType.SYMLINK:
            made.linkname = readlink(tree, path)
        elif kind is EntryType.CHAR or kind is EntryType.BLOCK:
            made.device = rdev
        else:
            made.xattrs = self._attributes.read(tree, path)
            if nlink > 1 and kind is EntryType.FILE:
                same_as = self._first.setdefault((dev, ino), made)
                made.same_as = same_as if same_as is not made else None
        return made

    def close(self) -> None:
        """Close what is open."""
        self._attributes.close()

    def _mode(self, mode: int) -> int:
        if self._change is None or stat.S_ISLNK(mode):
            return mode & 0o7777
        known = self._modes.get(mode)
        if known is None:
            known = self._modes[mode] = self._change(mode & 0o7777, stat.S_ISDIR(mode))
        return known


class AttributeReader:
    """Reads the extended attributes of files one directory after the other.

    Asking by name below an open directory saves opening every file; the last component is
    never followed. Holds one descriptor until `close`.
    """

    def __init__(self) -> None:
        self._tree: Tree | None = None
        self._directory = b""
        self._fd = -1
        self._prefix = b""

    def read(self, tree: Tree, path: bytes) -> Mapping[str, bytes]:
        """The attributes of `path` that belong into a layer, recorded ones included.

        Raises StorageError, NotFound.
        """
        directory, _, name = path.rpartition(b"/")
        if self._tree is not tree or self._directory != directory:
            self.close()
            try:
                self._fd = open_beneath(tree.fd, directory, DIR_FLAGS)
            except OSError as e:
                raise storage_error(e, f"{os.fsdecode(directory)} in {tree.name}") from e
            self._tree, self._directory = tree, directory
            self._prefix = b"/proc/self/fd/%d/" % self._fd
        if name and tree.records.get(path) is None:
            try:
                if not os.listxattr(self._prefix + name, follow_symlinks=False):
                    return NO_XATTRS
            except OSError as e:
                if e.errno in attributes.NOT_THERE:
                    return NO_XATTRS
        return xattrs_of(tree, path) or NO_XATTRS

    def close(self) -> None:
        """Close what is open."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._tree = -1, None

"""The tree that a copy goes on top of, as `Layout` asks for it."""

from __future__ import annotations

import stat

from imgtools.blob.tar import EntryType
from imgtools.blob.tar.entry import TYPES_OF_FILES
from imgtools.build.copying.layout import Below, NothingBelow
from imgtools.build.copying.model import Member
from imgtools.build.tree import Tree
from imgtools.build.trees import list_names, readlink, stat_of, xattrs_of


class TreeBelow:
    """A tree on disk. What no layer can have (a socket) is nothing to it."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree

    def lstat(self, path: bytes) -> Member | None:
        """What is at `path`, with a link's target and without attributes; StorageError."""
        node = stat_of(self._tree, path)
        kind = TYPES_OF_FILES.get(stat.S_IFMT(node.mode)) if node is not None else None
        if node is None or kind is None:
            return None
        return Member(
            path=path,
            type=kind,
            mode=node.mode & 0o7777,
            uid=node.uid,
            gid=node.gid,
            size=node.size if kind is EntryType.FILE else 0,
            mtime_ns=node.mtime_ns,
            linkname=readlink(self._tree, path) if kind is EntryType.SYMLINK else b"",
            device=node.rdev,
            node=node,
        )

    def names(self, path: bytes) -> list[bytes]:
        """The names in a directory; raises StorageError."""
        return list_names(self._tree, path)


def tree_below(tree: Tree | None) -> Below:
    """What `Layout` asks, of a tree or of nothing."""
    return NothingBelow() if tree is None else TreeBelow(tree)


def described(tree: Tree, below: Below, path: bytes) -> Member | None:
    """A file or directory of the tree below with its attributes; raises StorageError."""
    member = below.lstat(path)
    if member is not None and member.type is not EntryType.SYMLINK:
        member.xattrs = xattrs_of(tree, path)
    return member

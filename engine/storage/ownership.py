"""Who owns what, where the file system cannot say: a table beside the tree.

With a single id nothing can be chowned; in a user namespace no device node can be made, and
some attributes are refused. What the layers say is kept by path in an `OwnerTree`, whose file
is read and written by `ownership_file`. Which ids are mapped is in `ownership_ids`.
"""

from __future__ import annotations

import stat
from collections.abc import Container, Iterator, Mapping

from engine.storage.options import AS_ON_DISK, Owner, Ownership
from imgtools.blob.tar import Entry, EntryType
from imgtools.blob.tar.entry import TYPES_OF_FILES
from imgtools.frozen import dataclass

TYPES = {kind: mode for mode, kind in TYPES_OF_FILES.items()}


class _Node:
    """A path: its owner if it has a record, and what is recorded below it by name."""

    __slots__ = ("children", "owner")

    def __init__(self) -> None:
        self.owner: Owner | None = None
        self.children: dict[bytes, _Node] = {}


class OwnerTree:
    """Owners by path (b"" is the root). Removing a directory costs no look at what is below."""

    def __init__(self) -> None:
        self._root = _Node()

    def get(self, path: bytes) -> Owner | None:
        """The record of `path`."""
        node = self._find(path)
        return node.owner if node is not None else None

    def set(self, path: bytes, owner: Owner | None) -> None:
        """Give `path` a record, or take its record away; what is below stays."""
        if owner is None:
            node = self._find(path) if self._root.children or not path else None
            if node is not None:
                node.owner = None
            return
        node = self._root
        for part in _parts(path):
            below = node.children.get(part)
            if below is None:
                below = node.children[part] = _Node()
            node = below
        node.owner = owner

    def remove(self, path: bytes) -> None:
        """Forget `path` and all below it."""
        if not self._root.children:
            return
        parent, _, name = path.rpartition(b"/")
        node = self._find(parent)
        if node is not None:
            node.children.pop(name, None)

    def clear(self, path: bytes, keep: Container[bytes]) -> None:
        """Forget all below `path` but for paths in `keep`, below which nothing is forgotten
        that is in `keep` too."""
        top = self._find(path)
        pending = [(path, top)] if top is not None else []
        while pending:
            here, node = pending.pop()
            for name, below in list(node.children.items()):
                child = here + b"/" + name if here else name
                if child in keep:
                    pending.append((child, below))
                else:
                    del node.children[name]

    def items(self) -> Iterator[tuple[bytes, Owner]]:
        """All records, names in order within a directory, a directory before its content."""
        pending = [(b"", self._root)]
        while pending:
            path, node = pending.pop()
            if node.owner is not None:
                yield path, node.owner
            below = sorted(node.children.items(), reverse=True)
            pending += [(path + b"/" + name if path else name, child) for name, child in below]

    def _find(self, path: bytes) -> _Node | None:
        node = self._root
        for part in _parts(path):
            below = node.children.get(part)
            if below is None:
                return None
            node = below
        return node


def _parts(path: bytes) -> list[bytes]:
    return path.split(b"/") if path else []


class LayerRecorder:
    """The `imgtools.blob.tar` Recorder of a layer: changes the tree of the layers below.

    `owners` false keeps only what could not be made, for trees whose owners are real.
    """

    def __init__(self, tree: OwnerTree, ownership: Ownership, *, superuser: bool) -> None:
        self._tree = tree
        self._owners = ownership is Ownership.RECORDED
        self._superuser = superuser

    def made(
        self, path: bytes, entry: Entry, refused: Mapping[str, bytes], placeholder: bool
    ) -> None:
        """See `Recorder.made`."""
        mode = AS_ON_DISK
        if placeholder or (not self._superuser and widened(entry.mode, entry.type) != entry.mode):
            mode = entry.mode | TYPES[entry.type]
        needed = mode != AS_ON_DISK or refused
        if not needed and not (self._owners and (entry.uid or entry.gid)):
            self._tree.set(path, None)
            return
        device = placeholder and entry.type in (EntryType.CHAR, EntryType.BLOCK)
        self._tree.set(
            path,
            Owner(
                uid=entry.uid,
                gid=entry.gid,
                mode=mode,
                rdev=(entry.devmajor, entry.devminor) if device else (0, 0),
                xattrs=dict(refused),
            ),
        )

    def linked(self, path: bytes, target: bytes) -> None:
        """See `Recorder.linked`."""
        self._tree.set(path, self._tree.get(target))

    def removed(self, path: bytes) -> None:
        """See `Recorder.removed`."""
        self._tree.remove(path)

    def cleared(self, path: bytes, keep: Container[bytes]) -> None:
        """See `Recorder.cleared`."""
        self._tree.clear(path, keep)


def widened(mode: int, kind: EntryType) -> int:
    """`mode` as it is put on disk by somebody whom it would lock out."""
    return mode | (0o700 if kind is EntryType.DIR else 0o600)


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What a file is to the image: whole mode, owner, device numbers, attributes that are
    not on the file itself."""

    mode: int
    uid: int
    gid: int
    rdev: tuple[int, int]
    xattrs: Mapping[str, bytes]


def identity(
    mode: int, uid: int, gid: int, rdev: tuple[int, int], owner: Owner | None, ownership: Ownership
) -> Identity:
    """What a file is that has these values on disk, and the record `owner`.

    A recorded mode counts while the file still has the mode that was put on disk for it. Of
    the device node that an empty file stands for the type and the numbers always do.
    """
    if owner is None:
        if ownership is Ownership.RECORDED:
            uid = gid = 0
        return Identity(mode=mode, uid=uid, gid=gid, rdev=rdev, xattrs={})
    if ownership is Ownership.RECORDED:
        uid, gid = owner.uid, owner.gid
    if owner.mode != AS_ON_DISK:
        if stat.S_ISCHR(owner.mode) or stat.S_ISBLK(owner.mode):
            if stat.S_ISREG(mode):
                kept = stat.S_IMODE(mode) in (
                    stat.S_IMODE(owner.mode | each) for each in (0, 0o600)
                )
                mode = owner.mode if kept else stat.S_IFMT(owner.mode) | stat.S_IMODE(mode)
                rdev = owner.rdev
        elif stat.S_IFMT(owner.mode) == stat.S_IFMT(mode):
            more = 0o700 if stat.S_ISDIR(mode) else 0o600
            if owner.mode | more == mode:
                mode = owner.mode
    return Identity(mode=mode, uid=uid, gid=gid, rdev=rdev, xattrs=owner.xattrs)

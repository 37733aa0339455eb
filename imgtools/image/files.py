"""The files of an image: each layer as a tree, and trees composed into what a container sees.

Pure. A layer's tree is what extracting the layer alone into an empty directory gives, plus
marks for what it hides below (OCI image-spec layer.md, "Whiteouts"); composing two trees
follows the overlay file system, which runtimes stack layers with. Marks survive composing,
so some layers of an image can be composed without those below them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import field
from typing import cast

from imgtools.blob import whiteout
from imgtools.blob.tar.entry import Entry, EntryType, clean_path
from imgtools.errors import InvalidArchive, LimitExceeded
from imgtools.frozen import dataclass

LINK_LIMIT = 40
"""Symbolic links followed for one path, as in Linux (path_resolution(7))."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileLimits:
    """How large a tree we agree to hold; exceeding one raises LimitExceeded.

    `text` bounds the characters of all paths and link targets together with the bytes of
    extended attributes: an archive of such compresses a thousandfold, a tree does not.
    """

    nodes: int = 1_000_000
    depth: int = 1_024
    text: int = 128 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Where a file's content is in a compressed blob that can be entered in the middle.

    Decompressing `start` up to `end` (bytes of the blob) gives the content after `skip`
    bytes of something else.
    """

    start: int
    end: int
    skip: int = 0


@dataclass(slots=True, kw_only=True)
class FileInfo:
    """What is known of one file, of any type; `layer` is the number of the layer that has it.

    Treated as a value; not frozen, because there may be a million and that doubles the time.

    `size` is in bytes, `mtime_ns` in nanoseconds since the epoch. `digest` is the sha256 of
    a file's content as "sha256:hex", "" when nobody computed it; `member` the position of
    the tar entry in its layer, -1 when a table of contents tells `span` instead.
    """

    type: EntryType
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    uname: str = ""
    gname: str = ""
    size: int = 0
    mtime_ns: int = 0
    linkname: str = ""
    devmajor: int = 0
    devminor: int = 0
    xattrs: Mapping[str, bytes] | None = None
    digest: str = ""
    layer: int = 0
    member: int = -1
    span: Span | None = None

    @classmethod
    def from_entry(cls, entry: Entry, *, layer: int, member: int, digest: str = "") -> FileInfo:
        """The file that a tar entry describes."""
        return cls(
            type=entry.type,
            mode=entry.mode,
            uid=entry.uid,
            gid=entry.gid,
            uname=entry.uname,
            gname=entry.gname,
            size=entry.size,
            mtime_ns=entry.mtime_ns,
            linkname=entry.linkname,
            devmajor=entry.devmajor,
            devminor=entry.devminor,
            xattrs=entry.xattrs or None,
            digest=digest,
            layer=layer,
            member=member,
        )


IMPLICIT_DIRECTORY = FileInfo(type=EntryType.DIR, mode=0o755)
"""A directory that only the paths below it imply."""


@dataclass(slots=True, eq=False)
class Node:
    """One name in a tree; directories have `children`, all else None.

    `info` is None for a directory without an entry of its own. `hardlink` is the path that
    a hard link was made from; its `info` is that of the file itself. `hidden` are the names
    that lower layers must not show here, `opaque` stands for all of them. Nobody changes a
    tree once it was built: composed trees share branches.
    """

    info: FileInfo | None = None
    children: dict[str, Node] | None = None
    hardlink: str = ""
    hidden: set[str] | None = None
    opaque: bool = False

    @classmethod
    def directory(cls, info: FileInfo | None = None) -> Node:
        """An empty directory."""
        return cls(info=info, children={})

    def shown(self) -> FileInfo:
        """The info, made up for a directory that has none."""
        return self.info or IMPLICIT_DIRECTORY

    def hides(self, name: str) -> bool:
        """Whether lower layers may not show `name` in this directory."""
        return self.opaque or (self.hidden is not None and name in self.hidden)


@dataclass(slots=True)
class TreeBuilder:
    """Builds a layer's tree from its entries, in their order: the last of a name wins.

    `count` is the number of nodes made, `text` what `FileLimits.text` bounds.
    """

    limits: FileLimits = field(default_factory=FileLimits)
    root: Node = field(default_factory=Node.directory)
    count: int = 0
    text: int = 0

    def add(self, path: str, info: FileInfo) -> None:
        """Add the entry called `path`, a whiteout perhaps.

        Raises UnsafePath for a path with "..", InvalidArchive for one that no extraction
        could make, LimitExceeded.
        """
        self.text += len(path) + len(info.linkname)
        if info.xattrs:
            self.text += sum(len(key) + len(value) for key, value in info.xattrs.items())
        if self.text > self.limits.text:
            raise LimitExceeded("names and attributes of a layer's files", self.limits.text)
        parts = clean_path(path).split("/")
        name = parts.pop()
        if whiteout.is_metadata(name) or any(map(whiteout.is_metadata, parts)):
            return
        if not name:
            if info.type is EntryType.DIR:
                self.root.info = info
                return
            raise InvalidArchive("the root of a layer is not a directory")
        parent = self._directory(parts, path)
        children = _children(parent)
        if whiteout.is_opaque(name):
            parent.opaque = True
        elif whiteout.is_whiteout(name):
            whiteout.validate(name)
            if parent.hidden is None:
                parent.hidden = set()
            parent.hidden.add(name[len(whiteout.PREFIX) :])
        elif info.type is EntryType.DIR:
            old = children.get(name)
            if old is not None and old.children is not None:
                old.info = info
            else:
                children[name] = self._counted(Node.directory(info))
        elif info.type is EntryType.HARDLINK:
            self._link(children, name, path, info)
        else:
            children[name] = self._counted(Node(info=info))

    def _link(self, children: dict[str, Node], name: str, path: str, info: FileInfo) -> None:
        linkname = clean_path(info.linkname)
        target = lookup(self.root, linkname)
        if target is not None and target.children is not None:
            raise InvalidArchive(f"hard link {path!r} to the directory {info.linkname!r}")
        if target is not None and target is children.get(name):
            return
        # The target may be in a lower layer: `info` stays that of the link, and `unlinked`
        # looks for the file when all layers are there.
        found = info if target is None else cast("FileInfo", target.info)
        children[name] = self._counted(Node(info=found, hardlink=linkname))

    def _directory(self, parts: Sequence[str], path: str) -> Node:
        """The directory `parts`, made where it is missing; links lead on within the layer."""
        stack = [self.root]
        todo = deque(parts)
        links = 0
        while todo:
            part = todo.popleft()
            if part in ("", "."):
                continue
            if part == "..":
                if len(stack) > 1:
                    stack.pop()
                continue
            children = _children(stack[-1])
            node = children.get(part)
            if node is None:
                if len(stack) > self.limits.depth:
                    raise LimitExceeded("depth of a path", self.limits.depth, unit="components")
                node = children[part] = self._counted(Node.directory())
            elif node.children is None:
                info = node.shown()
                links += 1
                if info.type is not EntryType.SYMLINK or links > LINK_LIMIT:
                    raise InvalidArchive(f"{path!r} lies below {part!r}, which is no directory")
                if info.linkname.startswith("/"):
                    stack = [self.root]
                todo.extendleft(reversed(info.linkname.split("/")))
                continue
            stack.append(node)
        return stack[-1]

    def _counted(self, node: Node) -> Node:
        self.count += 1
        if self.count > self.limits.nodes:
            raise LimitExceeded("number of files in a layer", self.limits.nodes, unit="files")
        return node


def compose(lower: Node, upper: Node) -> Node:
    """The tree of `upper` stacked on `lower`; neither is changed.

    A directory over a directory merges, anything else replaces.
    """
    result = Node.directory()
    work = [(lower, upper, result)]
    while work:
        low, up, out = work.pop()
        out.info = up.info or low.info
        if up.opaque:
            out.opaque, out.hidden = True, up.hidden
            children = out.children = dict(_children(up))
        else:
            out.opaque = low.opaque
            hidden = (low.hidden or set()) | (up.hidden or set())
            children = out.children = dict(_children(low))
            for name in up.hidden or ():
                children.pop(name, None)
            for name, node in _children(up).items():
                old = children.get(name)
                if node.children is not None and old is not None and old.children is not None:
                    children[name] = merged = Node.directory()
                    work.append((old, node, merged))
                    continue
                if node.children is not None and old is not None:
                    hidden.add(name)  # what `old` hid stays hidden under the new directory
                children[name] = node
            out.hidden = hidden or None
    return result


def compose_all(layers: Iterable[Node]) -> Node:
    """The tree of all `layers`, oldest first."""
    tree = Node.directory()
    for layer in layers:
        tree = compose(tree, layer)
    return tree


def walk(root: Node, prefix: str = "") -> Iterator[tuple[str, Node]]:
    """Every (path, node) below `root`, a directory before its content, names in byte order.

    Paths begin with `prefix` and have no leading slash.
    """
    stack = [iter(_sorted(root, prefix))]
    while stack:
        found = next(stack[-1], None)
        if found is None:
            stack.pop()
            continue
        yield found
        if found[1].children:
            stack.append(iter(_sorted(found[1], found[0])))


def _sorted(node: Node, path: str) -> list[tuple[str, Node]]:
    below = f"{path}/" if path else ""
    return [(below + name, child) for name, child in sorted(_children(node).items(), key=_bytes)]


def _bytes(item: tuple[str, Node]) -> bytes:
    return item[0].encode("utf-8", "surrogateescape")


def _children(node: Node) -> dict[str, Node]:
    return node.children if node.children is not None else {}


def unlinked(root: Node, node: Node) -> FileInfo:
    """The info of `node`, or of the file it is a hard link to when that is in `root`."""
    info = node.shown()
    if info.type is EntryType.HARDLINK:
        target = lookup(root, node.hardlink)
        if target is not None and target.children is None:
            return target.shown()
    return info


def lookup(root: Node, path: str) -> Node | None:
    """The node at `path`, links on the way followed within `root`, the last one not."""
    stack = [root]
    todo = deque(path.split("/"))
    links = 0
    while todo:
        part = todo.popleft()
        if part in ("", "."):
            continue
        if part == "..":
            if len(stack) > 1:
                stack.pop()
            continue
        node = _children(stack[-1]).get(part)
        if node is None:
            return None
        if node.children is None and todo:
            info = node.shown()
            links += 1
            if info.type is not EntryType.SYMLINK or links > LINK_LIMIT:
                return None
            if info.linkname.startswith("/"):
                stack = [root]
            todo.extendleft(reversed(info.linkname.split("/")))
            continue
        stack.append(node)
    return stack[-1]

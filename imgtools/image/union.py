"""Finding one path in a stack of layers, reading as few of them as possible.

Pure but for the layers, which are asked for one by one from the newest down, and only until
the question is decided. Symbolic links stay within the image, as in a container.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from imgtools.blob.tar.entry import EntryType
from imgtools.errors import InvalidInput, NotFound
from imgtools.frozen import dataclass
from imgtools.image.files import LINK_LIMIT, FileInfo, Node, lookup

LayerTree = Callable[[], Node]
"""Gives the tree of a layer; asked at most a few times, so it should remember the answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A file: its path after all links were followed ("" is the root), and what it is."""

    path: str
    info: FileInfo

    @property
    def is_directory(self) -> bool:
        """Whether it is a directory."""
        return self.info.type is EntryType.DIR


class Union:
    """A stack of layers, the oldest first, as the one file system that it makes."""

    def __init__(self, layers: Sequence[LayerTree]) -> None:
        self._layers = tuple(layers)

    def resolve(self, path: str, *, follow: bool = True) -> Found:
        """The file at `path`, which may be absolute; a final link is followed if `follow`.

        Raises NotFound, or InvalidInput when the way leads through a file or round in
        circles. ".." means the directory above, as the kernel takes it.
        """
        resolved: list[str] = []
        todo = deque(path.split("/"))
        info = FileInfo(type=EntryType.DIR, mode=0o755)
        links = 0
        while todo:
            part = todo.popleft()
            if part in ("", "."):
                continue
            if info.type is not EntryType.DIR:
                raise InvalidInput(f"{path}: /{'/'.join(resolved)} is not a directory")
            if part == "..":
                del resolved[-1:]
                continue
            found = self._entry((*resolved, part), len(self._layers))
            if found is None:
                raise NotFound(f"{path}: there is no /{'/'.join((*resolved, part))} in the image")
            if found.type is EntryType.SYMLINK and (follow or any(todo)):
                links += 1
                if links > LINK_LIMIT:
                    raise InvalidInput(f"{path}: too many levels of symbolic links")
                if found.linkname.startswith("/"):
                    resolved = []
                todo.extendleft(reversed(found.linkname.split("/")))
                continue
            resolved.append(part)
            info = found
        if path.endswith("/") and info.type is not EntryType.DIR:
            raise InvalidInput(f"{path}: not a directory")
        return Found(path="/".join(resolved), info=info)

    def _entry(self, parts: tuple[str, ...], count: int) -> FileInfo | None:
        """What the lowest `count` layers make of the path `parts`, whose parents are no links."""
        directories = 0  # how many leading parts a layer above has made directories
        for number in reversed(range(count)):
            node = self._layers[number]()
            decided = False
            for depth, part in enumerate(parts):
                decided = decided or node.hides(part)
                child = node.children.get(part) if node.children is not None else None
                if child is None:
                    break
                if child.children is None:
                    if depth < directories or depth + 1 < len(parts):
                        return None
                    return self._unlinked(child, number)
                directories = max(directories, depth + 1)
                node = child
            else:
                return node.shown()
            if decided:
                return None
        return None

    def _unlinked(self, node: Node, number: int) -> FileInfo:
        """The file behind a hard link whose target is in a layer below `number`."""
        info = node.shown()
        if info.type is not EntryType.HARDLINK:
            return info
        own = lookup(self._layers[number](), node.hardlink)
        if own is not None and own.children is None and own.info is not info:
            return own.shown()
        below = self._entry(tuple(node.hardlink.split("/")), number)
        if below is None or below.type is EntryType.HARDLINK:
            raise NotFound(f"the hard link to /{node.hardlink} leads nowhere")
        return below

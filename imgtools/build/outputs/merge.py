"""Several layers as one tar that has the same effect, made as a stream.

The layers are read twice: once for what they say, then for the content of the files that are
left. So memory is bounded by names, not by content. Directories, links and marks come first,
sorted, then files in the order of the layers; hard links follow their file. The composing is
`imgtools.image.files`'s, which has the rules of OCI image-spec layer.md, "Whiteouts".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from imgtools.blob import whiteout
from imgtools.blob.reader import CHUNK, BlobReader
from imgtools.blob.tar import BLOCK, Entry, EntryType, TarReader
from imgtools.blob.tar.header import encode
from imgtools.errors import InvalidArchive
from imgtools.image.files import FileInfo, Node, TreeBuilder, compose, lookup, walk
from imgtools.task import Task

OpenLayer = Callable[[], BlobReader]
"""Opens the uncompressed tar of a layer; called twice."""

END = bytes(2 * BLOCK)
_Member = tuple[int, int]
"""The number of a layer, and of an entry in it."""


def merged(
    layers: Sequence[OpenLayer],
    *,
    whole: bool,
    mtime_ns: int | None = None,
    latest_ns: int | None = None,
    task: Task,
) -> Iterator[bytes]:
    """The bytes of one tar that does what `layers` do, the oldest first.

    `whole` says that nothing is below them: marks of what is hidden are then left out. Else
    they are kept, and made where a directory has taken the place of something. Equal layers
    give equal bytes. Times are as for `merged_members`. Raises InvalidArchive, LimitExceeded,
    UnsafePath, Cancelled, and what reading does.
    """
    yield from merged_members(
        layers, whole=whole, mtime_ns=mtime_ns, latest_ns=latest_ns, task=task
    )
    yield END


def merged_members(
    layers: Sequence[OpenLayer],
    *,
    whole: bool,
    prefix: str = "",
    mtime_ns: int | None = None,
    latest_ns: int | None = None,
    task: Task,
) -> Iterator[bytes]:
    """Like `merged`, without the end of the archive; `prefix` ("" or "a/b/") goes in front of
    all names, all get the time `mtime_ns` unless it is None, and later ones `latest_ns`."""
    merger = _Merger(layers, whole, prefix, task, mtime_ns, latest_ns)
    merger.read()
    yield from merger.marks()
    yield from merger.files()


@dataclass(slots=True)
class _Merger:
    layers: Sequence[OpenLayer]
    whole: bool
    prefix: str
    task: Task
    mtime_ns: int | None = None
    latest_ns: int | None = None
    tree: Node = field(default_factory=Node.directory)
    files_wanted: dict[_Member, list[str]] = field(default_factory=dict)
    first_names: dict[_Member, str] = field(default_factory=dict)

    def read(self) -> None:
        """Compose what all layers say."""
        for number, opener in enumerate(self.layers):
            builder = TreeBuilder()
            with opener() as reader:
                archive = TarReader(reader)
                member = 0
                while (entry := archive.next()) is not None:
                    self.task.cancel.check()
                    info = FileInfo.from_entry(entry, layer=number, member=member)
                    builder.add(entry.path, info)
                    member += 1
                _drain(reader)
            self._link(builder.root)
            self.tree = compose(self.tree, builder.root)

    def _link(self, layer: Node) -> None:
        """Give hard links into lower layers the files that those have now."""
        for _, node in walk(layer):
            if node.info is None or node.info.type is not EntryType.HARDLINK:
                continue
            target = lookup(self.tree, node.hardlink)
            if target is not None and target.children is None:
                node.info = target.shown()

    def marks(self) -> Iterator[bytes]:
        """Everything without content: directories, marks of what is hidden, links, devices."""
        if self.tree.info is not None:
            yield self._entry("", self.tree.info)
        yield from self._hidden("", self.tree, self.tree.opaque)
        for path, node in walk(self.tree):
            if node.children is not None:
                hides = self._parent_hides(path)
                if node.info is not None or self.whole:
                    yield self._entry(path, node.shown())
                yield from self._hidden(path, node, node.opaque or hides)
            else:
                yield from self._leaf(path, node)

    def _parent_hides(self, path: str) -> bool:
        parent, _, name = path.rpartition("/")
        node = lookup(self.tree, parent)
        return node is not None and node.hidden is not None and name in node.hidden

    def _hidden(self, path: str, node: Node, opaque: bool) -> Iterator[bytes]:
        if self.whole:
            return
        if opaque:
            yield self._mark(whiteout.make_opaque(path))
            return
        for name in sorted(node.hidden or (), key=_bytes):
            if name not in (node.children or {}):
                yield self._mark(whiteout.make_whiteout(f"{path}/{name}" if path else name))

    def _leaf(self, path: str, node: Node) -> Iterator[bytes]:
        info = node.shown()
        if info.type is EntryType.HARDLINK:
            # The file is below all these layers, if anywhere.
            if self.whole or lookup(self.tree, node.hardlink) is not None:
                raise InvalidArchive(
                    f"hard link {path!r} to {node.hardlink!r}, which an older layer does not have"
                )
            linked = replace(info, linkname=self.prefix + node.hardlink)
            yield self._entry(path, linked)
            return
        member = (info.layer, info.member)
        if info.type is EntryType.FILE:
            self.files_wanted.setdefault(member, []).append(path)
            return
        first = self.first_names.setdefault(member, path)
        yield self._entry(path, info) if first == path else self._hardlink(path, first, info)

    def files(self) -> Iterator[bytes]:
        """The files that are left, with their content."""
        for number, opener in enumerate(self.layers):
            left = sum(1 for layer, _ in self.files_wanted if layer == number)
            if left == 0:
                continue
            with opener() as reader:
                archive, member = TarReader(reader), -1
                while left and (entry := archive.next()) is not None:
                    self.task.cancel.check()
                    member += 1
                    names = self.files_wanted.get((number, member))
                    if names is not None:
                        left -= 1
                        yield from self._file(entry, archive, names)
                reader.abandon()

    def _file(self, entry: Entry, archive: TarReader, names: Sequence[str]) -> Iterator[bytes]:
        from imgtools.blob.tar import EntryData

        first, *others = names
        mtime = self._time(entry.mtime_ns)
        head = replace(entry, path=self.prefix + first, linkname="", mtime_ns=mtime)
        yield encode(head, subsecond=True)
        data = EntryData(archive, entry)
        count = 0
        while chunk := data.read(CHUNK):
            self.task.cancel.check()
            count += len(chunk)
            yield chunk
        yield bytes(-count % BLOCK)
        info = FileInfo.from_entry(entry, layer=0, member=0)
        for name in others:
            yield self._hardlink(name, first, info)

    def _entry(self, path: str, info: FileInfo) -> bytes:
        name = self.prefix + path
        if not name:
            name = "./"
        entry = Entry(
            path=name,
            type=info.type,
            mode=info.mode,
            uid=info.uid,
            gid=info.gid,
            uname=info.uname,
            gname=info.gname,
            mtime_ns=self._time(info.mtime_ns),
            linkname=info.linkname,
            devmajor=info.devmajor,
            devminor=info.devminor,
            xattrs=dict(info.xattrs or {}),
        )
        return encode(entry, subsecond=True)

    def _time(self, own: int) -> int:
        if self.mtime_ns is not None:
            return self.mtime_ns
        return own if self.latest_ns is None else min(own, self.latest_ns)

    def _hardlink(self, path: str, target: str, info: FileInfo) -> bytes:
        linked = replace(
            info, type=EntryType.HARDLINK, linkname=self.prefix + target, xattrs=None, size=0
        )
        return self._entry(path, linked)

    def _mark(self, path: str) -> bytes:
        return encode(Entry(path=self.prefix + path, mode=0))


def _drain(reader: BlobReader) -> None:
    """Read to the end, where the digest is checked."""
    while reader.read(CHUNK):
        pass


def _bytes(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")

"""What differs between two images: config, layers, files. Pure.

Files are compared as two trees (image/files.py). When shared layers below were not read, the
trees hold only what the layers above write and hide, and the answer says so where it
depends on what was not read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from imgtools.blob.tar.entry import EntryType
from imgtools.frozen import dataclass
from imgtools.image.files import FileInfo, Node, unlinked
from imgtools.image.model import Layer

Change = Literal["added", "removed", "changed", "written in A", "written in B"]
"""How a file of B differs from A. The last two are for files that only one image's own
layers write, when the shared layers, which may have a version of it, were not read."""

ABSENT = object()
"""The value of a property that is not there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigChange:
    """A property by its path in the config ("config.Env"); `before` or `after` is ABSENT
    when only one config has it."""

    path: tuple[str, ...]
    before: Any
    after: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerMatch:
    """The layers of A and B: the `shared` bottom ones, and those that are in one only.

    `both` are layers above the shared bottom that A and B have in common.
    """

    shared: int
    only_a: tuple[Layer, ...]
    only_b: tuple[Layer, ...]
    both: tuple[Layer, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FileChange:
    """A file that differs; `what` names the properties of a changed one, in a fixed order.

    Among them "opaque": one image drops what shared layers, which were not read, have there.
    """

    path: str
    change: Change
    before: FileInfo | None = None
    after: FileInfo | None = None
    what: tuple[str, ...] = ()


def config_changes(a: Mapping[str, Any], b: Mapping[str, Any]) -> tuple[ConfigChange, ...]:
    """The properties in which two configs differ, objects key by key, lists as a whole.

    The lists of layers and history are left out: `match_layers` tells that better.
    """
    found: list[ConfigChange] = []
    skipped = {("rootfs",), ("history",)}
    work: list[tuple[tuple[str, ...], Any, Any]] = [((), dict(a), dict(b))]
    while work:
        path, before, after = work.pop()
        if path in skipped:
            continue
        if isinstance(before, dict) and isinstance(after, dict):
            for key in before.keys() | after.keys():
                work.append(((*path, key), before.get(key, ABSENT), after.get(key, ABSENT)))
        elif type(before) is not type(after) or before != after:
            found.append(ConfigChange(path=path, before=before, after=after))
    return tuple(sorted(found, key=lambda change: change.path))


def same_layer(a: Layer, b: Layer) -> bool:
    """Whether two layers hold the same files: one blob, or one diff_id (which runtimes check
    when they unpack, whatever the compression)."""
    return a.digest == b.digest or (a.diff_id is not None and a.diff_id == b.diff_id)


def match_layers(a: Sequence[Layer], b: Sequence[Layer]) -> LayerMatch:
    """Which layers two images share."""
    shared = 0
    while shared < min(len(a), len(b)) and same_layer(a[shared], b[shared]):
        shared += 1
    rest_a, rest_b = a[shared:], b[shared:]
    return LayerMatch(
        shared=shared,
        only_a=tuple(x for x in rest_a if not any(same_layer(x, y) for y in rest_b)),
        only_b=tuple(y for y in rest_b if not any(same_layer(x, y) for x in rest_a)),
        both=tuple(x for x in rest_a if any(same_layer(x, y) for y in rest_b)),
    )


def file_changes(a: Node, b: Node, *, complete: bool) -> Iterator[FileChange]:
    """The files in which tree `b` differs from tree `a`, by path.

    `complete` says that the trees hold all of both images; else only the layers above the
    shared ones. A directory that is added or removed is followed by all it held.
    """
    work: list[tuple[str, Node | None, Node | None, bool, bool]] = [("", a, b, False, False)]
    while work:
        path, old, new, hidden_a, hidden_b = work.pop()
        if path:
            change = _compared(path, a, b, old, new, (hidden_a, hidden_b), complete)
            if change is not None:
                yield change
        below = f"{path}/" if path else ""
        names = _names(old) | _names(new)
        for name in sorted(names, reverse=True, key=_bytes):
            gone_a = hidden_a or _gone(old, name)
            gone_b = hidden_b or _gone(new, name)
            work.append((below + name, _child(old, name), _child(new, name), gone_a, gone_b))


def differences(before: FileInfo, after: FileInfo) -> tuple[str, ...]:
    """The properties in which two files differ, modification time aside.

    Content is compared by digest where both are known; the same member of the same layer
    is the same content.
    """
    if before.type is not after.type:
        return ("type",)
    found = []
    if before.type is EntryType.FILE:
        if before.size != after.size:
            found.append("size")
        if max(before.size, after.size) and _content(before) != _content(after):
            found.append("content")
    if before.mode != after.mode:
        found.append("mode")
    if (before.uid, before.gid) != (after.uid, after.gid):
        found.append("owner")
    if before.linkname != after.linkname and before.type is EntryType.SYMLINK:
        found.append("target")
    if (before.devmajor, before.devminor) != (after.devmajor, after.devminor):
        found.append("device")
    if dict(before.xattrs or {}) != dict(after.xattrs or {}):
        found.append("xattrs")
    return tuple(found)


def _compared(
    path: str,
    a: Node,
    b: Node,
    old: Node | None,
    new: Node | None,
    hidden: tuple[bool, bool],
    complete: bool,
) -> FileChange | None:
    before = None if old is None else unlinked(a, old)
    after = None if new is None else unlinked(b, new)
    if old is not None and new is not None and before is not None and after is not None:
        what = differences(before, after)
        if not complete:
            if what != ("type",) and (old.info is None or new.info is None):
                what = ()  # a directory that layers only pass through: as it was below
            if (old.opaque or hidden[0]) != (new.opaque or hidden[1]) and old.children is not None:
                what = (*what, "opaque")
        if not what:
            return None
        return FileChange(path=path, change="changed", before=before, after=after, what=what)
    if complete:
        if old is None and new is None:
            return None  # a whiteout of something that neither image has
        if new is None:
            return FileChange(path=path, change="removed", before=before)
        return FileChange(path=path, change="added", after=after)
    return _one_sided(path, old, new, before, after, hidden)


def _one_sided(
    path: str,
    old: Node | None,
    new: Node | None,
    before: FileInfo | None,
    after: FileInfo | None,
    hidden: tuple[bool, bool],
) -> FileChange | None:
    """A path that at most one image's own layers write, the shared layers being unknown."""
    hidden_a, hidden_b = hidden
    if new is not None:
        if new.info is None and not new.opaque and not any(hidden):
            return None  # a directory that layers only pass through
        return FileChange(path=path, change="added" if hidden_a else "written in B", after=after)
    if old is not None:
        if old.info is None and not old.opaque and not any(hidden):
            return None
        change: Change = "removed" if hidden_b else "written in A"
        return FileChange(path=path, change=change, before=before)
    if hidden_a == hidden_b:
        return None
    return FileChange(path=path, change="removed" if hidden_b else "added")


def _names(node: Node | None) -> set[str]:
    if node is None:
        return set()
    return set(node.children or ()) | (node.hidden or set())


def _child(node: Node | None, name: str) -> Node | None:
    return node.children.get(name) if node is not None and node.children is not None else None


def _gone(node: Node | None, name: str) -> bool:
    """Whether a tree says that nothing of the layers below it shows at `name`."""
    if node is None:
        return False
    if node.children is None:
        return True  # what is below a file cannot be seen
    return node.hides(name)


def _content(info: FileInfo) -> object:
    return info.digest or (info.layer, info.member, info.span)


def _bytes(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")

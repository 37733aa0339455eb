"""`inspect --files`: the files of an image as lines for people, or as JSON.

Pure; lines come one at a time, so that a long list needs no memory of its own.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from imgtools.blob.tar.entry import EntryType
from imgtools.image.files import FileInfo, Node, unlinked
from imgtools.inspect.text import json_line, printable

_LETTERS: Mapping[EntryType, str] = {
    EntryType.FILE: "-",
    EntryType.HARDLINK: "h",
    EntryType.SYMLINK: "l",
    EntryType.CHAR: "c",
    EntryType.BLOCK: "b",
    EntryType.DIR: "d",
    EntryType.FIFO: "p",
}
TYPE_NAMES: Mapping[EntryType, str] = {
    EntryType.FILE: "file",
    EntryType.HARDLINK: "hardlink",
    EntryType.SYMLINK: "symlink",
    EntryType.CHAR: "char",
    EntryType.BLOCK: "block",
    EntryType.DIR: "directory",
    EntryType.FIFO: "fifo",
}


def file_lines(root: Node, files: Iterable[tuple[str, Node]]) -> Iterator[str]:
    """`inspect --files` for people: mode, owner, size, time, layer, path, link target."""
    for path, node in files:
        info = unlinked(root, node)
        kind = EntryType.HARDLINK if node.hardlink else info.type
        mode = stat.filemode(info.mode & 0o7777)[1:]
        if info.type in (EntryType.CHAR, EntryType.BLOCK):
            size = f"{info.devmajor},{info.devminor}"
        else:
            size = str(info.size)
        owner = f"{info.uid}/{info.gid}"
        layer = "-" if node.info is None else str(info.layer)
        line = f"{_LETTERS[kind]}{mode} {owner:<11} {size:>10} {_moment(info)} {layer:>3} "
        line += printable(path) + ("/" if info.type is EntryType.DIR else "")
        if node.hardlink:
            line += f" link to {printable(node.hardlink)}"
        elif info.type is EntryType.SYMLINK:
            line += f" -> {printable(info.linkname)}"
        yield line


def file_json(root: Node, files: Iterable[tuple[str, Node]]) -> Iterator[str]:
    """`inspect --files --json`: the lines of a JSON array of one object per file.

    A byte that is not UTF-8 is the escape \\udcNN, from which os.fsencode gets it back.
    """
    before = "["
    for path, node in files:
        yield before + json_line(_file_object(root, path, node))
        before = ","
    yield "]" if before == "," else "[]"


def _file_object(root: Node, path: str, node: Node) -> dict[str, Any]:
    info = unlinked(root, node)
    value: dict[str, Any] = {
        "Path": path,
        "Type": TYPE_NAMES[info.type],
        "Mode": f"{info.mode:04o}",
        "Uid": info.uid,
        "Gid": info.gid,
        "Size": info.size,
        "ModTime": None if node.info is None else _iso(info.mtime_ns),
        "Layer": None if node.info is None else info.layer,
    }
    if info.type is EntryType.SYMLINK:
        value["Target"] = info.linkname
    if node.hardlink:
        value["HardLink"] = node.hardlink
    if info.type in (EntryType.CHAR, EntryType.BLOCK):
        value["Device"] = [info.devmajor, info.devminor]
    if info.xattrs:
        value["Xattrs"] = sorted(info.xattrs)
    if info.digest:
        value["Digest"] = info.digest
    return value


def _moment(info: FileInfo) -> str:
    return _iso(info.mtime_ns)[:16].replace("T", " ")


def _iso(ns: int) -> str:
    """A time in UTC to the second; what no calendar has is shown as seconds."""
    try:
        moment = datetime.fromtimestamp(ns // 1_000_000_000, UTC)
    except (ValueError, OverflowError, OSError):
        return f"@{ns // 1_000_000_000}"
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ").rjust(20, "0")

"""A comparison of two images as lines for people and as an object for machines. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from imgtools.blob.tar.entry import EntryType
from imgtools.image.files import FileInfo
from imgtools.image.model import Layer
from imgtools.inspect.compare import ABSENT, FileChange
from imgtools.inspect.diff import Difference
from imgtools.inspect.listing import TYPE_NAMES
from imgtools.inspect.text import human_size, json_line, printable

_MARKS = {"added": "+", "removed": "-", "changed": "~", "written in A": "<", "written in B": ">"}


def diff_lines(difference: Difference, names: tuple[str, str]) -> Iterator[str]:
    """The comparison for people; `names` are what A and B were called."""
    for letter, name, image in zip("AB", names, (difference.a, difference.b), strict=True):
        yield f"{letter}: {printable(name)} {image.raw.digest}"
    if difference.a.raw.digest == difference.b.raw.digest:
        yield "The images are the same."
        return
    yield ""
    yield "Config: " + (f"{len(difference.config)} changed" if difference.config else "the same")
    for change in difference.config:
        path = printable(".".join(change.path))
        if change.before is ABSENT:
            yield f"  + {path}: {_value(change.after)}"
        elif change.after is ABSENT:
            yield f"  - {path}: {_value(change.before)}"
        else:
            yield f"  ~ {path}: {_value(change.before)} -> {_value(change.after)}"
    layers = difference.layers
    yield ""
    yield (
        f"Layers: {layers.shared + len(layers.both)} shared, {len(layers.only_a)} only in A, "
        f"{len(layers.only_b)} only in B"
    )
    for mark, group in (("-", layers.only_a), ("+", layers.only_b)):
        for layer in group:
            yield f"  {mark} {_layer(layer)}"
    if difference.files is None:
        return
    yield ""
    yield from _file_lines(difference, difference.files)


def diff_object(difference: Difference, names: tuple[str, str]) -> dict[str, Any]:
    """The comparison for machines."""
    layers = difference.layers
    return {
        "A": {"Name": names[0], "Digest": str(difference.a.raw.digest)},
        "B": {"Name": names[1], "Digest": str(difference.b.raw.digest)},
        "Config": [
            {"Path": list(change.path)}
            | ({} if change.before is ABSENT else {"A": change.before})
            | ({} if change.after is ABSENT else {"B": change.after})
            for change in difference.config
        ],
        "Layers": {
            "Shared": [
                str(layer.digest) for layer in (*difference.a.layers[: layers.shared], *layers.both)
            ],
            "OnlyA": [_layer_object(layer) for layer in layers.only_a],
            "OnlyB": [_layer_object(layer) for layer in layers.only_b],
        },
        "FilesComplete": difference.complete,
        "Files": None
        if difference.files is None
        else [_file_object(change) for change in difference.files],
    }


def _file_lines(difference: Difference, files: tuple[FileChange, ...]) -> Iterator[str]:
    counts = dict.fromkeys(_MARKS, 0)
    for change in files:
        counts[change.change] += 1
    said = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    yield f"Files: {said or 'the same'}"
    if counts["written in A"] or counts["written in B"]:
        yield (
            "  (< and > are in layers of one image only; a shared layer, which was not read, "
            "may have an older version: --read-shared tells)"
        )
    for change in files:
        yield f"  {_MARKS[change.change]} {printable(change.path)}{_details(change)}"


def _details(change: FileChange) -> str:
    before, after = change.before, change.after
    if change.change != "changed" or before is None or after is None:
        info = after or before
        if info is None:
            return ""
        if info.type is EntryType.FILE:
            return f"  {human_size(info.size)}"
        if info.type is EntryType.SYMLINK:
            return f" -> {printable(info.linkname)}"
        return "/" if info.type is EntryType.DIR else f"  {TYPE_NAMES[info.type]}"
    said = []
    for what in change.what:
        pair = _property(before, what), _property(after, what)
        said.append(what if None in pair else f"{what} {pair[0]} -> {pair[1]}")
    return "  " + ", ".join(said)


def _property(info: FileInfo, what: str) -> str | None:
    values = {
        "type": TYPE_NAMES[info.type],
        "size": str(info.size),
        "mode": f"{info.mode:04o}",
        "owner": f"{info.uid}:{info.gid}",
        "target": printable(info.linkname),
        "device": f"{info.devmajor},{info.devminor}",
    }
    return values.get(what)


def _file_object(change: FileChange) -> dict[str, Any]:
    value: dict[str, Any] = {"Path": change.path, "Change": change.change}
    if change.what:
        value["What"] = list(change.what)
    for letter, info in (("A", change.before), ("B", change.after)):
        if info is not None:
            value[letter] = {
                "Type": TYPE_NAMES[info.type],
                "Mode": f"{info.mode:04o}",
                "Uid": info.uid,
                "Gid": info.gid,
                "Size": info.size,
                "Target": info.linkname or None,
                "Digest": info.digest or None,
            }
    return value


def _value(value: Any) -> str:
    return printable(json_line(value))


def _layer(layer: Layer) -> str:
    created_by = f"  {printable(layer.step.created_by)}" if layer.step is not None else ""
    return f"{layer.digest}  {human_size(layer.descriptor.size)}{created_by}"


def _layer_object(layer: Layer) -> dict[str, Any]:
    return {
        "Digest": str(layer.digest),
        "Size": layer.descriptor.size if layer.descriptor.size >= 0 else None,
        "DiffID": None if layer.diff_id is None else str(layer.diff_id),
        "CreatedBy": None if layer.step is None else layer.step.created_by,
    }

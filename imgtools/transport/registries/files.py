"""Finds and reads the files of containers-registries.conf(5).

A file that cannot matter costs nothing but its reading: one of comments alone says nothing,
and one of aliases alone is parsed only for those who ask what a short name means.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from imgtools.errors import LimitExceeded, NotFound, StorageError
from imgtools.transport.options import RegistriesFiles

if TYPE_CHECKING:
    from imgtools.transport.registries.model import Alias, RegistriesConfig

FILE_LIMIT = 1024 * 1024
"""Bytes of one file; real ones have a few thousand."""


def load(files: RegistriesFiles, *, aliases: bool = False) -> RegistriesConfig:
    """The configuration in `files`; without `aliases` they may be missing from it.

    Raises NotFound for a file that must be there, StorageError for one that cannot be read,
    InvalidInput for one that is malformed, LimitExceeded for one that is too large.
    """
    from imgtools.transport.registries.merge import merge
    from imgtools.transport.registries.model import Layer

    layers: list[Layer] = []
    for path, content, drop_in in _contents(files):
        if not _matters(content, aliases=aliases):
            layers.append(Layer(file=path))
            continue
        from imgtools.transport.registries.parse import parse

        layers.append(parse(content, path, drop_in=drop_in))
    return merge(layers)


def load_if_any(files: RegistriesFiles) -> RegistriesConfig | None:
    """Like `load`, but None, and quicker, when no file configures anything but aliases."""
    if not any(_matters(content, aliases=False) for _, content, _ in _contents(files)):
        return None
    return load(files)


def load_recorded(files: RegistriesFiles) -> Mapping[str, Alias]:
    """The aliases that tools have recorded; raises like `load`."""
    content = _read(files.aliases) if files.aliases else None
    if content is None or not files.aliases:
        return {}
    from imgtools.transport.registries.parse import parse

    return {alias.name: alias for alias in parse(content, files.aliases, drop_in=True).aliases}


def _contents(files: RegistriesFiles) -> Iterator[tuple[str, bytes, bool]]:
    """Path and content of each file that counts, and whether it is a drop-in."""
    shadowed: set[str] = set()
    for number, path in enumerate(files.main):
        content = _read(path)
        if content is not None:
            yield path, content, False
            # A user's own file replaces the system's, and with it the system's drop-ins.
            shadowed = {f"{other}.d" for other in files.main[number + 1 :]}
            break
    else:
        if files.required and files.main:
            raise NotFound(f"registries configuration {files.main[0]} does not exist")
    for directory in files.drop_ins:
        if directory in shadowed:
            continue
        for path in _drop_ins(directory):
            content = _read(path)
            if content is not None:
                yield path, content, True


def _drop_ins(directory: str) -> list[str]:
    try:
        with os.scandir(directory) as entries:
            names = [
                entry.name
                for entry in entries
                if entry.name.endswith(".conf") and not entry.is_dir(follow_symlinks=False)
            ]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as e:
        raise StorageError(f"{directory}: {(e.strerror or str(e)).lower()}", path=directory) from e
    return [os.path.join(directory, name) for name in sorted(names)]


def _read(path: str) -> bytes | None:
    """The content of a file, None when there is none."""
    try:
        with open(path, "rb") as file:
            content = file.read(FILE_LIMIT + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as e:
        reason = (getattr(e, "strerror", None) or str(e)).lower()
        raise StorageError(f"{path}: {reason}", path=path) from e
    if len(content) > FILE_LIMIT:
        raise LimitExceeded(path, FILE_LIMIT)
    return content


def _matters(content: bytes, *, aliases: bool) -> bool:
    """Whether a file says anything, or without `aliases` anything else than those.

    It has only aliases when its first table is theirs and no line opens another one; in
    doubt, as with a text of several lines, it matters.
    """
    lines = _lines(content)
    first = next(lines, b"")
    if aliases or first.replace(b" ", b"") != b"[aliases]":
        return bool(first)
    return any(line.startswith(b"[") for line in lines)


def _lines(content: bytes) -> Iterator[bytes]:
    """The lines that are neither empty nor comments."""
    stripped = (line.strip() for line in content.splitlines())
    return (line for line in stripped if line and not line.startswith(b"#"))

"""A context, a tree below and a copy between them: the layer's entries, and the tree it makes.

What a layer does is seen by unpacking it over a copy of the tree below, as a store does.
"""

from __future__ import annotations

import io
import os
import stat
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imgtools.blob.tar import (
    Devices,
    Entry,
    EntryType,
    TarReader,
    UnpackOptions,
    pack_tree,
    unpack_tree,
)
from imgtools.build.copying.model import CopyPlan, CopyRequest, CopyResult, CopySource, TreeFiles
from imgtools.build.copying.survey import plan_copy
from imgtools.build.copying.write import write_copy
from imgtools.build.tree import NoRecords, Records, Tree
from imgtools.task import Task

NOW = 1_600_000_000
"""When directories are made that no source has."""


@contextmanager
def opened(path: Path, name: str = "context", records: Records | None = None) -> Iterator[Tree]:
    """The tree at `path`."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield Tree(fd=fd, name=name, records=records or NoRecords())
    finally:
        os.close(fd)


@dataclass(frozen=True, slots=True, kw_only=True)
class Copied:
    """What a copy gave: the layer, and the directory where it lies on the tree below."""

    plan: CopyPlan
    result: CopyResult
    layer: bytes
    root: Path

    @property
    def entries(self) -> dict[str, Entry]:
        """Members of the layer by path, without slashes at the end."""
        return {entry.path.rstrip("/"): entry for entry, _ in TarReader(io.BytesIO(self.layer))}

    @property
    def names(self) -> list[str]:
        """Paths of the layer's members in their order, directories with a slash."""
        return [entry.path for entry, _ in TarReader(io.BytesIO(self.layer))]

    def mode(self, path: str) -> int:
        """Mode of a member, without type."""
        return self.entries[path].mode

    def owner(self, path: str) -> tuple[int, int]:
        """Owner of a member."""
        return self.entries[path].uid, self.entries[path].gid

    def text(self, path: str) -> str:
        """Content of a file of the tree that comes out."""
        return (self.root / path).read_text()


class Site:
    """A directory for the context, one for the tree below, and room for what comes out."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.context = path / "context"
        self.base = path / "base"
        self.context.mkdir()
        self.base.mkdir()
        self._count = 0

    def request(
        self,
        patterns: tuple[str, ...],
        destination: str,
        context: Tree,
        base: Tree | None,
        ignored: Callable[[str], bool] | None = None,
        **options: Any,
    ) -> CopyRequest:
        """A request to copy words of the context."""
        source = TreeFiles(tree=context, patterns=patterns, ignored=ignored)
        return CopyRequest(
            sources=(source,), destination=destination, base=base, now=NOW, **options
        )

    def copy(self, *words: str, records: Records | None = None, **options: Any) -> Copied:
        """COPY with the last word as its destination."""
        with opened(self.context, records=records) as context, opened(self.base, "base") as base:
            patterns, destination = words[:-1], words[-1]
            return self.run(self.request(patterns, destination, context, base, **options))

    def add(self, *words: str, **options: Any) -> Copied:
        """ADD."""
        return self.copy(*words, add=True, **options)

    def copy_sources(self, *sources: CopySource, destination: str, **options: Any) -> Copied:
        """A copy of sources that are not in the context."""
        with opened(self.base, "base") as base:
            request = CopyRequest(
                sources=sources, destination=destination, base=base, now=NOW, **options
            )
            return self.run(request)

    def run(self, request: CopyRequest) -> Copied:
        """Plan, write, and unpack on the tree below."""
        plan = plan_copy(request, task=Task())
        out = io.BytesIO()
        result = write_copy(plan, out.write, task=Task())
        layer = out.getvalue()
        assert result.size == len(layer)
        again = io.BytesIO()
        write_copy(plan, again.write, task=Task())
        assert again.getvalue() == layer
        return Copied(plan=plan, result=result, layer=layer, root=self.over_base(layer))

    def over_base(self, layer: bytes) -> Path:
        """A copy of the tree below with a layer on it."""
        self._count += 1
        root = self.path / f"root{self._count}"
        root.mkdir()
        below = io.BytesIO()
        pack_tree(str(self.base), below.write)
        options = UnpackOptions(devices=Devices.ALLOW, layered=True)
        unpack_tree(io.BytesIO(below.getvalue()), str(root), options)
        unpack_tree(io.BytesIO(layer), str(root), options)
        return root

    def tar(self, name: str, *members: tarfile.TarInfo | tuple[tarfile.TarInfo, bytes]) -> Path:
        """An archive in the context."""
        path = self.context / name
        path.write_bytes(tar_of(*members))
        return path


def tar_of(*members: tarfile.TarInfo | tuple[tarfile.TarInfo, bytes]) -> bytes:
    """A tar of members, in PAX format where one needs it."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for member in members:
            info, data = member if isinstance(member, tuple) else (member, b"")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def member(
    name: str,
    kind: EntryType = EntryType.FILE,
    *,
    mode: int = 0o644,
    link: str = "",
    owner: tuple[int, int] = (0, 0),
    mtime: int = 1000,
    **xattrs: bytes,
) -> tarfile.TarInfo:
    """A member for `tar_of`."""
    info = tarfile.TarInfo(name)
    info.type = kind.value.encode()
    info.mode, info.linkname, info.mtime = mode, link, mtime
    info.uid, info.gid = owner
    info.pax_headers = {
        f"SCHILY.xattr.{key.replace('_', '.')}": value.decode("utf-8", "surrogateescape")
        for key, value in xattrs.items()
    }
    return info


def listing(root: Path) -> dict[str, str]:
    """What is below `root`: type, mode, and content or target, by path."""
    found = {}
    for directory, names, files in os.walk(root):
        for name in names + files:
            path = Path(directory) / name
            st = path.lstat()
            text = f"{stat.filemode(st.st_mode)} {st.st_uid}:{st.st_gid}"
            if path.is_symlink():
                text += f" -> {os.readlink(path)}"
            elif stat.S_ISREG(st.st_mode):
                text += f" {path.read_bytes()!r}"
            found[str(path.relative_to(root))] = text
    return found

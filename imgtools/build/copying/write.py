"""The layer of a COPY or ADD, written as a tar straight from the sources.

Order is that of a walk over the destination, so the same files always give the same bytes; what
comes out of archives follows behind, in the order of each archive. Memory grows with the
number of members, not with their sizes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from imgtools.blob.tar import EntryType, TarReader, TarWriter
from imgtools.build.copying.archives import Unpacking, open_archive
from imgtools.build.copying.below import described, tree_below
from imgtools.build.copying.emit import (
    Emitter,
    SourceFiles,
    changed,
    check_unchanged,
    is_whiteout_name,
)
from imgtools.build.copying.layout import BELOW, Layout, Placed
from imgtools.build.copying.model import (
    BytesOrigin,
    CopyPlan,
    CopyResult,
    Found,
    HostOrigin,
    Member,
    TreeOrigin,
)
from imgtools.build.copying.place import made_directory, place, place_root
from imgtools.build.copying.sniffing import open_host
from imgtools.build.tree import Tree
from imgtools.build.trees import xattrs_of
from imgtools.errors import InvalidInput, LimitExceeded, Unsupported
from imgtools.task import Task

CHECK_EVERY = 256

InArchive = dict[int, list[tuple[bytes, Member]]]
"""Paths in the layer, by the number of the member that has their content."""


def write_copy(
    plan: CopyPlan,
    write: Callable[[bytes], object],
    *,
    task: Task,
    base: Tree | None = None,
) -> CopyResult:
    """Write the layer of `plan` as an uncompressed tar through `write`.

    `base` is the tree below where the request has none yet. Raises InvalidInput where something
    is in the way or has a whiteout's name, UnsafePath, InvalidArchive and LimitExceeded
    (archives), Conflict (a file changed since the survey), StorageError, Cancelled, and what
    `write` raises; what was written is useless then.
    """
    files = SourceFiles()
    try:
        return _Copy(plan, write, base or plan.request.base, files, task).run()
    finally:
        files.close()


class _Copy:
    def __init__(
        self,
        plan: CopyPlan,
        write: Callable[[bytes], object],
        base: Tree | None,
        files: SourceFiles,
        task: Task,
    ) -> None:
        self._plan = plan
        self._base = None if plan.request.link else base
        self._below = tree_below(self._base)
        self._layout = Layout(self._below)
        self._writer = TarWriter(write)
        self._emit = Emitter(self._writer, plan.request, task.cancel)
        self._files = files
        self._task = task
        self._names: dict[int, bytes] = {}
        self._mixed = any(found.archive for found in plan.found)

    def run(self) -> CopyResult:
        for source, found in enumerate(self._plan.found):
            if found.archive:
                self._index(found, source)
            else:
                place(self._layout, self._plan.request, found, source)
        in_archives: dict[int, InArchive] = {}
        for count, (path, placed) in enumerate(self._layout.finish()):
            if not count % CHECK_EVERY:
                self._task.cancel.check()
            if placed is None:
                self._of_below(path)
            elif placed.member.type is not EntryType.FILE:
                self._emit.bare(path, placed.member)
            elif placed.member.index >= 0:
                paths = in_archives.setdefault(placed.source, {})
                paths.setdefault(placed.member.index, []).append((path, placed.member))
            else:
                self._file(path, placed)
        for source, wanted in sorted(in_archives.items()):
            self._from_archive(self._plan.found[source], wanted)
        self._writer.finish()
        return CopyResult(entries=self._emit.entries, size=self._writer.offset)

    def _of_below(self, path: bytes) -> None:
        """A whiteout, or a directory of the tree below as it is."""
        if is_whiteout_name(path):
            self._emit.whiteout(path)
        elif self._base is not None:
            member = described(self._base, self._below, path)
            if member is None:
                raise changed(f"{os.fsdecode(path)} in {self._base.name}")
            self._emit.bare(path, member)

    def _file(self, path: bytes, placed: Placed) -> None:
        member, source = placed
        node = member.node
        if member.same_as is not None or self._mixed or (node is not None and node.nlink > 1):
            first = self._names.setdefault(id(member.same_as or member), path)
            if first is not path:
                self._emit.link(path, member, first)
                return
        if source == BELOW:
            assert self._base is not None
            origin: TreeOrigin | BytesOrigin | HostOrigin = TreeOrigin(tree=self._base, path=b"")
            member.xattrs = xattrs_of(self._base, member.path)
        else:
            origin = self._plan.found[source].origin
        if isinstance(origin, BytesOrigin):
            self._emit.content(path, member, origin.content)
            return
        fd = self._open(origin, member)
        try:
            self._emit.file(path, member, fd, origin)
        finally:
            os.close(fd)

    def _open(self, origin: TreeOrigin | HostOrigin, member: Member) -> int:
        if isinstance(origin, HostOrigin):
            return open_host(origin.path)
        return self._files.open(origin, member)

    def _index(self, found: Found, source: int) -> None:
        """Place the members of an archive; its data is read past."""
        request = self._plan.request
        root = place_root(self._layout, request)
        like = made_directory(request, unpacking=True)
        unpacking = Unpacking(self._layout, root, like, source, request.owner)
        with self._archive(found) as (reader, _):
            unpacking.run(reader, task=self._task)

    def _from_archive(self, found: Found, wanted: InArchive) -> None:
        """Write the files of an archive that are left, the first name of each with the data."""
        with self._archive(found) as (reader, shown):
            left = len(wanted)
            for index, (entry, data) in enumerate(reader):
                if not index % CHECK_EVERY:
                    self._task.cancel.check()
                if index not in wanted:
                    continue
                (first, member), *others = wanted[index]
                if entry.size != member.size:
                    raise changed(shown)
                self._emit.stream(first, member, data, shown)
                for path, other in others:
                    self._emit.link(path, other, first)
                left -= 1
                if not left:
                    return
            raise changed(shown)

    @contextmanager
    def _archive(self, found: Found) -> Iterator[tuple[TarReader, str]]:
        """A reader of an archive, and what messages call it: those of the block begin with that.
        Whether the archive is what it was is checked before and after."""
        origin, member = found.origin, found.members[0]
        assert not isinstance(origin, BytesOrigin)
        fd = self._open(origin, member)
        try:
            check_unchanged(fd, member, origin)
            yield open_archive(fd, origin.shown(member)), origin.shown(member)
            check_unchanged(fd, member, origin)
        except (InvalidInput, LimitExceeded, Unsupported) as e:
            e.with_context(origin.shown(member))
            raise
        finally:
            os.close(fd)

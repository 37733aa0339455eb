"""COPY and ADD: sources opened or fetched, keys by where they are from and by what they are,
and the layer written straight from them."""

from __future__ import annotations

import hashlib
import os
import tempfile
from contextlib import ExitStack
from dataclasses import replace
from typing import BinaryIO

from imgtools.build.contexts.fetch import fetch_git, fetch_url, remote_state
from imgtools.build.copying.digest import content_digest
from imgtools.build.copying.model import (
    CopyPlan,
    CopyRequest,
    CopySource,
    InlineFile,
    TreeFiles,
    WholeTree,
)
from imgtools.build.copying.plan import plan_copy
from imgtools.build.copying.write import write_copy
from imgtools.build.execute.crew import Keyed, Made, StepContext
from imgtools.build.execute.users import resolve_owner
from imgtools.build.planning.keys import copy_key
from imgtools.build.planning.model import (
    CopyFrom,
    CopyWork,
    GitFrom,
    InlineFrom,
    PathsFrom,
    UrlFrom,
)
from imgtools.build.tree import Tree
from imgtools.spec.digest import Digest


class _Copy:
    """One COPY or ADD of a stage."""

    def __init__(self, work: CopyWork, context: StepContext) -> None:
        self._work = work
        self._context = context
        self._crew = context.crew
        self._plan: CopyPlan | None = None
        self._content = ""

    def keyed(self) -> Keyed:
        """Looked up by where sources are from, if that says it all, then by content."""
        origins = tuple(self._origin(source) for source in self._work.sources)
        if all(origins):
            key = self._key(tuple(f"from {origin}" for origin in origins))
            return Keyed(keys=(key,), execute=self.execute, more=lambda: (self._content_key(),))
        return Keyed(keys=(self._content_key(),), execute=self.execute)

    def _key(self, content: tuple[str, ...]) -> str:
        return copy_key(
            self._context.run.chain_id,
            self._work,
            content,
            self._context.run.plan.standing.platform,
            self._crew.options.stamps,
        )

    def _content_key(self) -> str:
        return self._key((self.content(),))

    def _origin(self, source: CopyFrom) -> str:
        """What says of a source which content it has, without reading it; "" if nothing."""
        if isinstance(source, UrlFrom):
            return f"{source.url} {self._work.checksum}" if self._work.checksum else ""
        if isinstance(source, GitFrom):
            return remote_state(source.url, task=self._context.task)
        if isinstance(source, InlineFrom):
            return ""
        sources, task = self._crew.sources, self._context.task
        if sources.context(source.source, task) is not None:
            return ""
        return f"{sources.chain(source.source, task)} {list(source.patterns)!r}"

    def content(self) -> str:
        """The digest of what is copied."""
        if not self._content:
            self._content = str(content_digest(self.plan(), self._crew.hashes))
        return self._content

    def plan(self) -> CopyPlan:
        """What the sources are found to be; walks them once."""
        if self._plan is None:
            self._plan = plan_copy(self._request(None), task=self._context.task)
        return self._plan

    def _request(self, base: Tree | None) -> CopyRequest:
        work = self._work
        mtime, clamp = self._crew.file_times()
        found = self._plan.request.sources if self._plan is not None else None
        return CopyRequest(
            sources=found or tuple(self._opened(source) for source in work.sources),
            destination=work.destination,
            base=base,
            add=work.add,
            owner=self._owner(base) if base is not None or work.link else None,
            keep_owner=work.from_stage and not work.chown,
            chmod=work.chmod,
            link=work.link,
            parents=work.parents,
            exclude=work.exclude,
            unpack=work.unpack,
            mtime=mtime,
            mtime_clamp=clamp,
            now=self._crew.created(),
        )

    def _owner(self, base: Tree | None) -> tuple[int, int] | None:
        chown = self._work.chown
        return resolve_owner(base, chown, option="--chown") if chown else None

    def _opened(self, source: CopyFrom) -> CopySource:
        crew, task = self._crew, self._context.task
        if isinstance(source, InlineFrom):
            return InlineFile(name=source.document.name, content=source.document.content.encode())
        if isinstance(source, UrlFrom):
            return fetch_url(source.url, crew.scratch, self._work.checksum, task=task)
        if isinstance(source, GitFrom):
            tree = crew.sources.enter(
                fetch_git(
                    source.url,
                    crew.scratch,
                    keep_git_dir=bool(self._work.keep_git_dir),
                    checksum=self._work.checksum,
                    task=task,
                )
            )
            return WholeTree(tree=tree)
        assert isinstance(source, PathsFrom)
        opened = crew.sources.context(source.source, task)
        return TreeFiles(
            tree=crew.sources.tree(source.source, task),
            patterns=source.patterns,
            ignored=opened.ignored if opened is not None else None,
        )

    def execute(self) -> Made:
        """Write the layer and have the store make it."""
        store, task = self._crew.environment.store, self._context.task
        chain = self._context.run.chain_id
        plan = self.plan()
        with ExitStack() as undo:
            base = None if self._work.link else undo.enter_context(store.tree(chain))
            plan = replace(plan, request=self._request(base))
            spool = undo.enter_context(tempfile.TemporaryFile(dir=self._crew.scratch))
            hashing = _Hashing(spool)
            size = write_copy(plan, hashing.write, task=task).size
            spool.flush()
            os.lseek(spool.fileno(), 0, os.SEEK_SET)
            spool.seek(0)
            layer = store.apply(chain, hashing.digest(), spool, size, task=task)
        return Made(layer=layer, note=self._note(plan))

    def _note(self, plan: CopyPlan) -> str:
        kind = "multi"
        if len(plan.found) == 1:
            kind = "dir" if plan.found[0].is_dir else "file"
        return f"{kind}:{self.content().partition(':')[2]}"


class _Hashing:
    """Writes to a file, and hashes what goes there."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._hasher = hashlib.sha256()

    def write(self, data: bytes) -> None:
        """Pass on."""
        self._hasher.update(data)
        self._file.write(data)

    def digest(self) -> Digest:
        """Of all that was written."""
        return Digest("sha256", self._hasher.hexdigest())


def prepare_copy(work: CopyWork, context: StepContext) -> Keyed:
    """A COPY or ADD to be looked up or executed; waits for the stage that it copies from."""
    return _Copy(work, context).keyed()

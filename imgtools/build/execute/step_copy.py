"""COPY and ADD: sources opened or fetched, keys by where they are from and by what they are,
and the layer written straight from them."""

from __future__ import annotations

import hashlib
import re
import tempfile
from contextlib import ExitStack
from typing import BinaryIO

from imgtools.blob.files import storage_errors, write_all
from imgtools.build.contexts.fetch import fetch_git, fetch_url, remote_state, url_state
from imgtools.build.copying.digests import content_digest
from imgtools.build.copying.model import (
    CopyPlan,
    CopyRequest,
    CopySource,
    FetchedFile,
    InlineFile,
    TreeFiles,
    WholeTree,
    sockets_left_out,
)
from imgtools.build.copying.survey import plan_copy
from imgtools.build.copying.write import write_copy
from imgtools.build.events import BuildNote
from imgtools.build.execute.crew import Keyed, Made, StepContext
from imgtools.build.execute.users import resolve_owner
from imgtools.build.planning.keys import LINKED, copy_key
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

SPOOLED = 256 << 10
"""Bytes that are written at a time."""
_NUMBERS = re.compile(r"[0-9]+(?::[0-9]+)?|:[0-9]+")


class _Copy:
    """One COPY or ADD of a stage."""

    def __init__(self, work: CopyWork, context: StepContext) -> None:
        self._work = work
        self._context = context
        self._crew = context.crew
        self._plan: CopyPlan | None = None
        self._content = ""
        self._origins: tuple[str, ...] = ()
        self._fetched: dict[str, FetchedFile] = {}
        # What was looked up by its state is fetched in that state, whatever was there since.
        self._pinned: dict[str, str] = {}

    def keyed(self) -> Keyed:
        """Looked up by where sources are from, if that says it all, then by content."""
        origins = tuple(self._origin(source) for source in self._work.sources)
        linked = self._linked_keys if self._stands_alone() else None
        if all(origins):
            self._origins = tuple(f"from {origin}" for origin in origins)
            key = self._key(self._origins)
            return Keyed(keys=(key,), execute=self.execute, more=self._costly_keys, linked=linked)
        return Keyed(keys=(self._content_key(),), execute=self.execute, linked=linked)

    def _stands_alone(self) -> bool:
        """Whether the layer is the same on any base: nothing of that is read by --link, and no
        name is looked up in it."""
        work = self._work
        return work.link and (not work.chown or _NUMBERS.fullmatch(work.chown) is not None)

    def _linked_keys(self) -> tuple[str, ...]:
        found = [self._key(self._origins, LINKED)] if self._origins else []
        if not self._crew.dry or all(map(self._is_here, self._work.sources)):
            found.append(self._key((self.content(),), LINKED))
        return tuple(found)

    def _key(self, content: tuple[str, ...], parent: str = "") -> str:
        return copy_key(
            parent or self._context.run.chain_id,
            self._work,
            content,
            self._context.run.plan.standing.platform,
            self._crew.options.stamps,
        )

    def _costly_keys(self) -> tuple[str, ...]:
        """By content, which may have to be fetched; who only asks what would be done fetches
        nothing for that."""
        if self._crew.dry and not all(map(self._is_here, self._work.sources)):
            return ()
        return (self._content_key(),)

    def _is_here(self, source: CopyFrom) -> bool:
        if not isinstance(source, PathsFrom):
            return isinstance(source, InlineFrom)
        if self._crew.sources.context(source.source, self._context.task) is not None:
            return True
        chain = self._crew.sources.chain(source.source, self._context.task)
        return chain is None or self._crew.environment.store.has(chain)

    def _content_key(self) -> str:
        return self._key((self.content(),))

    def _origin(self, source: CopyFrom) -> str:
        """What says of a source which content it has, without reading it; "" if nothing."""
        scratch, fetch = self._crew.scratch, self._crew.sources.fetch
        checksum, task = self._work.checksum, self._context.task
        if isinstance(source, UrlFrom):
            if checksum:
                self._crew.materials.url(source.url, checksum)
                return f"{source.url} {checksum}"
            state, file = url_state(source.url, scratch, options=fetch, task=task)
            if file is not None:
                self._fetched[source.url] = file
            self._pinned[source.url] = state.partition(" ")[0]
            self._crew.materials.url(source.url, self._pinned[source.url])
            return f"{source.url} {state}"
        if isinstance(source, GitFrom):
            state = remote_state(source.url, scratch, checksum=checksum, options=fetch, task=task)
            self._pinned[source.url] = state.partition(":")[0]
            self._crew.materials.commit(source.url, self._pinned[source.url])
            return f"{source.url} {state}"
        if isinstance(source, InlineFrom):
            return ""
        sources = self._crew.sources
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
            work = self._work
            sources = tuple(self._opened(source) for source in work.sources)
            owner = None
            if _NUMBERS.fullmatch(work.chown):
                owner = resolve_owner(None, work.chown, option="--chown")
            self._plan = plan_copy(self._request(sources, owner), task=self._context.task)
            self._tell_of_sockets(self._plan.sockets)
        return self._plan

    def _tell_of_sockets(self, count: int) -> None:
        """BuildKit makes empty files of those in a context, and leaves out those of stages."""
        if count:
            at = self._context.step.instruction.location
            text = f"{sockets_left_out(count)}: {self._context.step.text}"
            note = BuildNote(level="warning", text=text, place=f"{at.file}:{at.first}")
            self._crew.environment.report(note)

    def _request(
        self, sources: tuple[CopySource, ...], owner: tuple[int, int] | None
    ) -> CopyRequest:
        work = self._work
        mtime, clamp = self._crew.file_times()
        return CopyRequest(
            sources=sources,
            destination=work.destination,
            base=None,
            add=work.add,
            owner=owner,
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

    def _owned(self, base: Tree | None) -> CopyPlan:
        """The plan with the owner that a name means in `base`."""
        plan, chown = self.plan(), self._work.chown
        if not chown or plan.request.owner is not None:
            return plan
        owner = resolve_owner(base, chown, option="--chown")
        return plan_copy(self._request(plan.request.sources, owner), task=self._context.task)

    def _opened(self, source: CopyFrom) -> CopySource:
        crew, task = self._crew, self._context.task
        if isinstance(source, InlineFrom):
            return InlineFile(name=source.document.name, content=source.document.content.encode())
        if isinstance(source, UrlFrom):
            if source.url in self._fetched:
                return self._fetched[source.url]
            checksum = self._work.checksum or self._pinned.get(source.url, "")
            return fetch_url(
                source.url, crew.scratch, checksum, options=crew.sources.fetch, task=task
            )
        if isinstance(source, GitFrom):
            tree = crew.sources.enter(
                fetch_git(
                    source.url,
                    crew.scratch,
                    keep_git_dir=self._work.keep_git_dir,
                    checksum=self._work.checksum,
                    commit=self._pinned.get(source.url, ""),
                    options=crew.sources.fetch,
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
            may_keep=opened.may_keep if opened is not None else None,
        )

    def execute(self) -> Made:
        """Write the layer and have the store make it."""
        store, task = self._crew.environment.store, self._context.task
        chain = self._context.run.chain_id
        with ExitStack() as undo:
            base = None if self._work.link else undo.enter_context(store.tree(chain))
            plan = self._owned(base)
            scratch = self._crew.scratch
            with storage_errors(scratch):
                file = undo.enter_context(tempfile.TemporaryFile(dir=scratch, buffering=0))
            spool = Spool(file, scratch)
            size = write_copy(plan, spool.write, task=task, base=base).size
            digest = spool.finish()
            layer = store.apply(chain, digest, file, size, task=task)
        return Made(layer=layer, note=self._note(plan))

    def _note(self, plan: CopyPlan) -> str:
        kind = "multi"
        if len(plan.found) == 1:
            kind = "dir" if plan.found[0].is_dir else "file"
        return f"{kind}:{self.content().partition(':')[2]}"


class Spool:
    """Writes to a file, and hashes what goes there; `place` is what errors call it."""

    def __init__(self, file: BinaryIO, place: str) -> None:
        """`file` has no buffer of its own: one that is full of what the disk refuses would try
        again when it is closed."""
        self._file = file
        self._place = place
        self._waiting = bytearray()
        self._hasher = hashlib.sha256()

    def write(self, data: bytes) -> None:
        """Pass on; raises StorageError."""
        self._waiting += data
        if len(self._waiting) >= SPOOLED:
            self._flush()

    def finish(self) -> Digest:
        """Go back to the start of the file; the digest of all that was written. Raises
        StorageError."""
        self._flush()
        self._file.seek(0)
        return Digest("sha256", self._hasher.hexdigest())

    def _flush(self) -> None:
        data, self._waiting = bytes(self._waiting), bytearray()
        self._hasher.update(data)
        with storage_errors(self._place):
            write_all(self._file, data)


def prepare_copy(work: CopyWork, context: StepContext) -> Keyed:
    """A COPY or ADD to be looked up or executed; waits for the stage that it copies from."""
    return _Copy(work, context).keyed()

"""Files that are copied into a working container: planned and written as a build's COPY and ADD
are, and then taken in by the container's tree."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from dataclasses import replace

from engine.storage.intake import temporary_file
from engine.storage.options import Snapshot
from engine.storage.store import Store
from engine.working.content import container_tree, take_in
from engine.working.model import WorkingContainer
from engine.working.registry import WorkingContainers
from imgtools.blob.files import write_all
from imgtools.build.copying.model import (
    CopyPlan,
    CopyRequest,
    CopySource,
    FetchedFile,
    sockets_left_out,
)
from imgtools.build.copying.survey import plan_copy
from imgtools.build.copying.write import write_copy
from imgtools.build.execute.users import resolve_owner
from imgtools.build.planning import config_state
from imgtools.errors import InvalidInput, NotFound
from imgtools.frozen import dataclass
from imgtools.spec.config import History
from imgtools.task import Task

NOP = "/bin/sh -c #(nop)"


@dataclass(frozen=True, slots=True, kw_only=True)
class AddOptions:
    """One copy. `destination` may be relative to the container's working directory, which ""
    is. `chown` is as in COPY; without it files are root's, or keep their owners (`keep_owner`).
    `mtime` in seconds is that of all files. `patterns` says that sources had wildcards, of which
    it is an error to match nothing unless `allow_empty`."""

    destination: str = ""
    add: bool = False
    chown: str = ""
    chmod: str = ""
    keep_owner: bool = False
    parents: bool = False
    link: bool = False
    exclude: tuple[str, ...] = ()
    unpack: bool | None = None
    mtime: int | None = None
    allow_empty: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Added:
    """What a copy did: the hexadecimal digest of its layer, what it was of (file, dir, multi)
    and the absolute destination."""

    digest: str
    kind: str
    destination: str


def copy_into(
    store: Store,
    container: WorkingContainer,
    sources: Callable[[], tuple[CopySource, ...]],
    options: AddOptions,
    *,
    task: Task,
) -> Added:
    """Copy `sources`, which are opened here, into a container whose lock the caller has.

    Raises InvalidInput, NotFound for a source that is not there, what `plan_copy`, `write_copy`
    and `unpack_tree` raise. Whatever stops it before files are taken in, the container is as it
    was.
    """
    snapshot = WorkingContainers(store).snapshot(container)
    destination = _destination(container, options.destination)
    with container_tree(store, snapshot, f"container {container.name}") as base:
        owner = resolve_owner(base, options.chown, option="--chown") if options.chown else None
        request = CopyRequest(
            sources=sources(),
            destination=destination,
            base=base,
            add=options.add,
            owner=owner,
            keep_owner=options.keep_owner and owner is None,
            chmod=options.chmod,
            link=options.link,
            parents=options.parents,
            exclude=options.exclude,
            unpack=options.unpack,
            mtime=options.mtime,
            now=int(time.time()) if options.mtime is None else options.mtime,
        )
        plan = plan_copy(request, task=task)
        if plan.sockets:
            task.warn(sockets_left_out(plan.sockets))
        if not plan.found and not options.allow_empty:
            raise NotFound("no items matching the sources were copied")
        with temporary_file(store.parts.layout.tmp) as spool:
            hasher = hashlib.sha256()

            def write(data: bytes) -> None:
                hasher.update(data)
                write_all(spool, data)

            write_copy(plan, write, task=task)
            spool.seek(0)
            _take_in(store, snapshot, spool.read)
    return Added(digest=hasher.hexdigest(), kind=_kind(plan), destination=destination)


def noted(container: WorkingContainer, added: Added, *, add: bool, now: str) -> WorkingContainer:
    """The container with the copy in the history of its images; `now` is RFC 3339."""
    verb = "ADD" if add else "COPY"
    text = f"{NOP} {verb} {added.kind}:{added.digest} in {added.destination} "
    entry = History(created=now, created_by=text, empty_layer=True)
    return replace(container, before=(*container.before, entry))


class _Reader:
    def __init__(self, read: Callable[[int], bytes]) -> None:
        self._read = read

    def read(self, size: int, /) -> bytes:
        return self._read(size)


def _take_in(store: Store, snapshot: Snapshot, read: Callable[[int], bytes]) -> None:
    take_in(store, snapshot, _Reader(read))


def _destination(container: WorkingContainer, text: str) -> str:
    if "\0" in text:
        raise InvalidInput("the destination has a NUL")
    absolute = config_state.resolved_path(container.run_config, text or ".")
    wants_directory = not text or text.endswith("/") or os.path.basename(text) in (".", "..")
    return absolute if absolute == "/" or not wants_directory else f"{absolute}/"


def _kind(plan: CopyPlan) -> str:
    if len(plan.found) != 1:
        return "multi"
    whole = plan.found[0].is_dir and not isinstance(plan.request.sources[0], FetchedFile)
    return "dir" if whole else "file"

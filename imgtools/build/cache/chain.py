"""The results of earlier builds, wherever they are: the store first, then registries.

Looking up asks for a small document only; a layer is fetched when somebody needs its content.
Whatever goes wrong with a registry is a warning, and the step is executed: a cache makes a
build faster, and must never be why it fails.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import field
from typing import TypeVar

from imgtools.build.cache.documents import RemoteRecord
from imgtools.build.cache.exporting import CacheExport
from imgtools.build.cache.locations import CacheLocation, cache_locations
from imgtools.build.cache.registry import CheckName, RemoteCache
from imgtools.build.options import CacheOptions
from imgtools.build.outputs.layer_blobs import LayerBlobs
from imgtools.build.outputs.model import Form
from imgtools.build.protocols import CacheRecord, SnapshotStore
from imgtools.errors import Cancelled, Error, InvalidInput, SeveralErrors
from imgtools.frozen import dataclass
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest
from imgtools.task import Task, WorkerPool
from imgtools.transport.base import BlobOpener, Origin
from imgtools.transport.closing import Closing
from imgtools.transport.options import DestinationOptions, SourceOptions
from imgtools.transport.table import Transports

T = TypeVar("T")

_DEEPEST = 4096
"""Layers below one that are fetched for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedBlob:
    """The compressed layer of a record that was not fetched: a registry can mount it from
    `origin`, and `open` reads it."""

    blob: Descriptor
    origin: Origin
    open: BlobOpener


@dataclass(slots=True)
class _Known:
    cache: RemoteCache
    found: RemoteRecord
    lock: threading.Lock = field(default_factory=threading.Lock)


class CacheUnusable(Error):
    """A layer of a step that counted as cached cannot be had; with `again` a build that is
    begun anew executes the step, see `begun_anew`."""


class CacheChain(Closing):
    """A StepCache over a store and registries; may be used from several threads."""

    def __init__(
        self,
        store: SnapshotStore,
        *,
        sources: Sequence[RemoteCache] = (),
        export: CacheExport | None = None,
        ttl: float | None = None,
        now: Callable[[], float],
        task: Task,
    ) -> None:
        """`ttl` is in seconds, None for no limit; `now` is the clock, in seconds since the
        epoch; `export` sends what is remembered to registries, and is closed with this."""
        if ttl is not None and ttl < 0:
            raise InvalidInput(f"--cache-ttl is negative: {ttl}")
        self._store = store
        self._sources = tuple(sources)
        self._export = export
        self._ttl = ttl
        self._now = now
        self._task = task
        self._lock = threading.Lock()
        self._off: set[CacheLocation] = set()
        self._bad: set[tuple[CacheLocation, str]] = set()
        self._known: dict[Digest, _Known] = {}
        self._found: dict[str, tuple[CacheLocation, CacheRecord]] = {}
        self._stack = ExitStack()

    def find(self, key: str, *, task: Task) -> CacheRecord | None:
        """The record of `key` if there is one that is young enough; its layer may be far away,
        see `obtain`. Raises Cancelled, and what the store does."""
        record = self._store.find_cached(key)
        if record is not None and self._young(record):
            self._send(record, overwrite=False)
            return record
        for cache in self._sources:
            found = self._ask(cache, key, task)
            if found is not None and self._young(found.record):
                self._note(cache, found)
                return found.record
        return None

    def find_all(self, keys: Sequence[str], *, task: Task) -> list[CacheRecord | None]:
        """`find` of every key, several at a time."""
        with WorkerPool(task) as pool:
            return pool.map(lambda key: self.find(key, task=pool.task), keys)

    def obtain(self, record: CacheRecord, *, task: Task) -> None:
        """Have the layer of `record` in the store.

        Layers below it that were found here too are fetched first; others (those of a base)
        have to be there. Raises CacheUnusable where that cannot be: `find` does not find such
        a record again, so that a build that is begun anew executes the step.
        """
        todo: list[_Known] = []
        chain = record.chain_id
        while chain is not None and not self._store.has(chain):
            known = self._known.get(chain)
            if known is None or len(todo) == _DEEPEST:
                error = CacheUnusable(f"layer {chain} of a cached step is in no cache")
                error.again = self._reject(record)
                raise error
            todo.append(known)
            chain = known.found.record.parent
        for known in reversed(todo):
            self._fetch(known, task)

    def blob(self, chain_id: Digest) -> CachedBlob | None:
        """The compressed layer of a record that was found in a registry, for a push that
        mounts it from there; None for what is not known. Nobody has looked into it."""
        known = self._known.get(chain_id)
        if known is None or known.found.layer is None:
            return None
        with self._lock:
            source = self._stack.enter_context(known.cache.source(known.found.record.key))
        blob = known.found.layer
        return CachedBlob(blob=blob, origin=source.origin, open=lambda: source.open_blob(blob))

    def remember(self, record: CacheRecord, *, task: Task) -> None:
        """Keep what a step gave: in the store, and in the background in registries. A record
        whose layer was not fetched is kept where it is."""
        chain = record.chain_id
        if chain is not None and not self._store.has(chain):
            return
        self._store.remember(record)
        self._send(record, overwrite=True)

    def finish(self) -> None:
        """Wait until all is in the registries, as far as it can be; raises Cancelled only."""
        if self._export is not None:
            self._export.finish()

    def close(self) -> None:
        """Stop sending, and close what was opened."""
        if self._export is not None:
            self._export.close()
        self._stack.close()

    def _young(self, record: CacheRecord) -> bool:
        if self._ttl is None:
            return True
        # A clock that is ahead of ours makes a record no younger than new.
        return max(0.0, self._now() - record.created) < self._ttl

    def _ask(self, cache: RemoteCache, key: str, task: Task) -> RemoteRecord | None:
        with self._lock:
            if cache.location in self._off or (cache.location, key) in self._bad:
                return None
        try:
            task.cancel.check()
            return cache.find(key)
        except Cancelled:
            raise
        except InvalidInput as e:
            self._task.warn(f"cache {cache.location}: {e.message}; the step is executed")
        except Error as e:
            # Every other key would meet the same, after the same wait.
            with self._lock:
                first = cache.location not in self._off
                self._off.add(cache.location)
            if first:
                self._task.warn(f"cache {cache.location} is not used: {e.message}")
        return None

    def _send(self, record: CacheRecord, *, overwrite: bool) -> None:
        if self._export is None:
            return
        with self._lock:
            where, found = self._found.get(record.key, (None, None))
        same = found == record
        self._export.add(record, overwrite=overwrite and not same, has=where if same else None)

    def _note(self, cache: RemoteCache, found: RemoteRecord) -> None:
        chain = found.record.chain_id
        with self._lock:
            self._found[found.record.key] = (cache.location, found.record)
            if found.record.diff_id is None or chain is None:
                return
            self._known.setdefault(chain, _Known(cache=cache, found=found))

    def _reject(self, record: CacheRecord) -> bool:
        """Never find `record` again where it was found; whether it was found anywhere."""
        with self._lock:
            known = self._known.pop(record.chain_id, None) if record.chain_id else None
            if known is not None:
                self._bad.add((known.cache.location, known.found.record.key))
        return known is not None

    def _fetch(self, known: _Known, task: Task) -> None:
        record, location = known.found.record, known.cache.location
        with known.lock:
            if record.chain_id is None or self._store.has(record.chain_id):
                return
            try:
                task.cancel.check()
                known.cache.fetch(known.found, self._store, task=task)
            except Cancelled:
                raise
            except Error as e:
                again = self._reject(record)
                text = f"cache {location}: layer {record.diff_id} cannot be used: {e.message}"
                self._task.warn(text)
                error = CacheUnusable(
                    text, hint="build without it: --no-cache, or without --cache-from"
                )
                error.again = again
                raise error from e
            self._store.remember(record)
            self._send(record, overwrite=False)


def begun_anew(build: Callable[[], T], *, task: Task) -> T:
    """What `build` returns, which is called again whenever a cache has let it down: then that
    step is executed, and all others are as they were. Raises what `build` does."""
    while True:
        try:
            return build()
        except Error as e:
            errors = e.errors if isinstance(e, SeveralErrors) else (e,)
            if not all(isinstance(x, CacheUnusable) and x.again for x in errors):
                raise
        task.cancel.check()
        task.warn("the build is begun anew without what a cache could not give")


def open_chain(
    options: CacheOptions,
    store: SnapshotStore,
    transports: Transports,
    layers: LayerBlobs,
    *,
    source_options: SourceOptions,
    destination_options: DestinationOptions,
    check_name: CheckName | None = None,
    form: Form | None = None,
    now: Callable[[], float],
    task: Task,
) -> CacheChain:
    """The chain that --cache-from, --cache-to and --cache-ttl ask for; `layers` compresses what
    is sent, to `form`, and has to be closed after the chain. `check_name` is policy about what
    is taken. Raises InvalidInput, Unsupported."""

    def remote(location: CacheLocation) -> RemoteCache:
        return RemoteCache(
            location=location,
            transports=transports,
            source_options=source_options,
            destination_options=destination_options,
            check_name=check_name,
        )

    targets = [remote(location) for location in cache_locations(options.targets)]
    return CacheChain(
        store,
        sources=[remote(location) for location in cache_locations(options.sources)],
        export=CacheExport(targets, layers, form, task=task) if targets else None,
        ttl=options.ttl,
        now=now,
        task=task,
    )

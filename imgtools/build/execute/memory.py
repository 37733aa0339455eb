"""What steps gave, in this build and before: one lookup for each key, however many stages and
platforms have the step, and one execution.

Without --no-cache earlier builds count too, as far as they are not older than is allowed.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from imgtools.build.cache.documents import is_plausible
from imgtools.build.execute.environment import StepCache
from imgtools.build.protocols import CacheRecord, SnapshotStore
from imgtools.spec.digest import Digest
from imgtools.task import Task


class Memory:
    """Records by key; for several threads."""

    def __init__(self, cache: StepCache | None, *, recall: bool, oldest: float | None) -> None:
        """`recall` False: earlier builds do not count, but this one is remembered. `oldest`
        is when a record may have been made, in seconds since the epoch."""
        self._cache = cache
        self._recall = recall
        self._oldest = oldest
        self._own: dict[str, CacheRecord] = {}
        self._here: set[Digest] = set()
        self._busy: dict[str, threading.Event] = {}
        self._lock = threading.Lock()

    def find(self, key: str, task: Task) -> CacheRecord | None:
        """What is known of a step."""
        with self._lock:
            own = self._own.get(key)
        if own is not None or self._cache is None or not self._recall:
            return own
        found = self._cache.find(key, task=task)
        if found is None or not is_plausible(found):
            return None
        return found if self._oldest is None or found.created >= self._oldest else None

    def find_linked(self, key: str, store: SnapshotStore) -> CacheRecord | None:
        """What is known of a step that the layers below do not matter for, if its layer is in
        the store; registries are not asked: of them a layer comes with those below."""
        if not self._recall:
            return None
        found = store.find_cached(key)
        if found is None or found.diff_id is None or not is_plausible(found):
            return None
        return found if self._oldest is None or found.created >= self._oldest else None

    def remember(self, record: CacheRecord, key: str, task: Task, *, made: bool = False) -> None:
        """Keep what a step gave under one more key; `made` is whether it was made just now."""
        with self._lock:
            self._own[key] = record
            if made and record.chain_id is not None:
                self._here.add(record.chain_id)
        if self._cache is not None:
            self._cache.remember(replace(record, key=key), task=task)

    def obtain(self, record: CacheRecord, task: Task) -> None:
        """Have the layer of a record in the store."""
        with self._lock:
            here = record.chain_id in self._here
        if not here and self._cache is not None and record.diff_id is not None:
            self._cache.obtain(record, task=task)

    @contextmanager
    def alone(self, key: str, task: Task) -> Iterator[None]:
        """While the block runs, no other thread has `key`."""
        mine = threading.Event()
        while True:
            with self._lock:
                other = self._busy.setdefault(key, mine)
            if other is mine:
                break
            with task.cancel.calls(other.set):
                other.wait()
            task.cancel.check()
        try:
            yield
        finally:
            with self._lock:
                del self._busy[key]
            mine.set()

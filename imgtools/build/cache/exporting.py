"""Sends what steps gave to the registries of --cache-to, in the background.

One thread for each target, in the order in which records come, so that a layer's parent is
there before it. Errors are warnings; a target that refuses us, or is not there, is given up.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from queue import SimpleQueue

from imgtools.build.cache.locations import CacheLocation
from imgtools.build.cache.registry import RemoteCache
from imgtools.build.outputs.layer_blobs import LayerBlobs
from imgtools.build.outputs.model import Form
from imgtools.build.protocols import CacheRecord
from imgtools.errors import Cancelled, ConnectionFailed, Denied, Error, Unsupported
from imgtools.task import Task
from imgtools.transport.closing import Closing

_HOPELESS = (Denied, ConnectionFailed, Unsupported)
"""Errors that the next record would meet too."""


@dataclass(slots=True)
class _Target:
    cache: RemoteCache
    queue: SimpleQueue[tuple[CacheRecord, bool] | None] = field(default_factory=SimpleQueue)
    thread: threading.Thread | None = None


class CacheExport(Closing):
    """Puts records into `targets`; `layers` compresses, to `form`."""

    def __init__(
        self,
        targets: Sequence[RemoteCache],
        layers: LayerBlobs,
        form: Form | None = None,
        *,
        task: Task,
    ) -> None:
        self._targets = [_Target(cache=cache) for cache in targets]
        self._layers = layers
        self._form = form or Form()
        self._task = task.child()
        self._warn = task.warn
        self._lock = threading.Lock()
        self._seen: set[str] = set()
        self.written = 0
        """Records that were put."""

    def add(
        self, record: CacheRecord, *, overwrite: bool, has: CacheLocation | None = None
    ) -> None:
        """Send `record` soon, once; without `overwrite` only where there is none, and not to
        `has`, which has it as it is."""
        with self._lock:
            if record.key in self._seen or self._task.cancel.cancelled:
                return
            self._seen.add(record.key)
            for target in self._targets:
                if target.cache.location == has:
                    continue
                if target.thread is None:
                    target.thread = threading.Thread(
                        target=self._run, args=(target,), name="imgtools-cache", daemon=True
                    )
                    target.thread.start()
                target.queue.put((record, overwrite))

    def finish(self) -> None:
        """Wait until all are sent; raises Cancelled."""
        self._join()
        self._task.cancel.check()

    def close(self) -> None:
        """Stop; what is not sent yet stays unsent."""
        self._task.cancel.cancel()
        self._join()

    def _join(self) -> None:
        with self._lock:
            started = [target for target in self._targets if target.thread is not None]
            for target in started:
                target.queue.put(None)
        for target in started:
            if target.thread is not None:
                target.thread.join()
            target.thread = None

    def _run(self, target: _Target) -> None:
        given_up = False
        while (item := target.queue.get()) is not None:
            if given_up or self._task.cancel.cancelled:
                continue
            record, overwrite = item
            try:
                written = target.cache.put(
                    record, self._layers, self._form, overwrite=overwrite, task=self._task
                )
            except Cancelled:
                continue
            except Error as e:
                given_up = isinstance(e, _HOPELESS)
                end = "; nothing more is sent there" if given_up else ""
                self._warn(f"cache {target.cache.location}: {e.message}{end}")
            else:
                with self._lock:
                    self.written += written

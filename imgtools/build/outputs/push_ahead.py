"""Uploads layers while the build still goes on, so that the final push finds them.

Nothing of it is visible: blobs without a manifest are nobody's. So an error is no reason to
stop the build; the final push meets it again, and says it, or has better luck.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from queue import SimpleQueue

from imgtools.build.outputs.model import BuiltLayer, Family, Form
from imgtools.build.outputs.places import Places
from imgtools.errors import Cancelled, Error
from imgtools.spec.reference import ImageName
from imgtools.task import Task
from imgtools.transport.base import Destination
from imgtools.transport.closing import Closing

log = logging.getLogger(__name__)

_AT_A_TIME = 2
"""Uploads beside a build, which has better use for most of the machine."""


class PushAhead(Closing):
    """Uploads each layer that it is told of to the places of a build that are registries."""

    def __init__(self, places: Places, names: Sequence[ImageName], *, task: Task) -> None:
        """Raises what opening a destination does, which asks nobody yet."""
        self._places = places
        self._task = task.child()
        self._queue: SimpleQueue[BuiltLayer | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._seen: set[BuiltLayer] = set()
        self._targets: list[tuple[Destination, Form, Family]] = []
        self._threads: list[threading.Thread] = []
        self.uploaded = 0
        """Blobs that are where the final push wants them."""
        self.errors: list[Error] = []
        """What went wrong, the first one first."""
        for name in names:
            if name.transport == "docker":
                opened = places.transports.open_destination(name, places.options)
                self._targets.append((opened, places.form_for(name), places.family))

    def layer(self, layer: BuiltLayer) -> None:
        """A layer is made: upload it in the background; returns at once."""
        with self._lock:
            if not self._targets or layer in self._seen or self._task.cancel.cancelled:
                return
            self._seen.add(layer)
            if len(self._threads) < _AT_A_TIME:
                thread = threading.Thread(target=self._run, name="imgtools-push", daemon=True)
                self._threads.append(thread)
                thread.start()
        self._queue.put(layer)

    def finish(self) -> None:
        """Wait for what is under way, before the final push; raises Cancelled only."""
        self._join()
        self._task.cancel.check()

    def close(self) -> None:
        """Stop what is under way and close the destinations."""
        self._task.cancel.cancel()
        self._join()
        while self._targets:
            self._targets.pop()[0].close()

    def _join(self) -> None:
        with self._lock:
            threads, self._threads = self._threads, []
        for _ in threads:
            self._queue.put(None)
        for thread in threads:
            thread.join()

    def _run(self) -> None:
        while (layer := self._queue.get()) is not None:
            for destination, form, family in self._targets:
                try:
                    self._upload(layer, destination, form, family)
                except Cancelled:
                    return
                except Error as e:
                    log.debug("layer %s could not be pushed ahead: %s", layer.diff_id, e.message)
                    with self._lock:
                        self.errors.append(e)

    def _upload(
        self, layer: BuiltLayer, destination: Destination, form: Form, family: Family
    ) -> None:
        self._task.cancel.check()
        layers = self._places.layers
        blob = layers.descriptor(layer, form, family, task=self._task)
        destination.put_blob(blob, lambda: layers.open(blob.digest), task=self._task)
        with self._lock:
            self.uploaded += 1

"""Layers that a build stands on: locked from the moment they are seen to the build's end.

Whoever prunes the store meanwhile passes over them; a build that is killed gives the locks
back by dying.
"""

from __future__ import annotations

import threading

from engine.storage.assembly import LAYER_LOCK
from engine.storage.intake import Intake
from engine.storage.locks import Held
from engine.storage.options import Layer
from engine.storage.parts import Parts, find_layer, lock_key
from imgtools.spec.digest import Digest
from imgtools.task import Task
from imgtools.transport.closing import Closing


class Holding(Closing):
    """The layers that one build holds."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._intake = Intake(parts)
        self._mutex = threading.Lock()
        self._held: dict[Digest, tuple[Held, Layer]] = {}

    def hold(self, chain_id: Digest, *, task: Task) -> Layer | None:
        """The layer, which from now on stays with all below it; None where it is not, or
        cannot be given back byte for byte. Raises Cancelled, StorageError."""
        with self._mutex:
            found = self._held.get(chain_id)
        if found is not None:
            return found[1]
        held = self.lock(chain_id, task=task)
        layer = find_layer(self._parts, chain_id)
        if layer is None or not self._intake.is_whole(layer):
            held.close()
            return None
        self.take(layer, held)
        return layer

    def lock(self, chain_id: Digest, *, task: Task) -> Held:
        """The lock of a layer that is about to be made; for `take`. Raises Cancelled."""
        return self._parts.locks.shared(LAYER_LOCK, lock_key(chain_id), task=task)

    def take(self, layer: Layer, held: Held) -> None:
        """Hold a layer that was made under its lock."""
        with self._mutex:
            if layer.chain_id in self._held:
                held.close()
            else:
                self._held[layer.chain_id] = (held, layer)

    def close(self) -> None:
        """Give all locks back; safe to call twice."""
        with self._mutex:
            held, self._held = self._held, {}
        for each, _ in held.values():
            each.close()

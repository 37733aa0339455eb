"""The layers of one image, put on top of each other as their blobs arrive.

Blobs come in any order and several at a time, layers go on in theirs: the one whose turn it
is streams from its blob into its tree, the others wait in files without a name. What is in
the store already is locked and not read at all. Locks of layers are held until `close`, so
that nobody removes what the image is about to stand on.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

from engine.storage.intake import Intake
from engine.storage.known import KnownBlob
from engine.storage.locks import Held
from engine.storage.options import Layer
from engine.storage.parts import Parts, find_layer, lock_key
from imgtools.errors import BlobNotFound, Conflict
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest
from imgtools.spec.identity import chain_ids
from imgtools.task import Task
from imgtools.transport.base import BlobOpener

LAYER_LOCK = "layer"
_ATTEMPTS = 3


class Assembly:
    """Puts layers in place. Methods may be called from several threads."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._intake = Intake(parts)
        self._order: tuple[Descriptor, ...] = ()
        self._diff_ids: tuple[Digest, ...] = ()
        self._chain: tuple[Digest, ...] = ()
        self._placed: list[Layer] = []
        self._openers: dict[Digest, BlobOpener] = {}
        self._stored: dict[Digest, Digest] = {}
        self._held: dict[Digest, Held] = {}
        self._mutex = threading.Lock()
        self._turn = threading.Lock()

    def announce(self, order: Sequence[Descriptor], diff_ids: Sequence[Digest]) -> None:
        """Say which layers the image has, oldest first, and what is in them."""
        with self._turn:
            if tuple(diff_ids) != self._diff_ids:
                self._placed.clear()
            self._order = tuple(order)
            self._diff_ids = tuple(diff_ids)
            self._chain = chain_ids(diff_ids)

    def stored(self, descriptor: Descriptor, *, task: Task) -> bool:
        """Whether the layer of this blob is in the store; then it stays there."""
        with self._mutex:
            if descriptor.digest in self._stored:
                return True
        chains = [c for c, d in zip(self._chain, self._order, strict=True)
                  if d.digest == descriptor.digest]  # fmt: skip
        if not chains or not all(self._lock(chain, task) for chain in chains):
            known = self._parts.known.get(descriptor.digest)
            if known is None or known.size != descriptor.size:
                return False
            chains = [known.chain_id]
            if self._lock(known.chain_id, task) is None:
                return False
        with self._mutex:
            self._stored[descriptor.digest] = chains[0]
        return True

    def stream(self, descriptor: Descriptor, open_blob: BlobOpener, *, task: Task) -> bool:
        """Unpack a blob from its source, if its turn is now; False when it is not.

        Raises what the blob's reader and unpacking raise; the layer's turn is then again.
        """
        if not self._turn.acquire(blocking=False):
            return False
        try:
            place = len(self._placed)
            if place >= len(self._order) or self._order[place].digest != descriptor.digest:
                return False
            self._place(open_blob, task, progress=True)
        finally:
            self._turn.release()
        self.proceed(task=task)
        return True

    def arrived(self, descriptor: Descriptor, open_blob: BlobOpener) -> None:
        """Say that a blob is here; `open_blob` reads it, verified, as often as needed."""
        with self._mutex:
            self._openers[descriptor.digest] = open_blob

    def proceed(self, *, task: Task) -> None:
        """Put layers in place whose turn it is, as far as they are here; returns at once when
        another thread is at it, which then goes on to them."""
        while self._turn.acquire(blocking=False):
            try:
                if len(self._placed) >= len(self._order) or not self._place_next(task):
                    return
            finally:
                self._turn.release()

    def complete(self, *, task: Task) -> tuple[Layer, ...]:
        """Put what is left in place; all layers, oldest first. Raises BlobNotFound for a blob
        that never came, and what unpacking raises."""
        with self._turn:
            while len(self._placed) < len(self._order):
                task.cancel.check()
                if not self._place_next(task):
                    missing = self._order[len(self._placed)]
                    raise BlobNotFound(f"blob {missing.digest} was not stored")
            return tuple(self._placed)

    def close(self) -> None:
        """Give the locks back; safe to call twice."""
        with self._mutex:
            held, self._held = self._held, {}
        for each in held.values():
            each.close()

    def _place_next(self, task: Task) -> bool:
        """The next layer's turn; False when its blob is neither here nor stored."""
        place = len(self._placed)
        layer = self._lock(self._chain[place], task)
        if layer is not None:
            self._placed.append(layer)
            return True
        digest = self._order[place].digest
        with self._mutex:
            opener, elsewhere = self._openers.get(digest), self._stored.get(digest)
        if opener is None and elsewhere is None:
            # The same blob further down, which was streamed and so is here no more.
            below = [n for n in range(place) if self._order[n].digest == digest]
            elsewhere = self._chain[below[0]] if below else None
        if opener is None and elsewhere is not None:
            opener = self._replayed(elsewhere, task)
        if opener is None:
            return False
        self._place(opener, task, progress=False)
        return True

    def _place(self, open_blob: BlobOpener, task: Task, *, progress: bool) -> None:
        """Unpack a blob on top of what is in place."""
        place = len(self._placed)
        parent = self._placed[-1].chain_id if self._placed else None
        blob, diff_id = self._order[place], self._diff_ids[place]
        item = str(blob.digest) if progress else ""
        for _ in range(_ATTEMPTS):
            layer, record = self._intake.unpack(open_blob, parent, diff_id, task=task, item=item)
            with record:
                if self._lock(layer.chain_id, task, whole=False) is None:
                    continue  # somebody collected it before it was locked
                self._intake.keep_record(layer, record, open_blob)
            known = KnownBlob(diff_id=diff_id, chain_id=layer.chain_id, size=blob.size)
            self._parts.known.add(blob.digest, known)
            self._placed.append(layer)
            return
        raise Conflict(f"layer {blob.digest} is removed as fast as it is unpacked")

    def _replayed(self, chain_id: Digest, task: Task) -> BlobOpener | None:
        """Reads a layer that is stored on top of others; None when it is not any more."""
        layer = self._lock(chain_id, task)
        if layer is None:
            return None
        return lambda: self._intake.replay(layer)

    def _lock(self, chain_id: Digest, task: Task, *, whole: bool = True) -> Layer | None:
        """The layer, which from now on stays; None when it is not there, or (`whole`) cannot
        be given back."""
        held = self._parts.locks.shared(LAYER_LOCK, lock_key(chain_id), task=task)
        layer = find_layer(self._parts, chain_id)
        if layer is None or (whole and not self._intake.is_whole(layer)):
            held.close()
            return None
        with self._mutex:
            if chain_id in self._held:
                held.close()
            else:
                self._held[chain_id] = held
        return layer

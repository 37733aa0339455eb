"""Carries out what `collect` plans, thing by thing, each under its own lock.

Between plan and deed others go on. So every lock is tried, never waited for where somebody
may hold it long, and once it is held the records are asked again: what came to be needed
stays. Being killed in the middle leaves less to do for the next time.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace

from engine.storage.assembly import LAYER_LOCK
from engine.storage.collect import Contents, LayerFacts, Removal, needed_layers
from engine.storage.keep import DOCUMENT_LOCK
from engine.storage.parts import Parts, find_layer, lock_key
from engine.storage.registry import ImageRegistry
from imgtools.errors import Conflict
from imgtools.spec.digest import Digest
from imgtools.task import Task

_NOTHING: frozenset[str] = frozenset()


def survey(parts: Parts) -> Contents:
    """Everything in the store, as it is just now."""
    index = parts.index
    layers = {
        layer.chain_id: LayerFacts(parent=layer.parent, stack=layer.stack, size=layer.size)
        for layer in parts.layers.list()
    }
    snapshots = {snapshot.id: snapshot.stack for snapshot in parts.snapshots.list()}
    return Contents(
        images=index.images(),
        names=index.names(),
        layers=layers,
        uses=parts.uses.all(),
        snapshots=snapshots,
        blobs=frozenset(parts.documents),
        known=parts.known.all(),
        kept=parts.kept.all(),
    )


def remove_image(
    parts: Parts, image_id: str, plan: Callable[[Contents], Removal], *, task: Task
) -> Removal:
    """Remove an image, or a name of it, as `plan` decides while the image is locked.

    Raises what the plan raises. What went is returned; layers that somebody else needs by
    now, or is reading, are not among it.
    """
    with ImageRegistry(parts).locked(image_id, task=task) as held:
        removal = plan(survey(parts))
        names = _remove_records(parts, image_id, removal)
        if image_id in removal.images:
            held.retire()
    return replace(_sweep(parts, removal, task), names=names)


def collect(parts: Parts, plan: Callable[[Contents], Removal], *, task: Task) -> Removal:
    """Remove what `plan` says of several images, and all that nothing refers to."""
    first = plan(survey(parts))
    gone: list[str] = []
    names: list[str] = []
    for image_id in first.images:
        task.cancel.check()
        with ImageRegistry(parts).locked(image_id, task=task) as held:
            removal = plan(survey(parts))
            if image_id not in removal.images:
                continue
            names += _remove_records(parts, image_id, replace(removal, images=(image_id,)))
            held.retire()
            gone.append(image_id)
    dead = {u: _remove_user(parts, u) for u in {*(u.id for u in first.uses), *first.snapshots}}
    rest = plan(survey(parts))
    registry = ImageRegistry(parts)
    for name in rest.names:
        registry.take_name(name)
    for name in rest.kept:
        parts.kept.remove(name)
    swept = _sweep(parts, replace(rest, images=()), task)
    parts.layers.sweep()
    return replace(
        swept,
        images=tuple(gone),
        names=tuple(names),
        uses=tuple(use for use in first.uses if dead[use.id]),
        snapshots=tuple(snapshot for snapshot in first.snapshots if dead[snapshot]),
    )


def _remove_records(parts: Parts, image_id: str, removal: Removal) -> tuple[str, ...]:
    """Remove names of an image that is locked, and it if it is among what goes; the names
    that went. Names first: without one an image is still one, a name without an image is
    nothing."""
    registry = ImageRegistry(parts)
    taken = tuple(n for n in removal.names if registry.take_name(n, image_id=image_id))
    if image_id in removal.images:
        parts.images.remove(image_id)
    return taken


def _remove_user(parts: Parts, use_id: str) -> bool:
    """Remove a snapshot whose user is gone, and the record of the user; whether they went."""
    held = parts.uses.claim_dead(use_id)
    if held is None:
        return False
    with held:
        parts.snapshots.remove(use_id)
        parts.uses.forget(use_id)
        held.retire()
    return True


def _sweep(parts: Parts, removal: Removal, task: Task) -> Removal:
    """Remove layers and documents that are still not needed; what went."""
    layers: list[Digest] = []
    size = 0
    needed = _Needed(parts)
    for chain_id in removal.layers:
        task.cancel.check()
        layer = find_layer(parts, chain_id)
        if layer is not None and _remove_layer(parts, needed, chain_id):
            layers.append(chain_id)
            size += layer.size
    blobs = [digest for digest in removal.blobs if _remove_document(parts, digest)]
    stay = {layer.chain_id for layer in parts.layers.list()}
    everything = parts.known.all()
    known = [d for d in removal.known if everything.get(d) not in stay]
    for digest in known:
        parts.known.remove(digest)
    return replace(removal, layers=tuple(layers), blobs=tuple(blobs), known=tuple(known), size=size)


class _Needed:
    """Which layers are needed, asked anew whenever anything changed that it depends on."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._marks: tuple[object, frozenset[str], frozenset[str]] = (None, _NOTHING, _NOTHING)
        self._needed: set[Digest] = set()
        self._layers: dict[Digest, LayerFacts] = {}

    def __contains__(self, chain_id: Digest) -> bool:
        marks = self._now()
        if marks != self._marks:
            contents = survey(self._parts)
            self._needed = needed_layers(contents)
            self._layers = dict(contents.layers)
            self._marks = marks
        return chain_id in self._needed or any(
            facts.parent == chain_id or chain_id in facts.stack[1:]
            for facts in self._layers.values()
        )

    def removed(self, chain_id: Digest) -> None:
        """Take note of a removal of our own, and of nothing else."""
        self._layers.pop(chain_id, None)
        records, layers, snapshots = self._marks
        self._marks = (records, layers - {chain_id.hex}, snapshots)

    def _now(self) -> tuple[object, frozenset[str], frozenset[str]]:
        parts = self._parts
        return (
            (parts.images.marks(), parts.uses.marks(), parts.kept.marks()),
            frozenset(name for top in _listed(parts.layout.layers)
                      for name in _listed(os.path.join(parts.layout.layers, top))),
            frozenset(_listed(parts.layout.snapshots)),
        )  # fmt: skip


def _listed(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _remove_layer(parts: Parts, needed: _Needed, chain_id: Digest) -> bool:
    held = parts.locks.try_exclusive(LAYER_LOCK, lock_key(chain_id))
    if held is None:
        return False
    with held:
        if chain_id in needed:
            return False
        try:
            parts.layers.remove(chain_id)
        except Conflict:
            return False
        needed.removed(chain_id)
        held.retire()
    return True


def _remove_document(parts: Parts, digest: Digest) -> bool:
    held = parts.locks.try_exclusive(DOCUMENT_LOCK, lock_key(digest))
    if held is None:
        return False
    with held:
        images = parts.index.images().values()
        if any(digest in image.blobs() for image in images):
            return False
        parts.documents.remove(digest)
        held.retire()
    return True

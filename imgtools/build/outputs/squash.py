"""--squash and --squash-all: the layers of a finished image made into one.

With --squash the layers of the base stay as they are, and what the new ones hide of them stays
hidden. History keeps all its entries; only the newest that had a layer still has one.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import BinaryIO, Literal

from imgtools.blob.files import storage_errors, write_all
from imgtools.blob.tar import BLOCK
from imgtools.build.outputs.merge import merged
from imgtools.build.outputs.model import BuiltImage, BuiltLayer
from imgtools.build.protocols import SnapshotStore
from imgtools.spec.config import History
from imgtools.spec.digest import Digest, new_hasher
from imgtools.task import Task


def squashed(
    image: BuiltImage, which: Literal["new", "all"], store: SnapshotStore, *, task: Task
) -> BuiltImage:
    """`image` with its new layers, or all of them, as one layer, which is put into `store`.

    An image that has no such layer, or only empty ones, ends up without one. Raises what
    `merge.merged` does, StorageError, and what `store.apply` does.
    """
    below = _kept(image) if which == "new" else 0
    kept, above = image.layers[:below], image.layers[below:]
    if not above:
        return image
    made = _one(kept, above, store, task)
    layers = (*kept, *((made,) if made is not None else ()))
    history = squashed_history(image.config.history, below, made is not None)
    config = image.config.with_rootfs([layer.diff_id for layer in layers], history)
    return replace(image, layers=layers, config=config)


def squashed_history(history: Sequence[History], below: int, has_layer: bool) -> list[History]:
    """The entries of `history`, of which the first `below` layers stay and the others are
    one if `has_layer`: as many without empty_layer as there are layers then."""
    with_layer = [number for number, entry in enumerate(history) if not entry.empty_layer]
    stays = set(with_layer[:below])
    if has_layer and with_layer[below:]:
        stays.add(with_layer[-1])
    return [replace(entry, empty_layer=n not in stays) for n, entry in enumerate(history)]


def _kept(image: BuiltImage) -> int:
    """How many layers at the bottom are the base's."""
    diff_ids = image.base.config.diff_ids if image.base is not None else ()
    count = 0
    for layer, diff_id in zip(image.layers, diff_ids, strict=False):
        if layer.diff_id != diff_id:
            break
        count += 1
    return count


def _one(
    kept: Sequence[BuiltLayer], above: Sequence[BuiltLayer], store: SnapshotStore, task: Task
) -> BuiltLayer | None:
    openers = [partial(store.open_layer, layer.chain_id) for layer in above]
    hasher, size = new_hasher("sha256"), 0
    with store.scratch() as directory, storage_errors(directory), _temporary(directory) as file:
        for chunk in merged(openers, whole=not kept, task=task):
            hasher.update(chunk)
            size += len(chunk)
            write_all(file, chunk)
        if size == 2 * BLOCK:
            return None
        file.seek(0)
        made = store.apply(
            kept[-1].chain_id if kept else None,
            Digest("sha256", hasher.hexdigest()),
            file,
            size,
            task=task,
        )
    return BuiltLayer(
        diff_id=made.diff_id, chain_id=made.chain_id, size=made.size, step=above[-1].step
    )


def _temporary(directory: str) -> BinaryIO:
    return tempfile.TemporaryFile(dir=directory, buffering=0)

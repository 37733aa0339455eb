"""What `images` learns from more than an image's own record: which images are there only because
others were made from them, and the indexes of the store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from imgtools.cli.images_view import Row
from imgtools.errors import BlobNotFound

if TYPE_CHECKING:
    from engine.storage.images import StoredImage
    from engine.storage.store import Store


def with_relations(store: Store, rows: Sequence[Row]) -> list[Row]:
    """The rows, images without a name that others were made from marked as intermediate. Raises
    StorageError."""
    images = {row.image.id: row.image for row in rows}.values()
    return [
        replace(row, intermediate=True)
        if not row.name and any(_made_from(store, row.image, other) for other in images)
        else row
        for row in rows
    ]


def index_rows(store: Store) -> list[Row]:
    """The indexes of the store, by name. Their ids are the digests of what they are now. Raises
    StorageError."""
    from engine.storage.images import StoredImage
    from engine.working.lists import ImageLists

    found = []
    for each in ImageLists(store).all():
        raw = each.raw
        as_image = StoredImage(
            id=raw.digest.hex,
            manifest=raw.descriptor(),
            config=raw.descriptor(),
            layers=(),
            created=datetime.fromtimestamp(each.created, UTC).isoformat(),
            size=len(raw.content),
        )
        found.append(Row(image=as_image, name=each.name, names=(each.name,), index=True))
    return found


def _made_from(store: Store, parent: StoredImage, child: StoredImage) -> bool:
    """Whether `child` has the layers and the history of `parent`, and more history: what podman
    goes by."""
    below = [layer.diff_id for layer in parent.layers]
    if parent.id == child.id or [layer.diff_id for layer in child.layers[: len(below)]] != below:
        return False
    try:
        history, longer = store.config(parent).history, store.config(child).history
    except BlobNotFound:
        # One of them has been removed meanwhile.
        return False
    return len(longer) > len(history) and longer[: len(history)] == history

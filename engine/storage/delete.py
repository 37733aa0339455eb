"""`delete containers-storage:NAME`: the name goes, and with its last one the image."""

from __future__ import annotations

from collections.abc import Callable

from engine.storage import collect as gc
from engine.storage.collect import Contents, Removal
from engine.storage.collect_execute import remove_image
from engine.storage.names import parse_storage_name
from engine.storage.options import StoreLocation
from engine.storage.store import Store
from engine.storage.transport import located
from imgtools.errors import ImageNotFound
from imgtools.task import Task


def delete_from_store(
    rest: str,
    location: StoreLocation,
    opened: Callable[[StoreLocation], Store],
    *,
    all_names: bool = False,
    dry_run: bool = False,
    task: Task,
) -> Removal:
    """Delete the image `containers-storage:rest`, or only the name where it has others and
    not `all_names`; what went, or with `dry_run` what would.

    Raises InvalidReference, ImageNotFound, ImageInUse, and Conflict for an id of an image
    with several names.
    """
    name = parse_storage_name(rest)
    with opened(located(name, location)) as store:
        image = store.named(name)
        found = "" if name.image_id else store.find(name.text)[1]

        def plan(contents: Contents) -> Removal:
            if image.id not in contents.images:
                raise ImageNotFound(f"{rest}: image not known")
            by_name = "" if all_names else found
            return gc.plan_rmi(contents, image.id, by_name, names=all_names, force=False)

        if dry_run:
            return plan(store.contents())
        return remove_image(store.parts, image.id, plan, task=task)

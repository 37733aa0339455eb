"""The layers of a base image, fetched once they are needed."""

from __future__ import annotations

from engine.builds.bases import Bases, Once, Place
from engine.builds.holding import Holding
from engine.storage.images import name_key
from engine.storage.names import StorageName
from engine.storage.pull import PULL_LOCK, retiring
from engine.storage.store import Store
from imgtools.build.protocols import BaseImage
from imgtools.errors import Conflict, ImageNotFound
from imgtools.spec.digest import Digest
from imgtools.spec.identity import chain_ids
from imgtools.spec.reference import ImageName
from imgtools.task import Task

ATTEMPTS = 5


class Obtaining:
    """Has layers of base images in one store; for several threads."""

    def __init__(self, store: Store, bases: Bases, holding: Holding) -> None:
        self._store = store
        self._bases = bases
        self._holding = holding
        self._done = Once[tuple[Digest, ...], bool]()

    def obtain(self, base: BaseImage, *, task: Task) -> None:
        """Have all layers of `base` here, and keep them until the build ends. Raises
        ImageNotFound, Conflict where another image is there by now, and what copies raise."""
        diff_ids = base.config.diff_ids
        if diff_ids:
            self._done.get(diff_ids, lambda: self._obtain(base, task))

    def _obtain(self, base: BaseImage, task: Task) -> bool:
        top = chain_ids(base.config.diff_ids)[-1]
        place = base.token
        if self._holding.hold(top, task=task) is not None:
            return True
        if not isinstance(place, Place) or place.source is None:
            raise ImageNotFound(f"{base.name}: its layers are gone from the store")
        source = place.source
        for _ in range(ATTEMPTS):
            self._bases.retry(lambda: self._copy(base, place, source, task))
            if self._holding.hold(top, task=task) is not None:
                return True
        raise ImageNotFound(f"{base.name}: it is removed as fast as it is pulled")

    def _copy(self, base: BaseImage, place: Place, name: ImageName, task: Task) -> None:
        """Copy the image into the store; another build that does so is waited for."""
        parts = self._store.parts
        lock = parts.locks.exclusive(PULL_LOCK, name_key(str(name)), task=task)
        stored = StorageName(text=place.name)
        with (
            retiring(lock),
            self._bases.open(name) as source,
            self._store.destination(stored, repo_digests=place.digests) as destination,
        ):
            from imgtools.copy import CopyOptions, Selection, copy_image

            options = CopyOptions(selection=Selection(platform=base.platform))
            done = copy_image(source, destination, options, admit=place.admit, task=task)
            if done.up_to_date:
                return
            config = self._store.config(destination.committed)
        if config.diff_ids != base.config.diff_ids:
            raise Conflict(
                f"{base.name} has become another image since it was looked up",
                hint="build again, or name it by digest",
            )

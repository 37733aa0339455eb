"""The images of a store and their names: looked up through the index, changed in the records.

Whoever changes an image holds its lock, for as long as writing a few small files takes.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from engine.storage import names as nm
from engine.storage.images import StoredImage, StoredName, name_key
from engine.storage.locks import Held
from engine.storage.parts import Parts
from imgtools.errors import ImageNotFound
from imgtools.task import Task

IMAGE_LOCK = "image"
_NAME_LOCK = "name"


class ImageRegistry:
    """Images and names of one store."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def images(self) -> Mapping[str, StoredImage]:
        """All images by id."""
        return MappingProxyType(self._parts.index.images())

    def names(self) -> Mapping[str, StoredName]:
        """All names that mean an image which is there."""
        return self._both()[1]

    def get(self, image_id: str) -> StoredImage | None:
        """The image, None when it is not there; asks its record alone."""
        return self._parts.images.read(image_id, StoredImage.from_json)

    def by_name(self, name: str) -> StoredImage | None:
        """The image that has a stored name, None for a name that means none."""
        found = self._parts.names.read(name_key(name), StoredName.from_json)
        return self.get(found.image_id) if found is not None else None

    def find(self, text: str) -> tuple[StoredImage, str]:
        """The image that people mean by `text`, and the name by which it was found ("" by id
        or digest); raises ImageNotFound and InvalidReference."""
        images, names = self._both()
        digests: dict[str, list[str]] = {}
        for image in images.values():
            for digest in image.repo_digests:
                digests.setdefault(digest, []).append(image.id)
        found = nm.find(text, {k: n.image_id for k, n in names.items()}, images, digests)
        return images[found.image_id], found.name

    def _both(self) -> tuple[Mapping[str, StoredImage], Mapping[str, StoredName]]:
        """All images, and the names that mean one of them. Images are read last, so that a
        name that is found means what it says."""
        names = self._parts.index.names()
        images = self._parts.index.images()
        found = {k: n for k, n in names.items() if n.image_id in images}
        return MappingProxyType(images), MappingProxyType(found)

    def locked(self, image_id: str, *, task: Task) -> Held:
        """The lock of an image, for who changes it or begins to use it."""
        return self._parts.locks.exclusive(IMAGE_LOCK, image_id, task=task)

    def add(self, image: StoredImage) -> StoredImage:
        """Record an image, with what is known of it already; the caller holds its lock and
        has stored all that it needs."""
        before = self.get(image.id)
        if before is not None:
            image = (
                before.with_digests(image.repo_digests)
                if _same(image, before)
                else (image.with_digests(before.repo_digests))
            )
            if image == before:
                return before
        self._parts.images.write(image.id, image.to_json())
        return image

    def give_name(self, name: str, image_id: str) -> None:
        """Let a normalised name mean an image, whose lock the caller holds."""
        key = name_key(name)
        with self._parts.locks.exclusive(_NAME_LOCK, key, task=Task()):
            before = self._parts.names.read(key, StoredName.from_json)
            if before is None or before.image_id != image_id:
                record = StoredName(name=name, image_id=image_id, given=time.time())
                self._parts.names.write(key, record.to_json())

    def take_name(self, name: str, *, image_id: str = "") -> bool:
        """Let a name mean nothing, if it means the image, or (image_id "") one that is gone;
        whether it was so."""
        key = name_key(name)
        with self._parts.locks.exclusive(_NAME_LOCK, key, task=Task()) as held:
            record = self._parts.names.read(key, StoredName.from_json)
            if record is None or (image_id and record.image_id != image_id):
                return False
            if not image_id and self.get(record.image_id) is not None:
                return False
            self._parts.names.remove(key)
            held.retire()
            return True

    def tag(self, text: str, names: tuple[str, ...], *, task: Task) -> StoredImage:
        """Give the image `text` more names; raises ImageNotFound and InvalidReference."""
        wanted = [nm.normalised(name) for name in names]
        image, _ = self.find(text)
        with self.locked(image.id, task=task):
            if self.get(image.id) is None:
                raise ImageNotFound(f"{text}: image not known")
            for name in wanted:
                self.give_name(name, image.id)
        return image


def _same(image: StoredImage, before: StoredImage) -> bool:
    """Whether an image is the recorded one, but for when and by what digests it came."""
    return replace(image, stored=before.stored, repo_digests=before.repo_digests) == before

"""A store of images as one object: open it, find an image, use it, remove it, put it in order.

Layers and snapshots are on disk (`layers`, `snapshots`), images and names are records
(`images`), the index only makes them quick to list. A `Store` lives as long as a command
and holds no lock between calls, but for what its answers say that they hold.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Self

from engine.storage import collect as gc
from engine.storage.assembly import LAYER_LOCK
from engine.storage.cachemounts import CacheMounts
from engine.storage.collect import Contents, Removal
from engine.storage.collect_execute import collect, remove_image, survey
from engine.storage.containers import InUse, Owner, Use, Uses, this_process
from engine.storage.images import Records, StoredImage, StoredName
from engine.storage.index import Index
from engine.storage.kept import KeptLayers
from engine.storage.known import KnownBlobs
from engine.storage.layers import LayerStore
from engine.storage.layers_disk import Disk, open_disk
from engine.storage.locks import Held, Locks
from engine.storage.names import StorageName, find, stored_name
from engine.storage.options import StoreLocation
from engine.storage.parts import Parts, lock_key
from engine.storage.registry import ImageRegistry
from engine.storage.snapshots import SnapshotStore
from engine.storage.transport_destination import StorageDestination
from engine.storage.transport_source import StorageSource
from imgtools.blob.store import BlobStore
from imgtools.errors import ImageNotFound, InvalidReference
from imgtools.spec.config import Config
from imgtools.spec.manifest import RawManifest
from imgtools.task import Task
from imgtools.transport.base import Origin
from imgtools.transport.closing import Closing


class Store(Closing):
    """The images of one place. May be used by several threads."""

    def __init__(self, disk: Disk) -> None:
        """`open` is the way to make one."""
        layout = disk.layout
        layers = LayerStore(disk)

        def path(name: str) -> str:
            return os.path.join(layout.base, name)

        self.location = disk.location
        self.driver = disk.choice.name
        images, names = Records(path("images")), Records(path("names"))
        locks = Locks(path("locks"))
        self.parts = Parts(
            layout=layout,
            layers=layers,
            snapshots=SnapshotStore(layers),
            locks=locks,
            images=images,
            names=names,
            index=Index(path("index.sqlite"), images, names),
            documents=BlobStore(path("documents")),
            known=KnownBlobs(Records(path("known"))),
            kept=KeptLayers(Records(path("builds"))),
            uses=Uses(Records(path("uses")), locks),
        )
        self.cache_mounts = CacheMounts(path("cachemounts"), locks, disk.workspace)
        self._registry = ImageRegistry(self.parts)

    @classmethod
    def open(cls, location: StoreLocation) -> Self:
        """The store at `location`, which is made if it is not there.

        Whoever is not root is in the user namespace of the store's ids by now. Raises
        InvalidInput, Conflict (made with another driver), Unsupported, StorageError.
        """
        return cls(open_disk(location))

    @property
    def layers(self) -> LayerStore:
        """The layers on disk."""
        return self.parts.layers

    @property
    def snapshots(self) -> SnapshotStore:
        """The snapshots on disk."""
        return self.parts.snapshots

    def images(self) -> Mapping[str, StoredImage]:
        """All images by id."""
        return self._registry.images()

    def names(self) -> Mapping[str, StoredName]:
        """All names that mean an image."""
        return self._registry.names()

    def contents(self) -> Contents:
        """Everything in the store, for plans."""
        return survey(self.parts)

    def find(self, text: str) -> tuple[StoredImage, str]:
        """The image that people mean by `text` (a name, a short name, an id or its start, a
        digest), and the name by which it was found, if by one.

        Raises ImageNotFound, and InvalidReference for what means several.
        """
        return self._registry.find(text)

    def named(self, name: StorageName) -> StoredImage:
        """The image that a reference means; raises ImageNotFound, and InvalidReference where
        its name and id are of two images."""
        if not name.image_id:
            return self.find(name.text)[0]
        image = self._registry.get(name.image_id)
        if image is None:
            raise ImageNotFound(f"{name.image_id}: image not known")
        if name.text:
            found = find(name.text, {n.name: n.image_id for n in self.names().values()}, (), {})
            if found.image_id != image.id:
                raise InvalidReference(name.text, f"it is another image than {image.id}")
        return image

    def config(self, image: StoredImage) -> Config:
        """The config of an image; raises BlobNotFound, DigestMismatch."""
        with self.parts.documents.open(image.config) as reader:
            return Config.parse(reader.read())

    def manifest(self, image: StoredImage) -> RawManifest:
        """The manifest that an image was received with."""
        with self.parts.documents.open(image.manifest) as reader:
            content = reader.read()
        return RawManifest.verified(content, image.manifest.media_type, image.manifest.digest)

    def use(
        self,
        image: StoredImage,
        use_id: str,
        *,
        kind: str = "container",
        name: str = "",
        created: float = 0.0,
        owner: Owner | None = None,
        persistent: bool = False,
        task: Task,
    ) -> InUse:
        """Say that somebody uses an image, before its snapshot `use_id` is prepared: from
        then on neither is removed by others. `owner` None is this process.

        Raises ImageNotFound when the image was removed meanwhile, Conflict for a taken id.
        """
        with self._registry.locked(image.id, task=task):
            if self._registry.get(image.id) is None:
                raise ImageNotFound(f"{image.id}: image not known")
            return self.parts.uses.begin(
                Use(
                    id=use_id,
                    kind=kind,
                    owner=owner or this_process(),
                    image_id=image.id,
                    layer=image.chain_id,
                    name=name,
                    created=created,
                    persistent=persistent,
                )
            )

    def tag(self, text: str, names: Sequence[str], *, task: Task) -> StoredImage:
        """Give an image more names; raises ImageNotFound, InvalidReference."""
        return self._registry.tag(text, tuple(names), task=task)

    def remember_digests(
        self, image: StoredImage, digests: Sequence[str], *, task: Task
    ) -> StoredImage:
        """Record by which further `repository@digest` an image is known; raises ImageNotFound
        when it was removed."""
        with self._registry.locked(image.id, task=task):
            if self._registry.get(image.id) is None:
                raise ImageNotFound(f"{image.id}: image not known")
            return self._registry.add(image.with_digests(tuple(digests)))

    def remove(self, text: str, *, force: bool = False, names: bool = False, task: Task) -> Removal:
        """Remove an image, or only the name `text` where it has others; what went. `names`
        lets an id take all names of its image along, `force` also users.

        Raises ImageNotFound, InvalidReference, Conflict and ImageInUse, see `collect`.
        """
        image, name = self.find(text)

        def plan(contents: Contents) -> Removal:
            if image.id not in contents.images or (name and name not in contents.names):
                raise ImageNotFound(f"{text}: image not known")
            return gc.plan_rmi(contents, image.id, name, names=names or force, force=force)

        return remove_image(self.parts, image.id, plan, task=task)

    def prune(
        self,
        images: Collection[str] = (),
        *,
        cache_before: float | None = None,
        task: Task,
    ) -> Removal:
        """Remove those of `images` that nobody uses, and everything that nothing refers to:
        what killed commands left, layers without an image, snapshots without a user.

        What builds remember stays, and the caches of their steps, but for what was last of use
        before `cache_before`, in seconds since the epoch (infinity: all of it).
        """

        def plan(contents: Contents) -> Removal:
            there = [i for i in images if i in contents.images]
            return gc.plan_prune(contents, there, cache_before=cache_before)

        removal = collect(self.parts, plan, task=task)
        if cache_before is None:
            return removal
        return replace(removal, caches=self.cache_mounts.prune(cache_before))

    def rebuild(self) -> None:
        """Make the index anew from what is on disk."""
        self.parts.index.rebuild()

    def source(self, name: StorageName, *, as_received: bool = False, task: Task) -> StorageSource:
        """The image `name` to be read; raises ImageNotFound, InvalidReference. Its layers
        stay until the source is closed, even if the image is removed meanwhile."""
        image = self.named(name)
        held: list[Held] = []
        try:
            for layer in image.layers:
                key = lock_key(layer.chain_id)
                held.append(self.parts.locks.shared(LAYER_LOCK, key, task=task))
            origin = self._origin(name)
            return StorageSource(
                self.parts, image, origin, as_received=as_received, held=tuple(held)
            )
        except BaseException:
            for each in held:
                each.close()
            raise

    def destination(
        self, name: StorageName, *, repo_digests: Sequence[str] = ()
    ) -> StorageDestination:
        """A place for an image that shall be called `name`; raises InvalidReference."""
        reference = stored_name(name.reference) if name.text else None
        return StorageDestination(
            self.parts,
            self._origin(name),
            reference,
            repo_digests=repo_digests,
            image_id=name.image_id,
        )

    def close(self) -> None:
        """Release the index, and what an interrupt has left of our temporary files."""
        self.parts.index.close()
        self.layers.disk.workspace.close()

    def _origin(self, name: StorageName) -> Origin:
        at = f"@{name.image_id}" if name.image_id else ""
        where = f"[{self.driver}@{self.location.root}+{self.location.runroot}]"
        text = str(name.reference) if name.text and not _is_id(name.text) else name.text
        return Origin(transport="containers-storage", name=f"containers-storage:{where}{text}{at}")


def _is_id(text: str) -> bool:
    return len(text) == 64 and not set(text) - set("0123456789abcdef")

"""The destination `containers-storage:`: an image is unpacked into the store as it arrives.

Layers go into their place when their turn comes (`assembly`); everything else about the image
waits for `commit`, which writes documents, record and name in this order, so that an image
that is there is whole.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from typing import BinaryIO

from engine.storage.assembly import Assembly
from engine.storage.images import StoredImage
from engine.storage.intake import Intake, temporary_file
from engine.storage.keep import described, keep_document
from engine.storage.locks import Held
from engine.storage.parts import Parts, find_layer
from engine.storage.registry import ImageRegistry
from imgtools.blob.pump import pump
from imgtools.blob.reader import BlobReader, FromStart
from imgtools.errors import (
    BlobNotFound,
    InvalidManifest,
    LimitExceeded,
    Unsupported,
)
from imgtools.spec import identity
from imgtools.spec import media_type as mt
from imgtools.spec.config import Config
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest
from imgtools.spec.manifest import Manifest, RawManifest, parse
from imgtools.spec.reference import Reference
from imgtools.spec.strict_json import MANIFEST_LIMIT
from imgtools.task import Task
from imgtools.transport.base import BlobOpener, BlobOutcome, Capabilities, Origin
from imgtools.transport.closing import Closing
from imgtools.transport.folder import check_reader, check_size, write_all
from imgtools.transport.lock import OnePerDigest

CAPABILITIES = Capabilities(
    manifest_types=frozenset({mt.OCI_MANIFEST, mt.DOCKER_MANIFEST}),
    layer_compressions=None,
    indexes=False,
    artifacts=False,
)


class StorageDestination(Closing):
    """Writes one image into a store."""

    def __init__(
        self,
        parts: Parts,
        origin: Origin,
        name: Reference | None,
        *,
        repo_digests: Sequence[str] = (),
        image_id: str = "",
    ) -> None:
        """`name` is given to the image by `commit`, with those it has; None leaves it without
        a new one. `repo_digests` are remembered with it. With `image_id` any other image is
        refused."""
        self._parts = parts
        self._origin = origin
        self._name = name
        self._repo_digests = tuple(repo_digests)
        self._image_id = image_id
        self._assembly = Assembly(parts)
        self._one_per_digest = OnePerDigest()
        self._mutex = threading.Lock()
        self._files: dict[Digest, tuple[BinaryIO, int]] = {}
        self._announced: frozenset[Digest] = frozenset()
        self._early: tuple[Digest, bytes] | None = None
        self._done: set[Digest] = set()
        self._held: list[Held] = []
        self._raw: RawManifest | None = None
        self._committed: StoredImage | None = None

    @property
    def origin(self) -> Origin:
        """Where this is."""
        return self._origin

    @property
    def capabilities(self) -> Capabilities:
        """What a store can hold: images, each for itself."""
        return CAPABILITIES

    @property
    def committed(self) -> StoredImage:
        """The image that `commit` wrote."""
        if self._committed is None:
            raise AssertionError("nothing was committed yet")
        return self._committed

    def current(self) -> Descriptor | None:
        """The manifest, as received, of the image that has the name."""
        if self._name is None:
            return None
        found = ImageRegistry(self._parts).by_name(str(self._name))
        if found is None or not self._is_whole(found):
            return None
        return found.manifest

    def has_blob(self, descriptor: Descriptor) -> bool:
        """Whether the blob was put, or its layer is in the store, where it then stays."""
        digest = descriptor.digest
        with self._mutex:
            if digest in self._done or digest in self._files:
                return True
        return self._assembly.stored(descriptor, task=Task())

    def has_manifest(self, descriptor: Descriptor) -> bool:
        """Whether the image that has the name has this manifest."""
        found = self.current()
        return found is not None and found.digest == descriptor.digest

    def announce(self, raw: RawManifest, open_config: BlobOpener) -> None:
        """See Announced: lets layers go into their place while others are on their way."""
        view = parse(raw)
        if not isinstance(view, Manifest) or view.config.size > MANIFEST_LIMIT:
            return
        with open_config() as reader:
            self._early = (view.config.digest, reader.read())
        diff_ids = _diff_ids(self._early[1], view)
        self._assembly.announce(view.layers, diff_ids)
        self._announced = frozenset(layer.digest for layer in view.layers)

    def put_blob(
        self,
        descriptor: Descriptor,
        open_blob: BlobOpener,
        *,
        mount_from: Sequence[Origin] = (),
        task: Task,
    ) -> BlobOutcome:
        """See Destination; raises what the blob's reader and unpacking raise."""
        with self._one_per_digest(descriptor.digest):
            if self.has_blob(descriptor):
                return "present"
            if self._early is not None and descriptor.digest == self._early[0]:
                content = self._early[1]
                open_blob = lambda: BlobReader.of(content, descriptor.digest)  # noqa: E731
            if descriptor.digest in self._announced and self._assembly.stream(
                descriptor, open_blob, task=task
            ):
                with self._mutex:
                    self._done.add(descriptor.digest)
                return "stored"
            self._hold(descriptor, open_blob, task)
            self._assembly.proceed(task=task)
        return "stored"

    def put_manifest(self, raw: RawManifest, *, top: bool) -> None:
        """See Destination; raises Unsupported for what is no image."""
        view = parse(raw)
        if not isinstance(view, Manifest) or not top:
            raise Unsupported(
                "containers-storage: holds single images, no index and nothing beside one"
            )
        if view.is_artifact and not view.is_docker:
            raise Unsupported(f"containers-storage: holds no artifact ({view.config.media_type})")
        self._raw = raw

    def commit(self) -> None:
        """Put what is left of the layers in place, then write documents, record and name."""
        raw = self._raw
        if raw is None:
            raise AssertionError("commit without a manifest")
        view = parse(raw)
        if not isinstance(view, Manifest):
            raise AssertionError("put_manifest took no image")
        content = self._content(view.config)
        image_id = identity.image_id(content).hex
        if self._image_id and image_id != self._image_id:
            raise InvalidManifest(f"the image is {image_id} and not {self._image_id}")
        task = Task()
        self._assembly.announce(view.layers, _diff_ids(content, view))
        layers = self._assembly.complete(task=task)
        image = described(Intake(self._parts), raw, view, content, layers)
        self._parts.layers.settle()
        registry = ImageRegistry(self._parts)
        with registry.locked(image_id, task=task):
            for digest, document in ((view.config.digest, content), (raw.digest, raw.content)):
                self._held.append(keep_document(self._parts, digest, document, task))
            image = registry.add(image.with_digests(self._digests(raw)))
            if self._name is not None:
                registry.give_name(str(self._name), image_id)
        self._committed = image

    def close(self) -> None:
        """Give back locks and files. Without commit the layers that are in place are left for
        the next try, or for prune."""
        self._assembly.close()
        for held in self._held:
            held.close()
        self._held.clear()
        with self._mutex:
            files, self._files = self._files, {}
        for file, _size in files.values():
            file.close()

    def _is_whole(self, image: StoredImage) -> bool:
        """Whether all layers of an image are there; if not, a copy makes them again."""
        intake = Intake(self._parts)
        found = (find_layer(self._parts, layer.chain_id) for layer in image.layers)
        return all(layer is not None and intake.is_whole(layer) for layer in found)

    def _digests(self, raw: RawManifest) -> tuple[str, ...]:
        if self._name is None or self._name.digest is not None:
            return (str(self._name), *self._repo_digests) if self._name else self._repo_digests
        return (f"{self._name.name}@{raw.digest}", *self._repo_digests)

    def _hold(self, descriptor: Descriptor, open_blob: BlobOpener, task: Task) -> None:
        """Keep a blob in an unnamed file until its turn, or commit, comes."""
        file = temporary_file(self._parts.layout.tmp)
        try:
            with open_blob() as reader:
                check_reader(reader, descriptor)
                item = str(descriptor.digest)
                done = pump(reader, lambda d: write_all(file.fileno(), d), task=task, item=item)
            check_size(descriptor, done)
        except BaseException:
            file.close()
            raise
        digest = descriptor.digest
        with self._mutex:
            self._files[digest] = (file, done)
        fd = file.fileno()
        self._assembly.arrived(
            descriptor, lambda: BlobReader(FromStart(fd), digest, done, what="spooled blob")
        )

    def _content(self, descriptor: Descriptor) -> bytes:
        """A document that was put, or is in the store."""
        if descriptor.size > MANIFEST_LIMIT:
            raise LimitExceeded(f"image config {descriptor.digest}", MANIFEST_LIMIT)
        with self._mutex:
            found = self._files.get(descriptor.digest)
        if found is not None:
            return os.pread(found[0].fileno(), found[1], 0)
        raise BlobNotFound(f"blob {descriptor.digest} was not stored")


def _diff_ids(config: bytes, view: Manifest) -> tuple[Digest, ...]:
    """What the config says of the layers; raises InvalidManifest when there are not as many."""
    found = Config.parse(config).diff_ids
    if len(found) != len(view.layers):
        raise InvalidManifest(
            f"the config {view.config.digest} has {len(found)} layers and its manifest "
            f"{len(view.layers)}"
        )
    return found

"""The source `containers-storage:`: an image of the store as a copy or a look at it sees it.

Layers are stored unpacked, so the blobs that can be read are their tars, and the manifest
that names those is another than was received, unless it had no compressed layer. As in
containers/image a copy gets the manifest of what can be read; `as_received` gives the
manifest, byte for byte, with which the image came.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from engine.storage.images import StoredImage, StoredLayer
from engine.storage.intake import Intake
from engine.storage.locks import Held
from engine.storage.parts import Parts, find_layer
from imgtools.blob.reader import BlobReader
from imgtools.errors import BlobNotFound, InvalidManifest, NotFound
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest
from imgtools.spec.manifest import Manifest, RawManifest, parse
from imgtools.transport.base import Origin
from imgtools.transport.closing import Closing


class StorageSource(Closing):
    """Reads one image of a store; `held` keeps it there meanwhile and is closed with this."""

    def __init__(
        self,
        parts: Parts,
        image: StoredImage,
        origin: Origin,
        *,
        as_received: bool = False,
        held: tuple[Held, ...] = (),
    ) -> None:
        self._parts = parts
        self._image = image
        self._held = held
        self._intake = Intake(parts)
        self._received = self._document(image.manifest)
        plain = all(layer.blob.digest == layer.diff_id for layer in image.layers)
        self._raw = self._received if plain or as_received else _uncompressed(self._received, image)
        self._origin = replace(origin, synthesised=self._raw is not self._received)
        self._layers = {layer.diff_id: layer for layer in image.layers}

    @property
    def origin(self) -> Origin:
        """Where this is."""
        return self._origin

    @property
    def image(self) -> StoredImage:
        """The image."""
        return self._image

    def resolve(self) -> Descriptor:
        """See Source."""
        return self._raw.descriptor()

    def top(self) -> RawManifest:
        """See Source."""
        return self._raw

    def manifest(self, descriptor: Descriptor) -> RawManifest:
        """See Source: the one that can be read, and the one that was received."""
        for raw in (self._raw, self._received):
            if raw.digest == descriptor.digest:
                return raw
        raise NotFound(f"{self._origin.name} has no manifest {descriptor.digest}")

    def open_blob(self, descriptor: Descriptor) -> BlobReader:
        """See Source; a layer is read by the digest of its tar."""
        layer = self._layers.get(descriptor.digest)
        if layer is not None:
            return self._open_layer(layer)
        if descriptor.digest == self._image.config.digest:
            return self._parts.documents.open(self._image.config)
        if any(layer.blob.digest == descriptor.digest for layer in self._image.layers):
            raise BlobNotFound(
                f"layer {descriptor.digest} is stored unpacked, and is compressed anew when it "
                "is copied"
            )
        raise BlobNotFound(f"{self._origin.name} has no blob {descriptor.digest}")

    def read_range(self, descriptor: Descriptor, offset: int, length: int) -> bytes | None:
        """None: tars are made while they are read."""
        return None

    def referrers(self, digest: Digest) -> Iterator[Descriptor]:
        """None: a store has images only."""
        return iter(())

    def close(self) -> None:
        """Give back the locks."""
        held, self._held = self._held, ()
        for each in held:
            each.close()

    def _open_layer(self, stored: StoredLayer) -> BlobReader:
        layer = find_layer(self._parts, stored.chain_id)
        if layer is None:
            raise BlobNotFound(f"layer {stored.diff_id} is gone from the store")
        return self._intake.replay(layer)

    def _document(self, descriptor: Descriptor) -> RawManifest:
        with self._parts.documents.open(descriptor) as reader:
            return RawManifest.verified(reader.read(), descriptor.media_type, descriptor.digest)


def _uncompressed(raw: RawManifest, image: StoredImage) -> RawManifest:
    """The manifest with every layer as its uncompressed tar; the config stays the same."""
    view = parse(raw)
    if not isinstance(view, Manifest):
        raise InvalidManifest(f"manifest {raw.digest} of image {image.id} is no image")
    layers = tuple(layer.blob_as_stored() for layer in image.layers)
    return replace(view, layers=layers).to_raw(raw.digest.algorithm)

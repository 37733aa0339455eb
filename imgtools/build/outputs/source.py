"""Finished images as a transport's Source, so that `imgtools.copy` takes them anywhere.

All documents are known before a copy begins and arrive byte for byte, so that attestations can
name them; the bytes of layers come from whoever has them when they are asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType

from imgtools.blob.reader import BlobReader
from imgtools.errors import BlobNotFound, NotFound
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest
from imgtools.spec.manifest import RawManifest
from imgtools.transport.base import BlobOpener, Origin
from imgtools.transport.closing import Closing


class BuiltSource(Closing):
    """Reads one image, or an index of several with all that refers to them."""

    def __init__(
        self,
        top: RawManifest,
        blobs: Mapping[Digest, BlobOpener],
        *,
        manifests: Iterable[RawManifest] = (),
        referrers: Mapping[Digest, tuple[Descriptor, ...]] = MappingProxyType({}),
        name: str = "build:",
    ) -> None:
        """`blobs` opens configs and layers by digest, `manifests` are those besides `top`,
        `referrers` those of them that refer to others, by subject."""
        self._top = top
        self._manifests = {raw.digest: raw for raw in (*manifests, top)}
        self._blobs = dict(blobs)
        self._referrers = dict(referrers)
        self._origin = Origin(transport="build", name=name)

    @property
    def origin(self) -> Origin:
        """Where this is: nowhere yet."""
        return self._origin

    def resolve(self) -> Descriptor:
        """See Source."""
        return self._top.descriptor()

    def top(self) -> RawManifest:
        """See Source."""
        return self._top

    def manifest(self, descriptor: Descriptor) -> RawManifest:
        """See Source."""
        found = self._manifests.get(descriptor.digest)
        if found is None:
            raise NotFound(f"the build has no manifest {descriptor.digest}")
        return found

    def open_blob(self, descriptor: Descriptor) -> BlobReader:
        """See Source; raises what reading a layer does."""
        opener = self._blobs.get(descriptor.digest)
        if opener is None:
            raise BlobNotFound(f"the build has no blob {descriptor.digest}")
        return opener()

    def read_range(self, descriptor: Descriptor, offset: int, length: int) -> bytes | None:
        """None: layers are made while they are read."""
        return None

    def referrers(self, digest: Digest) -> Iterator[Descriptor]:
        """See Source."""
        return iter(self._referrers.get(digest, ()))

    def close(self) -> None:
        """Nothing: what opens blobs belongs to the caller."""

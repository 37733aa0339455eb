"""An index that is put together in a store, as a Source: its entries are read from wherever they
are, all through one object, so that one copy moves the index with everything in it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

from engine.working.lists import FILE, ImageList
from imgtools.blob.files import storage_errors
from imgtools.blob.reader import BlobReader
from imgtools.errors import BlobNotFound, Error, NotFound
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest
from imgtools.spec.manifest import Manifest, RawManifest, parse
from imgtools.transport.base import Origin, Source
from imgtools.transport.closing import Closing


class ListSource(Closing):
    """Reads an index; see imgtools.transport.base.Source. Methods may be called from several
    threads."""

    def __init__(self, image_list: ImageList, open_source: Callable[[str], Source]) -> None:
        """`open_source` opens `transport:reference`; what it gives is closed with this."""
        self._list = image_list
        self._raw = image_list.raw
        self._open = open_source
        self._mutex = threading.Lock()
        self._sources: dict[str, Source] = {}
        self._owners: dict[Digest, str] = dict(image_list.sources)

    @property
    def origin(self) -> Origin:
        """Where this is."""
        return Origin(
            transport="containers-storage", name=f"index {self._list.name}", synthesised=True
        )

    def resolve(self) -> Descriptor:
        """See Source."""
        return self._raw.descriptor()

    def top(self) -> RawManifest:
        """See Source."""
        return self._raw

    def manifest(self, descriptor: Descriptor) -> RawManifest:
        """See Source; of an entry, or of what an entry that is an index names."""
        if descriptor.digest == self._raw.digest:
            return self._raw
        content = self._list.documents.get(descriptor.digest)
        if content is not None:
            return RawManifest.verified(content, descriptor.media_type, descriptor.digest)
        place = self._owners.get(descriptor.digest)
        if place is None:
            raise NotFound(f"{self.origin.name} has no manifest {descriptor.digest}")
        try:
            raw = self._source(place).manifest(descriptor)
        except Error as e:
            raise e.with_context(
                f"entry {descriptor.digest.short}, read from {place}"
            ) from e.__cause__
        view = parse(raw)
        named = view.blobs() if isinstance(view, Manifest) else getattr(view, "manifests", ())
        with self._mutex:
            for each in named:
                self._owners.setdefault(each.digest, place)
        return raw

    def open_blob(self, descriptor: Descriptor) -> BlobReader:
        """See Source."""
        content = self._list.documents.get(descriptor.digest)
        if content is not None:
            return BlobReader.of(content, descriptor.digest)
        place = self._owners.get(descriptor.digest)
        if place is None:
            raise BlobNotFound(f"{self.origin.name} has no blob {descriptor.digest}")
        if place.startswith(FILE):
            path = place.removeprefix(FILE)
            with storage_errors(path):
                file = open(path, "rb")  # noqa: SIM115 - closed by the reader
            return BlobReader(file, descriptor.digest, descriptor.size, close=file.close)
        return self._source(place).open_blob(descriptor)

    def read_range(self, descriptor: Descriptor, offset: int, length: int) -> bytes | None:
        """None: entries are read whole."""
        return None

    def referrers(self, digest: Digest) -> Iterator[Descriptor]:
        """None: what refers to an entry stays where it is."""
        return iter(())

    def close(self) -> None:
        """Close what was opened; safe to call twice."""
        while self._sources:
            self._sources.popitem()[1].close()

    def _source(self, place: str) -> Source:
        with self._mutex:
            if place not in self._sources:
                self._sources[place] = self._open(place)
            return self._sources[place]

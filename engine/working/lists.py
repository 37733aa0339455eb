"""Indexes that are put together in a store: a record by name, which says where each entry's
manifest is read from when the index is pushed.

The index is kept as the bytes that would be pushed. An entry of an image of the store is the
manifest with uncompressed layers, as everything that is copied out of a store is.
"""

from __future__ import annotations

import base64
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import field, replace
from types import MappingProxyType
from typing import Any

from engine.storage.images import Records, name_key
from engine.storage.names import candidates, normalised
from engine.storage.store import Store
from imgtools.blob.files import storage_errors
from imgtools.errors import Conflict, ImageNotFound, InvalidInput, InvalidManifest
from imgtools.frozen import dataclass
from imgtools.spec import media_type as mt
from imgtools.spec.descriptor import Descriptor, optional, string_map
from imgtools.spec.digest import Digest
from imgtools.spec.manifest import Index, RawManifest, parse
from imgtools.task import Task

VERSION = 1
FILE = "file:"
"""What stands before the path of a file of the host that an artifact has."""
_LOCK = "list"
_NOWHERE: Mapping[Digest, str] = MappingProxyType({})
_NOTHING: Mapping[Digest, bytes] = MappingProxyType({})


class ListNotKnown(ImageNotFound):
    """There is no index of that name in the store."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageList:
    """An index by its normalised `name`. `sources` says of an entry's digest by which
    transport:reference it is read, and of an artifact's content in which FILE it is;
    `documents` are manifests and configs of artifacts that are kept here, by digest.
    `created` is when it was made, in seconds since the epoch, 0 where nobody knows."""

    name: str
    index: Index
    sources: Mapping[Digest, str] = field(default_factory=lambda: _NOWHERE)
    documents: Mapping[Digest, bytes] = field(default_factory=lambda: _NOTHING)
    created: float = 0.0

    @property
    def raw(self) -> RawManifest:
        """The bytes of the index."""
        return self.index.to_raw()

    def to_json(self) -> dict[str, Any]:
        """The document of the record."""
        return {
            "version": VERSION,
            "name": self.name,
            "index": self.raw.content.decode(),
            "mediaType": self.index.media_type,
            "sources": {str(digest): text for digest, text in self.sources.items()},
            "documents": {
                str(digest): base64.b64encode(data).decode()
                for digest, data in self.documents.items()
            },
            "created": self.created,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ImageList:
        """The index that a record describes; raises InvalidInput."""
        what = "record of an index"
        if value.get("version") != VERSION:
            raise InvalidInput(f"{what} of version {value.get('version')!r}: {VERSION} is known")
        content = (optional(value, "index", str, what) or "").encode()
        index = parse(RawManifest.of(content, optional(value, "mediaType", str, what) or ""))
        if not isinstance(index, Index):
            raise InvalidManifest(f"{what} has no index")
        sources = string_map(value, "sources", what)
        documents = string_map(value, "documents", what)
        return cls(
            name=optional(value, "name", str, what) or "",
            index=index,
            sources={Digest.parse(key): text for key, text in sources.items()},
            documents={
                Digest.parse(key): base64.b64decode(text) for key, text in documents.items()
            },
            created=float(value.get("created") or 0.0),
        )

    def with_entry(
        self,
        entry: Descriptor,
        sources: Mapping[Digest, str],
        documents: Mapping[Digest, bytes] = _NOTHING,
    ) -> ImageList:
        """The same with an entry, in the place of one of the same digest and platform."""
        kept = [
            each
            for each in self.index.manifests
            if each.digest != entry.digest or each.platform != entry.platform
        ]
        return replace(
            self,
            index=replace(self.index, manifests=(*kept, entry)),
            sources={**self.sources, **sources},
            documents={**self.documents, **documents},
        )

    def with_properties(
        self, annotations: Mapping[str, str], subject: Descriptor | None
    ) -> ImageList:
        """The same with more annotations, and another subject unless that is None."""
        index = replace(
            self.index,
            annotations={**self.index.annotations, **annotations},
            subject=subject or self.index.subject,
        )
        return replace(self, index=index)

    def without_entry(self, digest: Digest) -> ImageList:
        """The same without the entries of a digest; raises ImageNotFound where there is none."""
        kept = tuple(each for each in self.index.manifests if each.digest != digest)
        if len(kept) == len(self.index.manifests):
            raise ImageNotFound(f"no instance {digest} in the index {self.name}")
        return replace(
            self,
            index=replace(self.index, manifests=kept),
            sources={key: text for key, text in self.sources.items() if key != digest},
        )


def new_list(name: str, annotations: Mapping[str, str]) -> ImageList:
    """An index without entries."""
    index = Index(media_type=mt.OCI_INDEX, manifests=(), annotations=dict(annotations))
    return ImageList(name=name, index=index, created=time.time())


class ImageLists:
    """The indexes of one store."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.records = Records(os.path.join(store.parts.layout.base, "lists"))

    def find(self, text: str) -> ImageList:
        """The index that people mean by a name, or by its digest; raises ListNotKnown."""
        for reference in candidates(text):
            found = self.records.read(name_key(str(reference)), ImageList.from_json)
            if found is not None:
                return found
        for each in self.all():
            wanted = text.removeprefix("sha256:")
            if len(wanted) >= 12 and each.raw.digest.hex.startswith(wanted):
                return each
        raise ListNotKnown(f"{text}: no such index in the store")

    def all(self) -> tuple[ImageList, ...]:
        """All indexes, by name."""
        found = (self.records.read(key, ImageList.from_json) for key in self.records.marks())
        return tuple(sorted(filter(None, found), key=lambda each: each.name))

    def create(self, text: str, annotations: Mapping[str, str], *, existing: str) -> ImageList:
        """A new index called `text`; where there is one of that name, `existing` decides:
        refuse, amend (it stays) or replace. Raises Conflict, InvalidReference."""
        name = normalised(text)
        with self._locked(name):
            found = self.records.read(name_key(name), ImageList.from_json)
            if found is not None and existing == "amend":
                if annotations:
                    kept = {**found.index.annotations, **annotations}
                    found = replace(found, index=replace(found.index, annotations=kept))
                    self.records.write(name_key(name), found.to_json())
                return found
            if existing == "refuse" and (found is not None or self._is_image(name)):
                raise Conflict(
                    f"that name is already in use: {name}", hint="--amend, or another name"
                )
            made = new_list(name, annotations)
            self.records.write(name_key(name), made.to_json())
            return made

    @contextmanager
    def changing(self, text: str) -> Iterator[_Change]:
        """Have an index alone for the block; what `put` is given is recorded at its end. Raises
        ListNotKnown."""
        name = self.find(text).name
        with self._locked(name):
            change = _Change(self.find(name))
            yield change
            if change.new is not None:
                self.records.write(name_key(name), change.new.to_json())

    def remove(self, text: str) -> ImageList:
        """Forget an index; raises ListNotKnown."""
        found = self.find(text)
        with self._locked(found.name):
            if not self.records.remove(name_key(found.name)):
                raise ListNotKnown(f"{text}: no such index in the store")
        return found

    def _is_image(self, name: str) -> bool:
        return name in self.store.names()

    @contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        with storage_errors(self.records.directory):
            os.makedirs(self.records.directory, mode=0o700, exist_ok=True)
        held = self.store.parts.locks.exclusive(_LOCK, name_key(name), task=Task())
        try:
            yield
        finally:
            held.retire()


class _Change:
    """An index as it was, and what becomes of it."""

    def __init__(self, before: ImageList) -> None:
        self.before = before
        self.new: ImageList | None = None

    def put(self, new: ImageList) -> None:
        """What it becomes."""
        self.new = new

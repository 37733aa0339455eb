"""The transport `oci:`: an OCI image layout in a directory, read here.

OCI image-spec "image-layout.md". `LayoutSource` reads any layout through `LayoutFiles`, so
that it serves archives too; it sees index.json as it was when the source was opened.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Self

from imgtools.blob.reader import BlobReader
from imgtools.errors import BlobNotFound, Error, ImageNotFound, NotFound, SizeMismatch
from imgtools.spec import manifest as mf
from imgtools.spec import media_type as mt
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest
from imgtools.spec.digest_tag import subject_of_tag
from imgtools.spec.manifest import RawManifest
from imgtools.spec.schema1 import Schema1
from imgtools.spec.strict_json import MANIFEST_LIMIT
from imgtools.transport import layout_index
from imgtools.transport.base import Origin
from imgtools.transport.closing import Closing
from imgtools.transport.folder import blob_reader
from imgtools.transport.layout_files import LayoutFiles, LayoutFolder
from imgtools.transport.names import LocalName, parse_local_name

_log = logging.getLogger(__name__)
_WALK_LIMIT = 100_000


class LayoutSource(Closing):
    """Reads one image of a layout. The name is looked up when it is first asked for."""

    def __init__(self, files: LayoutFiles, name: LocalName, origin: Origin) -> None:
        """Takes over `files`; raises ImageNotFound, InvalidManifest or InvalidJSON."""
        self._files = files
        self._name = name
        self._origin = origin
        self._subjects: dict[Digest, list[Descriptor]] | None = None
        where = name.path
        index = files.document("index.json", layout_index.INDEX_LIMIT)
        layout = files.document("oci-layout", MANIFEST_LIMIT)
        if index is None and layout is None:
            raise ImageNotFound(f"{where} is not an OCI image layout: it has no index.json")
        layout_index.check_layout_file(layout, where)
        if index is None:
            raise ImageNotFound(f"{where} has no image: its index.json is missing")
        self._entries: Sequence[layout_index.Entry] = layout_index.parse_index(index, where)[
            "manifests"
        ]

    @classmethod
    def open(cls, rest: str, *, shared_blob_dir: str | None = None) -> Self:
        """The source `oci:rest`; `shared_blob_dir` has the blobs of several layouts.

        Raises InvalidReference, ImageNotFound, InvalidManifest and InvalidJSON.
        """
        name = parse_local_name("oci", rest)
        try:
            files = LayoutFolder(name.path, shared_blob_dir)
        except NotFound as e:
            raise ImageNotFound(e.message, hint="is it an archive? try oci-archive:") from e
        try:
            return cls(files, name, Origin(transport="oci", name=f"oci:{rest}"))
        except BaseException:
            files.close()
            raise

    @property
    def origin(self) -> Origin:
        """Where this is."""
        return self._origin

    @property
    def entries(self) -> Sequence[layout_index.Entry]:
        """The entries of index.json, in its order."""
        return self._entries

    def position(self) -> int:
        """Which of `entries` the name means; raises as `resolve` does."""
        chosen = self._entry()
        return next(n for n, entry in enumerate(self._entries) if entry is chosen)

    def resolve(self) -> Descriptor:
        """See Source."""
        entry = Descriptor.from_json(self._entry(), f"{self._name.path}: index.json entry")
        if mt.kind(entry.media_type) in ("manifest", "index"):
            return Descriptor(media_type=entry.media_type, digest=entry.digest, size=entry.size)
        return self.manifest(entry).descriptor()

    def top(self) -> RawManifest:
        """See Source."""
        return self.manifest(self.resolve())

    def manifest(self, descriptor: Descriptor) -> RawManifest:
        """See Source."""
        region = self._files.blob(descriptor.digest)
        if region is None:
            raise NotFound(f"{self._name.path} has no manifest {descriptor.digest}")
        with region:
            if region.size != descriptor.size:
                raise SizeMismatch(
                    f"manifest {descriptor.digest}", expected=descriptor.size, actual=region.size
                )
            content = region.read_whole(MANIFEST_LIMIT, f"manifest {descriptor.digest}")
        return RawManifest.verified(content, descriptor.media_type, descriptor.digest)

    def open_blob(self, descriptor: Descriptor) -> BlobReader:
        """See Source."""
        region = self._files.blob(descriptor.digest)
        if region is not None:
            return blob_reader(region, descriptor)
        if descriptor.data is not None:
            return BlobReader.of(descriptor.data, descriptor.digest)
        raise BlobNotFound(f"{self._name.path} has no blob {descriptor.digest}")

    def read_range(self, descriptor: Descriptor, offset: int, length: int) -> bytes | None:
        """See Source."""
        region = self._files.blob(descriptor.digest)
        if region is None:
            raise BlobNotFound(f"{self._name.path} has no blob {descriptor.digest}")
        with region:
            return region.pread(length, offset)

    def referrers(self, digest: Digest) -> Iterator[Descriptor]:
        """Every manifest of the layout, at any depth, whose subject is `digest`."""
        if self._subjects is None:
            self._subjects = self._find_subjects()
        return iter(self._subjects.get(digest, ()))

    def close(self) -> None:
        """Release the directory or archive."""
        self._files.close()

    def _entry(self) -> layout_index.Entry:
        entries = layout_index.entries_for(self._entries, self._name)
        if self._name.ref or self._name.position is not None:
            return entries[0]
        if len(entries) > 1:
            # Referrers stand beside the image without being one that anybody means.
            images = [e for e in entries if not self._is_referrer(e)]
            entries = images or entries
        return layout_index.only_one(entries, self._name, self._origin.name)

    def _is_referrer(self, entry: layout_index.Entry) -> bool:
        if name := layout_index.annotation(entry, layout_index.REF_NAME):
            # Nobody means the image at a tag of cosign who gives no name at all.
            made_of = subject_of_tag(name)
            return made_of is not None and made_of[1] != ""
        found = self._look(entry)
        return found is not None and found[1].subject is not None

    def _look(self, entry: layout_index.Entry) -> tuple[Descriptor, mf.Manifest | mf.Index] | None:
        """An entry with its manifest, None for what cannot be read as one."""
        try:
            descriptor = Descriptor.from_json(entry)
            if mt.kind(descriptor.media_type) not in ("manifest", "index", "other"):
                return None
            view = mf.parse(self.manifest(descriptor))
        except Error as e:
            _log.debug("%s: passed over an entry: %s", self._name.path, e.message)
            return None
        return None if isinstance(view, Schema1) else (descriptor, view)

    def _find_subjects(self) -> dict[Digest, list[Descriptor]]:
        subjects: dict[Digest, list[Descriptor]] = {}
        todo: list[layout_index.Entry] = list(reversed(self._entries))
        seen: set[Digest] = set()
        while todo and len(seen) < _WALK_LIMIT:
            found = self._look(todo.pop())
            if found is None or found[0].digest in seen:
                continue
            descriptor, view = found
            seen.add(descriptor.digest)
            if isinstance(view, mf.Index):
                todo.extend(child.to_json() for child in reversed(view.manifests))
            if view.subject is not None:
                subjects.setdefault(view.subject.digest, []).append(referrer(descriptor, view))
        return subjects


def referrer(descriptor: Descriptor, view: mf.Manifest | mf.Index) -> Descriptor:
    """How a manifest is listed among the referrers of its subject (distribution-spec
    "Listing Referrers": its artifact type, or else its config's, and its annotations)."""
    kind = view.artifact_type
    if not kind and isinstance(view, mf.Manifest):
        kind = view.config.media_type
    return Descriptor(
        media_type=view.media_type or descriptor.media_type,
        digest=descriptor.digest,
        size=descriptor.size,
        artifact_type=kind,
        annotations=view.annotations,
    )

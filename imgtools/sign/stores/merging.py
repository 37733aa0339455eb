"""Adds the signatures and attestations at a tag of cosign to those at the tag of another place.

Copying the tag as an image would lose what was put there by somebody else, or just now.
"""

from __future__ import annotations

from imgtools.blob.reader import BlobReader
from imgtools.sign.stores.attachment import (
    Attachment,
    Layer,
    Suffix,
    appended,
    attachment_manifest,
    missing,
)
from imgtools.sign.stores.attachments import AttachmentWriter
from imgtools.sign.stores.layouts import read_layers, read_small
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest
from imgtools.spec.digest_tag import subject_of_tag
from imgtools.spec.reference import ImageName
from imgtools.spec.strict_json import MANIFEST_LIMIT
from imgtools.task import Task
from imgtools.transport.options import DestinationOptions, SourceOptions
from imgtools.transport.table import Transports, registry_reference

_MERGED: dict[str, Suffix] = {".sig": "sig", ".att": "att"}
"""What has a layer for each of several; bills of materials are one."""


class Merging:
    """Merges tags of one place into those of another."""

    def __init__(
        self,
        transports: Transports,
        source: SourceOptions,
        destination: DestinationOptions,
        *,
        task: Task,
    ) -> None:
        """The options are how both places are reached."""
        self._transports, self._source, self._destination = transports, source, destination
        self._task = task

    def __call__(self, there: ImageName, here: ImageName) -> int | None:
        """Add the layers at `there` to those at `here`, both names with a tag that is made of a
        digest; how many are new, None for a tag of another kind. `here` has something.

        Raises InvalidSignature where one of them is no attachment, LimitExceeded, Conflict, and
        what reading and writing raise.
        """
        tag = here.rest.rpartition(":")[2]
        found = subject_of_tag(tag)
        if found is None or found[1] not in _MERGED:
            return None
        with self._transports.open_source(there, self._source) as source:
            layers = read_layers(
                source, attachment_manifest(source.top()).layers, _MERGED[found[1]]
            )
        if here.transport == "docker":
            writer = AttachmentWriter(
                self._transports,
                registry_reference(here),
                self._destination.registry,
                task=self._task,
                suffix=_MERGED[found[1]],
            )
            return writer.put_layers(found[0], layers)
        return self._into_layout(here, layers)

    def _into_layout(self, here: ImageName, layers: tuple[Layer, ...]) -> int:
        options = SourceOptions(shared_blob_dir=self._destination.shared_blob_dir)
        with self._transports.open_source(here, options) as source:
            raw = source.top()
            manifest = attachment_manifest(raw)
            config = read_small(source, manifest.config, MANIFEST_LIMIT)
        new = missing(manifest.layers, layers)
        if new:
            self._put(here, appended(raw, config, new), new)
        return len(new)

    def _put(self, here: ImageName, image: Attachment, new: tuple[Layer, ...]) -> None:
        with self._transports.open_destination(here, self._destination) as destination:
            for content in (*(layer.content for layer in new), image.config):
                blob = Descriptor(media_type="", digest=Digest.of(content), size=len(content))
                destination.put_blob(blob, _Opened(content, blob.digest), task=self._task)
            destination.put_manifest(image.manifest, top=True)
            destination.commit()


class _Opened:
    """Opens what is in memory."""

    def __init__(self, content: bytes, digest: Digest) -> None:
        self._content, self._digest = content, digest

    def __call__(self) -> BlobReader:
        return BlobReader.of(self._content, self._digest)

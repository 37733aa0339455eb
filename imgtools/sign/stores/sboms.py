"""Puts bills of materials beside an image in a registry: as a referrer, or at `.sbom`."""

from __future__ import annotations

from typing import Literal

from imgtools.blob.reader import BlobReader
from imgtools.sign.sboms import Sbom, sbom_attachment, sbom_referrer
from imgtools.sign.stores.attachment import attachment_tag
from imgtools.sign.stores.places import read_tag
from imgtools.sign.stores.referrer import EMPTY_CONFIG
from imgtools.sign.stores.referrers import listed, put_referrer
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest
from imgtools.spec.manifest import RawManifest
from imgtools.spec.reference import ImageName, Reference
from imgtools.task import Task
from imgtools.transport.options import DestinationOptions, RegistryOptions
from imgtools.transport.table import Transports

State = Literal["present", "attached", "replaced"]


class SbomStore:
    """The bills of materials of the images of one repository."""

    def __init__(
        self,
        transports: Transports,
        reference: Reference,
        options: RegistryOptions,
        *,
        task: Task,
    ) -> None:
        """`reference` names the repository that is written to."""
        self._transports, self._reference, self._options = transports, reference, options
        self._task = task

    def refer(self, sbom: Sbom, subject: Descriptor, *, dry_run: bool = False) -> State:
        """Make a bill refer to `subject`; "present" where the same one does. Raises what
        reading and writing raise, and Conflict (the fallback tag)."""
        raw = sbom_referrer(sbom, subject)
        repository = self._transports.repository(self._reference, self._options, push=True)
        if any(entry.digest == raw.digest for entry in listed(repository, subject.digest)[0]):
            return "present"
        if not dry_run:
            put_referrer(
                self._transports,
                self._reference,
                self._options,
                raw,
                (EMPTY_CONFIG, sbom.content),
                subject=subject.digest,
                task=self._task,
            )
        return "attached"

    def tag(self, sbom: Sbom, subject: Descriptor, *, dry_run: bool = False) -> State:
        """Put a bill at the tag `.sbom` of `subject`, where there can be only one: the one that
        was there is "replaced". Raises TagImmutable and what reading and writing raise."""
        image = sbom_attachment(sbom)
        tag = attachment_tag(subject.digest, "sbom")
        repository = self._transports.repository(self._reference, self._options, push=True)
        there = read_tag(repository, tag)
        if there is not None and there[0].digest == image.manifest.digest:
            return "present"
        if not dry_run:
            self._put(tag, image.manifest, (image.config, sbom.content))
        return "attached" if there is None else "replaced"

    def _put(self, tag: str, raw: RawManifest, blobs: tuple[bytes, ...]) -> None:
        name = ImageName(transport="docker", rest=f"//{self._reference.with_tag(tag)}")
        options = DestinationOptions(registry=self._options)
        with self._transports.open_destination(name, options) as destination:
            for data in blobs:
                blob = Descriptor(media_type="", digest=Digest.of(data), size=len(data))
                destination.put_blob(blob, _Opened(data, blob.digest), task=self._task)
            destination.put_manifest(raw, top=True)
            destination.commit()


class _Opened:
    """Opens what is in memory."""

    def __init__(self, content: bytes, digest: Digest) -> None:
        self._content, self._digest = content, digest

    def __call__(self) -> BlobReader:
        return BlobReader.of(self._content, self._digest)

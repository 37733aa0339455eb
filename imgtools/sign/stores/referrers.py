"""Reads and writes bundles that refer to an image (distribution-spec "Listing Referrers").

Where a registry has no API for that, the index at the fallback tag is read, whose entries
clients have written: every manifest there is opened. A list that could not be had is an
error, and never an empty one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import datetime
from itertools import islice

from imgtools.blob.reader import BlobReader
from imgtools.errors import ImageNotFound, InvalidInput, InvalidManifest, LimitExceeded
from imgtools.frozen import dataclass
from imgtools.sign.model import (
    ATTESTATION_LIMIT,
    ATTESTATIONS_TOTAL,
    PAYLOAD_LIMIT,
    SIGNATURES_LIMIT,
    TOTAL_LIMIT,
    BundleSignature,
    Format,
    Signature,
)
from imgtools.sign.stores.attachments import Same, never_same
from imgtools.sign.stores.places import ask, read_blob, read_tag
from imgtools.sign.stores.referrer import (
    EMPTY_CONFIG,
    bundle_layer,
    bundle_manifest,
    is_large_attestation,
    is_signature,
    may_hold_bundle,
    predicate_type,
)
from imgtools.spec import media_type as mt
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest
from imgtools.spec.manifest import Manifest, RawManifest, parse, parse_index
from imgtools.spec.reference import ImageName, Reference
from imgtools.task import Task
from imgtools.transport.options import DestinationOptions, RegistryOptions
from imgtools.transport.registry.api import Repository
from imgtools.transport.registry.manifests import get_manifest
from imgtools.transport.registry.referrers import (
    add_to_fallback,
    fallback_tag,
    list_referrers,
    referrer_descriptor,
)
from imgtools.transport.table import Transports

log = logging.getLogger(__name__)

MOST_REFERRERS = 1000
"""Entries of one list that are looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Referrer:
    """A manifest that refers to an image, opened; None for one that is no image manifest."""

    raw: RawManifest
    manifest: Manifest | None

    def descriptor(self) -> Descriptor:
        """How it would stand in a list."""
        return referrer_descriptor(self.raw)


class BundleReader:
    """The bundles that refer to the images of one repository."""

    def __init__(
        self, transports: Transports, reference: Reference, options: RegistryOptions
    ) -> None:
        """`reference` is the image by the name that it is read by; mirrors follow from it."""
        self._transports = transports
        self._reference = reference
        self._options = options

    def signatures(self, digest: Digest) -> tuple[Signature, ...]:
        """The bundles that are signatures of `digest`, attestations left out.

        Raises InvalidSignature for a referrer that cannot hold a bundle and says that it does,
        InvalidManifest, LimitExceeded, Denied, RegistryError, ConnectionFailed, DigestMismatch.
        """
        found = self._read(digest, signatures=True)
        return tuple(item for item in found if is_signature(item.content))

    def attestations(self, digest: Digest, wanted: str = "") -> tuple[BundleSignature, ...]:
        """The bundles that are statements about `digest` and no signatures; with `wanted`
        only those of that predicate type. Nothing is verified. Raises like `signatures`."""
        found = [item for item in self._read(digest) if not is_signature(item.content)]
        return tuple(item for item in found if wanted in ("", predicate_type(item.content)))

    def _read(self, digest: Digest, *, signatures: bool = False) -> tuple[BundleSignature, ...]:
        members = self._transports.routes.members(self._reference, self._options)
        name = self._reference.name

        def read(there: Repository) -> tuple[BundleSignature, ...] | None:
            return _bundles(there, digest, name, signatures=signatures)

        return ask(members, "referrers", read) or ()


class BundleWriter:
    """Puts bundles beside the images of one repository."""

    def __init__(
        self,
        transports: Transports,
        reference: Reference,
        options: RegistryOptions,
        *,
        created: datetime,
        task: Task,
        same: Same = never_same,
    ) -> None:
        """`created` is the time that the referrers say they were made at. `same` decides which
        new bundles are superfluous, beside equal ones, which are never written twice."""
        self._transports = transports
        self._reference = reference
        self._options = options
        self._created = created
        self._task = task
        self._same = same

    @property
    def holds(self) -> frozenset[Format]:
        """Bundles."""
        return frozenset({"bundle"})

    def preflight(self) -> None:
        """Raise Rejected, or what the configuration of registries is wrong with."""
        self._transports.routes.writer(self._reference, self._options)

    def put(self, subject: Descriptor, signatures: Sequence[Signature]) -> int:
        """Make bundles (signatures or attestations) refer to `subject`; how many are new.

        Raises InvalidInput for other formats, InvalidSignature for what is no bundle, Conflict
        (the fallback tag), Denied, RegistryError, ConnectionFailed.
        """
        new: list[BundleSignature] = []
        manifests: list[RawManifest] = []
        for signature in signatures:
            if not isinstance(signature, BundleSignature):
                raise InvalidInput(f"referrers hold no {signature.format} signatures")
            manifests.append(bundle_manifest(subject, signature.content, self._created))
            new.append(signature)
        repository = self._transports.repository(self._reference, self._options, push=True)
        name = self._reference.name
        # What is larger than each of them can be none of them.
        small = all(len(signature.content) <= PAYLOAD_LIMIT for signature in new)
        there = list(_bundles(repository, subject.digest, name, signatures=small) or ())
        count = 0
        for signature, raw in zip(new, manifests, strict=True):
            if any(
                other.content == signature.content or self._same(other, signature)
                for other in there
            ):
                continue
            put_referrer(
                self._transports,
                self._reference,
                self._options,
                raw,
                (EMPTY_CONFIG, signature.content),
                subject=subject.digest,
                task=self._task,
            )
            there.append(signature)
            count += 1
        return count


def put_referrer(
    transports: Transports,
    reference: Reference,
    options: RegistryOptions,
    raw: RawManifest,
    blobs: Sequence[bytes],
    *,
    subject: Digest,
    task: Task,
) -> None:
    """Put the manifest `raw`, which refers to `subject`, with its blobs into the repository of
    a name, and see that it is listed. Raises Conflict (the fallback tag), Denied,
    RegistryError, ConnectionFailed."""
    name = ImageName(transport="docker", rest=f"//{reference.name}@{raw.digest}")
    with transports.open_destination(name, DestinationOptions(registry=options)) as destination:
        for data in blobs:
            blob = Descriptor(media_type="", digest=Digest.of(data), size=len(data))
            destination.put_blob(blob, _opener(data, blob.digest), task=task)
        destination.put_manifest(raw, top=False)
        destination.commit()
    # ECR takes note of subjects and has no list of them: who looks for the fallback tag,
    # because there is no API, has to find it (sigstore-js#1183).
    repository = transports.repository(reference, options, push=True)
    found, by_api = listed(repository, subject)
    if not by_api and all(entry.digest != raw.digest for entry in found):
        add_to_fallback(repository, subject, referrer_descriptor(raw))


def remove_referrer(
    transports: Transports,
    reference: Reference,
    options: RegistryOptions,
    referrer: Digest,
    *,
    subject: Digest,
) -> None:
    """Delete a manifest that refers to `subject`, first from the list where clients keep it.
    Raises Unsupported where the registry does not delete, Denied, RegistryError, Conflict."""
    from imgtools.transport.registry.removal.deleting import Deleting
    from imgtools.transport.registry.removal.unlist import unlist_referrer

    repository = transports.repository(reference, options, push=True)
    deleting = Deleting(repository)
    unlist_referrer(repository, deleting, subject, referrer)
    deleting.manifest(referrer)


def listed(repository: Repository, digest: Digest) -> tuple[list[Descriptor], bool]:
    """What refers to `digest`, and whether the registry itself says so: False for the index at
    the fallback tag, which clients keep.

    Raises LimitExceeded, and whatever reading the list raises; a registry that refuses or
    fails has not said that there is nothing.
    """
    features = repository.session.features
    if features.has_referrers(repository.name):
        # Without tags only the API is asked.
        found = list(islice(list_referrers(repository, digest, tags=()), MOST_REFERRERS + 1))
        if features.has_referrers(repository.name):
            return _bounded(found), True
    index = read_tag(repository, fallback_tag(digest))
    if index is None:
        return [], False
    entries = {entry.digest: entry for entry in parse_index(index[0]).manifests}
    return _bounded(list(entries.values())), False


def opened(repository: Repository, digest: Digest, descriptor: Descriptor) -> Referrer | None:
    """The manifest of an entry; None when it is gone, or does not refer to `digest`."""
    try:
        raw = get_manifest(repository, str(descriptor.digest), descriptor.digest)
    except ImageNotFound as e:
        log.debug("referrer of %s: %s", digest.short, e.message)
        return None
    value = parse(raw)
    subject = getattr(value, "subject", None)
    if subject is None or subject.digest != digest:
        log.debug("%s does not refer to %s", descriptor.digest, digest)
        return None
    return Referrer(raw=raw, manifest=value if isinstance(value, Manifest) else None)


def _bundles(
    repository: Repository, digest: Digest, name: str, *, signatures: bool = False
) -> tuple[BundleSignature, ...] | None:
    """The bundles in one place, None for none, so that another place is asked; with
    `signatures` those that may be some, which are smaller."""
    most, most_together = ATTESTATION_LIMIT, ATTESTATIONS_TOTAL
    if signatures:
        most, most_together = PAYLOAD_LIMIT, TOTAL_LIMIT
    entries, by_api = listed(repository, digest)
    found: list[BundleSignature] = []
    total = 0
    for entry in entries:
        if by_api and not may_hold_bundle(entry):
            continue
        referrer = opened(repository, digest, entry)
        layer = bundle_layer(referrer.manifest) if referrer and referrer.manifest else None
        if referrer is None or referrer.manifest is None or layer is None:
            continue
        if signatures and is_large_attestation(referrer.manifest, layer):
            continue
        total += layer.size
        if len(found) == SIGNATURES_LIMIT:
            raise LimitExceeded(f"number of bundles of {digest}", SIGNATURES_LIMIT, unit="bundles")
        if total > most_together:
            raise LimitExceeded(f"all bundles of {digest} together", most_together)
        found.append(
            BundleSignature(
                content=read_blob(repository, layer, most),
                referrer=referrer.descriptor(),
                where=f"{name}@{referrer.raw.digest}",
            )
        )
    return tuple(found) or None


def _bounded(found: list[Descriptor]) -> list[Descriptor]:
    if len(found) > MOST_REFERRERS:
        raise LimitExceeded("number of referrers", MOST_REFERRERS, unit="entries")
    for entry in found:
        if mt.kind(entry.media_type) not in ("manifest", "index"):
            raise InvalidManifest(
                f"a referrer is listed as {entry.media_type!r}, which is no manifest"
            )
    return found


def _opener(content: bytes, digest: Digest) -> Callable[[], BlobReader]:
    return lambda: BlobReader.of(content, digest)

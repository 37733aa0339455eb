"""Where the signatures of one image are: per kind, by its transport and configuration.

A registry has simple signatures in its lookaside storage (or its own API), attachments in tags
and bundles in referrers; a directory has the first two in files, a layout the last two. They are
read from where the image is read, and known by the image's own name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol

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
from imgtools.sign.registries_d import RegistriesD
from imgtools.spec.digest import Digest
from imgtools.spec.manifest import Manifest, parse
from imgtools.spec.reference import ImageName, Reference
from imgtools.transport.base import Source
from imgtools.transport.options import SourceOptions
from imgtools.transport.table import Transports, registry_reference

Kind = Format | Literal["attestation"]
"""What is read: signatures of a format, or statements that are none: in bundles, and as cosign 2
attached them."""


class ImagePlaces(Protocol):
    """The places of one image, read on demand."""

    def signatures(self, kind: Kind, digest: Digest) -> tuple[Signature, ...]:
        """What there is of one kind for the manifest `digest`; raises as
        SignatureReader.signatures does."""
        ...


def image_places(
    name: ImageName,
    transports: Transports,
    options: SourceOptions,
    registries_d: Callable[[], RegistriesD],
) -> ImagePlaces:
    """The places of the image `name`; nothing is read, and registries.d only when it has to
    be. Raises InvalidReference."""
    if name.transport == "docker":
        return _RegistryPlaces(registry_reference(name), transports, options, registries_d)
    if name.transport == "dir":
        return _DirectoryPlaces(name, transports, options)
    return _SourcePlaces(name, transports, options)


class _RegistryPlaces:
    """Of an image in a registry."""

    def __init__(
        self,
        reference: Reference,
        transports: Transports,
        options: SourceOptions,
        registries_d: Callable[[], RegistriesD],
    ) -> None:
        self._reference, self._transports = reference, transports
        self._options, self._registries_d = options.registry, registries_d

    def signatures(self, kind: Kind, digest: Digest) -> tuple[Signature, ...]:
        """See ImagePlaces. Attachments are looked for unless registries.d says that there are
        none: what is found proves itself, and asking for them is what people forget."""
        if kind == "simple":
            from imgtools.sign.stores.simple import simple_store

            repository = self._transports.repository(self._reference, self._options)
            places = self._registries_d().for_reference(self._reference)
            store = simple_store(places, self._reference, repository, self._options)
            return tuple(store.signatures(digest))
        if kind == "sigstore":
            from imgtools.sign.stores.attachments import AttachmentReader

            if self._registries_d().for_reference(self._reference).attachments is False:
                return ()
            return AttachmentReader(self._transports, self._reference, self._options).signatures(
                digest
            )
        from imgtools.sign.stores.referrers import BundleReader

        reader = BundleReader(self._transports, self._reference, self._options)
        if kind == "bundle":
            return reader.signatures(digest)
        from imgtools.sign.stores.attachments import AttachmentReader

        older = AttachmentReader(self._transports, self._reference, self._options, suffix="att")
        return (*reader.attestations(digest), *older.signatures(digest))


class _DirectoryPlaces:
    """Of an image in dir:."""

    def __init__(self, name: ImageName, transports: Transports, options: SourceOptions) -> None:
        self._name, self._transports, self._options = name, transports, options

    def signatures(self, kind: Kind, digest: Digest) -> tuple[Signature, ...]:
        """See ImagePlaces; a directory has no referrers."""
        from imgtools.sign.stores.directory import DirectorySignatures
        from imgtools.transport.directory import DirectorySource

        if kind not in ("simple", "sigstore"):
            return ()
        with self._transports.open_source(self._name, self._options) as source:
            assert isinstance(source, DirectorySource)
            found = DirectorySignatures(source).signatures(digest)
        return tuple(signature for signature in found if signature.format == kind)


class _SourcePlaces:
    """Of an image in any other transport: what refers to it, where it has referrers, and in a
    layout what is at the names of cosign's tags."""

    def __init__(self, name: ImageName, transports: Transports, options: SourceOptions) -> None:
        self._name, self._transports, self._options = name, transports, options

    def signatures(self, kind: Kind, digest: Digest) -> tuple[Signature, ...]:
        """See ImagePlaces."""
        from imgtools.sign.stores.layouts import layout_signatures
        from imgtools.sign.stores.referrer import is_signature

        where = str(self._name)
        if kind == "simple":
            return ()
        with self._transports.open_source(self._name, self._options) as source:
            if kind == "sigstore":
                return layout_signatures(source, digest, where)
            bundles = source_bundles(source, digest, where, signatures=kind == "bundle")
            found = tuple(b for b in bundles if is_signature(b.content) == (kind == "bundle"))
            if kind == "bundle":
                return found
            return (*found, *layout_signatures(source, digest, where, suffix="att"))


def source_bundles(
    source: Source, digest: Digest, where: str, *, signatures: bool = False
) -> tuple[BundleSignature, ...]:
    """The bundles among the referrers of `digest` in an open source, with `signatures` those
    that may be some, which are smaller; raises what reading raises, LimitExceeded."""
    from imgtools.errors import LimitExceeded
    from imgtools.sign.stores.referrer import (
        bundle_layer,
        is_large_attestation,
        may_hold_bundle,
    )

    most, most_together = ATTESTATION_LIMIT, ATTESTATIONS_TOTAL
    if signatures:
        most, most_together = PAYLOAD_LIMIT, TOTAL_LIMIT
    found: list[BundleSignature] = []
    for descriptor in source.referrers(digest):
        if not may_hold_bundle(descriptor):
            continue
        view = parse(source.manifest(descriptor))
        layer = bundle_layer(view) if isinstance(view, Manifest) else None
        if layer is None or (
            signatures and isinstance(view, Manifest) and is_large_attestation(view, layer)
        ):
            continue
        if len(found) == SIGNATURES_LIMIT:
            raise LimitExceeded(f"the bundles of {digest}", SIGNATURES_LIMIT, unit="bundles")
        if layer.size > most:
            raise LimitExceeded(f"the bundle {layer.digest}", most)
        if layer.size + sum(len(bundle.content) for bundle in found) > most_together:
            raise LimitExceeded(f"all bundles of {digest} together", most_together)
        with source.open_blob(layer) as reader:
            content = reader.read()
        place = f"{where}, referrer {descriptor.digest}"
        found.append(BundleSignature(content=content, referrer=descriptor, where=place))
    return tuple(found)

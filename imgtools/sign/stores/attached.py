"""Everything that is attached to a manifest, as a list: nothing is verified.

Signatures, attestations and bills of materials, as referrers and at cosign's tags, in a registry
and in a layout. Notation's signatures are recognised so that they can be shown; they never count
as signatures here. What cannot be read for what it says it is stands in the list as "other".
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import field
from functools import partial
from types import MappingProxyType

from imgtools.errors import InvalidSignature, LimitExceeded
from imgtools.frozen import dataclass
from imgtools.sign.bundles.parse import parse_bundle
from imgtools.sign.checks import CERTIFICATE_ANNOTATION
from imgtools.sign.model import (
    PAYLOAD_LIMIT,
    SIMPLE_SIGNING_LAYER,
    BundleSignature,
    Signature,
    SigstoreSignature,
    SimpleSignature,
)
from imgtools.sign.stores.attachment import (
    PREDICATE_ANNOTATION,
    Suffix,
    attachment_manifest,
    attachment_tag,
)
from imgtools.sign.stores.claims import (
    claimed,
    claimed_by_bundle,
    claimed_by_layer,
    claimed_by_notation,
)
from imgtools.sign.stores.layouts import named_manifests, read_small
from imgtools.sign.stores.places import ask, read_blob, read_tag
from imgtools.sign.stores.referrer import PREDICATE_ANNOTATION as BUNDLE_PREDICATE
from imgtools.sign.stores.referrer import (
    Kind,
    artifact_type,
    bundle_layer,
    is_large_attestation,
    is_signature,
    kind_of,
    predicate_type,
)
from imgtools.sign.stores.referrers import Referrer, listed, opened
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest
from imgtools.spec.manifest import Manifest, RawManifest, parse
from imgtools.spec.reference import Reference
from imgtools.transport.base import Source
from imgtools.transport.options import RegistryOptions
from imgtools.transport.registry.api import Repository
from imgtools.transport.table import Transports

log = logging.getLogger(__name__)

_SUFFIXES: tuple[tuple[Suffix, Kind], ...] = (
    ("sig", "signature"),
    ("att", "attestation"),
    ("sbom", "sbom"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attached:
    """One thing that is attached.

    A referrer is its manifest: `digest`, `size` and `media_type` are of that. At a `tag` of
    cosign each layer is one, and they are of the layer, while `holder` is the image there.
    `predicate_type` and `claimed`, who says that they signed, are "" where there is none or it
    cannot be read.
    """

    kind: Kind
    digest: Digest
    size: int
    media_type: str
    artifact_type: str = ""
    predicate_type: str = ""
    tag: str = ""
    holder: Descriptor | None = None
    claimed: str = ""
    annotations: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


def list_attached(
    transports: Transports, reference: Reference, options: RegistryOptions, digest: Digest
) -> tuple[Attached, ...]:
    """What is attached to the manifest `digest` in the place that `reference` is read from:
    referrers in the registry's order, then the layers at `.sig`, `.att` and `.sbom`.

    Raises Denied, RegistryError, ConnectionFailed, LimitExceeded and InvalidManifest: a list
    that could not be read is never short.
    """
    members = transports.routes.members(reference, options)
    found = list(ask(members, "referrers", lambda there: _referrers(there, digest)) or ())
    for suffix, kind in _SUFFIXES:
        tag = attachment_tag(digest, suffix)
        read = partial(_layers, tag=tag, kind=kind)
        found += ask(members, f"attachment {tag}", read) or ()
    return tuple(found)


def list_attached_in(source: Source, digest: Digest) -> tuple[Attached, ...]:
    """The same for the manifest `digest` in a layout, or in whatever else `source` reads: its
    referrers, and what a layout has by the names of cosign's tags. Raises what reading
    raises."""

    def read(descriptor: Descriptor) -> bytes:
        return read_small(source, descriptor, PAYLOAD_LIMIT)

    found = []
    for descriptor in source.referrers(digest):
        raw = source.manifest(descriptor)
        view = parse(raw)
        manifest = view if isinstance(view, Manifest) else None
        found.append(_attached(Referrer(raw=raw, manifest=manifest), read))
    for suffix, kind in _SUFFIXES:
        tag = attachment_tag(digest, suffix)
        for raw in named_manifests(source, tag):
            found += _layers_of(raw, tag, kind)
    return tuple(found)


def attached_signature(signature: Signature) -> Attached:
    """How a signature in a file, or in an API of its own, would stand in the list."""
    content, media_type = b"", "application/octet-stream"
    match signature:
        case SimpleSignature(blob=blob):
            content = blob
        case SigstoreSignature(payload=payload):
            content, media_type = payload, signature.media_type
        case BundleSignature(content=bundle):
            content = bundle
    return Attached(
        kind="signature" if signature.format == "simple" else _layer_kind(media_type, "signature"),
        digest=Digest.of(content),
        size=len(content),
        media_type=media_type,
        claimed=claimed(signature),
    )


def _layers(repository: Repository, tag: str, kind: Kind) -> tuple[Attached, ...] | None:
    found = read_tag(repository, tag)
    return None if found is None else _layers_of(found[0], tag, kind)


def _layers_of(raw: RawManifest, tag: str, kind: Kind) -> tuple[Attached, ...]:
    holder = raw.descriptor()
    try:
        layers = attachment_manifest(raw).layers
    except InvalidSignature:
        layers = ()
    if not layers:
        # Whatever it is, it is at a tag where verifiers look, and may make an error of it.
        return (
            Attached(
                kind="other",
                digest=raw.digest,
                size=raw.size,
                media_type=raw.media_type,
                tag=tag,
                holder=holder,
            ),
        )
    return tuple(_layer(layer, tag, kind, holder) for layer in layers)


def _layer(layer: Descriptor, tag: str, kind: Kind, holder: Descriptor) -> Attached:
    certificate = layer.annotations.get(CERTIFICATE_ANNOTATION, "")
    return Attached(
        kind=_layer_kind(layer.media_type, kind),
        digest=layer.digest,
        size=layer.size,
        media_type=layer.media_type,
        predicate_type=layer.annotations.get(PREDICATE_ANNOTATION, ""),
        tag=tag,
        holder=holder,
        claimed="" if kind == "sbom" else claimed_by_layer(certificate),
        annotations=layer.annotations,
    )


def _layer_kind(media_type: str, kind: Kind) -> Kind:
    return "other" if kind == "signature" and media_type != SIMPLE_SIGNING_LAYER else kind


def _referrers(repository: Repository, digest: Digest) -> tuple[Attached, ...] | None:
    entries, _ = listed(repository, digest)
    found = (opened(repository, digest, entry) for entry in entries)

    def read(descriptor: Descriptor) -> bytes:
        return read_blob(repository, descriptor, PAYLOAD_LIMIT)

    return tuple(_attached(item, read) for item in found if item is not None) or None


def _attached(referrer: Referrer, read: Callable[[Descriptor], bytes]) -> Attached:
    """A referrer by what it says itself: its annotations and its place in a list are not
    signed. One that is not what it says is listed as something else."""
    raw, manifest = referrer.raw, referrer.manifest
    kind: Kind = "other"
    predicate = who = ""
    if manifest is not None:
        try:
            layer = bundle_layer(manifest)
            if layer is None:
                kind, predicate = kind_of(manifest), _annotated(manifest.layers)
                who = claimed_by_notation(manifest.annotations)
            elif is_large_attestation(manifest, layer):
                # Too much to read for a list, which proves nothing anyway.
                kind, predicate = "attestation", manifest.annotations[BUNDLE_PREDICATE]
            else:
                content = read(layer)
                predicate, who = predicate_type(content), claimed_by_bundle(parse_bundle(content))
                kind = "signature" if is_signature(content) else "attestation"
        except (InvalidSignature, LimitExceeded) as e:
            log.debug("referrer %s: %s", raw.digest, e.message)
    return Attached(
        kind=kind,
        digest=raw.digest,
        size=raw.size,
        media_type=raw.media_type,
        artifact_type=artifact_type(manifest) if manifest is not None else "",
        predicate_type=predicate,
        claimed=who,
        annotations=manifest.annotations if manifest is not None else {},
    )


def _annotated(layers: tuple[Descriptor, ...]) -> str:
    """The predicate type that in-toto referrers note at their layer."""
    for layer in layers:
        for name in ("in-toto.io/predicate-type", PREDICATE_ANNOTATION):
            if name in layer.annotations:
                return layer.annotations[name]
    return ""

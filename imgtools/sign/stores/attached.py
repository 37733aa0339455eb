"""Everything that is attached to a manifest in a registry, as a list: nothing is verified.

Signatures, attestations and bills of materials, as referrers and at cosign's tags. Notation's
signatures are recognised so that they can be shown; they never count as signatures here.
"""

from __future__ import annotations

from functools import partial

from imgtools.errors import InvalidSignature
from imgtools.frozen import dataclass
from imgtools.sign.model import PAYLOAD_LIMIT, SIMPLE_SIGNING_LAYER
from imgtools.sign.stores.attachment import (
    PREDICATE_ANNOTATION,
    Suffix,
    attachment_manifest,
    attachment_tag,
)
from imgtools.sign.stores.places import ask, read_blob, read_tag
from imgtools.sign.stores.referrer import (
    Kind,
    artifact_type,
    bundle_layer,
    is_signature,
    kind_of,
    predicate_type,
)
from imgtools.sign.stores.referrers import Referrer, listed, opened
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest
from imgtools.spec.reference import Reference
from imgtools.transport.options import RegistryOptions
from imgtools.transport.registry.api import Repository
from imgtools.transport.table import Transports

_SUFFIXES: tuple[tuple[Suffix, Kind], ...] = (
    ("sig", "signature"),
    ("att", "attestation"),
    ("sbom", "sbom"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attached:
    """One thing that is attached.

    A referrer is its manifest: `digest`, `size` and `media_type` are of that. At a `tag` of
    cosign each layer is one, and they are of the layer. `predicate_type` is "" where there is
    none or it cannot be read.
    """

    kind: Kind
    digest: Digest
    size: int
    media_type: str
    artifact_type: str = ""
    predicate_type: str = ""
    tag: str = ""


def list_attached(
    transports: Transports, reference: Reference, options: RegistryOptions, digest: Digest
) -> tuple[Attached, ...]:
    """What is attached to the manifest `digest` in the place that `reference` is read from:
    referrers in the registry's order, then the layers at `.sig`, `.att` and `.sbom`.

    Raises Denied, RegistryError, ConnectionFailed, LimitExceeded, InvalidManifest and
    InvalidSignature: a list that could not be read is never short.
    """
    members = transports.routes.members(reference, options)
    found = list(ask(members, "referrers", lambda there: _referrers(there, digest)) or ())
    for suffix, kind in _SUFFIXES:
        tag = attachment_tag(digest, suffix)
        read = partial(_layers, tag=tag, kind=kind)
        found += ask(members, f"attachment {tag}", read) or ()
    return tuple(found)


def _layers(repository: Repository, tag: str, kind: Kind) -> tuple[Attached, ...] | None:
    found = read_tag(repository, tag)
    if found is None:
        return None
    return tuple(_layer(layer, tag, kind) for layer in attachment_manifest(found[0]).layers)


def _layer(layer: Descriptor, tag: str, kind: Kind) -> Attached:
    is_other = kind == "signature" and layer.media_type != SIMPLE_SIGNING_LAYER
    return Attached(
        kind="other" if is_other else kind,
        digest=layer.digest,
        size=layer.size,
        media_type=layer.media_type,
        predicate_type=layer.annotations.get(PREDICATE_ANNOTATION, ""),
        tag=tag,
    )


def _referrers(repository: Repository, digest: Digest) -> tuple[Attached, ...] | None:
    entries, _ = listed(repository, digest)
    found = (opened(repository, digest, entry) for entry in entries)
    return tuple(_attached(repository, item) for item in found if item is not None) or None


def _attached(repository: Repository, referrer: Referrer) -> Attached:
    raw, manifest = referrer.raw, referrer.manifest
    kind: Kind = "other"
    predicate = ""
    if manifest is not None:
        layer = bundle_layer(manifest)
        if layer is None:
            kind, predicate = kind_of(manifest), _annotated(manifest.layers)
        else:
            content = read_blob(repository, layer, PAYLOAD_LIMIT)
            kind, predicate = _bundle(content)
    return Attached(
        kind=kind,
        digest=raw.digest,
        size=raw.size,
        media_type=raw.media_type,
        artifact_type=artifact_type(manifest) if manifest is not None else "",
        predicate_type=predicate,
    )


def _bundle(content: bytes) -> tuple[Kind, str]:
    """By what the bundle says itself: its annotations and its place in a list are not signed."""
    try:
        found = predicate_type(content)
    except InvalidSignature:
        return "other", ""
    return ("signature" if is_signature(content) else "attestation"), found


def _annotated(layers: tuple[Descriptor, ...]) -> str:
    """The predicate type that in-toto referrers note at their layer."""
    for layer in layers:
        for name in ("in-toto.io/predicate-type", PREDICATE_ANNOTATION):
            if name in layer.annotations:
                return layer.annotations[name]
    return ""

"""cosign's attachments as data: an OCI image whose layers are signatures or attestations.

The image is at the tag that its subject's digest gives, `sha256-HEX.sig`; more of a kind are
further layers of the same image. What is written equals containers/image's byte for byte, and
what somebody else wrote is kept as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from types import MappingProxyType
from typing import Any, Literal

from imgtools.errors import InvalidInput, InvalidSignature, LimitExceeded
from imgtools.frozen import dataclass
from imgtools.sign.model import (
    ATTESTATION_LIMIT,
    ATTESTATIONS_TOTAL,
    PAYLOAD_LIMIT,
    SIGNATURES_LIMIT,
    TOTAL_LIMIT,
    SigstoreSignature,
)
from imgtools.spec import media_type as mt
from imgtools.spec import strict_json
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest
from imgtools.spec.manifest import Manifest, RawManifest, parse

Suffix = Literal["sig", "att", "sbom"]
"""Signatures, attestations, and bills of materials that nobody signed."""

DSSE_LAYER = "application/vnd.dsse.envelope.v1+json"
"""The media type of the layers of `.att`."""

SIGNATURE_ANNOTATION = "dev.cosignproject.cosign/signature"
PREDICATE_ANNOTATION = "predicateType"


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One layer: what is attached, its media type and what proves or describes it."""

    media_type: str
    content: bytes = field(repr=False)
    annotations: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    def descriptor(self) -> Descriptor:
        """How it stands in the manifest."""
        return Descriptor(
            media_type=self.media_type,
            digest=Digest.of(self.content),
            size=len(self.content),
            annotations=self.annotations,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """An image as it is put: its manifest and the config that this names."""

    manifest: RawManifest
    config: bytes = field(repr=False)


def attachment_tag(digest: Digest, suffix: Suffix) -> str:
    """`sha256-HEX.sig` and its like (cosign's "tag based discovery")."""
    return f"{digest.algorithm}-{digest.hex}.{suffix}"


def signature_layer(signature: SigstoreSignature) -> Layer:
    """The layer that keeps a signature."""
    return Layer(
        media_type=signature.media_type,
        content=signature.payload,
        annotations=signature.annotations,
    )


def attestation_layer(
    envelope: bytes, predicate_type: str, *, annotations: Mapping[str, str] | None = None
) -> Layer:
    """The layer of `.att` that keeps a DSSE envelope; `annotations` may bring a certificate
    and a log entry. The signature annotation is empty, as cosign has it."""
    return Layer(
        media_type=DSSE_LAYER,
        content=envelope,
        annotations=MappingProxyType(
            {
                **(annotations or {}),
                SIGNATURE_ANNOTATION: "",
                PREDICATE_ANNOTATION: predicate_type,
            }
        ),
    )


def attestation_manifest(envelopes: Sequence[Layer]) -> Attachment:
    """The image of `.att` with these layers; raises InvalidInput for other layers."""
    if any(layer.media_type != DSSE_LAYER for layer in envelopes):
        raise InvalidInput(f"the layers of an attestation are of type {DSSE_LAYER}")
    return new_attachment(envelopes)


def new_attachment(layers: Sequence[Layer]) -> Attachment:
    """The image that has these layers and nothing else; raises LimitExceeded."""
    empty = Manifest(
        media_type=mt.OCI_MANIFEST,
        config=Descriptor(media_type=mt.OCI_CONFIG, digest=Digest.of(b"{}"), size=2),
        layers=(),
    )
    return _with_layers(empty, {"architecture": "", "os": ""}, layers)


def appended(
    there: RawManifest,
    config: bytes,
    layers: Sequence[Layer],
    *,
    without: frozenset[Digest] = frozenset(),
) -> Attachment:
    """The image `there`, whose config is `config`, with `layers` behind those of its own that
    are not of the digests `without`.

    Raises InvalidSignature where that is no attachment, LimitExceeded beyond as many layers
    as we would read again.
    """
    value = strict_json.loads_object(config, "config of the attachment")
    manifest = attachment_manifest(there)
    kept = tuple(layer for layer in manifest.layers if layer.digest not in without)
    return _with_layers(replace(manifest, layers=kept), value, layers)


def missing(there: Sequence[Descriptor], layers: Sequence[Layer]) -> tuple[Layer, ...]:
    """Those of `layers` that are not there, each once; equal are layers with the same media
    type, digest, size and annotations, as in containers/image."""
    known = list(there)
    found = []
    for layer in layers:
        descriptor = layer.descriptor()
        if not any(_is_same(descriptor, other) for other in known):
            known.append(descriptor)
            found.append(layer)
    return tuple(found)


def attachment_manifest(raw: RawManifest) -> Manifest:
    """The manifest of an attachment.

    Raises InvalidSignature for an index and for another media type than OCI's (some
    registries answer with Docker's), LimitExceeded for more layers than we agree to read.
    """
    if raw.media_type != mt.OCI_MANIFEST:
        raise InvalidSignature(
            f"the attachment {raw.digest} is {raw.media_type}: expected {mt.OCI_MANIFEST}"
        )
    value = parse(raw)
    assert isinstance(value, Manifest)
    _check_count(value.layers)
    return value


def check_sizes(layers: Sequence[Descriptor], suffix: Suffix) -> None:
    """Raise LimitExceeded for layers that are not to be read, or written, because of their
    size; a bill of materials may be that large, and be listed."""
    most, total = PAYLOAD_LIMIT, TOTAL_LIMIT
    if suffix == "att":
        most, total = ATTESTATION_LIMIT, ATTESTATIONS_TOTAL
    for layer in layers:
        if layer.size > most:
            raise LimitExceeded(f"layer {layer.digest} of the attachment", most)
    if sum({layer.digest: layer.size for layer in layers}.values()) > total:
        raise LimitExceeded("all layers of the attachment together", total)


def _with_layers(manifest: Manifest, config: dict[str, Any], layers: Sequence[Layer]) -> Attachment:
    new = tuple(layer.descriptor() for layer in layers)
    check_sizes(new, "att" if all(layer.media_type == DSSE_LAYER for layer in new) else "sig")
    descriptors = (*manifest.layers, *new)
    _check_count(descriptors)
    # Readers never look at the config, but who appends parses it, and layers are not compressed.
    rootfs = {"type": "layers", "diff_ids": [str(item.digest) for item in descriptors]}
    content = strict_json.dumps({**config, "rootfs": rootfs})
    changed = replace(
        manifest,
        config=replace(
            manifest.config, digest=Digest.of(content), size=len(content), data=None, urls=()
        ),
        layers=descriptors,
    )
    return Attachment(manifest=changed.to_raw(), config=content)


def _check_count(layers: Sequence[Descriptor]) -> None:
    if len(layers) > SIGNATURES_LIMIT:
        raise LimitExceeded("number of layers of the attachment", SIGNATURES_LIMIT, unit="layers")


def _is_same(one: Descriptor, other: Descriptor) -> bool:
    return (one.media_type, one.digest, one.size, dict(one.annotations)) == (
        other.media_type,
        other.digest,
        other.size,
        dict(other.annotations),
    )

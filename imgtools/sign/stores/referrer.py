"""Bundles as referrers, as data: the manifest that ties a sigstore bundle to an image.

The layout is cosign 3's, byte for byte, in the order in which go-containerregistry writes it.
What a referrer is (signature, attestation, bill of materials, Notation) is decided here too,
by its content where that can be read, because descriptors are anybody's word.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal

from imgtools.errors import InvalidInput, InvalidSignature, LimitExceeded
from imgtools.sign.bundles.parse import MEDIA_TYPES, parse_bundle
from imgtools.sign.bundles.statement import COSIGN_SIGN, parse_statement
from imgtools.sign.model import PAYLOAD_LIMIT
from imgtools.spec import media_type as mt
from imgtools.spec import strict_json
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest
from imgtools.spec.manifest import Manifest, RawManifest

Kind = Literal["signature", "attestation", "sbom", "notation", "other"]
"""What is attached to an image. Only a "signature" may count as one, once it was verified."""

EMPTY_CONFIG = b"{}"
CONTENT_ANNOTATION = "dev.sigstore.bundle.content"
PREDICATE_ANNOTATION = "dev.sigstore.bundle.predicateType"
CREATED_ANNOTATION = "org.opencontainers.image.created"

NOTATION = "application/vnd.cncf.notary.signature"
IN_TOTO = "application/vnd.in-toto+json"

_BUNDLE = "application/vnd.dev.sigstore.bundle"
_COSIGN_SIGNATURE = "application/vnd.dev.cosign.artifact.sig.v1+json"
_SBOMS = (
    "application/vnd.dev.cosign.artifact.sbom.v1+json",
    "application/vnd.cyclonedx",
    "application/vnd.syft",
    "application/spdx",
    "text/spdx",
)


def bundle_manifest(subject: Descriptor, bundle: bytes, created: datetime) -> RawManifest:
    """The manifest of a referrer with `bundle` as its only layer.

    `created` goes into an annotation, in whole seconds. Raises InvalidSignature for what is no
    bundle with a statement, or the signature of a message, LimitExceeded for a signature that
    would not be read, and InvalidInput for a time without a zone.
    """
    if created.tzinfo is None:
        raise InvalidInput("the time of creation has no time zone")
    parsed = parse_bundle(bundle)
    annotations = {CONTENT_ANNOTATION: "message-signature"}
    if parsed.envelope is not None:
        statement = parse_statement(parsed.envelope.payload)
        annotations = {
            CONTENT_ANNOTATION: "dsse-envelope",
            PREDICATE_ANNOTATION: statement.predicate_type,
        }
    signs = annotations.get(PREDICATE_ANNOTATION, COSIGN_SIGN) == COSIGN_SIGN
    if signs and len(bundle) > PAYLOAD_LIMIT:
        raise LimitExceeded("a bundle that is a signature", PAYLOAD_LIMIT)
    annotations[CREATED_ANNOTATION] = created.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    value: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": mt.OCI_MANIFEST,
        # cosign repeats the artifact type within the config; readers of 3.0 look there.
        "config": {
            **_blob(mt.OCI_EMPTY, EMPTY_CONFIG),
            "artifactType": parsed.media_type,
        },
        "layers": [_blob(parsed.media_type, bundle)],
        "annotations": annotations,
        "subject": {
            "mediaType": subject.media_type,
            "size": subject.size,
            "digest": str(subject.digest),
        },
        "artifactType": parsed.media_type,
    }
    return RawManifest.of(strict_json.dumps(value), mt.OCI_MANIFEST)


def may_hold_bundle(descriptor: Descriptor) -> bool:
    """Whether a registry's own list lets an entry be a bundle: it computes artifact types of
    manifests, but not all do. A list that clients keep says nothing (cosign#4641)."""
    return descriptor.artifact_type in ("", mt.OCI_EMPTY) or is_bundle_type(
        descriptor.artifact_type
    )


def is_bundle_type(media_type: str) -> bool:
    """Whether it is a media type of bundles, of whatever version."""
    return media_type in MEDIA_TYPES or media_type.startswith(_BUNDLE)


def artifact_type(manifest: Manifest) -> str:
    """What a manifest says that it is (image-spec "Guidelines for Artifact Usage")."""
    return manifest.artifact_type or manifest.config.media_type


def bundle_layer(manifest: Manifest) -> Descriptor | None:
    """The bundle of a referrer, None when it is something else.

    Raises InvalidSignature where it says that it is a bundle and has not exactly one layer.
    """
    found = [layer for layer in manifest.layers if is_bundle_type(layer.media_type)]
    if not found and not is_bundle_type(artifact_type(manifest)):
        return None
    if len(manifest.layers) != 1:
        raise InvalidSignature(
            f"a referrer with a bundle has {len(manifest.layers)} layers: expected one"
        )
    return manifest.layers[0]


def is_large_attestation(manifest: Manifest, layer: Descriptor) -> bool:
    """Whether a bundle says that it is no signature, and is larger than those may be.

    Who looks for signatures passes it over, instead of reading somebody's bill of materials, or
    failing for it. A signature that says so is lost, as one that was deleted.
    """
    said = manifest.annotations.get(PREDICATE_ANNOTATION, "")
    return layer.size > PAYLOAD_LIMIT and said not in ("", COSIGN_SIGN)


def predicate_type(bundle: bytes) -> str:
    """The predicate type of the statement in a bundle, "" for the signature of a message.

    Nothing is verified. Raises InvalidSignature for what cannot be read.
    """
    envelope = parse_bundle(bundle).envelope
    return "" if envelope is None else parse_statement(envelope.payload).predicate_type


def is_signature(bundle: bytes) -> bool:
    """Whether a bundle is to be verified as the signature of an image.

    Attestations are not: whoever may attest something need not be whom one trusts with
    signing. What cannot be read is, so that verifying it says what is wrong.
    """
    try:
        return predicate_type(bundle) in ("", COSIGN_SIGN)
    except InvalidSignature:
        return True


def kind_of(manifest: Manifest) -> Kind:
    """What a referrer is by its artifact type, for those that are no bundles."""
    types = {artifact_type(manifest), manifest.config.media_type}
    if NOTATION in types:
        return "notation"
    if _COSIGN_SIGNATURE in types:
        return "signature"
    types |= {layer.media_type for layer in manifest.layers}
    if IN_TOTO in types:
        return "attestation"
    if any(name.startswith(_SBOMS) for name in types):
        return "sbom"
    return "other"


def _blob(media_type: str, content: bytes) -> dict[str, Any]:
    return {
        "mediaType": media_type,
        "size": len(content),
        "digest": str(Digest.of(content)),
    }

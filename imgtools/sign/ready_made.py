"""Signatures and attestations that others made elsewhere, as they are attached to an image.

Nothing is verified but what nobody could ever accept otherwise: they have to be readable, and
about the very manifest that they are attached to.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from imgtools.errors import InvalidInput, InvalidSignature
from imgtools.sign.bundles.dsse import signed_message
from imgtools.sign.bundles.parse import parse_bundle, parse_envelope
from imgtools.sign.bundles.statement import COSIGN_SIGN, Statement, parse_statement
from imgtools.sign.checks import (
    CERTIFICATE_ANNOTATION,
    CHAIN_ANNOTATION,
    SET_ANNOTATION,
    SIGNATURE_ANNOTATION,
)
from imgtools.sign.model import (
    ATTESTATION_LIMIT,
    PAYLOAD_LIMIT,
    BundleSignature,
    Signature,
    SigstoreSignature,
)
from imgtools.sign.payload import parse_payload
from imgtools.sign.stores.attachment import attestation_layer
from imgtools.spec import strict_json
from imgtools.spec.digest import Digest

TIMESTAMP_ANNOTATION = "dev.sigstore.cosign/rfc3161timestamp"


def ready_attestation(content: bytes, digest: Digest) -> tuple[Signature, str]:
    """The attestation in `content`, a bundle or a bare envelope, and its predicate type.

    Raises InvalidSignature for what is neither, and InvalidInput for a statement about another
    manifest than `digest`, and for one that is a signature.
    """
    found: Signature
    if is_bundle(content):
        statement = _statement_of_bundle(content)
        found = BundleSignature(content=content)
    else:
        envelope = parse_envelope(content)
        signed_message(envelope)
        statement = parse_statement(envelope.payload)
        layer = attestation_layer(content, statement.predicate_type)
        found = SigstoreSignature(
            payload=content, annotations=layer.annotations, media_type=layer.media_type
        )
    if statement.predicate_type == COSIGN_SIGN:
        raise InvalidInput(
            "it is the signature of an image, and no attestation",
            hint="attach it as one: imgtools attach signature",
        )
    _check_subject(statement, digest)
    return found, statement.predicate_type


def ready_bundle(content: bytes, digest: Digest) -> BundleSignature:
    """The bundle in `content` that signs the manifest `digest`; raises as
    `ready_attestation`."""
    statement = _statement_of_bundle(content)
    if statement.predicate_type != COSIGN_SIGN:
        raise InvalidInput(
            f"it is an attestation of type {statement.predicate_type[:200]!r}, and no signature",
            hint="attach it as one: imgtools attach attestation",
        )
    _check_subject(statement, digest)
    return BundleSignature(content=content)


def ready_signature(
    payload: bytes,
    signature: bytes,
    digest: Digest,
    *,
    certificate: bytes = b"",
    chain: bytes = b"",
    log_entry: bytes = b"",
    timestamp: bytes = b"",
) -> SigstoreSignature:
    """The layer of an attachment for `payload` with its `signature`, in base64 or as bytes.

    `certificate` and `chain` are PEM, `log_entry` is a log's promise as cosign writes it, alone
    or within what `cosign sign --output-...` left, `timestamp` a timestamp authority's answer.
    Raises InvalidSignature for a payload that is none, InvalidInput for one about another
    manifest than `digest`, and for files that cannot be annotations.
    """
    claim = parse_payload(payload, kind="sigstore")
    if claim.digest != digest:
        raise InvalidInput(f"the payload is about {claim.digest}, not about {digest}")
    annotations = {SIGNATURE_ANNOTATION: _base64(signature)}
    for name, content in ((CERTIFICATE_ANNOTATION, certificate), (CHAIN_ANNOTATION, chain)):
        if content:
            annotations[name] = _text(content, "the certificate")
    if log_entry:
        annotations[SET_ANNOTATION] = _promise(log_entry)
    if timestamp:
        stamp = {"SignedRFC3161Timestamp": base64.b64encode(timestamp).decode()}
        annotations[TIMESTAMP_ANNOTATION] = strict_json.dumps(stamp).decode()
    return SigstoreSignature(payload=payload, annotations=MappingProxyType(annotations))


def is_bundle(content: bytes) -> bool:
    """Whether a document says that it is a bundle; raises InvalidInput for what is no JSON."""
    value = strict_json.loads_object(content, "the file", limit=ATTESTATION_LIMIT)
    return "mediaType" in value or "verificationMaterial" in value


def _statement_of_bundle(content: bytes) -> Statement:
    envelope = parse_bundle(content).envelope
    if envelope is None:
        raise InvalidSignature("the bundle has the signature of a message, not a statement")
    signed_message(envelope)
    return parse_statement(envelope.payload)


def _check_subject(statement: Statement, digest: Digest) -> None:
    if not statement.is_about(digest):
        raise InvalidInput(
            f"the statement is not about {digest}",
            hint="nobody would accept it for this image; name the image that it is about",
        )


def _base64(signature: bytes) -> str:
    """A signature as annotations have it; a file may hold it as text or as bytes."""
    if not signature.strip():
        raise InvalidInput("the signature is empty")
    try:
        text = signature.strip().decode("ascii").replace("\r", "").replace("\n", "")
        base64.b64decode(text, validate=True)
    except (UnicodeDecodeError, binascii.Error):
        return base64.b64encode(signature).decode()
    return text


def _text(content: bytes, what: str) -> str:
    try:
        return content.decode("ascii")
    except UnicodeDecodeError as e:
        raise InvalidInput(f"{what} is not PEM") from e


def _promise(content: bytes) -> str:
    value: Mapping[str, Any] = strict_json.loads_object(
        content, "the log's answer", limit=PAYLOAD_LIMIT
    )
    for name in ("rekorBundle", "Bundle"):
        inner = value.get(name)
        if isinstance(inner, dict):
            value = inner
    if not {"SignedEntryTimestamp", "Payload"} <= value.keys():
        raise InvalidInput("the log's answer has no SignedEntryTimestamp and Payload")
    kept = {name: value[name] for name in ("SignedEntryTimestamp", "Payload")}
    return strict_json.dumps(kept).decode()

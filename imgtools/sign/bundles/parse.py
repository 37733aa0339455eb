"""Reads sigstore bundles (sigstore_bundle.proto, versions 0.1 to 0.3) strictly.

A bundle is hostile until a key has said otherwise: its size, its lists and its nesting are
bounded, duplicate and unknown fields are refused, and so is whatever two verifiers could read
in two ways. Nothing is verified here.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from imgtools.errors import InvalidDigest, InvalidJSON, InvalidSignature, LimitExceeded
from imgtools.sign.bundles.fields import Fields
from imgtools.sign.bundles.model import (
    Bundle,
    Envelope,
    InclusionProof,
    LogEntry,
    MessageSignature,
)
from imgtools.sign.model import ATTESTATION_LIMIT
from imgtools.spec import strict_json
from imgtools.spec.digest import Digest

MEDIA_TYPES: Mapping[str, tuple[int, int]] = MappingProxyType(
    {
        "application/vnd.dev.sigstore.bundle+json;version=0.1": (0, 1),
        "application/vnd.dev.sigstore.bundle+json;version=0.2": (0, 2),
        "application/vnd.dev.sigstore.bundle+json;version=0.3": (0, 3),
        "application/vnd.dev.sigstore.bundle.v0.3+json": (0, 3),
    }
)
"""The bundles that exist, with their versions; the new spelling came with 0.3."""

MOST_CERTIFICATES = 10
MOST_ENTRIES = 8
MOST_TIMESTAMPS = 32
MOST_HASHES = 64
"""A log of 2**63 entries has proofs of 63 hashes."""

_CHECKPOINT_LIMIT = 64 * 1024
_MOST_VALUES = 16 * 1024
_ALGORITHMS: Mapping[str, str] = MappingProxyType(
    {"SHA2_256": "sha256", "SHA2_384": "sha384", "SHA2_512": "sha512"}
)


def parse_bundle(content: bytes) -> Bundle:
    """The bundle in `content`; raises InvalidSignature for what is none.

    Refused beside malformed ones: other media types and versions, both kinds of content or
    none, a chain in version 0.3 and a single certificate before it.
    """
    try:
        value = strict_json.loads_object(
            content, "bundle", limit=ATTESTATION_LIMIT, values=_MOST_VALUES
        )
    except (InvalidJSON, LimitExceeded) as e:
        raise InvalidSignature(e.message) from e
    fields = Fields(value, "bundle")
    media_type = fields.text("mediaType")
    version = MEDIA_TYPES.get(media_type)
    if version is None:
        raise InvalidSignature(
            f"bundle has the media type {ascii(media_type)[:100]}: expected version 0.1 to 0.3"
        )
    material = fields.inner("verificationMaterial", "verificationMaterial")
    if material is None:
        raise InvalidSignature("bundle has no verificationMaterial")
    certificates, key_hint = _signer(material, version)
    entries = tuple(parse_entry(item) for item in material.items("tlogEntries", MOST_ENTRIES))
    timestamps = _timestamps(material)
    material.done()
    envelope = fields.inner("dsseEnvelope", "dsseEnvelope")
    message = fields.inner("messageSignature", "messageSignature")
    fields.done()
    if (envelope is None) == (message is None):
        raise InvalidSignature("bundle has not exactly one of dsseEnvelope and messageSignature")
    return Bundle(
        media_type=media_type,
        version=version,
        certificates=certificates,
        key_hint=key_hint,
        entries=entries,
        timestamps=timestamps,
        envelope=None if envelope is None else _envelope(envelope),
        message=None if message is None else _message(message),
    )


def parse_envelope(content: bytes) -> Envelope:
    """A bare DSSE envelope, as cosign 2 attaches it; raises InvalidSignature."""
    try:
        value = strict_json.loads_object(
            content, "envelope", limit=ATTESTATION_LIMIT, values=_MOST_VALUES
        )
    except (InvalidJSON, LimitExceeded) as e:
        raise InvalidSignature(e.message) from e
    return _envelope(Fields(value, "envelope"))


def _signer(material: Fields, version: tuple[int, int]) -> tuple[tuple[bytes, ...], str | None]:
    """The certificates, or the hint of the key: exactly one kind (a oneof)."""
    key = material.inner("publicKey", "publicKey")
    chain = material.inner("x509CertificateChain", "x509CertificateChain")
    single = material.inner("certificate", "certificate")
    found = [item for item in (key, chain, single) if item is not None]
    if len(found) != 1:
        raise InvalidSignature(
            "verificationMaterial has not exactly one of publicKey, certificate and "
            "x509CertificateChain"
        )
    if key is not None:
        hint = key.text("hint")
        key.done()
        return (), hint
    if single is not None:
        if version < (0, 3):
            raise InvalidSignature("bundles before 0.3 have a chain, not a single certificate")
        return (_certificate(single),), None
    assert chain is not None
    if version >= (0, 3):
        raise InvalidSignature("bundles from 0.3 on have a single certificate, not a chain")
    items = chain.items("certificates", MOST_CERTIFICATES)
    chain.done()
    if not items:
        raise InvalidSignature("x509CertificateChain is empty")
    return tuple(_certificate(Fields(item, "certificate")) for item in items), None


def _certificate(fields: Fields) -> bytes:
    data = fields.data("rawBytes")
    fields.done()
    if not data:
        raise InvalidSignature("certificate is empty")
    return data


def parse_entry(value: object) -> LogEntry:
    """A TransparencyLogEntry (sigstore_rekor.proto), of a bundle or as Rekor's second version
    answers with it; raises InvalidSignature."""
    fields = Fields(value, "tlogEntries")
    log_id = _needed(fields, "logId")
    kind = _needed(fields, "kindVersion")
    promise = fields.inner("inclusionPromise", "inclusionPromise")
    proof = fields.inner("inclusionProof", "inclusionProof")
    entry = LogEntry(
        log_index=fields.integer("logIndex"),
        log_id=log_id.data("keyId"),
        kind=kind.text("kind"),
        version=kind.text("version"),
        integrated_time=fields.integer("integratedTime"),
        body=fields.data("canonicalizedBody"),
        promise=None if promise is None else promise.data("signedEntryTimestamp"),
        proof=None if proof is None else _proof(proof),
    )
    for inner in (log_id, kind, promise, fields):
        if inner is not None:
            inner.done()
    if not entry.body:
        raise InvalidSignature("an entry of tlogEntries has no canonicalizedBody")
    return entry


def _proof(fields: Fields) -> InclusionProof:
    checkpoint = fields.inner("checkpoint", "checkpoint")
    text = ""
    if checkpoint is not None:
        text = checkpoint.text("envelope")
        checkpoint.done()
    if len(text) > _CHECKPOINT_LIMIT:
        raise InvalidSignature(f"checkpoint is longer than {_CHECKPOINT_LIMIT} characters")
    proof = InclusionProof(
        log_index=fields.integer("logIndex"),
        root_hash=fields.data("rootHash"),
        tree_size=fields.integer("treeSize"),
        hashes=fields.data_list("hashes", MOST_HASHES),
        checkpoint=text,
    )
    fields.done()
    if any(len(item) != 32 for item in (proof.root_hash, *proof.hashes)):
        raise InvalidSignature("inclusionProof has a hash that is not of 32 bytes")
    return proof


def _timestamps(material: Fields) -> tuple[bytes, ...]:
    data = material.inner("timestampVerificationData", "timestampVerificationData")
    if data is None:
        return ()
    found = []
    for item in data.items("rfc3161Timestamps", MOST_TIMESTAMPS):
        fields = Fields(item, "rfc3161Timestamps")
        found.append(fields.data("signedTimestamp"))
        fields.done()
    data.done()
    if len(set(found)) != len(found):
        raise InvalidSignature("bundle has the same timestamp twice")
    if not all(found):
        raise InvalidSignature("bundle has an empty timestamp")
    return tuple(found)


def _envelope(fields: Fields) -> Envelope:
    """Signatures beyond one are read, and refused by `dsse.signed_message`."""
    signatures = []
    for item in fields.items("signatures", MOST_ENTRIES):
        inner = Fields(item, "signatures")
        signatures.append(inner.data("sig"))
        inner.text("keyid")
        inner.done()
    envelope = Envelope(
        payload_type=fields.text("payloadType"),
        payload=fields.data("payload"),
        signatures=tuple(signatures),
    )
    fields.done()
    return envelope


def _message(fields: Fields) -> MessageSignature:
    inner = fields.inner("messageDigest", "messageDigest")
    digest = None
    if inner is not None:
        name = inner.text("algorithm")
        if name not in _ALGORITHMS:
            raise InvalidSignature(f"messageDigest has the algorithm {ascii(name)[:60]}")
        try:
            digest = Digest(_ALGORITHMS[name], inner.data("digest").hex())
        except InvalidDigest as e:
            raise InvalidSignature(f"messageDigest: {e.message}") from e
        inner.done()
    signature = fields.data("signature")
    fields.done()
    return MessageSignature(digest=digest, signature=signature)


def _needed(fields: Fields, key: str) -> Fields:
    inner = fields.inner(key, key)
    if inner is None:
        raise InvalidSignature(f"an entry of tlogEntries has no {key}")
    return inner

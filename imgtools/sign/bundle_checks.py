"""Bundles, and certificates of any kind of signer, against one trust.

What `checks` is for the requirements of policy.json this is for those of its companion and for
`imgtools verify`: bundles by key or certificate, attestations, identities by pattern.
"""

from __future__ import annotations

from dataclasses import replace

from imgtools.errors import InvalidSignature
from imgtools.frozen import dataclass
from imgtools.sign.bundles.dsse import signed_message
from imgtools.sign.bundles.model import Envelope
from imgtools.sign.bundles.parse import parse_bundle, parse_envelope
from imgtools.sign.bundles.statement import (
    COSIGN_SIGN,
    Statement,
    parse_statement,
    signature_claim,
)
from imgtools.sign.checks import (
    CERTIFICATE_ANNOTATION,
    SET_ANNOTATION,
    KeyTrust,
    annotation,
    raw_signature,
)
from imgtools.sign.model import (
    SIMPLE_SIGNING_LAYER,
    BundleSignature,
    Claim,
    Proof,
    SigstoreSignature,
    Verified,
)
from imgtools.sign.payload import parse_payload
from imgtools.sign.policies.model import CertificateIdentity
from imgtools.spec.digest import Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class KeylessCheck:
    """Certificates of the sigstore whose trusted_root.json is `root`, of one of
    `identities`."""

    root: bytes
    identities: tuple[CertificateIdentity, ...]


def check_bundle_key(signature: BundleSignature, trust: KeyTrust) -> Verified:
    """A bundle that signs an image, by a key."""
    statement, proof = _by_key(signature, trust)
    return Verified(signature=signature, claim=signature_claim(statement), proof=proof)


def check_bundle_keyless(signature: BundleSignature, trust: KeylessCheck) -> Verified:
    """A bundle that signs an image, by a certificate."""
    statement, proof = _by_certificate(signature, trust)
    return Verified(signature=signature, claim=signature_claim(statement), proof=proof)


def check_attestation_key(
    signature: BundleSignature | SigstoreSignature,
    trust: KeyTrust,
    predicate_type: str,
    digest: Digest,
) -> Verified:
    """An attestation of a type about the manifest `digest`, by a key: a bundle, or an envelope
    by itself, as cosign 2 attached it."""
    if isinstance(signature, BundleSignature):
        statement, proof = _by_key(signature, trust)
    else:
        statement, proof = _envelope_by_key(signature, trust)
    return _attested(signature, statement, proof, predicate_type, digest)


def check_attestation_keyless(
    signature: BundleSignature | SigstoreSignature,
    trust: KeylessCheck,
    predicate_type: str,
    digest: Digest,
) -> Verified:
    """An attestation of a type about the manifest `digest`, by a certificate: a bundle, or an
    envelope by itself with its certificate and the promise of a log, as cosign 2 attached it."""
    if isinstance(signature, BundleSignature):
        statement, proof = _by_certificate(signature, trust)
    else:
        statement, proof = _envelope_by_certificate(signature, trust)
    return _attested(signature, statement, proof, predicate_type, digest)


def attached_envelope(signature: SigstoreSignature) -> Envelope:
    """The envelope of an attestation as cosign 2 attached it, not verified; raises
    InvalidSignature."""
    from imgtools.sign.stores.attachment import DSSE_LAYER

    if signature.media_type != DSSE_LAYER:
        raise InvalidSignature(f"{signature.media_type} is no attestation's media type")
    return parse_envelope(signature.payload)


def _attested(
    signature: BundleSignature | SigstoreSignature,
    statement: Statement,
    proof: Proof,
    predicate_type: str,
    digest: Digest,
) -> Verified:
    if statement.predicate_type != predicate_type:
        raise InvalidSignature(
            f"it is an attestation of type {statement.predicate_type[:200]!r}, not of "
            f"{predicate_type!r}"
        )
    if not statement.is_about(digest):
        raise InvalidSignature(f"it is not about {digest}")
    return Verified(signature=signature, claim=Claim(digest=digest), proof=proof)


def _by_key(signature: BundleSignature, trust: KeyTrust) -> tuple[Statement, Proof]:
    from imgtools.sign.bundles.verify_key import verify_with_key

    bundle = parse_bundle(signature.content)
    return verify_with_key(bundle, trust.keys, trusted_root=trust.root or None)


def _envelope_by_key(signature: SigstoreSignature, trust: KeyTrust) -> tuple[Statement, Proof]:
    from imgtools.sign.bundles.verify_key import verify_envelope_with_key

    envelope = attached_envelope(signature)
    if not trust.root:
        return verify_envelope_with_key(envelope, trust.keys)
    from imgtools.sign.bundles.trusted_root import TrustedRoot
    from imgtools.sign.keyless.under_root import verify_envelope_promise

    promise, root = annotation(signature, SET_ANNOTATION), TrustedRoot(trust.root)
    reasons = []
    for key in trust.keys:
        try:
            statement, proof = verify_envelope_with_key(envelope, (key,))
            at = verify_envelope_promise(promise, root, envelope=envelope, verifier_pem=key.pem)
        except InvalidSignature as e:
            reasons.append(e.message)
            continue
        return statement, replace(proof, time=at)
    raise InvalidSignature("; ".join(reasons))


def _by_certificate(signature: BundleSignature, trust: KeylessCheck) -> tuple[Statement, Proof]:
    from imgtools.sign.bundles.verify_certificate import verify_with_certificate

    return verify_with_certificate(parse_bundle(signature.content), trust.root, trust.identities)


def attested_statement(verified: Verified) -> Statement | None:
    """What was attested, None for the signature of an image; of what was verified, so that
    nothing of it is checked again."""
    signature = verified.signature
    if isinstance(signature, BundleSignature):
        envelope = parse_bundle(signature.content).envelope
    elif isinstance(signature, SigstoreSignature) and signature.media_type != SIMPLE_SIGNING_LAYER:
        envelope = attached_envelope(signature)
    else:
        return None
    statement = parse_statement(envelope.payload) if envelope is not None else None
    return None if statement is None or statement.predicate_type == COSIGN_SIGN else statement


def _envelope_by_certificate(
    signature: SigstoreSignature, trust: KeylessCheck
) -> tuple[Statement, Proof]:
    """What an attached envelope states, held against the root as an attachment's signature."""
    from imgtools.sign.bundles.trusted_root import TrustedRoot
    from imgtools.sign.keyless.under_root import verify_certified, verify_envelope_promise
    from imgtools.sign.keys.public import load_public_key

    root, envelope = TrustedRoot(trust.root), attached_envelope(signature)
    message, raw = signed_message(envelope)
    certificate = annotation(signature, CERTIFICATE_ANNOTATION).encode()
    at = verify_envelope_promise(
        annotation(signature, SET_ANNOTATION), root, envelope=envelope, verifier_pem=certificate
    )
    pem, proof = verify_certified(certificate, root, at=at, identities=trust.identities)
    try:
        load_public_key(pem, "the certificate's key").verify(raw, message, algorithms="any")
    except InvalidSignature as e:
        raise InvalidSignature("it is not by the key of its certificate") from e
    return parse_statement(envelope.payload), proof


def check_sigstore_keyless(signature: SigstoreSignature, trust: KeylessCheck) -> Verified:
    """An attachment's signature under a certificate of a sigstore, as cosign 2 makes them: with
    the promise of a log of it, and at the time of that."""
    from imgtools.sign.bundles.trusted_root import TrustedRoot
    from imgtools.sign.keyless.under_root import verify_certified, verify_promise
    from imgtools.sign.keys.public import load_public_key

    root, raw = TrustedRoot(trust.root), raw_signature(signature)
    certificate = annotation(signature, CERTIFICATE_ANNOTATION).encode()
    at = verify_promise(
        annotation(signature, SET_ANNOTATION),
        root,
        payload=signature.payload,
        signature=raw,
        verifier_pem=certificate,
    )
    pem, proof = verify_certified(certificate, root, at=at, identities=trust.identities)
    try:
        load_public_key(pem, "the certificate's key").verify(raw, signature.payload)
    except InvalidSignature as e:
        raise InvalidSignature("it is not by the key of its certificate") from e
    claim = parse_payload(signature.payload, kind="sigstore")
    return Verified(signature=signature, claim=claim, proof=proof)

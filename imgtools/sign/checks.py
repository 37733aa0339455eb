"""One signature against one trust: does it hold, and what does it then claim?

Trust is loaded key material of the caller's. Every function returns what was verified or raises
InvalidSignature with the reason; the order is that of containers/image: proofs first, then the
signature over the payload, and the payload is parsed only when it is known to be the signer's.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from imgtools.errors import InvalidSignature
from imgtools.frozen import dataclass
from imgtools.sign.model import (
    PAYLOAD_LIMIT,
    SIMPLE_SIGNING_LAYER,
    Proof,
    SigstoreSignature,
    SimpleSignature,
    Verified,
)
from imgtools.sign.payload import parse_payload

if TYPE_CHECKING:
    from imgtools.sign.keys.public import Algorithms, PublicKey

SIGNATURE_ANNOTATION = "dev.cosignproject.cosign/signature"
CERTIFICATE_ANNOTATION = "dev.sigstore.cosign/certificate"
CHAIN_ANNOTATION = "dev.sigstore.cosign/chain"
SET_ANNOTATION = "dev.sigstore.cosign/bundle"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyTrust:
    """Any of `keys`; with `rekor` keys, only of what is in one of their logs, and with `root`, a
    trusted_root.json, in one of its. `algorithms` are those of attachments: cosign 3 hashes by
    the size of a key, which containers/image never accepts."""

    keys: tuple[PublicKey, ...]
    rekor: tuple[PublicKey, ...] = ()
    root: bytes = b""
    algorithms: Algorithms = "container-image"


@dataclass(frozen=True, slots=True, kw_only=True)
class FulcioCheck:
    """Certificates below `roots` (PEM) of `email`, as `issuer` knows it, in a log of `rekor`."""

    roots: bytes
    rekor: tuple[PublicKey, ...]
    issuer: str
    email: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PkiCheck:
    """Certificates below `roots` (PEM), through `intermediates` and those that come along."""

    roots: bytes
    intermediates: bytes | None
    email: str
    hostname: str


def check_simple(
    signature: SimpleSignature, keyrings: Sequence[bytes], *, now: datetime | None = None
) -> Verified:
    """A simple signature by a key of `keyrings`; raises InvalidSignature, InvalidKey."""
    from imgtools.sign.openpgp.gpg import verify_message

    if len(signature.blob) > PAYLOAD_LIMIT:
        raise InvalidSignature(f"it is larger than {PAYLOAD_LIMIT} bytes")
    what = signature.where or "the signature"
    found = verify_message(signature.blob, keyrings, what, now=now)
    return Verified(
        signature=signature,
        claim=parse_payload(found.payload, kind="simple"),
        proof=Proof(kind="gpg", key=found.primary_fingerprint, time=None),
    )


def check_sigstore_key(signature: SigstoreSignature, trust: KeyTrust) -> Verified:
    """An attachment's signature by a key; a certificate beside it means nothing."""
    raw = raw_signature(signature)
    keys, time = trust.keys, None
    if trust.rekor or trust.root:
        keys, time = _logged(signature, trust, raw)
    for key in keys:
        try:
            key.verify(raw, signature.payload, algorithms=trust.algorithms)
        except InvalidSignature:
            continue
        return _verified(signature, Proof(kind="key", key=key.spki_sha256, time=time))
    raise InvalidSignature("it is not by " + _any_key(keys))


def check_sigstore_fulcio(signature: SigstoreSignature, check: FulcioCheck) -> Verified:
    """An attachment's signature under a short-lived certificate, at the time of its log."""
    from imgtools.sign.certificates.fulcio import verify_fulcio
    from imgtools.sign.certificates.rekor import verify_set
    from imgtools.sign.keys.public import load_public_key

    raw = raw_signature(signature)
    certificate = annotation(signature, CERTIFICATE_ANNOTATION).encode()
    at = verify_set(
        annotation(signature, SET_ANNOTATION),
        rekor_keys=check.rekor,
        payload=signature.payload,
        signature=raw,
        verifier_pem=certificate,
    )
    chain = optional_annotation(signature, CHAIN_ANNOTATION).encode()
    pem, proof = verify_fulcio(
        certificate,
        chain,
        roots_pem=check.roots,
        at=at,
        oidc_issuer=check.issuer,
        subject_email=check.email,
    )
    _verify(load_public_key(pem, "the certificate's key"), raw, signature.payload)
    return _verified(signature, proof)


def check_sigstore_pki(
    signature: SigstoreSignature, check: PkiCheck, *, now: datetime | None = None
) -> Verified:
    """An attachment's signature under a certificate of an own authority, valid now."""
    from imgtools.sign.certificates.pki import verify_pki
    from imgtools.sign.keys.public import load_public_key

    raw = raw_signature(signature)
    pem, proof = verify_pki(
        annotation(signature, CERTIFICATE_ANNOTATION).encode(),
        optional_annotation(signature, CHAIN_ANNOTATION).encode(),
        roots_pem=check.roots,
        intermediates_pem=check.intermediates,
        at=now or datetime.now(UTC),
        subject_email=check.email,
        subject_hostname=check.hostname,
    )
    _verify(load_public_key(pem, "the certificate's key"), raw, signature.payload)
    return _verified(signature, proof)


def _logged(
    signature: SigstoreSignature, trust: KeyTrust, raw: bytes
) -> tuple[tuple[PublicKey, ...], datetime]:
    """The one key that the log says signed, and when it was logged."""
    found = annotation(signature, SET_ANNOTATION)
    reasons = []
    for key in trust.keys:
        try:
            at = _promised(found, trust, signature.payload, raw, key)
        except InvalidSignature as e:
            reasons.append(e.message)
            continue
        return (key,), at
    raise InvalidSignature("no key is the one of the log entry: " + "; ".join(reasons))


def _promised(
    promise: str, trust: KeyTrust, payload: bytes, raw: bytes, key: PublicKey
) -> datetime:
    if trust.root:
        from imgtools.sign.bundles.trusted_root import TrustedRoot
        from imgtools.sign.keyless.under_root import verify_promise

        root = TrustedRoot(trust.root)
        return verify_promise(promise, root, payload=payload, signature=raw, verifier_pem=key.pem)
    from imgtools.sign.certificates.rekor import verify_set

    return verify_set(
        promise, rekor_keys=trust.rekor, payload=payload, signature=raw, verifier_pem=key.pem
    )


def _verified(signature: SigstoreSignature, proof: Proof) -> Verified:
    claim = parse_payload(signature.payload, kind="sigstore")
    return Verified(signature=signature, claim=claim, proof=proof)


def _verify(key: PublicKey, raw: bytes, payload: bytes) -> None:
    try:
        key.verify(raw, payload)
    except InvalidSignature as e:
        raise InvalidSignature("it is not by the key of its certificate") from e


def raw_signature(signature: SigstoreSignature) -> bytes:
    """The signature's bytes, where this is a signature at all; raises InvalidSignature."""
    if signature.media_type != SIMPLE_SIGNING_LAYER:
        raise InvalidSignature(f"{signature.media_type} is no signature's media type")
    if len(signature.payload) > PAYLOAD_LIMIT:
        raise InvalidSignature(f"its payload is larger than {PAYLOAD_LIMIT} bytes")
    text = annotation(signature, SIGNATURE_ANNOTATION)
    try:
        # Go's decoder passes over line ends, and nothing else.
        return base64.b64decode(text.replace("\n", "").replace("\r", ""), validate=True)
    except (binascii.Error, ValueError) as e:
        raise InvalidSignature(f"its annotation {SIGNATURE_ANNOTATION} is not base64") from e


def annotation(signature: SigstoreSignature, name: str) -> str:
    """An annotation that has to be there; raises InvalidSignature."""
    found = optional_annotation(signature, name)
    if not found:
        raise InvalidSignature(f"it has no annotation {name}")
    return found


def optional_annotation(signature: SigstoreSignature, name: str) -> str:
    """An annotation, "" where there is none; raises InvalidSignature for one that is no text."""
    found = signature.annotations.get(name, "")
    try:
        found.encode()
    except UnicodeEncodeError as e:
        raise InvalidSignature(f"its annotation {name} has half of a surrogate pair") from e
    return found


def _any_key(keys: Sequence[PublicKey]) -> str:
    if len(keys) == 1:
        return f"the key {keys[0].spki_sha256[:16]} ({keys[0].description})"
    return f"any of the {len(keys)} keys"

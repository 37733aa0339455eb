"""Certificates and log entries of attachments, held against the trusted root of a sigstore.

It is what cosign asks of them: an authority and a log that the root has for that time, and a
certificate log that saw the certificate. Bundles are held to more, elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_der_public_key

from imgtools.errors import InvalidKey, InvalidSignature
from imgtools.sign.bundles.model import Envelope
from imgtools.sign.bundles.trusted_root import Authority, Log, TrustedRoot
from imgtools.sign.certificates.fulcio import verify_certificate
from imgtools.sign.certificates.pem import leaf_certificate, parse
from imgtools.sign.certificates.rekor import verify_envelope_set, verify_set
from imgtools.sign.certificates.sct import verify_sct
from imgtools.sign.keys.pem import write_block
from imgtools.sign.keys.public import PublicKey
from imgtools.sign.model import Proof
from imgtools.sign.policies.model import CertificateIdentity


def verify_promise(
    annotation: str,
    root: TrustedRoot,
    *,
    payload: bytes,
    signature: bytes,
    verifier_pem: bytes,
) -> datetime:
    """When a log of `root` had `signature`, by its promise; see `certificates.rekor.verify_set`.

    The log is one that the root trusts at that time. Raises InvalidSignature, and InvalidKey
    for a log's key that cannot be used.
    """

    def verified(keys: Sequence[PublicKey]) -> datetime:
        return verify_set(
            annotation,
            rekor_keys=keys,
            payload=payload,
            signature=signature,
            verifier_pem=verifier_pem,
        )

    return _of_a_log(root, verified)


def verify_envelope_promise(
    annotation: str, root: TrustedRoot, *, envelope: Envelope, verifier_pem: bytes
) -> datetime:
    """The same of the signature of an attestation's envelope."""

    def verified(keys: Sequence[PublicKey]) -> datetime:
        return verify_envelope_set(
            annotation, rekor_keys=keys, envelope=envelope, verifier_pem=verifier_pem
        )

    return _of_a_log(root, verified)


def _of_a_log(root: TrustedRoot, verified: Callable[[Sequence[PublicKey]], datetime]) -> datetime:
    logs = [(log, key) for log in root.logs if (key := _ecdsa(log)) is not None]
    if not logs:
        raise InvalidSignature("the trusted root has no log that makes promises")
    at = verified([key for _, key in logs])
    # The time is known only now, and with it which of the logs were trusted.
    return verified([key for log, key in logs if log.covers([at])])


def verify_certified(
    certificate_pem: bytes,
    root: TrustedRoot,
    *,
    at: datetime,
    identities: Sequence[CertificateIdentity],
) -> tuple[bytes, Proof]:
    """The key (PEM) in a certificate of one of `identities`, and whom it proves.

    An authority that the root trusts at `at` has issued it, and a certificate log has seen
    it. What came along with the certificate leads nowhere. Raises InvalidSignature, and
    InvalidKey or InvalidInput for a root and identities that cannot be used.
    """
    leaf = leaf_certificate(certificate_pem)
    refused: InvalidSignature | None = None
    for authority in root.certificate_authorities:
        issuers = _parsed(authority)
        if not authority.covers(at) or leaf.issuer not in [each.subject for each in issuers]:
            continue
        chain = [write_block("CERTIFICATE", der) for der in authority.chain]
        try:
            found = verify_certificate(
                certificate_pem,
                b"".join(chain),
                roots_pem=chain[-1],
                at=at,
                identities=identities,
            )
        except InvalidSignature as e:
            refused = e
            continue
        verify_sct(leaf, issuers, root.certificate_logs)
        return found
    raise refused or InvalidSignature(
        "the certificate was issued by nobody whom the trusted root has for "
        f"{at:%Y-%m-%dT%H:%M:%SZ}"
    )


def _parsed(authority: Authority) -> tuple[x509.Certificate, ...]:
    try:
        return tuple(parse(der, "a certificate of the trusted root") for der in authority.chain)
    except InvalidSignature as e:
        raise InvalidKey(e.message) from e


def _ecdsa(log: Log) -> PublicKey | None:
    """The key of a log that signs promises, None for one of another kind."""
    try:
        key = PublicKey.of(load_der_public_key(log.spki), "the key of a log")
    except (ValueError, UnsupportedAlgorithm) as e:
        raise InvalidKey("the trusted root has a log key that is malformed") from e
    return key if key.is_ecdsa else None

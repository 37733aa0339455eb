"""Short-lived certificates of Fulcio, which bind a key to whom a token named at that minute.

They are checked at a time that a log or an authority vouches for; by then they have expired.
A signed certificate timestamp is not asked for here: the log entry that gives the time has the
whole certificate. Bundles are held to more.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from imgtools.errors import InvalidSignature
from imgtools.sign.certificates.identity import NameKind, check_rules, identified, match
from imgtools.sign.certificates.path import find_path, public_key
from imgtools.sign.certificates.pem import (
    issuer_certificates,
    leaf_certificate,
    trusted_certificates,
)
from imgtools.sign.model import Proof
from imgtools.sign.policies.model import CertificateIdentity

_ANY: frozenset[NameKind] = frozenset(("email", "uri", "dns", "ip", "other"))
_EMAIL: frozenset[NameKind] = frozenset(("email",))


def verify_fulcio(
    cert_pem: bytes,
    chain_pem: bytes,
    *,
    roots_pem: bytes,
    at: datetime,
    oidc_issuer: str,
    subject_email: str,
) -> tuple[bytes, Proof]:
    """The key (PEM) of the certificate of one e-mail address, and whom it proves.

    This is `fulcio` of containers-policy.json(5): the certificate leads to a root, with it
    and all others valid at `at` and made for code signing; its token issuer and an e-mail
    address among its names equal those given. Raises InvalidSignature; InvalidKey for roots
    that cannot be used; InvalidInput without an issuer or an address.
    """
    rule = CertificateIdentity(subject=subject_email, issuer=oidc_issuer)
    return _verify(cert_pem, chain_pem, roots_pem, at, (rule,), _EMAIL)


def verify_certificate(
    cert_pem: bytes,
    chain_pem: bytes,
    *,
    roots_pem: bytes,
    at: datetime,
    identities: Sequence[CertificateIdentity],
) -> tuple[bytes, Proof]:
    """Like `verify_fulcio`, for a name of any kind that one of `identities` describes."""
    return _verify(cert_pem, chain_pem, roots_pem, at, identities, _ANY)


def _verify(
    cert_pem: bytes,
    chain_pem: bytes,
    roots_pem: bytes,
    at: datetime,
    identities: Sequence[CertificateIdentity],
    kinds: frozenset[NameKind],
) -> tuple[bytes, Proof]:
    check_rules(identities)
    roots = trusted_certificates(roots_pem, "the file of Fulcio's roots")
    leaf = leaf_certificate(cert_pem)
    find_path(leaf, intermediates=issuer_certificates(chain_pem), roots=roots, at=at)
    _check_usage(leaf)
    found = identified(leaf)
    name = match(found, identities, kinds=kinds)
    key = public_key(leaf)
    proof = Proof(
        kind="certificate",
        key=key.spki_sha256,
        subject=name.value,
        issuer=found.issuer,
        time=at,
    )
    return key.pem, proof


def _check_usage(leaf: x509.Certificate) -> None:
    """Fulcio's certificates always say that they are for code signing; others are not its."""
    try:
        usages = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound as e:
        raise InvalidSignature("the certificate has no extended key usage") from e
    if ExtendedKeyUsageOID.CODE_SIGNING not in usages:
        raise InvalidSignature("the certificate is not for code signing")

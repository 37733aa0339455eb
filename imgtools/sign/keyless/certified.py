"""A key that was just made, with a certificate that says whose it is.

Both live for the minutes that the certificate is valid, and serve every signature of one
command in that time. The private key is in memory only.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from imgtools.errors import InvalidSignature
from imgtools.sign.keyless.services import Services
from imgtools.sign.keyless.tokens import TokenSource
from imgtools.sign.keyless.web import Web
from imgtools.sign.policies.model import CertificateIdentity

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

_SPARE = timedelta(minutes=1)
"""What has to be left of a certificate's time before another signature is made with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Certified:
    """A key with its certificate: `leaf_pem`, and in `chain_pem` those above it, the root last.

    `identity` is the certificate's own name and token issuer, each exactly.
    """

    leaf_pem: bytes
    leaf_der: bytes = field(repr=False)
    chain_pem: bytes = field(repr=False)
    identity: CertificateIdentity
    expires: datetime
    _key: EllipticCurvePrivateKey = field(repr=False)

    def sign(self, message: bytes) -> bytes:
        """ECDSA over SHA-256, DER."""
        from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
        from cryptography.hazmat.primitives.hashes import SHA256

        return self._key.sign(message, ECDSA(SHA256()))


class Certifier:
    """Gets a certificate when one is needed; for several signers and threads."""

    def __init__(
        self,
        services: Services,
        token: TokenSource,
        web: Web,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`token` is asked for a token each time that a certificate is needed."""
        self._services, self._token, self._web, self._clock = services, token, web, clock
        self._lock = threading.Lock()
        self._found: Certified | None = None

    def certified(self) -> Certified:
        """A key whose certificate is valid for another minute.

        The certificate was verified as far as that is possible before anything is signed: it
        is of this key, and an authority of the trusted root has issued it, with the word of a
        certificate log; without a root, the authority that came along has. Raises
        InvalidSignature, and what tokens and Fulcio raise.
        """
        with self._lock:
            if self._found is None or self._found.expires - _SPARE <= self._clock():
                self._found = _request(self._services, self._token, self._web)
            return self._found


def _request(services: Services, source: TokenSource, web: Web) -> Certified:
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding

    from imgtools.sign.certificates.identity import identified
    from imgtools.sign.certificates.path import public_key
    from imgtools.sign.certificates.pem import leaf_certificate
    from imgtools.sign.keyless.fulcio import request_certificate
    from imgtools.sign.keys.public import PublicKey

    key = ec.generate_private_key(ec.SECP256R1())
    try:
        leaf_pem, *issuers = request_certificate(web, services.authority, source(), key)
        leaf = leaf_certificate(leaf_pem, "Fulcio's certificate")
        if public_key(leaf) != PublicKey.of(key.public_key(), "the new key"):
            raise InvalidSignature("it is of another key than the one that was sent")
        found = identified(leaf)
        if not found.names or not found.issuer:
            raise InvalidSignature("it does not say whose it is, or who issued the token")
        identity = CertificateIdentity(subject=found.names[0].value, issuer=found.issuer)
        chain = b"".join(issuers)
        _verify(services, leaf_pem, chain, issuers[-1], leaf.not_valid_before_utc, identity)
    except InvalidSignature as e:
        e.with_context(f"Fulcio ({services.authority})")
        raise
    return Certified(
        leaf_pem=leaf_pem,
        leaf_der=leaf.public_bytes(Encoding.DER),
        chain_pem=chain,
        identity=identity,
        expires=leaf.not_valid_after_utc,
        _key=key,
    )


def _verify(
    services: Services,
    leaf: bytes,
    chain: bytes,
    own_root: bytes,
    at: datetime,
    identity: CertificateIdentity,
) -> None:
    """Raise InvalidSignature unless the certificate leads to a root; clocks may differ, so that
    its own first second is when it has to."""
    from imgtools.sign.bundles.trusted_root import TrustedRoot
    from imgtools.sign.certificates.fulcio import verify_certificate
    from imgtools.sign.keyless.under_root import verify_certified

    if services.root is None:
        verify_certificate(leaf, chain, roots_pem=own_root, at=at, identities=(identity,))
    else:
        verify_certified(leaf, TrustedRoot(services.root), at=at, identities=(identity,))

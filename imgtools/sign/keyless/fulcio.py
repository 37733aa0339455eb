"""Asks Fulcio for a certificate: a new key, and a token that says whose it is.

The request is that of API v2 (fulcio.proto, CreateSigningCertificate); authorities that do not
know it are asked by v1. What comes back is parsed here, and verified where it is used.
"""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING

from imgtools.errors import InvalidJSON, InvalidSignature, LimitExceeded
from imgtools.sign.keyless.web import Web, service_url
from imgtools.spec import strict_json

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

    from imgtools.sign.keyless.tokens import IdentityToken

_V2 = "/api/v2/signingCert"
_V1 = "/api/v1/signingCert"
_ABSENT = (404, 405, 501)
_MOST = 10
_LIMIT = 256 * 1024
_BLOCK = re.compile(
    r"-----BEGIN CERTIFICATE-----\s+[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----", re.ASCII
)


def request_certificate(
    web: Web, url: str, token: IdentityToken, key: EllipticCurvePrivateKey
) -> tuple[bytes, ...]:
    """The certificate of `key` for whom `token` names, and those above it, each PEM.

    Raises InvalidSignature for an answer that has none, and what asking raises.
    """
    proposal = strict_json.dumps({"certificateSigningRequest": _request(key)})
    answer = web.post(
        service_url(url, _V2), proposal, token=token.text, expected=(200, 201, *_ABSENT)
    )
    if answer.status not in _ABSENT:
        return _certificates(_chain_v2(answer.content))
    answer = web.post(
        service_url(url, _V1),
        proposal,
        accept="application/pem-certificate-chain",
        token=token.text,
    )
    return _certificates([answer.content.decode("ascii", "replace")])


def _request(key: EllipticCurvePrivateKey) -> str:
    """A certificate request, base64 of PEM. It names nobody: the token does."""
    from cryptography import x509
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.serialization import Encoding

    made = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, SHA256())
    return base64.b64encode(made.public_bytes(Encoding.PEM)).decode()


def _chain_v2(content: bytes) -> list[str]:
    try:
        value = strict_json.loads_object(content, "Fulcio's answer", limit=_LIMIT)
    except (InvalidJSON, LimitExceeded) as e:
        raise InvalidSignature(e.message) from e
    if "signedCertificateDetachedSct" in value:
        raise InvalidSignature(
            "Fulcio's certificate comes with a detached certificate timestamp: "
            "expected one in the certificate"
        )
    found: object = value
    for name in ("signedCertificateEmbeddedSct", "chain", "certificates"):
        found = found.get(name) if isinstance(found, dict) else None
    if not isinstance(found, list) or not all(isinstance(item, str) for item in found):
        raise InvalidSignature("Fulcio's answer has no list of certificates")
    return found


def _certificates(texts: list[str]) -> tuple[bytes, ...]:
    """Every certificate of the texts, as one PEM block that ends with a line end."""
    found = [f"{block}\n".encode() for text in texts for block in _BLOCK.findall(text)]
    if not 2 <= len(found) <= _MOST:
        raise InvalidSignature(
            f"Fulcio's answer has {len(found)} certificates: expected 2 to {_MOST}"
        )
    return tuple(found)

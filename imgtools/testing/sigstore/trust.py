"""The documents that tell clients whom to trust and whom to ask (sigstore protobuf-specs).

TrustedRoot 0.1, SigningConfig 0.2 and ClientTrustConfig 0.1, as JSON.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from imgtools.testing.sigstore.entries import encode

TRUSTED_ROOT = "application/vnd.dev.sigstore.trustedroot+json;version=0.1"
SIGNING_CONFIG = "application/vnd.dev.sigstore.signingconfig.v0.2+json"
CLIENT_TRUST_CONFIG = "application/vnd.dev.sigstore.clienttrustconfig.v0.1+json"
_KEYS = {"p256": "PKIX_ECDSA_P256_SHA_256", "ed25519": "PKIX_ED25519"}


def valid_from(start: datetime, end: datetime | None = None) -> dict[str, str]:
    """A period; one without an end lasts."""
    period = {"start": _time(start)}
    if end is not None:
        period["end"] = _time(end)
    return period


def log(
    url: str,
    spki: bytes,
    identifier: bytes,
    start: datetime,
    *,
    key: Literal["p256", "ed25519"] = "p256",
) -> dict[str, Any]:
    """A TransparencyLogInstance."""
    return {
        "baseUrl": url,
        "hashAlgorithm": "SHA2_256",
        "publicKey": {
            "rawBytes": encode(spki),
            "keyDetails": _KEYS[key],
            "validFor": valid_from(start),
        },
        "logId": {"keyId": encode(identifier)},
    }


def authority(
    url: str, chain: Sequence[x509.Certificate], start: datetime, end: datetime | None = None
) -> dict[str, Any]:
    """A CertificateAuthority; its chain ends with the root."""
    certificates = [{"rawBytes": encode(each.public_bytes(Encoding.DER))} for each in chain]
    return {
        "subject": {"organization": "sigstore.test", "commonName": "sigstore.test"},
        "uri": url,
        "certChain": {"certificates": certificates},
        "validFor": valid_from(start, end),
    }


def service(url: str, version: int, start: datetime) -> dict[str, Any]:
    """A Service of a SigningConfig."""
    return {
        "url": url,
        "majorApiVersion": version,
        "validFor": valid_from(start),
        "operator": "sigstore.test",
    }


def _time(value: datetime) -> str:
    return value.strftime("%Y-%m-%dT%H:%M:%SZ")

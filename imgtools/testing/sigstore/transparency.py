"""A certificate transparency log as far as certificates need one: it signs timestamps.

RFC 6962 section 3.2: the log signs the certificate as it is without the timestamps, together
with the hash of the key that will issue it.
"""

from __future__ import annotations

import hashlib
import struct
from datetime import datetime

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

_PRECERTIFICATE = 1
_SHA256_ECDSA = bytes((4, 3))


class CertificateLog:
    """A log that accepts everything; `key` is P-256 and made new unless it is given."""

    def __init__(self, key: ec.EllipticCurvePrivateKey | None = None) -> None:
        self.key = key or ec.generate_private_key(ec.SECP256R1())

    @property
    def spki(self) -> bytes:
        """The log's public key, DER."""
        return self.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    @property
    def identifier(self) -> bytes:
        """The log's id: the SHA-256 of its key."""
        return hashlib.sha256(self.spki).digest()

    def timestamp(self, tbs: bytes, issuer_spki: bytes, at: datetime) -> bytes:
        """A SignedCertificateTimestamp of a TBSCertificate that has none yet."""
        milliseconds = int(at.timestamp()) * 1000
        entry = hashlib.sha256(issuer_spki).digest() + len(tbs).to_bytes(3, "big") + tbs
        signed = struct.pack(">BBQH", 0, 0, milliseconds, _PRECERTIFICATE) + entry + b"\0\0"
        signature = self.key.sign(signed, ec.ECDSA(hashes.SHA256()))
        head = struct.pack(">B32sQH", 0, self.identifier, milliseconds, 0)
        return head + _SHA256_ECDSA + struct.pack(">H", len(signature)) + signature


def timestamp_list(*timestamps: bytes) -> bytes:
    """SignedCertificateTimestampList, which goes into an OCTET STRING of an extension."""
    items = b"".join(struct.pack(">H", len(each)) + each for each in timestamps)
    return struct.pack(">H", len(items)) + items

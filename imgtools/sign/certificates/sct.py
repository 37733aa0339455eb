"""Signed certificate timestamps (RFC 6962): a log's word that it has seen a certificate.

Fulcio puts one into each certificate, so that nobody gets a certificate that its name's owner
could not find. The log signs the certificate as it is without the timestamp (section 3.2).
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
)

from imgtools.errors import InvalidKey, InvalidSignature
from imgtools.sign.keys.public import PublicKey

if TYPE_CHECKING:
    from imgtools.sign.bundles.trusted_root import Log

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_PRECERTIFICATE = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamp:
    """A timestamp as it is in a certificate: nothing of it has been verified.

    `milliseconds` are since 1970, `log_id` is the SHA-256 of the log's key, and `sha256` is
    whether the signature is over that hash.
    """

    milliseconds: int
    log_id: bytes
    sha256: bool
    extensions: bytes
    signature: bytes

    @property
    def time(self) -> datetime:
        """When the log says that it saw the certificate."""
        return _EPOCH + timedelta(milliseconds=self.milliseconds)


def only_stamp(leaf: x509.Certificate) -> Stamp:
    """The one timestamp in `leaf`; raises InvalidSignature for none, several and malformed
    ones."""
    try:
        found = list(
            leaf.extensions.get_extension_for_class(
                x509.PrecertificateSignedCertificateTimestamps
            ).value
        )
        if len(found) != 1:
            raise InvalidSignature(
                f"the certificate has {len(found)} signed certificate timestamps"
            )
        stamp = found[0]
        # Each of these is parsed when it is asked for; times beyond the year 9999 are errors.
        time = stamp.timestamp.replace(tzinfo=UTC)
        return Stamp(
            milliseconds=(time - _EPOCH) // timedelta(milliseconds=1),
            log_id=stamp.log_id,
            sha256=isinstance(stamp.signature_hash_algorithm, SHA256),
            extensions=stamp.extension_bytes,
            signature=stamp.signature,
        )
    except x509.ExtensionNotFound as e:
        raise InvalidSignature(
            "the certificate has no signed certificate timestamp: no log saw it"
        ) from e
    except (ValueError, UnsupportedAlgorithm, x509.DuplicateExtension) as e:
        raise InvalidSignature(
            f"the certificate's signed certificate timestamp is malformed: {e}"
        ) from e


def verify_sct(
    leaf: x509.Certificate, issuers: Sequence[x509.Certificate], logs: Sequence[Log]
) -> datetime:
    """When a log of `logs` saw `leaf`, which one of `issuers` has issued.

    The certificate has exactly one timestamp, as Fulcio's have, and the log was trusted at that
    time. Raises InvalidSignature; InvalidKey for a log whose key cannot be used.
    """
    stamp = only_stamp(leaf)
    known = [
        log
        for log in logs
        if hashlib.sha256(log.spki).digest() == stamp.log_id and log.covers([stamp.time])
    ]
    if not known:
        raise InvalidSignature(
            f"the certificate was seen at {stamp.time:%Y-%m-%dT%H:%M:%SZ} by a certificate log "
            "that was not trusted then"
        )
    named = [each for each in issuers if each.subject == leaf.issuer]
    for log in known:
        key = _key(log.spki)
        if any(_holds(key, stamp, leaf, issuer) for issuer in named):
            return stamp.time
    raise InvalidSignature("the certificate's signed certificate timestamp is not by its log")


def _holds(key: PublicKey, stamp: Stamp, leaf: x509.Certificate, issuer: x509.Certificate) -> bool:
    if not stamp.sha256:
        return False
    spki = issuer.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    try:
        tbs = leaf.tbs_precertificate_bytes
    except ValueError as e:
        raise InvalidSignature("the certificate cannot be taken without its timestamp") from e
    signed = (
        struct.pack(">BBQH", 0, 0, stamp.milliseconds, _PRECERTIFICATE)
        + hashlib.sha256(spki).digest()
        + len(tbs).to_bytes(3, "big")
        + tbs
        + struct.pack(">H", len(stamp.extensions))
        + stamp.extensions
    )
    try:
        key.verify(stamp.signature, signed)
    except InvalidSignature:
        return False
    return True


def _key(spki: bytes) -> PublicKey:
    try:
        return PublicKey.of(load_der_public_key(spki), "the key of a certificate log")
    except (ValueError, UnsupportedAlgorithm) as e:
        raise InvalidKey("the trusted root has a certificate log's key that is malformed") from e

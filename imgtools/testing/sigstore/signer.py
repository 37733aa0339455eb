"""Somebody who signs: a key with its certificate, and signatures in the layouts that there are.

Attachments are cosign's (annotations of a layer), bundles are sigstore's of version 0.3.
"""

from __future__ import annotations

import hashlib
import json
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from imgtools.sign.model import BUNDLE_MEDIA_TYPE, SigstoreSignature
from imgtools.testing.sigstore import entries
from imgtools.testing.sigstore.authority import Chain
from imgtools.testing.sigstore.entries import TransparencyEntry, encode

if TYPE_CHECKING:
    from imgtools.testing.sigstore.local import LocalSigstore

SIGNATURE = "dev.cosignproject.cosign/signature"
CERTIFICATE = "dev.sigstore.cosign/certificate"
CHAIN = "dev.sigstore.cosign/chain"
BUNDLE = "dev.sigstore.cosign/bundle"


class Signer:
    """Signs with `key`, whose certificate is `chain`."""

    def __init__(
        self,
        sigstore: LocalSigstore,
        key: ec.EllipticCurvePrivateKey,
        chain: Chain,
        at: datetime,
    ) -> None:
        """`at` is when things are logged and timestamped unless it is said otherwise."""
        self.sigstore = sigstore
        self.key = key
        self.chain = chain
        self.at = at

    def sign(self, message: bytes) -> bytes:
        """ECDSA over SHA-256, DER."""
        return self.key.sign(message, ec.ECDSA(hashes.SHA256()))

    def attachment(self, payload: bytes, *, at: datetime | None = None) -> SigstoreSignature:
        """The payload as a layer of an attachment: signature, certificate, chain, log entry."""
        signature = self.sign(payload)
        entry = self.logged(payload, signature, at=at)
        annotations = {
            SIGNATURE: encode(signature),
            CERTIFICATE: self.chain.leaf_pem.decode(),
            CHAIN: self.chain.chain_pem.decode(),
            BUNDLE: entry.annotation(),
        }
        return SigstoreSignature(payload=payload, annotations=annotations)

    def logged(
        self, payload: bytes, signature: bytes, *, at: datetime | None = None, check: bool = True
    ) -> TransparencyEntry:
        """The entry of a signature in the first Rekor, as a hashedrekord."""
        proposal = entries.hashedrekord(payload, signature, self.chain.leaf_pem)
        return self.sigstore.log_v1(proposal, at=at or self.at, check=check)

    def dsse_bundle(
        self,
        payload: bytes,
        *,
        payload_type: str = entries.DSSE_TYPE,
        rekor: Literal[1, 2] = 1,
        at: datetime | None = None,
        timestamped: bool | None = None,
    ) -> dict[str, Any]:
        """A bundle of an envelope, to be changed and then written as JSON.

        The second Rekor's has a timestamp unless `timestamped` says otherwise.
        """
        signed = entries.pae(payload_type, payload)
        signature = self.sign(signed)
        content = entries.envelope(payload, signature, payload_type)
        pem = self.chain.leaf_pem
        if rekor == 1:
            entry = self.sigstore.log_v1(entries.dsse(content, pem), at=at or self.at)
        else:
            digest = hashlib.sha256(signed).digest()
            entry = self.sigstore.log_v2(entries.hashedrekord_v2(digest, signature, pem))
        stamped = rekor == 2 if timestamped is None else timestamped
        return self._bundle(entry, signature, at, stamped) | {"dsseEnvelope": content}

    def message_bundle(
        self,
        message: bytes,
        *,
        rekor: Literal[1, 2] = 1,
        at: datetime | None = None,
        timestamped: bool | None = None,
    ) -> dict[str, Any]:
        """A bundle of a signature over `message` itself."""
        signature = self.sign(message)
        digest = hashlib.sha256(message).digest()
        if rekor == 1:
            entry = self.logged(message, signature, at=at)
        else:
            proposal = entries.hashedrekord_v2(digest, signature, self.chain.leaf_pem)
            entry = self.sigstore.log_v2(proposal)
        stamped = rekor == 2 if timestamped is None else timestamped
        content = {
            "messageDigest": {"algorithm": "SHA2_256", "digest": encode(digest)},
            "signature": encode(signature),
        }
        return self._bundle(entry, signature, at, stamped) | {"messageSignature": content}

    def _bundle(
        self, entry: TransparencyEntry, signature: bytes, at: datetime | None, stamped: bool
    ) -> dict[str, Any]:
        stamps = []
        if stamped:
            token = self.sigstore.timestamp(signature, at=at or self.at)
            stamps.append({"signedTimestamp": encode(token)})
        return {
            "mediaType": BUNDLE_MEDIA_TYPE,
            "verificationMaterial": {
                "certificate": {"rawBytes": encode(self.chain.leaf_der)},
                "tlogEntries": [entry.bundle_json()],
                "timestampVerificationData": {"rfc3161Timestamps": stamps},
            },
        }


def bundle_bytes(bundle: dict[str, Any]) -> bytes:
    """A bundle as it is stored."""
    return json.dumps(bundle, separators=(",", ":")).encode()

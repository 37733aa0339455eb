"""What is put into a log: proposals as clients send them, and the entries that a log answers.

Versions are of Rekor's types: hashedrekord 0.0.1 and dsse 0.0.1 of the first
Rekor, hashedrekord 0.0.2 of the second one, which has it for DSSE as well.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_public_key,
)

from imgtools.frozen import dataclass

DSSE_TYPE = "application/vnd.in-toto+json"


def encode(data: bytes) -> str:
    """Standard base64."""
    return base64.b64encode(data).decode()


def pae(payload_type: str, payload: bytes) -> bytes:
    """What a DSSE signature is over (its specification's pre-authentication encoding)."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def envelope(payload: bytes, signature: bytes, payload_type: str = DSSE_TYPE) -> dict[str, Any]:
    """A DSSE envelope with one signature."""
    return {
        "payload": encode(payload),
        "payloadType": payload_type,
        "signatures": [{"sig": encode(signature)}],
    }


def hashedrekord(payload: bytes, signature: bytes, verifier_pem: bytes) -> dict[str, Any]:
    """hashedrekord 0.0.1 of a payload that was signed with the key or certificate given."""
    return {
        "apiVersion": "0.0.1",
        "kind": "hashedrekord",
        "spec": {
            "data": {"hash": {"algorithm": "sha256", "value": hashlib.sha256(payload).hexdigest()}},
            "signature": {
                "content": encode(signature),
                "publicKey": {"content": encode(verifier_pem)},
            },
        },
    }


def dsse(content: Mapping[str, Any], verifier_pem: bytes) -> dict[str, Any]:
    """dsse 0.0.1: the proposal for an envelope."""
    return {
        "apiVersion": "0.0.1",
        "kind": "dsse",
        "spec": {
            "proposedContent": {
                "envelope": json.dumps(content),
                "verifiers": [encode(verifier_pem)],
            }
        },
    }


def hashedrekord_v2(digest: bytes, signature: bytes, verifier_pem: bytes) -> dict[str, Any]:
    """The second Rekor's proposal; for DSSE `digest` is of what `pae` returns."""
    return {
        "hashedRekordRequestV002": {
            "digest": encode(digest),
            "signature": {"content": encode(signature), "verifier": _verifier_v2(verifier_pem)},
        }
    }


def _verifier_v2(pem: bytes) -> dict[str, Any]:
    details = {"keyDetails": "PKIX_ECDSA_P256_SHA_256"}
    if b"CERTIFICATE" in pem:
        raw = x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)
        return {"x509Certificate": {"rawBytes": encode(raw)}, **details}
    spki = load_pem_public_key(pem).public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return {"publicKey": {"rawBytes": encode(spki)}, **details}


@dataclass(frozen=True, slots=True, kw_only=True)
class InclusionProof:
    """Where an entry is in the tree of `size` entries, and the note that says so."""

    index: int
    size: int
    root: bytes
    hashes: tuple[bytes, ...]
    checkpoint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TransparencyEntry:
    """An entry of a log; `replace` of dataclasses makes bad ones.

    `body` is canonical JSON. `integrated_time` is in seconds, 0 in the second Rekor, which
    promises nothing either: `promise` (the signed entry timestamp) is empty there.
    """

    body: bytes
    kind: str
    version: str
    log_id: bytes
    log_index: int
    integrated_time: int
    promise: bytes
    proof: InclusionProof
    uuid: str = ""

    def annotation(self) -> str:
        """The value of `dev.sigstore.cosign/bundle`."""
        return json.dumps(
            {
                "SignedEntryTimestamp": encode(self.promise),
                "Payload": {
                    "body": encode(self.body),
                    "integratedTime": self.integrated_time,
                    "logIndex": self.log_index,
                    "logID": self.log_id.hex(),
                },
            },
            separators=(",", ":"),
        )

    def v1_response(self) -> dict[str, Any]:
        """The first Rekor's answer to who proposed it or asks for it."""
        proof = self.proof
        return {
            self.uuid: {
                "body": encode(self.body),
                "integratedTime": self.integrated_time,
                "logID": self.log_id.hex(),
                "logIndex": self.log_index,
                "verification": {
                    "inclusionProof": {
                        "checkpoint": proof.checkpoint,
                        "hashes": [each.hex() for each in proof.hashes],
                        "logIndex": proof.index,
                        "rootHash": proof.root.hex(),
                        "treeSize": proof.size,
                    },
                    "signedEntryTimestamp": encode(self.promise),
                },
            }
        }

    def bundle_json(self) -> dict[str, Any]:
        """`TransparencyLogEntry` of a bundle, which is the second Rekor's answer as well."""
        proof = self.proof
        entry: dict[str, Any] = {
            "logIndex": str(self.log_index),
            "logId": {"keyId": encode(self.log_id)},
            "kindVersion": {"kind": self.kind, "version": self.version},
            "inclusionProof": {
                "logIndex": str(proof.index),
                "rootHash": encode(proof.root),
                "treeSize": str(proof.size),
                "hashes": [encode(each) for each in proof.hashes],
                "checkpoint": {"envelope": proof.checkpoint},
            },
            "canonicalizedBody": encode(self.body),
        }
        if self.integrated_time:
            entry["integratedTime"] = str(self.integrated_time)
        if self.promise:
            entry["inclusionPromise"] = {"signedEntryTimestamp": encode(self.promise)}
        return entry

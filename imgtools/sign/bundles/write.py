"""Writes bundles: fields in the order of the protocol buffers, as sigstore-go writes them.

What verifiers of other people get to see is written from what we parsed, so that nobody
verifies another reading of a bundle than ours.
"""

from __future__ import annotations

import base64
from typing import Any

from imgtools.sign.bundles.model import Bundle, LogEntry
from imgtools.spec import strict_json


def write_bundle(bundle: Bundle) -> bytes:
    """The bundle as compact JSON; parsing it gives an equal one."""
    value: dict[str, Any] = {
        "mediaType": bundle.media_type,
        "verificationMaterial": _material(bundle),
    }
    if bundle.message is not None:
        message: dict[str, Any] = {}
        if bundle.message.digest is not None:
            digest = bundle.message.digest
            message["messageDigest"] = {
                "algorithm": f"SHA2_{digest.algorithm.removeprefix('sha')}",
                "digest": encoded(bytes.fromhex(digest.hex)),
            }
        value["messageSignature"] = {**message, "signature": encoded(bundle.message.signature)}
    if bundle.envelope is not None:
        value["dsseEnvelope"] = {
            "payload": encoded(bundle.envelope.payload),
            "payloadType": bundle.envelope.payload_type,
            "signatures": [{"sig": encoded(item)} for item in bundle.envelope.signatures],
        }
    return strict_json.dumps(value)


def encoded(data: bytes) -> str:
    """Standard base64."""
    return base64.b64encode(data).decode("ascii")


def _material(bundle: Bundle) -> dict[str, Any]:
    value: dict[str, Any] = {}
    certificates = [{"rawBytes": encoded(item)} for item in bundle.certificates]
    if bundle.key_hint is not None:
        value["publicKey"] = {"hint": bundle.key_hint}
    elif bundle.version >= (0, 3):
        value["certificate"] = certificates[0]
    else:
        value["x509CertificateChain"] = {"certificates": certificates}
    if bundle.entries:
        value["tlogEntries"] = [_entry(entry) for entry in bundle.entries]
    if bundle.timestamps:
        value["timestampVerificationData"] = {
            "rfc3161Timestamps": [{"signedTimestamp": encoded(item)} for item in bundle.timestamps]
        }
    return value


def _entry(entry: LogEntry) -> dict[str, Any]:
    value: dict[str, Any] = {
        "logIndex": str(entry.log_index),
        "logId": {"keyId": encoded(entry.log_id)},
        "kindVersion": {"kind": entry.kind, "version": entry.version},
    }
    # protojson leaves out what is zero, and readers of Rekor v2 entries expect that.
    if entry.integrated_time:
        value["integratedTime"] = str(entry.integrated_time)
    if entry.promise is not None:
        value["inclusionPromise"] = {"signedEntryTimestamp": encoded(entry.promise)}
    if entry.proof is not None:
        proof = entry.proof
        value["inclusionProof"] = {
            "logIndex": str(proof.log_index),
            "rootHash": encoded(proof.root_hash),
            "treeSize": str(proof.tree_size),
            "hashes": [encoded(item) for item in proof.hashes],
            "checkpoint": {"envelope": proof.checkpoint},
        }
    value["canonicalizedBody"] = encoded(entry.body)
    return value

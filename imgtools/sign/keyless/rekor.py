"""Enters signatures into transparency logs: Rekor's first version and its second.

What a log answers is parsed into the entry of a bundle. Whether it is the entry that was asked
for, and the log's, is verified where it is used.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from imgtools.errors import InvalidJSON, InvalidSignature, LimitExceeded, Unsupported
from imgtools.sign.bundles.dsse import pre_authentication
from imgtools.sign.bundles.fields import Fields
from imgtools.sign.bundles.model import Bundle, Envelope, InclusionProof, LogEntry
from imgtools.sign.bundles.parse import parse_entry
from imgtools.sign.keyless.web import ANSWER_LIMIT, Answer, Web, service_url
from imgtools.spec import strict_json

if TYPE_CHECKING:
    from imgtools.sign.bundles.make import BundleLog
    from imgtools.sign.key_signers import Log
    from imgtools.sign.keyless.services import Services
    from imgtools.sign.keys.public import PublicKey

_V1 = "/api/v1/log/entries"
_V2 = "/api/v2/log/entries"
_EXISTS = 409
_MOST_HASHES = 64
_HEX = re.compile(r"(?:[0-9a-f]{2})*")
_KEY_DETAILS: Mapping[str, str] = MappingProxyType(
    {
        "ECDSA P-256": "PKIX_ECDSA_P256_SHA_256",
        "RSA 2048": "PKIX_RSA_PKCS1V15_2048_SHA256",
        "RSA 3072": "PKIX_RSA_PKCS1V15_3072_SHA256",
        "RSA 4096": "PKIX_RSA_PKCS1V15_4096_SHA256",
    }
)
"""Keys that sign SHA-256 digests, by the names of sigstore_common.proto."""

_UUID = re.compile(r"(?:[0-9a-f]{16})?[0-9a-f]{64}")


def log_signature(
    web: Web, url: str, payload: bytes, signature: bytes, verifier_pem: bytes
) -> LogEntry:
    """The entry (hashedrekord 0.0.1) of `signature` over `payload` by a key or certificate, in
    a log of the first version. Raises InvalidSignature for an answer that is no entry, and
    what asking raises."""
    return _log_v1(
        web,
        url,
        "hashedrekord",
        {
            "data": {"hash": {"algorithm": "sha256", "value": hashlib.sha256(payload).hexdigest()}},
            "signature": {
                "content": _encoded(signature),
                "publicKey": {"content": _encoded(verifier_pem)},
            },
        },
    )


def log_envelope(web: Web, url: str, envelope: Envelope, verifier_pem: bytes) -> LogEntry:
    """The entry (dsse 0.0.1) of an envelope, in a log of the first version; raises like
    `log_signature`."""
    text = strict_json.dumps(
        {
            "payloadType": envelope.payload_type,
            "payload": _encoded(envelope.payload),
            "signatures": [{"sig": _encoded(item)} for item in envelope.signatures],
        }
    ).decode()
    proposed = {"envelope": text, "verifiers": [_encoded(verifier_pem)]}
    return _log_v1(web, url, "dsse", {"proposedContent": proposed})


def log_message(
    web: Web, url: str, message: bytes, signature: bytes, verifier: Mapping[str, Any]
) -> LogEntry:
    """The entry (hashedrekord 0.0.2) of `signature` over `message` by what `verifier_of_key` or
    `verifier_of_certificate` gives, in a log of the second version; raises like
    `log_signature`."""
    proposal = {
        "hashedRekordRequestV002": {
            "digest": _encoded(hashlib.sha256(message).digest()),
            "signature": {
                "content": _encoded(signature),
                "verifier": dict(verifier),
            },
        }
    }
    answer = web.post(service_url(url, _V2), strict_json.dumps(proposal))
    return parse_entry(_object(answer))


def verifier_of_certificate(certificate_der: bytes) -> Mapping[str, Any]:
    """A certificate with a P-256 key, as the second version has it."""
    return {
        "x509Certificate": {"rawBytes": _encoded(certificate_der)},
        "keyDetails": _KEY_DETAILS["ECDSA P-256"],
    }


def verifier_of_key(key: PublicKey) -> Mapping[str, Any]:
    """A key, as the second version has it; raises Unsupported for one of a kind that signs no
    SHA-256 digests there."""
    from imgtools.sign.keys.pem import read_block

    details = _KEY_DETAILS.get(key.description)
    if details is None:
        raise Unsupported(
            f"{key.description}: Rekor's second version has signatures of "
            f"{', '.join(_KEY_DETAILS)} keys here",
            hint="log it in a Rekor of the first version",
        )
    der = read_block(key.pem, "the public key")[1]
    return {"publicKey": {"rawBytes": _encoded(der)}, "keyDetails": details}


def annotation(entry: LogEntry) -> str:
    """The entry's promise as attachments have it, in the annotation dev.sigstore.cosign/bundle;
    raises InvalidSignature where the log made none."""
    if not entry.promise:
        raise InvalidSignature("the log's answer has no promise (signedEntryTimestamp)")
    value = {
        "SignedEntryTimestamp": _encoded(entry.promise),
        "Payload": {
            "body": _encoded(entry.body),
            "integratedTime": entry.integrated_time,
            "logIndex": entry.log_index,
            "logID": entry.log_id.hex(),
        },
    }
    return strict_json.dumps(value).decode()


def key_log(web: Web, url: str, root: bytes | None) -> Log:
    """What enters the signatures of an `AttachmentSigner` into a log of the first version.

    The promise is held against the logs of `root` (trusted_root.json) where there is one.
    Raises InvalidInput for a URL that is none; calls raise InvalidSignature, and what asking
    raises.
    """
    service_url(url, _V1)

    def enter(payload: bytes, signature: bytes, verifier_pem: bytes) -> str:
        found = annotation(log_signature(web, url, payload, signature, verifier_pem))
        check_promise(found, root, payload, signature, verifier_pem)
        return found

    return enter


def key_bundle_log(web: Web, services: Services, root: bytes) -> BundleLog:
    """What enters the bundles of a `BundleSigner` into the log of `services`, with timestamps
    of their authorities, and holds all of it against `root` (trusted_root.json). Raises like
    `key_log`, and InvalidInput for a log that needs timestamps where nobody makes them."""
    log = services.bundle_log()
    service_url(log.url, _V1)

    def enter(bundle: Bundle, key: PublicKey) -> Bundle:
        from imgtools.sign.bundles.logged import logged_at
        from imgtools.sign.keyless.timestamps import request_timestamp

        envelope = bundle.envelope
        assert envelope is not None, "images are signed in envelopes"
        (signature,) = envelope.signatures
        verifier = verifier_of_key(key) if log.version == 2 else {}
        stamps = tuple(request_timestamp(web, url, signature) for url in services.timestamps)
        if log.version == 1:
            entry = log_envelope(web, log.url, envelope, key.pem)
        else:
            message = pre_authentication(envelope.payload_type, envelope.payload)
            entry = log_message(web, log.url, message, signature, verifier)
        logged = replace(bundle, entries=(entry,), timestamps=stamps)
        logged_at(logged, key, root)
        return logged

    return enter


def check_promise(
    promise: str, root: bytes | None, payload: bytes, signature: bytes, verifier_pem: bytes
) -> None:
    """Raise InvalidSignature unless a log's `promise` is about this signature, and by a log of
    `root` if that is known."""
    from imgtools.sign.bundles.trusted_root import TrustedRoot
    from imgtools.sign.certificates.rekor import check_unproved
    from imgtools.sign.keyless.under_root import verify_promise

    about = {"payload": payload, "signature": signature, "verifier_pem": verifier_pem}
    if root is None:
        check_unproved(promise, **about)
    else:
        verify_promise(promise, TrustedRoot(root), **about)


def check_log(web: Web, url: str) -> None:
    """Raise what asking raises unless a log of the first version answers; one that does not
    tell its state may still take entries."""
    web.get(service_url(url, "/api/v1/log"), expected=(200, 404, 405))


def _log_v1(web: Web, url: str, kind: str, spec: dict[str, Any]) -> LogEntry:
    proposal = strict_json.dumps({"apiVersion": "0.0.1", "kind": kind, "spec": spec})
    answer = web.post(service_url(url, _V1), proposal, expected=(200, 201, _EXISTS))
    if answer.status == _EXISTS:
        # It was entered before, perhaps by a request whose answer was lost.
        uuid = answer.location.rpartition("/")[2]
        if not _UUID.fullmatch(uuid):
            raise InvalidSignature("the log has the entry already, and does not say where")
        answer = web.get(service_url(url, f"{_V1}/{uuid}"))
    entries = list(_object(answer).values())
    if len(entries) != 1:
        raise InvalidSignature(f"the log's answer has {len(entries)} entries: expected one")
    return _entry_v1(Fields(entries[0], "the log's entry"), kind)


def _entry_v1(fields: Fields, kind: str) -> LogEntry:
    """The entry as bundles have it; fields that are not known say nothing about it."""
    verification = fields.inner("verification", "the entry's verification")
    if verification is None:
        raise InvalidSignature("the log's entry has no verification")
    proof = verification.inner("inclusionProof", "the entry's proof of inclusion")
    return LogEntry(
        log_index=fields.integer("logIndex"),
        log_id=_unhex(fields.text("logID"), "logID"),
        kind=kind,
        version="0.0.1",
        integrated_time=fields.integer("integratedTime"),
        body=fields.data("body"),
        promise=verification.data("signedEntryTimestamp") or None,
        proof=None if proof is None else _proof_v1(proof),
    )


def _proof_v1(fields: Fields) -> InclusionProof:
    hashes = fields.items("hashes", _MOST_HASHES)
    return InclusionProof(
        log_index=fields.integer("logIndex"),
        root_hash=_unhex(fields.text("rootHash"), "rootHash"),
        tree_size=fields.integer("treeSize"),
        hashes=tuple(_unhex(item, "hashes") for item in hashes),
        checkpoint=fields.text("checkpoint"),
    )


def _unhex(value: object, what: str) -> bytes:
    if not isinstance(value, str) or not _HEX.fullmatch(value):
        raise InvalidSignature(f"the log's entry: {what} is not hexadecimal")
    return bytes.fromhex(value)


def _object(answer: Answer) -> dict[str, Any]:
    try:
        return strict_json.loads_object(answer.content, "the log's answer", limit=ANSWER_LIMIT)
    except (InvalidJSON, LimitExceeded) as e:
        raise InvalidSignature(e.message) from e


def _encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()

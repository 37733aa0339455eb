"""What a log of Rekor's first version promises of a signature in an attachment.

The promise is the signed entry timestamp (SET): the log's signature over an entry and the time
of it. The rules are containers/image's, which is as strict about the form.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from imgtools.errors import InvalidJSON, InvalidKey, InvalidSignature, LimitExceeded
from imgtools.sign.bundles.model import Envelope
from imgtools.sign.certificates.jcs import EXACT_INTEGER, canonical
from imgtools.sign.certificates.pem import one_block
from imgtools.sign.keys.public import PublicKey
from imgtools.spec.strict_json import loads_object

_LIMIT = 1024 * 1024
_LAST_SECOND = 253_402_300_799  # of the year 9999, the last that a datetime has
_SHORTEST_SIGNATURE = 8


def verify_set(
    bundle_annotation: str | bytes,
    *,
    rekor_keys: Sequence[PublicKey],
    payload: bytes,
    signature: bytes,
    verifier_pem: bytes,
) -> datetime:
    """When, by the word of a log, `signature` of `payload` by `verifier_pem` was there.

    `bundle_annotation` is the value of dev.sigstore.cosign/bundle; `verifier_pem` is the
    certificate or the public key, whose bytes have to be those of the entry. The log's own
    name, index and proofs are not looked at. Raises InvalidSignature when the promise is
    malformed, of none of `rekor_keys`, or about anything else; InvalidKey for a log's key that
    is not ECDSA.
    """
    body, at = _promised(bundle_annotation, rekor_keys)
    _check_body(body, payload, signature, verifier_pem)
    return at


def verify_envelope_set(
    bundle_annotation: str | bytes,
    *,
    rekor_keys: Sequence[PublicKey],
    envelope: Envelope,
    verifier_pem: bytes,
) -> datetime:
    """The same of the one signature of an attestation's envelope, whose entry is a dsse 0.0.1
    (rekor, pkg/types/dsse): with its payload's hash, its signature and its signer."""
    body, at = _promised(bundle_annotation, rekor_keys)
    _check_envelope_body(body, envelope, verifier_pem)
    return at


def _promised(
    bundle_annotation: str | bytes, rekor_keys: Sequence[PublicKey]
) -> tuple[bytes, datetime]:
    """The entry that one of the logs has, and when."""
    for key in rekor_keys:
        if not key.is_ecdsa:
            raise InvalidKey(f"an {key.description} key is no key of a Rekor log: expected ECDSA")
    promise, entry = _parse(bundle_annotation)
    signed = _canonical(entry)
    if not any(_holds(key, promise, signed) for key in rekor_keys):
        raise InvalidSignature("the log entry is not signed by a Rekor key that is trusted")
    body = _base64(entry["body"], "the log entry's body")
    return body, datetime.fromtimestamp(entry["integratedTime"], UTC)


def check_unproved(
    bundle_annotation: str | bytes, *, payload: bytes, signature: bytes, verifier_pem: bytes
) -> None:
    """Like `verify_set` where the log's key is not known: the promise is well formed and about
    this signature, whoever has made it. It proves nothing, and is for who has just asked a log
    for it. Raises InvalidSignature."""
    _, entry = _parse(bundle_annotation)
    _canonical(entry)
    _check_body(_base64(entry["body"], "the log entry's body"), payload, signature, verifier_pem)


def _parse(annotation: str | bytes) -> tuple[bytes, dict[str, Any]]:
    """The signature of the promise, and what it is over."""
    what = "the log entry"
    outer = _document(annotation, what)
    _check_fields(outer, {"SignedEntryTimestamp": str, "Payload": dict}, what)
    entry = outer["Payload"]
    fields = {"body": str, "integratedTime": int, "logIndex": int, "logID": str}
    _check_fields(entry, fields, what)
    if not 0 <= entry["integratedTime"] <= _LAST_SECOND:
        raise InvalidSignature("the log entry's time is out of range")
    if not 0 <= entry["logIndex"] <= EXACT_INTEGER:
        raise InvalidSignature("the log entry's index is out of range")
    promise = _base64(outer["SignedEntryTimestamp"], "the log entry's signature")
    if len(promise) < _SHORTEST_SIGNATURE or promise[0] != 0x30:
        # Keys also take r and s side by side, which logs do not write.
        raise InvalidSignature("the log entry's signature is not DER")
    return promise, entry


def _document(content: str | bytes, what: str) -> dict[str, Any]:
    try:
        raw = content.encode() if isinstance(content, str) else content
        return loads_object(raw, what, limit=_LIMIT)
    except UnicodeEncodeError as e:
        raise InvalidSignature(f"{what} is not UTF-8") from e
    except (InvalidJSON, LimitExceeded) as e:
        raise InvalidSignature(e.message) from e


def _check_fields(value: Mapping[str, Any], fields: Mapping[str, type], what: str) -> None:
    """Exactly these fields, of exactly these types: a bool is no int."""
    if value.keys() != fields.keys():
        raise InvalidSignature(f"{what} has other fields than {', '.join(sorted(fields))}")
    for name, kind in fields.items():
        if type(value[name]) is not kind:
            raise InvalidSignature(f"{what}: {name} is of the wrong type")


def _canonical(entry: Mapping[str, Any]) -> bytes:
    try:
        return canonical(dict(entry))
    except InvalidJSON as e:
        raise InvalidSignature(f"the log entry has no canonical form: {e.message}") from e


def _holds(key: PublicKey, promise: bytes, signed: bytes) -> bool:
    try:
        key.verify(promise, signed)
    except InvalidSignature:
        return False
    return True


def _check_body(content: bytes, payload: bytes, signature: bytes, verifier_pem: bytes) -> None:
    """The entry is a hashedrekord 0.0.1 of this payload, this signature and this verifier."""
    body = _body(content, "hashedrekord")
    _check_verifier(_field(body, "spec", "signature", "publicKey", "content"), verifier_pem)
    if _base64(_field(body, "spec", "signature", "content"), "the logged signature") != signature:
        raise InvalidSignature("the log entry is of another signature")
    algorithm = _field(body, "spec", "data", "hash", "algorithm")
    if algorithm != "sha256":
        raise InvalidSignature(f"the log entry's hash is {algorithm[:40]!r}: expected sha256")
    if _field(body, "spec", "data", "hash", "value") != hashlib.sha256(payload).hexdigest():
        raise InvalidSignature("the log entry is of another payload")


def _check_envelope_body(content: bytes, envelope: Envelope, verifier_pem: bytes) -> None:
    """The entry is a dsse 0.0.1 of this envelope's payload, signature and verifier."""
    body = _body(content, "dsse")
    spec = body.get("spec")
    signatures = spec.get("signatures") if isinstance(spec, dict) else None
    if not isinstance(signatures, list) or len(signatures) != 1:
        raise InvalidSignature("the log entry has not exactly one signature")
    (signature,) = signatures
    if not isinstance(signature, dict):
        raise InvalidSignature("the log entry's signature is not an object")
    _check_verifier(_field(signature, "verifier"), verifier_pem)
    logged = _base64(_field(signature, "signature"), "the logged signature")
    if (logged,) != envelope.signatures:
        raise InvalidSignature("the log entry is of another signature")
    algorithm = _field(body, "spec", "payloadHash", "algorithm")
    if algorithm != "sha256":
        raise InvalidSignature(f"the log entry's hash is {algorithm[:40]!r}: expected sha256")
    value = _field(body, "spec", "payloadHash", "value")
    if value != hashlib.sha256(envelope.payload).hexdigest():
        raise InvalidSignature("the log entry is of another payload")


def _body(content: bytes, kind: str) -> dict[str, Any]:
    """The entry itself, of version 0.0.1 of a kind."""
    body = _document(content, "the log entry's body")
    found, version = body.get("kind"), body.get("apiVersion")
    if (found, version) != (kind, "0.0.1"):
        raise InvalidSignature(
            f"the log entry is a {str(found)[:40]!r} {str(version)[:40]!r}: expected a {kind} 0.0.1"
        )
    return body


def _check_verifier(text: str, verifier_pem: bytes) -> None:
    logged = one_block(_base64(text, "the logged key"), "the logged key")[1]
    if logged != one_block(verifier_pem, "the key or certificate")[1]:
        raise InvalidSignature("the log entry is of another key or certificate")


def _field(body: Mapping[str, Any], *path: str) -> str:
    """The text at a path of objects."""
    value: object = body
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    if not isinstance(value, str):
        raise InvalidSignature(f"the log entry's body has no text {'.'.join(path)}")
    return value


def _base64(text: str, what: str) -> bytes:
    """Standard base64 in its one form: padded, no line ends, no stray bits."""
    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as e:
        raise InvalidSignature(f"{what} is not base64") from e
    if base64.b64encode(content).decode() != text:
        raise InvalidSignature(f"{what} is not canonical base64")
    return content

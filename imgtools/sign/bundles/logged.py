"""Whether a log has the signature of a bundle that was made with a key, and since when.

The entry must be of exactly this signature by exactly this key, be included in the tree that
the log signed (RFC 9162 section 2.1.3.2, c2sp.org/tlog-checkpoint), and be promised where the
log makes promises. For bundles with certificates sigstore-python does the same.
"""

from __future__ import annotations

import base64
import hashlib
import re
from datetime import datetime
from typing import TYPE_CHECKING, Any

from imgtools.errors import InvalidJSON, InvalidKey, InvalidSignature, LimitExceeded
from imgtools.sign.bundles.dsse import pre_authentication
from imgtools.sign.bundles.fields import decoded
from imgtools.sign.bundles.model import Bundle, Envelope, InclusionProof, LogEntry
from imgtools.sign.bundles.times import proven_times
from imgtools.sign.bundles.trusted_root import TrustedRoot
from imgtools.sign.certificates.jcs import canonical
from imgtools.spec import strict_json

if TYPE_CHECKING:
    from imgtools.sign.keys.public import PublicKey

_SIGNATURE_LINE = re.compile("\u2014 [^ ]+ ([A-Za-z0-9+/=]+)")
_HINT = 4
"""Bytes before a signature in a note, which say by which key it might be."""


def logged_at(bundle: Bundle, key: PublicKey, trusted_root: bytes) -> datetime:
    """The earliest time at which a log of `trusted_root`, or a timestamp, vouches for the
    signature of the envelope in `bundle`, which `key` was found to have made.

    Raises InvalidSignature unless there is exactly one entry and it holds, InvalidKey for a
    root that cannot be used.
    """
    envelope = bundle.envelope
    if envelope is None or len(bundle.entries) != 1:
        raise InvalidSignature(
            f"the bundle has {len(bundle.entries)} log entries: expected exactly one"
        )
    entry = bundle.entries[0]
    _check_body(entry, envelope, key)
    root = TrustedRoot(trusted_root)
    times = proven_times(bundle, entry, envelope.signatures[0], root)
    logs = [_key(log.spki) for log in root.logs if log.covers(times)]
    if not any(_holds(entry, log) for log in logs):
        raise InvalidSignature(
            "the log entry is not of a log of the trusted root, or its proofs do not hold"
        )
    return min(times)


def _key(spki: bytes) -> PublicKey:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_der_public_key

    from imgtools.sign.keys.public import PublicKey

    try:
        return PublicKey.of(load_der_public_key(spki), "the key of a log")
    except (ValueError, UnsupportedAlgorithm) as e:
        raise InvalidKey("the trusted root has a log key that is malformed") from e


def _holds(entry: LogEntry, log: PublicKey) -> bool:
    """Whether everything that the entry brings is by this log."""
    try:
        _check_inclusion(entry, log)
        if entry.promise is not None and entry.version != "0.0.2":
            if entry.log_id.hex() != log.spki_sha256:
                return False
            log.verify(entry.promise, _promised(entry))
    except InvalidSignature:
        return False
    return True


def _promised(entry: LogEntry) -> bytes:
    """What a signed entry timestamp is over."""
    try:
        return canonical(
            {
                "body": base64.b64encode(entry.body).decode("ascii"),
                "integratedTime": entry.integrated_time,
                "logID": entry.log_id.hex(),
                "logIndex": entry.log_index,
            }
        )
    except InvalidJSON as e:
        raise InvalidSignature(f"the log entry has no canonical form: {e.message}") from e


def _check_inclusion(entry: LogEntry, log: PublicKey) -> None:
    proof = entry.proof
    if proof is None or not proof.checkpoint:
        raise InvalidSignature("the log entry has no proof of inclusion with a checkpoint")
    if _root(hashlib.sha256(b"\0" + entry.body).digest(), proof) != proof.root_hash:
        raise InvalidSignature("the proof of inclusion does not lead to its root")
    text, blank, signatures = proof.checkpoint.partition("\n\n")
    lines = text.split("\n")
    try:
        head = (int(lines[1]), decoded(lines[2]))
    except (IndexError, ValueError) as e:
        raise InvalidSignature("the checkpoint is malformed") from e
    if not blank or head != (proof.tree_size, proof.root_hash):
        raise InvalidSignature("the checkpoint is of another tree")
    message = f"{text}\n".encode()
    for line in signatures.split("\n"):
        found = _SIGNATURE_LINE.fullmatch(line)
        if found is not None and _is_by(log, found[1], message):
            return
    raise InvalidSignature("the checkpoint is not signed by the log")


def _is_by(log: PublicKey, text: str, message: bytes) -> bool:
    try:
        log.verify(decoded(text)[_HINT:], message)
    except (ValueError, InvalidSignature):
        return False
    return True


def _root(leaf: bytes, proof: InclusionProof) -> bytes:
    """The root that a proof leads to, b"" for one of a wrong length."""
    index, last, found = proof.log_index, proof.tree_size - 1, leaf
    if index > last:
        return b""
    for other in proof.hashes:
        if last == 0:
            return b""
        if index & 1 or index == last:
            found = hashlib.sha256(b"\1" + other + found).digest()
            while not index & 1 and index:
                index, last = index >> 1, last >> 1
        else:
            found = hashlib.sha256(b"\1" + found + other).digest()
        index, last = index >> 1, last >> 1
    return found if last == 0 else b""


def _check_body(entry: LogEntry, envelope: Envelope, key: PublicKey) -> None:
    """The entry is of this envelope's signature, and of this key; raises InvalidSignature."""
    try:
        body = strict_json.loads_object(entry.body, "the log entry's body")
    except (InvalidJSON, LimitExceeded) as e:
        raise InvalidSignature(e.message) from e
    kind = (body.get("kind"), body.get("apiVersion"))
    if kind != (entry.kind, entry.version) or kind not in _BODIES:
        raise InvalidSignature(
            f"the log entry is a {ascii(entry.kind)[:40]} {ascii(entry.version)[:40]}: "
            "expected dsse, or hashedrekord 0.0.2"
        )
    wanted, verifier = _BODIES[kind](body, envelope)
    if not wanted or not _is_key(verifier, key):
        raise InvalidSignature("the log entry is of another signature, or of another key")


def _dsse(body: dict[str, Any], envelope: Envelope) -> tuple[bool, bytes]:
    """Whether a dsse 0.0.1 is of the envelope's signature and payload, and the key in it."""
    payload = {"algorithm": "sha256", "value": hashlib.sha256(envelope.payload).hexdigest()}
    signatures = _at(body, "spec", "signatures")
    if not isinstance(signatures, list) or len(signatures) != 1:
        return False, b""
    same = _bytes(signatures[0], "signature") == envelope.signatures[0]
    return same and _at(body, "spec", "payloadHash") == payload, _bytes(signatures[0], "verifier")


def _hashedrekord(body: dict[str, Any], envelope: Envelope) -> tuple[bool, bytes]:
    """The same of a hashedrekord 0.0.2, whose digest is of what was signed."""
    inner = _at(body, "spec", "hashedRekordV002")
    message = pre_authentication(envelope.payload_type, envelope.payload)
    signature = _at(inner, "signature")
    same = (
        _at(inner, "data", "algorithm") == "SHA2_256"
        and _bytes(inner, "data", "digest") == hashlib.sha256(message).digest()
        and _bytes(signature, "content") == envelope.signatures[0]
    )
    return same, _bytes(signature, "verifier", "publicKey", "rawBytes")


def _dsse_of_second_log(body: dict[str, Any], envelope: Envelope) -> tuple[bool, bytes]:
    """The same of a dsse 0.0.2 (rekor-tiles, dsse.proto), which cosign 3.0 asks for."""
    inner = _at(body, "spec", "dsseV002")
    signatures = _at(inner, "signatures")
    if not isinstance(signatures, list) or len(signatures) != 1:
        return False, b""
    same = (
        _at(inner, "payloadHash", "algorithm") == "SHA2_256"
        and _bytes(inner, "payloadHash", "digest") == hashlib.sha256(envelope.payload).digest()
        and _bytes(signatures[0], "content") == envelope.signatures[0]
    )
    return same, _bytes(signatures[0], "verifier", "publicKey", "rawBytes")


_BODIES = {
    ("dsse", "0.0.1"): _dsse,
    ("dsse", "0.0.2"): _dsse_of_second_log,
    ("hashedrekord", "0.0.2"): _hashedrekord,
}


def _is_key(content: bytes, key: PublicKey) -> bool:
    """Whether `content` is the key, as PEM or DER."""
    from imgtools.sign.keys.pem import read_block

    if content.lstrip().startswith(b"-----BEGIN"):
        try:
            content = read_block(content, "the logged key")[1]
        except InvalidKey:
            return False
    return hashlib.sha256(content).hexdigest() == key.spki_sha256


def _at(value: object, *path: str) -> Any:
    """The value at a path of objects, None where there is none."""
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _bytes(value: object, *path: str) -> bytes:
    """Base64 at a path, b"" for what is none."""
    text = _at(value, *path)
    try:
        return decoded(text) if isinstance(text, str) else b""
    except ValueError:
        return b""

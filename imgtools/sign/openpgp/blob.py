"""Signatures as bytes in files: which format they are of, by their first byte.

A simple signature is stored as it is, everything else behind `NUL format LF`, which begins no
OpenPGP message. This is the form of `dir:`, of lookaside storage and of containers-storage
(containers/image, signature.FromBlob).
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from imgtools.errors import InvalidJSON, InvalidSignature, LimitExceeded, Unsupported
from imgtools.sign.model import (
    PAYLOAD_LIMIT,
    Signature,
    SigstoreSignature,
    SimpleSignature,
)
from imgtools.spec import strict_json

_OPENPGP = frozenset(
    (
        *(0xA0, 0xA1, 0xA2, 0xA3, 0xC8),  # compressed data
        *(0x90, 0x91, 0x92, 0x93, 0xC4),  # one-pass signature
        *(0x88, 0x89, 0x8A, 0x8B, 0xC2),  # signature
    )
)
"""How a signed message may begin: tags 8, 4 and 2 in old and new form (RFC 4880 section 4.2)."""

_LONGEST_NAME = 64
_FIELDS = {"mimeType", "payload", "annotations"}


def decode_blob(content: bytes, where: str) -> Signature:
    """The signature in `content`, which was read from `where`.

    Only its form is looked at. Raises InvalidSignature for bytes of no known format, which
    must end the reading of all signatures of an image: what is left out there may be what
    mattered. LimitExceeded for more than PAYLOAD_LIMIT bytes of a simple signature.
    """
    if not content:
        raise InvalidSignature(f"{where}: it is empty, and no signature")
    if content[0] in _OPENPGP:
        return _simple(content, where)
    if content[0] != 0:
        raise InvalidSignature(
            f"{where}: it is no signature of a known format (its first byte is"
            f" 0x{content[0]:02x}; armored and cleartext messages are not supported)"
        )
    name, end, data = content[1 : _LONGEST_NAME + 2].partition(b"\n")
    if not end:
        raise InvalidSignature(f"{where}: the name of its format has no end")
    data = content[len(name) + 2 :]
    match name:
        case b"simple-signing":
            if not data or data[0] not in _OPENPGP:
                raise InvalidSignature(f"{where}: it is no OpenPGP message")
            return _simple(data, where)
        case b"sigstore-json":
            return _sigstore(data, where)
    raise InvalidSignature(f"{where}: it is of the unknown format {name.decode('latin-1')!r}")


def encode_blob(signature: Signature) -> bytes:
    """The bytes that keep `signature` in a file; `decode_blob` reads them.

    Raises Unsupported for a bundle, which has no such form.
    """
    match signature:
        case SimpleSignature():
            return signature.blob
        case SigstoreSignature():
            value = {
                "mimeType": signature.media_type,
                "payload": base64.b64encode(signature.payload).decode("ascii"),
                "annotations": dict(sorted(signature.annotations.items())),
            }
            return b"\0sigstore-json\n" + strict_json.dumps(value)
    raise Unsupported(
        "a sigstore bundle cannot be kept in a file beside an image",
        hint="it belongs into a registry, or into an OCI layout as a referrer",
    )


def _simple(content: bytes, where: str) -> SimpleSignature:
    if len(content) > PAYLOAD_LIMIT:
        raise LimitExceeded(where, PAYLOAD_LIMIT)
    return SimpleSignature(blob=content, where=where)


def _sigstore(data: bytes, where: str) -> SigstoreSignature:
    """The JSON form; base64 is a third longer than what it holds."""
    try:
        value = strict_json.loads_object(data, where, limit=2 * PAYLOAD_LIMIT)
    except InvalidJSON as e:
        raise InvalidSignature(e.message) from e
    unknown = value.keys() - _FIELDS
    if unknown:
        raise InvalidSignature(f"{where}: it has the unknown field {min(unknown)[:60]!r}")
    media_type, payload = value.get("mimeType"), value.get("payload")
    if not isinstance(media_type, str) or not isinstance(payload, str):
        raise InvalidSignature(f"{where}: its mimeType and payload are not both texts")
    try:
        decoded = base64.b64decode(payload.encode("ascii"), validate=True)
    except ValueError as e:
        raise InvalidSignature(f"{where}: its payload is not base64") from e
    if len(decoded) > PAYLOAD_LIMIT:
        raise LimitExceeded(where, PAYLOAD_LIMIT)
    return SigstoreSignature(
        payload=decoded,
        annotations=_annotations(value.get("annotations"), where),
        media_type=media_type,
        where=where,
    )


def _annotations(value: Any, where: str) -> Mapping[str, str]:
    if value is None:
        return MappingProxyType({})
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise InvalidSignature(f"{where}: its annotations are not an object of texts")
    return MappingProxyType(value)

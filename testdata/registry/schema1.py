"""Builds a signed Docker image manifest of version 2, schema 1, from plain arithmetic.

The signature is a JSON web signature in the "pretty" form: the manifest stays readable and the
signature is folded in before its closing brace. RS256 is used because PKCS #1 v1.5 signatures
are the same every time, which the test data must be.
"""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

# The gzip member that Docker writes for a tar archive without entries (1,024 zero bytes).
EMPTY_GZIP_LAYER = bytes.fromhex("1f8b080000096e8800ff621805a360148c5800080000ffff2eafb5ef00040000")
# DER of the DigestInfo that precedes a sha256 in PKCS #1 v1.5 (RFC 8017, section 9.2, note 1).
SHA256_DIGEST_INFO = bytes.fromhex("3031300d060960864801650304020105000420")
# DER of the AlgorithmIdentifier rsaEncryption (RFC 3279, section 2.3.1).
RSA_ALGORITHM = bytes.fromhex("300d06092a864886f70d0101010500")


def unpadded(data: bytes) -> str:
    """base64url without padding, as in JOSE."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def number(text: str) -> int:
    """An integer from a JWK."""
    return int.from_bytes(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)), "big")


def der(tag: int, content: bytes) -> bytes:
    """One DER value."""
    size = len(content)
    if size < 0x80:
        return bytes([tag, size]) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + content


def der_integer(value: int) -> bytes:
    """A DER INTEGER that is not negative."""
    return der(0x02, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def key_id(key: dict[str, str]) -> str:
    """libtrust's key id: 240 bits of the sha256 of the public key, base32 in groups of four."""
    public = der(0x30, der_integer(number(key["n"])) + der_integer(number(key["e"])))
    info = der(0x30, RSA_ALGORITHM + der(0x03, b"\0" + public))
    text = base64.b32encode(hashlib.sha256(info).digest()[:30]).decode()
    return ":".join(text[i : i + 4] for i in range(0, len(text), 4))


def rs256(key: dict[str, str], message: bytes) -> bytes:
    """The PKCS #1 v1.5 signature over the sha256 of `message`."""
    modulus = number(key["n"])
    size = (modulus.bit_length() + 7) // 8
    info = SHA256_DIGEST_INFO + hashlib.sha256(message).digest()
    padded = b"\x00\x01" + b"\xff" * (size - len(info) - 3) + b"\x00" + info
    return pow(int.from_bytes(padded, "big"), number(key["d"]), modulus).to_bytes(size, "big")


def history(layers: list[bytes], created: str) -> list[dict[str, str]]:
    """The v1 configurations, newest first; each names its parent by an id it makes up."""
    entries: list[dict[str, str]] = []
    parent = ""
    for layer in reversed(layers):
        empty = layer == EMPTY_GZIP_LAYER
        v1: dict[str, Any] = {"created": created, "container_config": {"Cmd": ["made by hand"]}}
        v1 |= {"parent": parent} if parent else {}
        v1 |= {"throwaway": True} if empty else {}
        if len(entries) == len(layers) - 1:
            v1 |= {"architecture": "amd64", "os": "linux", "config": {"Env": ["PATH=/usr/bin"]}}
        parent = hashlib.sha256(parent.encode() + layer).hexdigest()
        compact = json.dumps({"id": parent, **v1}, separators=(",", ":"))
        entries.insert(0, {"v1Compatibility": compact})
    return entries


def signed_schema1(
    layers: list[bytes], key: dict[str, str], *, created: str
) -> tuple[bytes, bytes]:
    """The manifest of `layers` (newest first) as served, and the payload that its digest covers."""
    manifest = {
        "schemaVersion": 1,
        "name": "test/schema1",
        "tag": "latest",
        "architecture": "amd64",
        "fsLayers": [
            {"blobSum": "sha256:" + hashlib.sha256(layer).hexdigest()} for layer in layers
        ],
        "history": history(layers, created),
    }
    payload = json.dumps(manifest, indent=3).encode()
    tail = b"\n}"
    head = payload.removesuffix(tail)
    protected = unpadded(
        json.dumps(
            {"formatLength": len(head), "formatTail": unpadded(tail), "time": created},
            separators=(",", ":"),
        ).encode()
    )
    jwk = {"e": key["e"], "kid": key_id(key), "kty": "RSA", "n": key["n"]}
    signature = {
        "header": {"jwk": jwk, "alg": "RS256"},
        "signature": unpadded(rs256(key, f"{protected}.{unpadded(payload)}".encode())),
        "protected": protected,
    }
    block = json.dumps([signature], indent=3).replace("\n", "\n   ")
    return head + b',\n   "signatures": ' + block.encode() + tail, payload

"""Changes bytes, texts and JSON at random. Pure but for the random source, the caller's."""

from __future__ import annotations

import base64
import binascii
import copy
import json
from random import Random
from typing import Any

_BYTES = (
    b"", b"\0", b"\n", b"\r\n", b" ", b"\t", b"\xff", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"}", b"{",
    b"[", b"]", b'"', b",", b":", b"\\u0000", b"\\ud800", b"NaN", b"1e400", b"0" * 300, b"[" * 200,
    b"-----BEGIN CERTIFICATE-----\n", b"-----END CERTIFICATE-----\n", b"\x30\x80", b"\x30\x84",
    b"\xa3\x01", b"\x90\x0d", b"\xc2", b"\x00sigstore-json\n", b"\x00simple-signing\n", b"=",
)  # fmt: skip
_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**53, 2**63, 10**40, 0.5, -0.0, "", " ", "x", [], {}, [[]],
    [None], [{}], {"": ""}, {"type": "reject"}, "\ud800", "\x1b[2J\r\n", "sha256:" + "0" * 64,
    "sha256:" + "f" * 63, "sha512:" + "a" * 128, "a" * 5000, "../../../etc/passwd", "*", ".*",
    "cosign container image signature", "atomic container signature", "host/app", "host/app:v1",
    "https://sigstore.dev/cosign/sign/v1", "application/vnd.in-toto+json", "SHA2_256", "dsse",
    "hashedrekord", "0.0.1", "0.0.2", "application/vnd.dev.sigstore.bundle.v0.3+json", "sigstore",
    "application/vnd.dev.sigstore.bundle+json;version=0.1", "matchRepository", "anyIdentity",
    "sigstoreSigned", "signedBy", "signed", "anyOf", "GPGKeys", "9999-12-31T23:59:59Z",
)  # fmt: skip
_KEYS = (
    "critical", "Critical", "optional", "type", "image", "identity", "docker-reference", "subject",
    "docker-manifest-digest", "timestamp", "creator", "predicateType", "_type", "digest", "name",
    "annotations", "payload", "payloadType", "signatures", "sig", "verificationMaterial", "hint",
    "publicKey", "certificate", "x509CertificateChain", "tlogEntries", "messageSignature", "data",
    "integratedTime", "SignedEntryTimestamp", "Payload", "body", "logIndex", "logID", "keyPath",
    "keyData", "keyDatas", "fulcio", "pki", "signedIdentity", "default", "transports", "docker",
    "alternatives", "formats", "keys", "keyless", "notBefore", "notAfter", "layers", "mediaType",
    "size", "urls", "lookaside", "sigstore", "use-sigstore-attachments", "", "\u0000",
)  # fmt: skip


def changed_bytes(content: bytes, random: Random) -> bytes:
    """One to three changes of bytes."""
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        content = _one(content, random)
    return content


def changed_text(text: str, random: Random) -> str:
    """A change of a text, or of what it holds in base64."""
    if random.random() < 0.5:
        try:
            raw = base64.b64decode(text, validate=True)
        except (ValueError, binascii.Error):
            raw = b""
        if raw:
            return base64.b64encode(_inside(raw, random)).decode()
    if text and random.random() < 0.2:
        at = random.randrange(len(text))
        return text[:at] + text[at].swapcase() + text[at + 1 :]
    return changed_bytes(text.encode("utf-8", "surrogatepass"), random).decode("utf-8", "replace")


def changed_json(content: bytes, random: Random) -> bytes:
    """One to three changes of a document: of its values, its keys, or its bytes."""
    if random.random() < 0.15:
        return changed_bytes(content, random)
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return changed_bytes(content, random)
    value = copy.deepcopy(value)
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        value = _value(value, random)
    if random.random() < 0.1:
        return _written(value, random).encode("utf-8", "surrogatepass")
    separators = random.choice(((",", ":"), (", ", ": ")))
    ascii_only = random.random() < 0.5
    text = json.dumps(value, separators=separators, ensure_ascii=ascii_only)
    return text.encode("utf-8", "surrogatepass")


def _inside(raw: bytes, random: Random) -> bytes:
    """What base64 held, changed: as JSON where it is that."""
    return changed_json(raw, random) if raw[:1] == b"{" else changed_bytes(raw, random)


def _one(content: bytes, random: Random) -> bytes:
    at = random.randrange(len(content) + 1)
    end = min(len(content), at + random.choice((1, 1, 2, 4, 16, 64)))
    match random.randrange(9):
        case 0:
            return content[:at] + content[end:]
        case 1:
            return content[:at] + random.choice(_BYTES) + content[at:]
        case 2:
            return content[:at] + random.choice(_BYTES) + content[end:]
        case 3:
            return content[:at] + content[at:end] + content[at:]
        case 4:
            return content[:at]
        case 5:
            return content + content[at:end]
        case 6:
            start = random.randrange(len(content) + 1)
            return content[:at] + content[start : start + end - at] + content[end:]
    if not content:
        return bytes([random.randrange(256)])
    at = min(at, len(content) - 1)
    byte = (
        content[at] ^ (1 << random.randrange(8)) if random.random() < 0.7 else random.randrange(256)
    )
    return content[:at] + bytes([byte]) + content[at + 1 :]


def _value(value: Any, random: Random) -> Any:
    """The value with one place of it changed."""
    if isinstance(value, dict) and value and random.random() < 0.85:
        key = random.choice(list(value))
        if random.random() < 0.75:
            return {**value, key: _value(value[key], random)}
        return _entry(value, key, random)
    if isinstance(value, list) and value and random.random() < 0.85:
        at = random.randrange(len(value))
        match random.randrange(6):
            case 0:
                return value[:at] + value[at + 1 :]
            case 1:
                return value + [value[at]] * random.choice((1, 2, 200))
            case 2:
                return [random.choice(_VALUES), *value]
        return [*value[:at], _value(value[at], random), *value[at + 1 :]]
    if isinstance(value, str) and random.random() < 0.75:
        return changed_text(value, random)
    if isinstance(value, int) and not isinstance(value, bool) and random.random() < 0.6:
        return value + random.choice((-1, 1, 2**32, -(2**40), 10**9))
    return random.choice(_VALUES)


def _entry(value: dict[str, Any], key: str, random: Random) -> dict[str, Any]:
    rest = {name: item for name, item in value.items() if name != key}
    match random.randrange(4):
        case 0:
            return rest
        case 1:
            return {**rest, random.choice(_KEYS): value[key]}
        case 2:
            return {**value, random.choice(_KEYS): random.choice(_VALUES)}
    return {**rest, key.swapcase() if random.random() < 0.5 else f"{key} ": value[key]}


def _written(value: Any, random: Random) -> str:
    """JSON with a key twice somewhere, or keys in escapes."""
    if isinstance(value, dict) and value:
        members = [f"{_key(key, random)}:{_written(item, random)}" for key, item in value.items()]
        if random.random() < 0.3:
            twice = random.choice(list(value))
            again = json.dumps(random.choice((value[twice], *_VALUES[:20])))
            members.insert(random.randrange(len(members) + 1), f"{_key(twice, random)}:{again}")
        return f"{{{','.join(members)}}}"
    if isinstance(value, list):
        return f"[{','.join(_written(item, random) for item in value)}]"
    return json.dumps(value)


def _key(key: str, random: Random) -> str:
    if key and random.random() < 0.2:
        return f'"\\u{ord(key[0]):04x}{json.dumps(key[1:])[1:]}' if ord(key[0]) < 65536 else '"x"'
    return json.dumps(key)

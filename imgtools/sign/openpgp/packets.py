"""A signed OpenPGP message taken apart, before GnuPG sees it (RFC 4880 sections 4, 5, 11.3).

GnuPG takes many sequences of packets for signed data, and tells them apart in words that are
easily misread. So only one form is let through, which is what it writes itself: one-pass
signature, literal data, signature, all of them in at most one compressed packet, and nothing
else. What the signature is worth is not decided here.
"""

from __future__ import annotations

import bz2
import zlib
from collections.abc import Iterator
from typing import Protocol

from imgtools.errors import InvalidSignature
from imgtools.frozen import dataclass
from imgtools.sign.model import PAYLOAD_LIMIT

_SIGNATURE, _ONE_PASS, _COMPRESSED, _LITERAL = 2, 4, 8, 11
_NAMES = {
    1: "encrypted data",
    2: "a signature",
    3: "encrypted data",
    4: "a one-pass signature",
    5: "a secret key",
    6: "a public key",
    8: "compressed data",
    9: "encrypted data",
    10: "a marker",
    11: "literal data",
    18: "encrypted data",
    20: "encrypted data",
}
_DIGESTS = {8: "SHA256", 9: "SHA384", 10: "SHA512", 11: "SHA224"}
"""Digests that a signature may be of; collisions of MD5, SHA-1 and RIPEMD-160 are in reach."""

_BINARY = 0
_PACKETS_OVERHEAD = 64 * 1024
"""Bytes that packets may have around the payload: headers, and a signature with its notes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedMessage:
    """What a message says, none of it proved: `payload` is the literal data, `key_id` (16
    upper-case hex digits) whose signature it claims to have, `digest` the name of its hash."""

    payload: bytes
    key_id: str
    digest: str


@dataclass(frozen=True, slots=True)
class _Packet:
    tag: int
    body: bytes


def read_message(blob: bytes, what: str) -> SignedMessage:
    """The parts of the one form of signed message that is let through; `what` names it.

    Raises InvalidSignature for all else: two signatures, detached, armored or cleartext ones,
    encrypted data, a literal alone, anything behind the message, more than PAYLOAD_LIMIT
    bytes of payload.
    """
    try:
        return _read(blob)
    except _Malformed as e:
        raise InvalidSignature(f"{what}: it is no OpenPGP message of one signature: {e}") from e


class _Malformed(Exception):
    pass


def _read(blob: bytes) -> SignedMessage:
    if len(blob) > PAYLOAD_LIMIT:
        raise _Malformed(f"it has more than {PAYLOAD_LIMIT} bytes")
    packets = list(_packets(blob))
    if len(packets) == 1 and packets[0].tag == _COMPRESSED:
        packets = list(_packets(_expanded(packets[0].body)))
    found = ", ".join(_NAMES.get(packet.tag, f"a packet {packet.tag}") for packet in packets[:6])
    if [packet.tag for packet in packets] != [_ONE_PASS, _LITERAL, _SIGNATURE]:
        raise _Malformed(
            f"expected a one-pass signature, literal data and a signature, found {found}"
        )
    algorithms, key_id = _one_pass(packets[0].body)
    if _signature_algorithms(packets[2].body) != algorithms:
        raise _Malformed("its signature is not of the algorithms that were announced")
    digest = _DIGESTS.get(algorithms[0])
    if digest is None:
        raise _Malformed(f"its digest algorithm {algorithms[0]} is not trusted (use SHA-256)")
    return SignedMessage(payload=_literal(packets[1].body), key_id=key_id, digest=digest)


def _packets(data: bytes) -> Iterator[_Packet]:
    """The packets that `data` consists of, to its last byte."""
    at = 0
    while at < len(data):
        header = data[at]
        if not header & 0x80:
            raise _Malformed(f"no packet begins with the byte 0x{header:02x}")
        if header & 0x40:
            tag = header & 0x3F
            body, at = _new_body(data, at + 1, tag)
        else:
            tag = (header >> 2) & 0x0F
            body, at = _old_body(data, at + 1, header & 3, tag)
        yield _Packet(tag, body)


def _old_body(data: bytes, at: int, kind: int, tag: int) -> tuple[bytes, int]:
    """RFC 4880 section 4.2.1."""
    if kind == 3:
        if tag not in (_COMPRESSED, _LITERAL):
            raise _Malformed(f"a packet {tag} has no length")
        return data[at:], len(data)
    width = 1 << kind
    length = int.from_bytes(_taken(data, at, width))
    return _taken(data, at + width, length), at + width + length


def _new_body(data: bytes, at: int, tag: int) -> tuple[bytes, int]:
    """RFC 4880 section 4.2.2; parts are for data only, the first of at least 512 bytes."""
    parts: list[bytes] = []
    while True:
        first = _taken(data, at, 1)[0]
        if not 224 <= first < 255:
            break
        length = 1 << (first & 0x1F)
        if tag not in (_COMPRESSED, _LITERAL) or (not parts and length < 512):
            raise _Malformed(f"a packet {tag} comes in parts")
        parts.append(_taken(data, at + 1, length))
        at += 1 + length
    if first < 192:
        length, at = first, at + 1
    elif first < 224:
        length, at = ((first - 192) << 8) + _taken(data, at + 1, 1)[0] + 192, at + 2
    else:
        length, at = int.from_bytes(_taken(data, at + 1, 4)), at + 5
    parts.append(_taken(data, at, length))
    return b"".join(parts), at + length


def _taken(data: bytes, at: int, count: int) -> bytes:
    part = data[at : at + count]
    if len(part) != count:
        raise _Malformed("it is cut short")
    return part


class _Decompressor(Protocol):
    """What zlib's and bz2's have in common."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


def _expanded(body: bytes) -> bytes:
    """What a compressed packet holds (section 5.6), bounded and to the last byte."""
    decompressor: _Decompressor
    match _taken(body, 0, 1)[0]:
        case 1:
            decompressor = zlib.decompressobj(-15)
        case 2:
            decompressor = zlib.decompressobj()
        case 3:
            decompressor = bz2.BZ2Decompressor()
        case number:
            raise _Malformed(f"it is compressed by the unknown algorithm {number}")
    limit = PAYLOAD_LIMIT + _PACKETS_OVERHEAD
    try:
        data = decompressor.decompress(body[1:], limit + 1)
    except (zlib.error, OSError) as e:
        raise _Malformed(f"it cannot be decompressed: {e}") from e
    if len(data) > limit:
        raise _Malformed(f"it has more than {limit} bytes when it is decompressed")
    if not decompressor.eof:
        raise _Malformed("it is cut short")
    if decompressor.unused_data:
        raise _Malformed("something comes behind the compressed data")
    return data


def _one_pass(body: bytes) -> tuple[tuple[int, int], str]:
    """Digest and key algorithm, and the key's id, of a one-pass signature (section 5.4)."""
    if len(body) != 13 or body[0] != 3:
        raise _Malformed("its one-pass signature is of an unknown version")
    if body[1] != _BINARY:
        raise _Malformed(f"its signature is of the type 0x{body[1]:02x} and not of binary data")
    if body[12] != 1:
        raise _Malformed("it announces another signature")
    return (body[2], body[3]), body[4:12].hex().upper()


def _signature_algorithms(body: bytes) -> tuple[int, int]:
    """Digest and key algorithm of a signature (sections 5.2.2 and 5.2.3, LibrePGP for 5)."""
    match _taken(body, 0, 1)[0]:
        case 3:
            head = _taken(body, 0, 19)
            kind, algorithms = head[2], (head[16], head[15])
        case 4 | 5:
            head = _taken(body, 0, 4)
            kind, algorithms = head[1], (head[3], head[2])
        case number:
            raise _Malformed(f"its signature is of the unknown version {number}")
    if kind != _BINARY:
        raise _Malformed(f"its signature is of the type 0x{kind:02x} and not of binary data")
    return algorithms


def _literal(body: bytes) -> bytes:
    """The data of a literal packet (section 5.9): mode, name, date, data.

    The name is not signed, and GnuPG repeats it among what it reports.
    """
    if _taken(body, 0, 1) != b"b":
        raise _Malformed("its data is not marked as binary")
    length = _taken(body, 1, 1)[0]
    name = _taken(body, 2, length)
    if not all(0x20 <= byte < 0x7F for byte in name):
        raise _Malformed("the name of its data has control or other special characters")
    _taken(body, 2 + length, 4)
    data = body[6 + length :]
    if len(data) > PAYLOAD_LIMIT:
        raise _Malformed(f"its payload has more than {PAYLOAD_LIMIT} bytes")
    return data

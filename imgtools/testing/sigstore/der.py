"""A few lines of DER: what signed certificate timestamps and RFC 3161 need to be written.

ITU-T X.690: lengths are definite and minimal, the members of a SET OF are in the order of their
encodings.
"""

from __future__ import annotations

from datetime import datetime

NULL = b"\x05\x00"
SHA256 = "2.16.840.1.101.3.4.2.1"
ECDSA_SHA256 = "1.2.840.10045.4.3.2"


def tlv(tag: int, content: bytes) -> bytes:
    """One element: tag, length, content."""
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + content


def sequence(*parts: bytes) -> bytes:
    """SEQUENCE of encoded parts."""
    return tlv(0x30, b"".join(parts))


def set_of(*parts: bytes) -> bytes:
    """SET OF, sorted."""
    return tlv(0x31, b"".join(sorted(parts)))


def explicit(number: int, content: bytes) -> bytes:
    """[number], constructed: an explicit tag, or an implicit one of a constructed type."""
    return tlv(0xA0 | number, content)


def integer(value: int) -> bytes:
    """INTEGER, two's complement."""
    return tlv(0x02, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))


def octets(value: bytes) -> bytes:
    """OCTET STRING."""
    return tlv(0x04, value)


def utf8(value: str) -> bytes:
    """UTF8String."""
    return tlv(0x0C, value.encode())


def generalized_time(value: datetime) -> bytes:
    """GeneralizedTime in whole seconds; `value` is in UTC."""
    return tlv(0x18, value.strftime("%Y%m%d%H%M%SZ").encode())


def oid(dotted: str) -> bytes:
    """OBJECT IDENTIFIER."""
    first, second, *rest = (int(part) for part in dotted.split("."))
    return tlv(0x06, b"".join(_base128(part) for part in (first * 40 + second, *rest)))


def _base128(value: int) -> bytes:
    out = [value & 0x7F]
    while value := value >> 7:
        out.append(0x80 | value & 0x7F)
    return bytes(reversed(out))


def algorithm(dotted: str, *, null: bool = False) -> bytes:
    """AlgorithmIdentifier, with a NULL parameter or none."""
    return sequence(oid(dotted), NULL if null else b"")


def read(data: bytes) -> tuple[int, bytes, bytes]:
    """The first element's tag and content, and what follows it. Raises ValueError."""
    if len(data) < 2:
        raise ValueError("DER ends in the middle of an element")
    tag, size, start = data[0], data[1], 2
    if size & 0x80:
        start += size & 0x7F
        size = int.from_bytes(data[2:start], "big")
    content = data[start : start + size]
    if len(content) != size:
        raise ValueError("DER ends in the middle of an element")
    return tag, content, data[start + size :]

"""Reads from an X.509 certificate what a message about it says: names, dates, who issued it.

Only for telling people why a certificate was refused; whether it is trusted is decided by
OpenSSL. The certificate is a stranger's, so everything is bounded and nothing is believed.
Source: RFC 5280 section 4.1.
"""

from __future__ import annotations

import socket
from datetime import UTC, datetime

from imgtools.frozen import dataclass

_SEQUENCE, _OCTETS, _OID, _UTC_TIME, _TIME = 0x30, 0x04, 0x06, 0x17, 0x18
_COMMON_NAME, _ORGANISATION = b"\x55\x04\x03", b"\x55\x04\x0a"
_ALTERNATIVE_NAMES = b"\x55\x1d\x11"
_MOST_NAMES = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """Who a certificate is for (DNS names and addresses), who signed it, and when it is valid."""

    names: tuple[str, ...]
    subject: str
    issuer: str
    self_signed: bool
    not_before: datetime
    not_after: datetime


def read_certificate(der: bytes) -> Certificate:
    """Read a certificate in DER; raises ValueError for what is none."""
    try:
        return _read(der)
    except (IndexError, StopIteration, RuntimeError, OverflowError) as e:
        raise ValueError("not a certificate") from e


def _read(der: bytes) -> Certificate:
    certificate = _children(_expect(der, _SEQUENCE))
    fields = [field for field in _children(certificate[0][1]) if field[0] != 0xA0]
    issuer, validity, subject = (content for _, content in fields[2:5])
    start, end = (_time(tag, content) for tag, content in _children(validity))
    names: list[str] = []
    for tag, content in fields[6:]:
        if tag == 0xA3:
            names = _alternative_names(content)
    common = _name(subject)
    return Certificate(
        names=tuple(names) or ((common,) if common else ()),
        subject=common,
        issuer=_name(issuer),
        self_signed=issuer == subject,
        not_before=start,
        not_after=end,
    )


def _item(data: bytes, at: int) -> tuple[int, int, int]:
    """Tag, start and end of the content of the element at `at`."""
    tag, length, start = data[at], data[at + 1], at + 2
    if length & 0x80:
        size = length & 0x7F
        if not 0 < size <= 4:
            raise ValueError("a length that DER does not have")
        length = int.from_bytes(data[start : start + size], "big")
        start += size
    if start + length > len(data):
        raise ValueError("an element that is cut off")
    return tag, start, start + length


def _children(data: bytes) -> list[tuple[int, bytes]]:
    found: list[tuple[int, bytes]] = []
    at = 0
    while at < len(data) and len(found) < _MOST_NAMES:
        tag, start, at = _item(data, at)
        found.append((tag, data[start:at]))
    return found


def _expect(data: bytes, wanted: int) -> bytes:
    tag, start, end = _item(data, 0)
    if tag != wanted:
        raise ValueError("not the element that belongs here")
    return data[start:end]


def _name(content: bytes) -> str:
    """The common name, else the organisation."""
    found: dict[bytes, str] = {}
    for _, relative in _children(content):
        for _, pair in _children(relative):
            (_, kind), (tag, value) = _children(pair)[:2]
            encoding = "utf-16-be" if tag == 0x1E else "utf-8"
            found.setdefault(kind, value.decode(encoding, "replace"))
    return found.get(_COMMON_NAME) or found.get(_ORGANISATION) or ""


def _alternative_names(content: bytes) -> list[str]:
    names = []
    for _, extension in _children(_expect(content, _SEQUENCE)):
        parts = _children(extension)
        if parts[0] != (_OID, _ALTERNATIVE_NAMES) or parts[-1][0] != _OCTETS:
            continue
        for tag, value in _children(_expect(parts[-1][1], _SEQUENCE)):
            if tag == 0x82:
                names.append(value.decode("ascii", "replace"))
            elif tag == 0x87 and len(value) in (4, 16):
                family = socket.AF_INET if len(value) == 4 else socket.AF_INET6
                names.append(socket.inet_ntop(family, value))
    return names


def _time(tag: int, content: bytes) -> datetime:
    text = content.decode("ascii")
    if tag == _UTC_TIME:
        # RFC 5280 section 4.1.2.5.1: two digits are of 1950 to 2049.
        text = ("19" if text[:2] >= "50" else "20") + text
    elif tag != _TIME:
        raise ValueError("not a time")
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)

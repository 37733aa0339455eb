"""Certificates out of PEM text (RFC 7468), read strictly: what came with a signature, and roots.

A block that another reader might skip, stop at or read as something else is refused.
"""

from __future__ import annotations

import base64
import binascii
import re

from cryptography import x509

from imgtools.errors import InvalidKey, InvalidSignature

CHAIN_LIMIT = 16
"""Certificates that may come along with a signature."""

_TEXT_LIMIT = 256 * 1024
_BLOCK = re.compile(
    rb"-----BEGIN ([A-Z0-9 ]{1,60})-----[ \t]*\r?\n([A-Za-z0-9+/=\r\n \t]*?)-----END \1-----[ \t]*"
)
_BEGIN = b"-----BEGIN "


def one_block(text: bytes, what: str) -> tuple[str, bytes]:
    """The label and content of the only PEM block in `text`, with nothing around it but the
    end of its last line. Raises InvalidSignature."""
    match = _BLOCK.fullmatch(text.removesuffix(b"\n").removesuffix(b"\r"))
    if match is None or len(text) > _TEXT_LIMIT:
        raise InvalidSignature(f"{what} is not exactly one PEM block")
    return match[1].decode(), _content(match[2], what)


def leaf_certificate(text: bytes, what: str = "the certificate") -> x509.Certificate:
    """The one certificate that signed. Raises InvalidSignature: none, several, or no certificate
    (a bare public key would be trusted by nobody's word)."""
    if len(text) > _TEXT_LIMIT:
        raise InvalidSignature(f"{what} is larger than {_TEXT_LIMIT} bytes")
    found = _blocks(text, what)
    if len(found) != 1:
        raise InvalidSignature(f"{what} is {len(found)} PEM blocks: expected exactly one")
    return found[0]


def issuer_certificates(text: bytes, what: str = "the chain") -> tuple[x509.Certificate, ...]:
    """The certificates that came along, which prove nothing by themselves; none for no text.

    The last one is left out: it stands for the root, and roots are only those that were named
    (containers/image does the same). Raises InvalidSignature.
    """
    if len(text) > _TEXT_LIMIT:
        raise InvalidSignature(f"{what} is larger than {_TEXT_LIMIT} bytes")
    if text.count(_BEGIN) > CHAIN_LIMIT:
        raise InvalidSignature(f"{what} has more than {CHAIN_LIMIT} certificates")
    return _blocks(text, what)[:-1]


def trusted_certificates(text: bytes, what: str) -> tuple[x509.Certificate, ...]:
    """The certificates in a file that somebody trusts, with any text around them.

    Raises InvalidKey unless there is one and each can be read.
    """
    matches = list(_BLOCK.finditer(text))
    if not matches or len(matches) != text.count(_BEGIN):
        raise InvalidKey(f"{what} is not PEM with at least one certificate")
    found = []
    for match in matches:
        if match[1] != b"CERTIFICATE":
            raise InvalidKey(f"{what} has a {match[1].decode()}: expected only certificates")
        try:
            found.append(parse(_content(match[2], what), what))
        except InvalidSignature as e:
            raise InvalidKey(e.message) from e
    return tuple(found)


def parse(der: bytes, what: str) -> x509.Certificate:
    """A certificate whose extensions can all be read. Raises InvalidSignature."""
    try:
        if not _has_positive_serial(der):
            raise InvalidSignature(f"{what} has a serial number that is not positive")
        certificate = x509.load_der_x509_certificate(der)
        # They are parsed when they are first asked for.
        certificate.extensions  # noqa: B018
        certificate.subject, certificate.issuer  # noqa: B018
        if not der.endswith(b"\0" + certificate.signature):
            # Unused bits at the end, which would give one certificate two encodings.
            raise InvalidSignature(f"{what} has a signature of a broken number of bytes")
    except (
        ValueError,
        TypeError,
        x509.InvalidVersion,
        x509.DuplicateExtension,
        x509.UnsupportedGeneralNameType,
    ) as e:
        raise InvalidSignature(f"{what} is no valid X.509 certificate: {e}") from e
    return certificate


def _blocks(text: bytes, what: str) -> tuple[x509.Certificate, ...]:
    """All certificates of a text in which there is nothing else."""
    found, position = [], 0
    text = text.strip()
    while position < len(text):
        match = _BLOCK.match(text, position)
        if match is None:
            raise InvalidSignature(f"{what} has something else than PEM blocks in it")
        if match[1] != b"CERTIFICATE":
            raise InvalidSignature(f"{what} is a {match[1].decode()}: expected a CERTIFICATE")
        found.append(parse(_content(match[2], what), what))
        position = match.end()
        while text[position : position + 1].isspace():
            position += 1
    return tuple(found)


def _content(encoded: bytes, what: str) -> bytes:
    try:
        return base64.b64decode(b"".join(encoded.split()), validate=True)
    except binascii.Error as e:
        raise InvalidSignature(f"{what} is PEM that is not base64") from e


def _has_positive_serial(der: bytes) -> bool:
    """Whether the serial number (RFC 5280 section 4.1.2.2) is positive.

    Parsers disagree about the others, and cryptography prints a warning about them.
    """
    tbs = _enter(_enter(der))
    if tbs[:1] == b"\xa0":
        tbs = tbs[2 + tbs[1] :]
    size = tbs[1] if len(tbs) > 2 else 0
    serial = tbs[2 : 2 + size]
    return (
        tbs[:1] == b"\x02"
        and size < 0x80
        and bool(serial)
        and int.from_bytes(serial) > 0
        and (serial[0] < 0x80)
    )


def _enter(der: bytes) -> bytes:
    """What follows the tag and the length of the first element."""
    if len(der) < 2:
        return b""
    return der[2 + (der[1] & 0x7F if der[1] & 0x80 else 0) :]

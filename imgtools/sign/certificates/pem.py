"""Certificates out of PEM text (RFC 7468), read strictly: what came with a signature, and roots.

A block that another reader might skip, stop at or read as something else is refused.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator

from cryptography import x509

from imgtools.errors import InvalidKey, InvalidSignature

CHAIN_LIMIT = 16
"""Certificates that may come along with a signature."""

_TEXT_LIMIT = 256 * 1024
_BLOCK = re.compile(
    rb"-----BEGIN ([A-Z0-9 ]{1,60})-----[ \t]*\r?\n([A-Za-z0-9+/=\r\n \t]*?)-----END \1-----[ \t]*"
)
_BEGIN = b"-----BEGIN "
_INTEGER = 0x02
_SERIAL_FIELD = 0x82  # authorityCertSerialNumber [2]
# The identifier of the extension, and whether it is critical, if that is said.
_KEY_IDENTIFIER = re.compile(rb"\x06\x03\x55\x1d\x23(?:\x01\x01.)?", re.DOTALL)


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
        if not _has_positive_serials(der):
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


def _has_positive_serials(der: bytes) -> bool:
    """Whether serial numbers are positive (RFC 5280 section 4.1.2.2), the certificate's own
    and the one that its authority key identifier may have.

    Parsers disagree about others, and cryptography prints a warning for them.
    """
    numbers = []
    tbs = next((content for _, content in _elements(next(_elements(der), (0, b""))[1])), b"")
    numbers += [content for tag, content in _elements(tbs) if tag == _INTEGER][:1]
    for match in _KEY_IDENTIFIER.finditer(der):
        _, value = next(_elements(der[match.end() :]), (0, b""))
        _, fields = next(_elements(value), (0, b""))
        numbers += [content for tag, content in _elements(fields) if tag == _SERIAL_FIELD]
    return bool(numbers) and all(int.from_bytes(each, signed=True) > 0 for each in numbers)


def _elements(der: bytes) -> Iterator[tuple[int, bytes]]:
    """Tags and contents of the elements in `der`, up to one that is malformed."""
    while len(der) >= 2:
        tag, size, start = der[0], der[1], 2
        if size & 0x80:
            start += size & 0x7F
            size = int.from_bytes(der[2:start])
        content = der[start : start + size]
        if len(content) != size:
            return
        yield tag, content
        der = der[start + size :]

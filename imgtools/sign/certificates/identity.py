"""Whom a certificate is about: alternative names, the token's issuer, and who is wanted.

Matching is of text and needs no certificate at hand. An e-mail address counts only where it is
one: the same text as a URI or a host name is somebody else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from imgtools.errors import InvalidInput, InvalidSignature
from imgtools.frozen import dataclass
from imgtools.sign.policies.model import CertificateIdentity
from imgtools.spec.regular import RegularExpression

if TYPE_CHECKING:
    from cryptography import x509

NameKind = Literal["email", "uri", "dns", "ip", "other"]

ISSUER = "1.3.6.1.4.1.57264.1.1"
ISSUER_V2 = "1.3.6.1.4.1.57264.1.8"
_FULCIO_ARC = "1.3.6.1.4.1.57264.1."
_USERNAME = "1.3.6.1.4.1.57264.1.7"
# Extensions 1.1 to 1.6 are bare text; later ones are DER UTF8Strings (fulcio, oid-info.md).
_BARE = frozenset(f"{_FULCIO_ARC}{number}" for number in range(1, 7))
_NAME_LIMIT = 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class AlternativeName:
    """One subject alternative name; "other" is the user name of Fulcio."""

    kind: NameKind
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Identified:
    """What a certificate says: its names, who vouched for them ("" for nobody), and Fulcio's
    other extensions, by OID."""

    names: tuple[AlternativeName, ...]
    issuer: str = ""
    extensions: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


def identified(certificate: x509.Certificate) -> Identified:
    """What `certificate` says. Raises InvalidSignature for names or extensions that are
    malformed, and for two issuers that differ."""
    values = _fulcio_values(certificate)
    first, second = values.get(ISSUER), values.get(ISSUER_V2)
    if first is not None and second is not None and first != second:
        raise InvalidSignature(
            f"the certificate names two token issuers, {first[:200]!r} and {second[:200]!r}"
        )
    return Identified(
        names=_names(certificate),
        issuer=first or second or "",
        extensions=MappingProxyType(values),
    )


def check_rules(rules: Sequence[CertificateIdentity]) -> None:
    """Raise InvalidInput for a rule that would match anybody, or whose expression is none."""
    for rule in rules:
        for what, exact, expression in (
            ("subject", rule.subject, rule.subject_regexp),
            ("issuer", rule.issuer, rule.issuer_regexp),
        ):
            if bool(exact) == bool(expression):
                raise InvalidInput(
                    f"a certificate's {what} is wanted by its text or by a regular expression, "
                    "exactly one of them"
                )
            RegularExpression(expression)


def match(
    found: Identified,
    rules: Sequence[CertificateIdentity],
    *,
    kinds: frozenset[NameKind] = frozenset(("email", "uri", "dns", "ip", "other")),
) -> AlternativeName:
    """The name of `found` that one of `rules` wants, names of other `kinds` not counting.

    Text is compared exactly, case included; a regular expression has to match all of it.
    Raises InvalidSignature with what is wanted and what is there.
    """
    if not found.issuer:
        raise InvalidSignature("the certificate does not say who issued the token it was made for")
    for rule in rules:
        if not _matches(found.issuer, rule.issuer, rule.issuer_regexp):
            continue
        for name in found.names:
            if name.kind in kinds and _matches(name.value, rule.subject, rule.subject_regexp):
                return name
    wanted = "; ".join(
        f"{rule.subject or rule.subject_regexp} (issuer {rule.issuer or rule.issuer_regexp})"
        for rule in rules
    )
    raise InvalidSignature(
        f"the certificate is of {described(found)} (issuer {found.issuer[:200]}), not of {wanted}"
    )


def described(found: Identified) -> str:
    """The names of a certificate, for people."""
    names = [f"{name.kind} {name.value[:200]}" for name in found.names[:8]]
    return ", ".join(names) or "nobody"


def _matches(value: str, exact: str, expression: str) -> bool:
    if expression:
        return RegularExpression(expression).matches(value)
    return value == exact != ""


def _names(certificate: x509.Certificate) -> tuple[AlternativeName, ...]:
    from cryptography import x509

    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    found: list[AlternativeName] = []
    for name in names:
        if isinstance(name, x509.RFC822Name):
            found.append(_name("email", name.value))
        elif isinstance(name, x509.UniformResourceIdentifier):
            found.append(_name("uri", name.value))
        elif isinstance(name, x509.DNSName):
            found.append(_name("dns", name.value))
        elif isinstance(name, x509.IPAddress):
            found.append(_name("ip", str(name.value)))
        elif isinstance(name, x509.OtherName) and name.type_id.dotted_string == _USERNAME:
            found.append(_name("other", _utf8_string(name.value, "the user name")))
    return tuple(found)


def _name(kind: NameKind, value: str) -> AlternativeName:
    """A name that can be compared and shown: one line, of a bounded length."""
    if len(value) > _NAME_LIMIT or not value.isprintable():
        raise InvalidSignature("the certificate has a name that is too long or no line of text")
    return AlternativeName(kind=kind, value=value)


def _fulcio_values(certificate: x509.Certificate) -> dict[str, str]:
    from cryptography import x509

    values = {}
    for extension in certificate.extensions:
        oid = extension.oid.dotted_string
        if not oid.startswith(_FULCIO_ARC) or not isinstance(
            extension.value, x509.UnrecognizedExtension
        ):
            continue
        raw = extension.value.value
        text = _text(raw, oid) if oid in _BARE else _utf8_string(raw, f"the extension {oid}")
        if oid in (ISSUER, ISSUER_V2) and (
            not text or len(text) > _NAME_LIMIT or not text.isprintable()
        ):
            raise InvalidSignature("the certificate's token issuer is no line of text")
        values[oid] = text
    return values


def _text(raw: bytes, oid: str) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as e:
        raise InvalidSignature(f"the certificate's extension {oid} is not UTF-8") from e


def _utf8_string(der: bytes, what: str) -> str:
    """A DER UTF8String and nothing after it."""
    problem = f"the certificate's {what.removeprefix('the ')} is no DER UTF8String"
    if len(der) < 2 or der[0] != 0x0C:
        raise InvalidSignature(problem)
    size, start = der[1], 2
    if size & 0x80:
        start += size & 0x7F
        size = int.from_bytes(der[2:start])
        minimal = size.to_bytes(max(1, (size.bit_length() + 7) // 8))
        if size < 0x80 or minimal != der[2:start]:
            raise InvalidSignature(problem)
    if len(der) != start + size:
        raise InvalidSignature(problem)
    try:
        return der[start:].decode()
    except UnicodeDecodeError as e:
        raise InvalidSignature(problem) from e

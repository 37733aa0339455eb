"""Who signatures say they are by: words of whoever wrote them, none of it proved.

For lists that people look at. What cannot be read says nothing, and is no error: who wants to
know whether a signature holds verifies it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from imgtools.errors import InvalidSignature
from imgtools.sign.bundles.model import Bundle
from imgtools.sign.checks import CERTIFICATE_ANNOTATION
from imgtools.sign.model import BundleSignature, Signature, SigstoreSignature, SimpleSignature

if TYPE_CHECKING:
    from cryptography import x509

NOTATION_THUMBPRINTS = "io.cncf.notary.x509chain.thumbprint#S256"
_LONGEST = 400


def claimed(signature: Signature) -> str:
    """Who says that they made a signature, "" where it does not say."""
    try:
        match signature:
            case SimpleSignature(blob=blob):
                from imgtools.sign.openpgp.packets import read_message

                return f"GPG key {read_message(blob, 'the signature').key_id}"
            case SigstoreSignature(annotations=annotations):
                return claimed_by_layer(annotations.get(CERTIFICATE_ANNOTATION, ""))
            case BundleSignature(content=content):
                from imgtools.sign.bundles.parse import parse_bundle

                return claimed_by_bundle(parse_bundle(content))
    except InvalidSignature:
        return ""


def claimed_by_layer(certificate: str) -> str:
    """Of a layer of an attachment with this certificate (PEM, "" for none)."""
    from imgtools.sign.certificates.pem import leaf_certificate

    if not certificate:
        return "a key"
    try:
        return _named(leaf_certificate(certificate.encode("utf-8", "replace")))
    except InvalidSignature:
        return ""


def claimed_by_bundle(bundle: Bundle) -> str:
    """Of a bundle, by its certificate or the hint of its key."""
    from imgtools.sign.certificates.pem import parse

    if not bundle.certificates:
        return f"a key ({bundle.key_hint[:100]})" if bundle.key_hint else "a key"
    try:
        return _named(parse(bundle.certificates[0], "the certificate"))
    except InvalidSignature:
        return ""


def claimed_by_notation(annotations: Mapping[str, str]) -> str:
    """Of Notation's signatures, by the thumbprints of certificates in their annotation."""
    found = annotations.get(NOTATION_THUMBPRINTS, "")
    return f"certificate {found}"[:_LONGEST] if found else ""


def _named(certificate: x509.Certificate) -> str:
    from imgtools.sign.certificates.identity import described, identified

    found = identified(certificate)
    issuer = f" (issuer {found.issuer[:200]})" if found.issuer else ""
    return f"{described(found)}{issuer}"[:_LONGEST]

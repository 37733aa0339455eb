"""Whether a signature says nothing that is not said already, so that signing anew adds none.

Every payload has a time and every ECDSA signature is another one, so that signatures are
compared by what they prove: the same key, the same manifest under the same name, and the same
words of the signer.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from imgtools.errors import InvalidSignature
from imgtools.sign.bundles.parse import parse_bundle
from imgtools.sign.bundles.statement import signature_claim
from imgtools.sign.bundles.verify_key import verify_with_key
from imgtools.sign.model import (
    SIMPLE_SIGNING_LAYER,
    BundleSignature,
    Claim,
    Signature,
    SigstoreSignature,
)
from imgtools.sign.payload import parse_payload
from imgtools.sign.stores.attachment import SIGNATURE_ANNOTATION
from imgtools.sign.stores.attachments import Same

if TYPE_CHECKING:
    from imgtools.sign.keys.public import PublicKey


def repeats(key: PublicKey) -> Same:
    """The comparison for signatures by `key`: true where the one that is there holds and
    proves all that the new one would.

    What proves more (a certificate, a log entry) never repeats what proves less, and a
    signature by anybody else is never the same.
    """

    def same(there: Signature, new: Signature) -> bool:
        try:
            return _proved(there) >= _proved(new) and _key(_claim(there, key)) == _key(
                _claim(new, key)
            )
        except InvalidSignature:
            return False

    return same


def _claim(signature: Signature, key: PublicKey) -> Claim:
    """What a signature by `key` claims; raises InvalidSignature for all others."""
    if isinstance(signature, BundleSignature):
        statement, _ = verify_with_key(parse_bundle(signature.content), (key,))
        return signature_claim(statement)
    if isinstance(signature, SigstoreSignature) and signature.media_type == SIMPLE_SIGNING_LAYER:
        text = signature.annotations.get(SIGNATURE_ANNOTATION, "")
        try:
            raw = base64.b64decode(text, validate=True)
        except ValueError as e:
            raise InvalidSignature("the signature is not base64") from e
        key.verify(raw, signature.payload)
        return parse_payload(signature.payload, kind="sigstore")
    raise InvalidSignature("not a signature with a key of this kind")


def _key(claim: Claim) -> tuple[object, ...]:
    """All of a claim but who made it and when."""
    return claim.digest, claim.reference, dict(claim.annotations)


def _proved(signature: Signature) -> frozenset[str]:
    """What comes with a signature to prove it, beside a key."""
    if isinstance(signature, SigstoreSignature):
        return frozenset(signature.annotations) - {SIGNATURE_ANNOTATION}
    if isinstance(signature, BundleSignature):
        bundle = parse_bundle(signature.content)
        named = (
            ("certificate", bundle.certificates),
            ("entry", bundle.entries),
            ("timestamp", bundle.timestamps),
        )
        return frozenset(name for name, found in named if found)
    return frozenset()

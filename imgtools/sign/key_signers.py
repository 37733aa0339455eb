"""Makes sigstore signatures with a key: cosign's attachment, and the bundle of cosign 3.

Both sign the digest of a manifest together with the name it was signed by; in a bundle the name
is an annotation of ours, since cosign's own bundles name nothing but the digest. Attestations
are bundles too, or envelopes in attachments of their own.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from imgtools.errors import InvalidSignature, Unsupported
from imgtools.sign.checks import SET_ANNOTATION, SIGNATURE_ANNOTATION
from imgtools.sign.model import (
    BundleSignature,
    Claim,
    Format,
    Signature,
    SigstoreSignature,
    Verified,
)
from imgtools.sign.payload import make_payload
from imgtools.sign.protocols import KeySigner
from imgtools.spec.descriptor import Descriptor

if TYPE_CHECKING:
    from imgtools.sign.bundles.make import BundleLog
    from imgtools.sign.bundles.statement import Statement
    from imgtools.sign.checks import KeyTrust

NONE: Mapping[str, str] = MappingProxyType({})
"""No annotations."""

Log = Callable[[bytes, bytes, bytes], str]
"""Enters a payload, its signature and the PEM of key or certificate into a transparency log;
the log's promise, as the text of an attachment's annotation."""


class AttachmentSigner:
    """An ImageSigner of cosign's attachments, by a key; with `log` they are logged too."""

    def __init__(
        self,
        key: KeySigner,
        *,
        creator: str,
        annotations: Mapping[str, str] = NONE,
        log: Log | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`creator` is what signatures say who made them, name and version; `annotations` are
        the signer's own words; `clock` gives seconds since 1970."""
        self._key, self._creator, self._log, self._clock = key, creator, log, clock
        self._annotations = annotations

    @property
    def format(self) -> Format:
        """ "sigstore"."""
        return "sigstore"

    def preflight(self) -> None:
        """Sign something that nobody gets."""
        self._key.sign(b"preflight")

    def sign(self, subject: Descriptor, reference: str) -> SigstoreSignature:
        """See ImageSigner."""
        check_digest(subject)
        at = int(self._clock())
        payload = make_payload(
            "sigstore", subject.digest, reference, self._creator, at, self._annotations
        )
        signature = self._key.sign(payload)
        annotations: Mapping[str, str] = {
            SIGNATURE_ANNOTATION: base64.b64encode(signature).decode()
        }
        if self._log is not None:
            promise = self._log(payload, signature, self._key.public_pem)
            annotations = {**annotations, SET_ANNOTATION: promise}
        return SigstoreSignature(payload=payload, annotations=MappingProxyType(annotations))

    def made(self, signature: Signature) -> Claim | None:
        """See ImageSigner; one that is not in a log is not what a logging signer makes."""
        from imgtools.sign.checks import check_sigstore_key

        if not isinstance(signature, SigstoreSignature):
            return None
        if self._log is not None and SET_ANNOTATION not in signature.annotations:
            return None
        found = _claim(lambda: check_sigstore_key(signature, key_trust(self._key)))
        return saying(found, self._annotations)


class BundleSigner:
    """An ImageSigner of sigstore bundles, by a key; with `log` they are logged too."""

    def __init__(
        self,
        key: KeySigner,
        *,
        annotations: Mapping[str, str] = NONE,
        log: BundleLog | None = None,
    ) -> None:
        """The key stays the caller's; `annotations` are the signer's own words in signatures of
        images. `log` enters a bundle by a key into a log, and gives it with what proves that."""
        self._key, self._annotations, self._log = key, annotations, log

    @property
    def format(self) -> Format:
        """ "bundle"."""
        return "bundle"

    def preflight(self) -> None:
        """Sign something that nobody gets."""
        self._key.sign(b"preflight")

    def sign(self, subject: Descriptor, reference: str) -> BundleSignature:
        """See ImageSigner."""
        from imgtools.sign.bundles.make import make_statement

        check_digest(subject)
        return self.seal(
            make_statement(subject.digest, reference=reference, annotations=self._annotations)
        )

    def seal(self, statement: bytes) -> BundleSignature:
        """See StatementSigner."""
        from imgtools.sign.bundles.make import make_key_bundle

        return BundleSignature(content=make_key_bundle(statement, self._key, log=self._log))

    def made(self, signature: Signature) -> Claim | None:
        """See ImageSigner; one that is not in a log is not what a logging signer makes."""
        from imgtools.sign.bundle_checks import check_bundle_key
        from imgtools.sign.bundles.parse import parse_bundle

        if not isinstance(signature, BundleSignature):
            return None
        found = _claim(lambda: check_bundle_key(signature, key_trust(self._key)))
        found = saying(found, self._annotations)
        if self._log is None or found is None:
            return found
        return found if parse_bundle(signature.content).entries else None

    def sealed(self, signature: Signature) -> Statement | None:
        """See StatementSigner; one that is not in a log is not what a logging signer makes."""
        from imgtools.sign.bundles.parse import parse_bundle
        from imgtools.sign.bundles.verify_key import verify_with_key

        if not isinstance(signature, BundleSignature):
            return None
        try:
            bundle = parse_bundle(signature.content)
            statement, _ = verify_with_key(bundle, key_trust(self._key).keys)
        except InvalidSignature:
            return None
        return statement if self._log is None or bundle.entries else None


class EnvelopeSigner:
    """A StatementSigner of bare envelopes, as cosign 2 attached them, by a key."""

    def __init__(self, key: KeySigner) -> None:
        """The key stays the caller's."""
        self._key = key

    @property
    def format(self) -> Format:
        """ "sigstore": a layer of an attachment."""
        return "sigstore"

    def preflight(self) -> None:
        """Sign something that nobody gets."""
        self._key.sign(b"preflight")

    def seal(self, statement: bytes) -> SigstoreSignature:
        """See StatementSigner."""
        from imgtools.sign.bundles.make import make_envelope
        from imgtools.sign.bundles.statement import parse_statement
        from imgtools.sign.stores.attachment import attestation_layer

        kind = parse_statement(statement).predicate_type
        layer = attestation_layer(make_envelope(statement, self._key), kind)
        return SigstoreSignature(
            payload=layer.content, annotations=layer.annotations, media_type=layer.media_type
        )

    def sealed(self, signature: Signature) -> Statement | None:
        """See StatementSigner."""
        from imgtools.sign.bundle_checks import attached_envelope
        from imgtools.sign.bundles.verify_key import verify_envelope_with_key

        if not isinstance(signature, SigstoreSignature):
            return None
        try:
            envelope = attached_envelope(signature)
            return verify_envelope_with_key(envelope, key_trust(self._key).keys)[0]
        except InvalidSignature:
            return None


def saying(claim: Claim | None, annotations: Mapping[str, str]) -> Claim | None:
    """The claim if it has these annotations among its own."""
    if claim is None or not annotations.items() <= claim.annotations.items():
        return None
    return claim


def key_trust(key: KeySigner) -> KeyTrust:
    """What is by this key alone."""
    from imgtools.sign.checks import KeyTrust
    from imgtools.sign.keys.public import load_public_key

    return KeyTrust(keys=(load_public_key(key.public_pem, "the public key of the signer"),))


def check_digest(subject: Descriptor) -> None:
    """Raise Unsupported for a manifest that no signature can name."""
    if subject.digest.algorithm != "sha256":
        raise Unsupported(f"{subject.digest} cannot be signed: signatures name manifests by sha256")


def _claim(check: Callable[[], Verified]) -> Claim | None:
    try:
        return check().claim
    except InvalidSignature:
        return None

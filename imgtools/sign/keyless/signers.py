"""Makes sigstore signatures whose key lives for minutes: attachments, and bundles.

Everything that services answer is verified before it becomes part of a signature, so that
nothing is put anywhere that verifiers would refuse. What the same name of the same token issuer
has signed before counts as made by this signer: the keys of the two differ, but nobody who
verifies asks for a key.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType

from imgtools.errors import InvalidInput, InvalidSignature
from imgtools.sign.bundles.dsse import IN_TOTO, pre_authentication
from imgtools.sign.bundles.make import make_statement
from imgtools.sign.bundles.model import Bundle, Envelope, LogEntry
from imgtools.sign.bundles.statement import Statement
from imgtools.sign.checks import (
    CERTIFICATE_ANNOTATION,
    CHAIN_ANNOTATION,
    SET_ANNOTATION,
    SIGNATURE_ANNOTATION,
)
from imgtools.sign.key_signers import NONE, check_digest, saying
from imgtools.sign.keyless.certified import Certified, Certifier
from imgtools.sign.keyless.services import Services
from imgtools.sign.keyless.web import Web
from imgtools.sign.model import (
    BUNDLE_MEDIA_TYPE,
    BundleSignature,
    Claim,
    Format,
    Signature,
    SigstoreSignature,
)
from imgtools.sign.payload import make_payload
from imgtools.spec.descriptor import Descriptor


class KeylessAttachmentSigner:
    """An ImageSigner of cosign's attachments, with a certificate and the promise of a log."""

    def __init__(
        self,
        services: Services,
        certifier: Certifier,
        web: Web,
        *,
        creator: str,
        annotations: Mapping[str, str] = NONE,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`creator` is what signatures say who made them, name and version; `annotations` are
        the signer's own words; `clock` gives seconds since 1970. Raises Unsupported for services
        without a log that promises."""
        self._services, self._certifier, self._web = services, certifier, web
        self._log = services.promising_log().url
        self._creator, self._annotations, self._clock = creator, annotations, clock

    @property
    def format(self) -> Format:
        """ "sigstore"."""
        return "sigstore"

    def preflight(self) -> None:
        """Get the certificate, and see whether the log answers."""
        from imgtools.sign.keyless.rekor import check_log

        self._certifier.certified()
        check_log(self._web, self._log)

    def sign(self, subject: Descriptor, reference: str) -> SigstoreSignature:
        """See ImageSigner. Raises InvalidSignature for answers that do not hold."""
        from imgtools.sign.keyless.rekor import annotation, check_promise, log_signature

        check_digest(subject)
        certified = self._certifier.certified()
        at = int(self._clock())
        payload = make_payload(
            "sigstore", subject.digest, reference, self._creator, at, self._annotations
        )
        signature = certified.sign(payload)
        try:
            pem = certified.leaf_pem
            entry = log_signature(self._web, self._log, payload, signature, pem)
            promise = annotation(entry)
            check_promise(promise, self._services.root, payload, signature, pem)
        except InvalidSignature as e:
            e.with_context(f"Rekor ({self._log})")
            raise
        made = SigstoreSignature(
            payload=payload,
            annotations=MappingProxyType(
                {
                    SIGNATURE_ANNOTATION: base64.b64encode(signature).decode(),
                    CERTIFICATE_ANNOTATION: pem.decode(),
                    CHAIN_ANNOTATION: certified.chain_pem.decode(),
                    SET_ANNOTATION: promise,
                }
            ),
        )
        if self._services.root is not None:
            self._check(made, self._services.root, certified)
        return made

    def made(self, signature: Signature) -> Claim | None:
        """See ImageSigner: what holds under the trusted root and is of the same name and token
        issuer. Without a root nothing is known to be."""
        root = self._services.root
        if root is None or not isinstance(signature, SigstoreSignature):
            return None
        try:
            found = self._check(signature, root, self._certifier.certified())
        except InvalidSignature:
            return None
        return saying(found, self._annotations)

    def _check(self, signature: SigstoreSignature, root: bytes, certified: Certified) -> Claim:
        from imgtools.sign.bundle_checks import KeylessCheck, check_sigstore_keyless

        trust = KeylessCheck(root=root, identities=(certified.identity,))
        return check_sigstore_keyless(signature, trust).claim


class KeylessBundleSigner:
    """An ImageSigner of sigstore bundles, with a certificate, a log entry and timestamps."""

    def __init__(
        self,
        services: Services,
        certifier: Certifier,
        web: Web,
        *,
        annotations: Mapping[str, str] = NONE,
    ) -> None:
        """`annotations` are the signer's own words in signatures of images. Raises Unsupported
        for services without a log, InvalidInput for those that give no time, and without a
        trusted root, which is what bundles are verified with."""
        if services.root is None:
            raise InvalidInput(
                "bundles are made only under a trusted root, against which they are verified",
                hint="name it with --trusted-root or --trust-config",
            )
        self._services, self._certifier, self._web = services, certifier, web
        self._annotations = annotations
        self._root, self._log = services.root, services.bundle_log()

    @property
    def format(self) -> Format:
        """ "bundle"."""
        return "bundle"

    def preflight(self) -> None:
        """Get the certificate, and see whether a log of the first version answers."""
        from imgtools.sign.keyless.rekor import check_log

        self._certifier.certified()
        if self._log.version == 1:
            check_log(self._web, self._log.url)

    def sign(self, subject: Descriptor, reference: str) -> BundleSignature:
        """See ImageSigner. Raises InvalidSignature for answers that do not hold."""
        check_digest(subject)
        return self.seal(
            make_statement(subject.digest, reference=reference, annotations=self._annotations)
        )

    def seal(self, statement: bytes) -> BundleSignature:
        """See StatementSigner. Raises InvalidSignature for answers that do not hold."""
        from imgtools.sign.bundles.verify_certificate import verify_with_certificate
        from imgtools.sign.bundles.write import write_bundle
        from imgtools.sign.keyless.timestamps import request_timestamp

        certified = self._certifier.certified()
        signature = certified.sign(pre_authentication(IN_TOTO, statement))
        envelope = Envelope(payload_type=IN_TOTO, payload=statement, signatures=(signature,))
        stamps = [request_timestamp(self._web, url, signature) for url in self._services.timestamps]
        try:
            bundle = Bundle(
                media_type=BUNDLE_MEDIA_TYPE,
                version=(0, 3),
                certificates=(certified.leaf_der,),
                entries=(self._logged(envelope, certified),),
                timestamps=tuple(stamps),
                envelope=envelope,
            )
            verify_with_certificate(bundle, self._root, (certified.identity,))
        except InvalidSignature as e:
            e.with_context(f"Rekor ({self._log.url})" if not stamps else "the new bundle")
            raise
        return BundleSignature(content=write_bundle(bundle))

    def made(self, signature: Signature) -> Claim | None:
        """See ImageSigner: what holds under the trusted root and is of the same name and token
        issuer."""
        from imgtools.sign.bundle_checks import KeylessCheck, check_bundle_keyless

        if not isinstance(signature, BundleSignature):
            return None
        identity = self._certifier.certified().identity
        trust = KeylessCheck(root=self._root, identities=(identity,))
        try:
            return saying(check_bundle_keyless(signature, trust).claim, self._annotations)
        except InvalidSignature:
            return None

    def sealed(self, signature: Signature) -> Statement | None:
        """See StatementSigner: what holds under the trusted root and is of the same name and
        token issuer."""
        from imgtools.sign.bundles.parse import parse_bundle
        from imgtools.sign.bundles.verify_certificate import verify_with_certificate

        if not isinstance(signature, BundleSignature):
            return None
        identities = (self._certifier.certified().identity,)
        try:
            bundle = parse_bundle(signature.content)
            return verify_with_certificate(bundle, self._root, identities)[0]
        except InvalidSignature:
            return None

    def _logged(self, envelope: Envelope, certified: Certified) -> LogEntry:
        from imgtools.sign.keyless.rekor import (
            log_envelope,
            log_message,
            verifier_of_certificate,
        )

        if self._log.version == 1:
            return log_envelope(self._web, self._log.url, envelope, certified.leaf_pem)
        message = pre_authentication(envelope.payload_type, envelope.payload)
        signature = envelope.signatures[0]
        verifier = verifier_of_certificate(certified.leaf_der)
        return log_message(self._web, self._log.url, message, signature, verifier)

"""By a key: attachments and bundles changed after they were signed, and before."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from random import Random
from typing import Any

from imgtools.sign.bundles.dsse import pre_authentication
from imgtools.sign.bundles.make import make_statement
from imgtools.sign.bundles.parse import parse_bundle
from imgtools.sign.checks import SIGNATURE_ANNOTATION
from imgtools.sign.model import SIMPLE_SIGNING_LAYER, BundleSignature, SigstoreSignature
from imgtools.sign.policies.companion import parse_companion
from imgtools.sign.stores.attachment import attachment_manifest, check_sizes
from imgtools.spec import media_type as mt
from imgtools.spec.digest import Digest
from imgtools.spec.manifest import RawManifest
from tests.sign.fuzz.kit import (
    OTHER_DIGEST,
    OTHER_NAME,
    SIGN_TYPE,
    Ledger,
    Target,
    accepted,
    says_it_is,
    states_it_is,
)
from tests.sign.fuzz.mutate import changed_bytes, changed_json, changed_text
from tests.sign.judging import DIGEST, NAME, Signer, policy, verdict

IN_TOTO = "application/vnd.in-toto+json"


def targets() -> dict[str, Target]:
    """By what is changed."""
    ledger = Ledger()
    return {
        "attachment": Attachments(ledger),
        "payload": Payloads(ledger),
        "manifest": Manifests(ledger),
        "bundle": Bundles(ledger),
        "statement": Statements(ledger),
    }


class Attachments:
    """Layers changed after they were signed."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger, self.trust = ledger, policy(ledger.signer.requirement())
        signer = ledger.signer
        self.payloads = [
            signer.payload(),
            signer.payload(DIGEST, OTHER_NAME),
            signer.payload(OTHER_DIGEST, NAME),
            signer.payload().replace(b"cosign container image", b"atomic container"),
        ]
        self.layers = [layer(payload, ledger.text(payload)) for payload in self.payloads]
        other = Signer()
        self.layers.append(other.attachment())

    def one(self, random: Random) -> bool:
        """See Target."""
        bases = [self.layers[0], random.choice(self.layers)]
        found = [self._changed(base, random) for base in bases]
        return judged(self, found)

    def _changed(self, found: SigstoreSignature, random: Random) -> SigstoreSignature:
        annotations = dict(found.annotations)
        match random.randrange(6):
            case 0 | 1:
                return replace(found, payload=changed_bytes(found.payload, random))
            case 2:
                return replace(found, payload=changed_json(found.payload, random))
            case 3:
                text = changed_text(annotations[SIGNATURE_ANNOTATION], random)
                return replace(found, annotations={SIGNATURE_ANNOTATION: text})
            case 4:
                other = random.choice(self.layers)
                return replace(found, payload=other.payload)
        kind = changed_text(found.media_type, random)
        return replace(found, media_type=kind, annotations={**annotations, "x": "y"})


def layer(payload: bytes, text: str) -> SigstoreSignature:
    """A layer of an attachment."""
    return SigstoreSignature(payload=payload, annotations={SIGNATURE_ANNOTATION: text})


def judged(target: Any, found: list[SigstoreSignature]) -> bool:
    """Whether layers are admitted, which they deserve when the ledger has one of them."""
    admitted = False
    for verified in accepted(verdict(target.trust, found)):
        signature = verified.signature
        assert isinstance(signature, SigstoreSignature)
        assert signature.payload in target.ledger.signed, signature
        assert signature.media_type == SIMPLE_SIGNING_LAYER, signature
        assert says_it_is(signature.payload), signature
        admitted = True
    return admitted


class Payloads:
    """Payloads that are signed after they were changed: what is signed may still be refused."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger, self.trust = ledger, policy(ledger.signer.requirement())

    def one(self, random: Random) -> bool:
        """See Target."""
        payload = changed_json(self.ledger.signer.payload(), random)
        return judged(self, [layer(payload, self.ledger.text(payload))])


class Manifests:
    """The image at a `.sig` tag changed; its layers are what the registry has by their digests."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger, self.trust = ledger, policy(ledger.signer.requirement())
        payloads = [
            ledger.signer.payload(),
            ledger.signer.payload(OTHER_DIGEST, NAME),
            Signer().payload() + b" ",
        ]
        self.blobs = {Digest.of(payload): payload for payload in payloads}
        texts = [
            ledger.text(payloads[0]),
            ledger.text(payloads[1]),
            Signer().raw(payloads[2]).hex(),
        ]
        config = {"mediaType": mt.OCI_CONFIG, "digest": str(Digest.of(b"{}")), "size": 2}
        layers = [
            {
                "mediaType": SIMPLE_SIGNING_LAYER,
                "digest": str(Digest.of(payload)),
                "size": len(payload),
                "annotations": {SIGNATURE_ANNOTATION: text},
            }
            for payload, text in zip(payloads, texts, strict=True)
        ]
        value = {"schemaVersion": 2, "mediaType": mt.OCI_MANIFEST, "config": config}
        self.content = json.dumps({**value, "layers": layers}).encode()

    def one(self, random: Random) -> bool:
        """See Target."""
        content = changed_json(self.content, random)
        kind = random.choice((mt.OCI_MANIFEST, mt.OCI_MANIFEST, mt.OCI_MANIFEST, mt.OCI_INDEX, ""))
        manifest = attachment_manifest(RawManifest.of(content, kind))
        check_sizes(manifest.layers, "sig")
        found = [
            SigstoreSignature(
                payload=self.blobs[item.digest],
                annotations=item.annotations,
                media_type=item.media_type,
            )
            for item in manifest.layers
            if item.digest in self.blobs
        ]
        return judged(self, found)


class Bundles:
    """Bundles by a key, changed after they were signed."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        key = {"keyData": base64.b64encode(ledger.signer.pem).decode()}
        requirement = {"type": "signed", "keys": [key]}
        content = json.dumps({"default": [requirement]}).encode()
        self.trust = parse_companion(content)
        self.statements = [
            make_statement(DIGEST, reference=NAME),
            make_statement(DIGEST, reference=OTHER_NAME),
            make_statement(DIGEST),
            make_statement(OTHER_DIGEST, reference=NAME),
            make_statement(DIGEST, reference=NAME).replace(
                SIGN_TYPE.encode(), b"https://slsa.dev/provenance/v1"
            ),
        ]
        self.bundles = [self.bundle(statement) for statement in self.statements]

    def bundle(self, statement: bytes, kind: str = IN_TOTO) -> bytes:
        """A signed statement."""
        signature = self.ledger.text(pre_authentication(kind, statement))
        envelope = {
            "payload": base64.b64encode(statement).decode(),
            "payloadType": kind,
            "signatures": [{"sig": signature}],
        }
        return json.dumps(
            {
                "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
                "verificationMaterial": {"publicKey": {"hint": ""}},
                "dsseEnvelope": envelope,
            }
        ).encode()

    def one(self, random: Random) -> bool:
        """See Target."""
        base = random.choice((self.bundles[0], random.choice(self.bundles)))
        return self.judged(changed_json(base, random))

    def judged(self, content: bytes) -> bool:
        """Whether a bundle is admitted, which it deserves when the ledger has it."""
        admitted = False
        for verified in accepted(verdict(self.trust, [BundleSignature(content=content)])):
            assert isinstance(verified.signature, BundleSignature)
            envelope = parse_bundle(verified.signature.content).envelope
            assert envelope is not None
            message = pre_authentication(IN_TOTO, envelope.payload)
            assert message in self.ledger.signed, content
            assert states_it_is(envelope.payload), content
            admitted = True
        return admitted


class Statements(Bundles):
    """Statements, and their types, that are signed after they were changed."""

    def one(self, random: Random) -> bool:
        """See Target."""
        base = random.choice((self.statements[0], random.choice(self.statements)))
        statement = changed_json(base, random)
        kind = IN_TOTO if random.random() < 0.9 else changed_text(IN_TOTO, random)
        return self.judged(self.bundle(statement, kind))

"""Policies and images for tests of verdicts: one key, one image, and the judgement of both."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from imgtools.sign.checks import SIGNATURE_ANNOTATION
from imgtools.sign.model import SIMPLE_SIGNING_LAYER, Signature, SigstoreSignature
from imgtools.sign.payload import make_payload
from imgtools.sign.policies.evaluate import Subject, Verdict, judge
from imgtools.sign.policies.model import Chosen, Policy
from imgtools.sign.policies.parse import parse_policy
from imgtools.sign.policies.scopes import choose
from imgtools.spec.digest import Digest
from imgtools.spec.reference import ImageName, Reference
from tests.sign.key_makers import public_pem

NAME = "registry.example/ns/app:v1"
DIGEST = Digest.of(b"a manifest")


@dataclass(frozen=True)
class Signer:
    """A P-256 key, which signs whatever it is given."""

    key: ec.EllipticCurvePrivateKey = field(
        default_factory=lambda: ec.generate_private_key(ec.SECP256R1())
    )

    @property
    def pem(self) -> bytes:
        """The public key."""
        return public_pem(self.key)

    def raw(self, content: bytes) -> bytes:
        """A signature, DER."""
        return self.key.sign(content, ec.ECDSA(hashes.SHA256()))

    def payload(self, digest: Digest = DIGEST, name: str = NAME) -> bytes:
        """What is signed of an image."""
        return make_payload("sigstore", digest, name, "test 1", 1_700_000_000)

    def attachment(
        self, payload: bytes | None = None, *, text: str | None = None, **more: Any
    ) -> SigstoreSignature:
        """A layer with its signature, or with `text` in its place."""
        content = self.payload() if payload is None else payload
        made = base64.b64encode(self.raw(content)).decode() if text is None else text
        return attachment(content, made, **more)

    def requirement(self, **more: Any) -> dict[str, Any]:
        """sigstoreSigned by this key."""
        data = base64.b64encode(self.pem).decode()
        return {"type": "sigstoreSigned", "keyData": data, **more}


def attachment(
    payload: bytes, text: str, *, media_type: str = SIMPLE_SIGNING_LAYER, **annotations: str
) -> SigstoreSignature:
    """A layer with the text of a signature."""
    return SigstoreSignature(
        payload=payload,
        annotations={SIGNATURE_ANNOTATION: text, **annotations},
        media_type=media_type,
    )


def policy(*requirements: dict[str, Any], **more: Any) -> Policy:
    """policy.json with these requirements for everything."""
    return parse_policy(json.dumps({"default": list(requirements), **more}).encode())


def chosen(found: Policy, name: str = NAME) -> Chosen:
    """What an image in a registry has to meet."""
    return choose(found, ImageName(transport="docker", rest=f"//{name}"))


def verdict(
    found: Policy,
    signatures: Sequence[Signature],
    *,
    digest: Digest = DIGEST,
    name: str = NAME,
    every: bool = False,
    now: datetime | None = None,
) -> Verdict:
    """The verdict about an image in a registry that has these signatures."""
    return judge(
        chosen(found, name),
        Subject(digest=digest, reference=Reference.parse(name)),
        lambda kind: [item for item in signatures if item.format == kind],
        every=every,
        now=now or datetime.now(UTC),
    )

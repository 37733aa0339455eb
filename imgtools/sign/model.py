"""Signatures as they are found and written, and what verifying them says.

A signature is data with the place it came from; whether it holds is decided elsewhere, and
only ever against keys that the caller or a policy names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from datetime import datetime
from types import MappingProxyType
from typing import Literal

from imgtools.frozen import dataclass
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest

PAYLOAD_LIMIT = 4 * 1024 * 1024
"""Bytes of a payload, of an OpenPGP message, of a bundle: c/image's limit of a signature."""

ATTESTATION_LIMIT = 8 * PAYLOAD_LIMIT
"""Bytes of a bundle or an envelope with an attestation: bills of materials are large."""

SIGNATURES_LIMIT = 128
"""Signatures read of one manifest, by format and place."""

TOTAL_LIMIT = 8 * PAYLOAD_LIMIT
"""Bytes of all signatures of one manifest together, by format and place."""

ATTESTATIONS_TOTAL = 2 * ATTESTATION_LIMIT
"""The same for attestations."""

SIMPLE_SIGNING_LAYER = "application/vnd.dev.cosign.simplesigning.v1+json"
"""The media type of the layers of an attachment that are signatures."""

BUNDLE_MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
"""Of the bundles that we write; 0.1 and 0.2 are read too."""

Format = Literal["simple", "sigstore", "bundle"]
"""GPG simple signing, cosign's attachment, sigstore bundle."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SimpleSignature:
    """GPG simple signing: one binary OpenPGP message. `where` names its place for people."""

    blob: bytes
    where: str = ""

    @property
    def format(self) -> Format:
        """Always "simple"."""
        return "simple"


@dataclass(frozen=True, slots=True, kw_only=True)
class SigstoreSignature:
    """A layer of cosign's attachment: `payload` is its blob, whose size and digest were
    verified; what proves it (signature, certificate, log entry) is in `annotations`."""

    payload: bytes
    annotations: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    media_type: str = SIMPLE_SIGNING_LAYER
    where: str = ""

    @property
    def format(self) -> Format:
        """Always "sigstore"."""
        return "sigstore"


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleSignature:
    """A sigstore bundle as received; `referrer` is the manifest that carries it, None for one
    that was never in a registry."""

    content: bytes
    referrer: Descriptor | None = None
    where: str = ""

    @property
    def format(self) -> Format:
        """Always "bundle"."""
        return "bundle"


Signature = SimpleSignature | SigstoreSignature | BundleSignature


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """Who signed, as far as it was proved.

    `key` is the SHA-256 of a public key's SPKI or an OpenPGP primary fingerprint, `subject`
    and `issuer` are of a certificate, `time` is a time that a log or an authority vouches for.
    """

    kind: Literal["key", "gpg", "certificate"]
    key: str = ""
    subject: str = ""
    issuer: str = ""
    time: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What a signature that holds says: this manifest, by this name.

    `reference` is the docker-reference that was signed, "" where the format names none; then
    it matches only who asks for no identity in so many words. `creator` and `timestamp`
    (seconds) are what the signer says of itself and prove nothing. `annotations` are the
    signer's own.
    """

    digest: Digest
    reference: str = ""
    creator: str = ""
    timestamp: int | None = None
    annotations: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """A signature that holds: what it claims and who made it."""

    signature: Signature
    claim: Claim
    proof: Proof

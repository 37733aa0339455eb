"""A trust policy as data: requirements, and which of them an image has to meet.

The requirement types are those of containers-policy.json(5), and those of our own companion
file, which skopeo and podman would refuse to read. Key material is named, not loaded: a file
is read when an image is judged, and one that cannot be used rejects that image.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from datetime import datetime
from types import MappingProxyType

from imgtools.frozen import dataclass
from imgtools.sign.identity import IdentityRule, MatchRepoDigestOrExact


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """Keys or certificates: the files `paths`, or else the contents `data`. `field` is the
    policy's own name of it, for messages."""

    field: str
    paths: tuple[str, ...] = ()
    data: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptAnything:
    """insecureAcceptAnything: always met, and never by a signature."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reject:
    """reject: never met."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedBy:
    """signedBy: a simple signature by a key of `keys`; `key_type` other than GPGKeys is read
    and never met, as in containers/image."""

    key_type: str
    keys: Material
    identity: IdentityRule = field(default_factory=MatchRepoDigestOrExact)


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedBaseLayer:
    """signedBaseLayer: read, and never met, as in containers/image."""

    identity: IdentityRule


@dataclass(frozen=True, slots=True, kw_only=True)
class FulcioTrust:
    """Short-lived certificates: roots, the issuer and the e-mail address they must have."""

    roots: Material
    oidc_issuer: str
    subject_email: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PkiTrust:
    """Certificates of an own authority; of `email` and `hostname` those given must hold."""

    roots: Material
    intermediates: Material | None = None
    email: str = ""
    hostname: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SigstoreSigned:
    """sigstoreSigned: an attachment signature by a key, or under a certificate; `rekor` keys
    ask for a log entry too."""

    trust: Material | FulcioTrust | PkiTrust
    rekor: Material | None = None
    identity: IdentityRule = field(default_factory=MatchRepoDigestOrExact)


@dataclass(frozen=True, slots=True, kw_only=True)
class AnyIdentity:
    """anyIdentity (companion): whatever name was signed, or none; only the digest counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TimedKey:
    """A key of a rotation (companion): it counts from `not_before` until `not_after`."""

    key: Material
    not_before: datetime | None = None
    not_after: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateIdentity:
    """Who a certificate must be of (companion): `subject` of any kind of alternative name and
    `issuer`, each exact, or a regular expression that matches the whole."""

    subject: str = ""
    subject_regexp: str = ""
    issuer: str = ""
    issuer_regexp: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeylessTrust:
    """Certificates of a sigstore whose trusted_root.json is `root` (companion); one of
    `identities` must be the certificate's."""

    root: Material
    identities: tuple[CertificateIdentity, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """signed (companion): a signature in one of `formats` ("sigstore", "bundle") by one of
    rotating keys or under a certificate; what a key signed has to be in a log of the
    trusted_root.json `log`, where there is one. `annotations` are words of the signer's that it
    has to have."""

    formats: frozenset[str]
    trust: tuple[TimedKey, ...] | KeylessTrust
    log: Material | None = None
    annotations: tuple[tuple[str, str], ...] = ()
    identity: IdentityRule | AnyIdentity = field(default_factory=MatchRepoDigestOrExact)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attested:
    """attested (companion): a statement of `predicate_type` about the image; the rest is as in
    `Signed`."""

    predicate_type: str
    trust: tuple[TimedKey, ...] | KeylessTrust
    log: Material | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AnyOf:
    """anyOf (companion): met when one of the lists is, each of which is met as a whole."""

    alternatives: tuple[tuple[Requirement, ...], ...]


Requirement = (
    AcceptAnything
    | Reject
    | SignedBy
    | SignedBaseLayer
    | SigstoreSigned
    | Signed
    | Attested
    | AnyOf
)

NAMES: Mapping[type, str] = MappingProxyType(
    {
        AcceptAnything: "insecureAcceptAnything",
        Reject: "reject",
        SignedBy: "signedBy",
        SignedBaseLayer: "signedBaseLayer",
        SigstoreSigned: "sigstoreSigned",
        Signed: "signed",
        Attested: "attested",
        AnyOf: "anyOf",
    }
)
"""What the files call the requirements."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The parsed policy.json, or its companion; `origin` names the file, for messages.

    `default` is None in a companion that decides only about some scopes.
    """

    default: tuple[Requirement, ...] | None
    transports: Mapping[str, Mapping[str, tuple[Requirement, ...]]]
    origin: str = "policy"


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """What an image has to meet: every one of `requirements`, which stand in the file
    `origin` under `scope` ("default", or the transport and the scope)."""

    origin: str
    scope: str
    requirements: tuple[Requirement, ...]

    @property
    def where(self) -> str:
        """The place of the requirements, for messages."""
        return f"{self.origin}, scope {self.scope}"

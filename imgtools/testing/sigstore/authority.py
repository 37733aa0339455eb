"""A certificate authority as Fulcio is one: root, intermediate, and leaves of ten minutes.

What a leaf says, rightly or wrongly, is data in `Leaf`: the same authority issues every bad
certificate that a test wants.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from datetime import datetime, timedelta
from typing import Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from imgtools.frozen import dataclass
from imgtools.testing.sigstore import der
from imgtools.testing.sigstore.clock import Clock, system_clock
from imgtools.testing.sigstore.transparency import CertificateLog, timestamp_list

CODE_SIGNING = ExtendedKeyUsageOID.CODE_SIGNING
ISSUER_V1 = "1.3.6.1.4.1.57264.1.1"
ISSUER_V2 = "1.3.6.1.4.1.57264.1.8"
_TIMESTAMPS = x509.ObjectIdentifier("1.3.6.1.4.1.11129.2.4.2")
_BARE = frozenset(f"1.3.6.1.4.1.57264.1.{number}" for number in range(1, 7))
_OTHER_LOG_TIME = timedelta(days=400)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorityOptions:
    """What the authority is like; the defaults are Fulcio's.

    `lifetime` is of root and intermediate, which begin a year before the clock says now.
    `usages` are the intermediate's extended key usages, None for no such extension.
    `key_usage` False leaves key usage out of root and intermediate.
    """

    organization: str = "sigstore.test"
    lifetime: timedelta = timedelta(days=3650)
    usages: tuple[x509.ObjectIdentifier, ...] | None = (CODE_SIGNING,)
    key_usage: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """How a leaf is made; the defaults are Fulcio's.

    `issuer_extensions` says which of the two issuer extensions there are; `issuer_v2` is the
    DER of the second one where it is not to be the issuer. `extensions` are more of Fulcio's
    extensions, by OID. `usages` are the extended key usages, None
    for no such extension. `authority` makes the leaf a certificate authority.
    `timestamps` are of the certificate log: one, none, two, or one that another key signed.
    `signer` is who issues it: "self" needs `own_key`. `critical_names` is whether the subject's
    alternative names are critical; no names at all leave the extension out. `unknown_critical`
    adds a critical extension that nobody knows.
    """

    lifetime: timedelta = timedelta(minutes=10)
    issuer_extensions: Literal["both", "v1", "v2", "none"] = "both"
    issuer_v2: bytes | None = None
    extensions: Mapping[str, str] = field(default_factory=dict)
    usages: tuple[x509.ObjectIdentifier, ...] | None = (CODE_SIGNING,)
    key_usage: bool = True
    authority: bool = False
    timestamps: Literal["one", "none", "two", "foreign"] = "one"
    signer: Literal["intermediate", "root", "self"] = "intermediate"
    own_key: ec.EllipticCurvePrivateKey | None = field(default=None, repr=False)
    subject: x509.Name = x509.Name([])
    critical_names: bool = True
    unknown_critical: bool = False


@dataclass(frozen=True, slots=True)
class Chain:
    """A leaf and who issued it, up to the root."""

    leaf: x509.Certificate
    issuers: tuple[x509.Certificate, ...]

    @property
    def leaf_pem(self) -> bytes:
        """The leaf, PEM."""
        return self.leaf.public_bytes(Encoding.PEM)

    @property
    def chain_pem(self) -> bytes:
        """The issuers, intermediate first and root last, PEM."""
        return b"".join(each.public_bytes(Encoding.PEM) for each in self.issuers)

    @property
    def leaf_der(self) -> bytes:
        """The leaf, DER."""
        return self.leaf.public_bytes(Encoding.DER)


def names(identity: str | Sequence[x509.GeneralName]) -> tuple[x509.GeneralName, ...]:
    """Alternative names of an identity: a URI, an e-mail address or a host name by its looks."""
    if not isinstance(identity, str):
        return tuple(identity)
    if "://" in identity:
        return (x509.UniformResourceIdentifier(identity),)
    if "@" in identity:
        return (x509.RFC822Name(identity),)
    return (x509.DNSName(identity),)


class CertificateAuthority:
    """Issues certificates; `log` signs their timestamps."""

    def __init__(
        self,
        log: CertificateLog | None = None,
        *,
        clock: Clock = system_clock,
        options: AuthorityOptions | None = None,
    ) -> None:
        """Make the keys and certificates of root and intermediate."""
        self.log = log or CertificateLog()
        self.options = options or AuthorityOptions()
        self._clock = clock
        self.start = clock() - timedelta(days=365)
        self.root_key = ec.generate_private_key(ec.SECP384R1())
        self.intermediate_key = ec.generate_private_key(ec.SECP384R1())
        own = self._name("root")
        self.root = self.authority_certificate(
            self.root_key.public_key(), own, own, self.root_key, path_length=1, usages=None
        )
        self.intermediate = self.authority_certificate(
            self.intermediate_key.public_key(),
            self._name("intermediate"),
            own,
            self.root_key,
            path_length=0,
            usages=self.options.usages,
        )

    def authority_certificate(
        self,
        key: CertificatePublicKeyTypes,
        subject: x509.Name,
        issuer: x509.Name,
        issuer_key: ec.EllipticCurvePrivateKey,
        *,
        path_length: int | None,
        usages: Sequence[x509.ObjectIdentifier] | None,
    ) -> x509.Certificate:
        """A certificate of an authority, for longer chains than this one's."""
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(self.start)
            .not_valid_after(self.start + self.options.lifetime)
            .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(_authority_key_identifier(issuer_key), critical=False)
        )
        if self.options.key_usage:
            builder = builder.add_extension(_key_usage(signs_certificates=True), critical=True)
        if usages is not None:
            builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        return builder.sign(issuer_key, hashes.SHA384())

    def issue(
        self,
        identity: str | Sequence[x509.GeneralName],
        issuer: str,
        public_key: CertificatePublicKeyTypes,
        *,
        at: datetime | None = None,
        leaf: Leaf | None = None,
    ) -> Chain:
        """A certificate of `public_key` for `identity`, which `issuer` vouches for.

        It begins `at`, now if that is not given. See `names` for identities.
        """
        leaf = leaf or Leaf()
        at = at or self._clock()
        signer, key, issuers = self._signer(leaf)
        builder = _leaf_builder(leaf, names(identity), issuer, public_key, signer, key, at)
        unlogged = builder.sign(key, hashes.SHA384())
        stamps = self._stamps(leaf, unlogged.tbs_certificate_bytes, key, at)
        if not stamps:
            return Chain(unlogged, issuers)
        value = der.octets(timestamp_list(*stamps))
        extension = x509.UnrecognizedExtension(_TIMESTAMPS, value)
        return Chain(builder.add_extension(extension, False).sign(key, hashes.SHA384()), issuers)

    def _name(self, role: str) -> x509.Name:
        organization = self.options.organization
        return x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization),
                x509.NameAttribute(NameOID.COMMON_NAME, f"{organization} {role}"),
            ]
        )

    def _signer(
        self, leaf: Leaf
    ) -> tuple[x509.Name, ec.EllipticCurvePrivateKey, tuple[x509.Certificate, ...]]:
        """Name and key of the leaf's issuer, and the certificates above the leaf."""
        if leaf.signer == "self":
            if leaf.own_key is None:
                raise ValueError("a certificate that signs itself needs its own key")
            return leaf.subject, leaf.own_key, ()
        if leaf.signer == "root":
            return self.root.subject, self.root_key, (self.root,)
        return self.intermediate.subject, self.intermediate_key, (self.intermediate, self.root)

    def _stamps(
        self, leaf: Leaf, tbs: bytes, key: ec.EllipticCurvePrivateKey, at: datetime
    ) -> tuple[bytes, ...]:
        spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        if leaf.timestamps == "none":
            return ()
        if leaf.timestamps == "foreign":
            return (CertificateLog().timestamp(tbs, spki, at),)
        first = self.log.timestamp(tbs, spki, at)
        if leaf.timestamps == "one":
            return (first,)
        return first, self.log.timestamp(tbs, spki, at + _OTHER_LOG_TIME)


def _leaf_builder(
    leaf: Leaf,
    identity: tuple[x509.GeneralName, ...],
    issuer: str,
    public_key: CertificatePublicKeyTypes,
    signer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    at: datetime,
) -> x509.CertificateBuilder:
    """The certificate without its timestamps."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(leaf.subject)
        .issuer_name(signer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(at)
        .not_valid_after(at + leaf.lifetime)
    )
    if leaf.authority:
        basic = x509.BasicConstraints(ca=True, path_length=None)
        builder = builder.add_extension(basic, critical=True)
    if leaf.key_usage:
        usage = _key_usage(signs_certificates=leaf.authority)
        builder = builder.add_extension(usage, critical=True)
    if leaf.usages is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage(leaf.usages), critical=False)
    builder = builder.add_extension(
        x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False
    ).add_extension(_authority_key_identifier(key), critical=False)
    if identity:
        builder = builder.add_extension(
            x509.SubjectAlternativeName(identity), critical=leaf.critical_names
        )
    for dotted, value in _fulcio_extensions(leaf, issuer):
        extension = x509.UnrecognizedExtension(x509.ObjectIdentifier(dotted), value)
        builder = builder.add_extension(extension, critical=False)
    if leaf.unknown_critical:
        unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.57264.99"), b"\5\0")
        builder = builder.add_extension(unknown, critical=True)
    return builder


def _fulcio_extensions(leaf: Leaf, issuer: str) -> list[tuple[str, bytes]]:
    """Extensions of arc 1.3.6.1.4.1.57264.1: the first six have bare text, the others DER."""
    found = []
    if leaf.issuer_extensions in ("both", "v1"):
        found.append((ISSUER_V1, issuer.encode()))
    if leaf.issuer_extensions in ("both", "v2"):
        value = leaf.issuer_v2 if leaf.issuer_v2 is not None else der.utf8(issuer)
        found.append((ISSUER_V2, value))
    for dotted, text in leaf.extensions.items():
        found.append((dotted, text.encode() if dotted in _BARE else der.utf8(text)))
    return found


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _authority_key_identifier(key: ec.EllipticCurvePrivateKey) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())

"""A timestamp authority (RFC 3161) that writes its tokens itself.

A token is CMS signed data (RFC 5652) over a TSTInfo, with the ESS certificate hash that
RFC 5816 asks for.
"""

from __future__ import annotations

import hashlib
import secrets
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from imgtools.frozen import dataclass
from imgtools.testing.sigstore import der
from imgtools.testing.sigstore.clock import Clock, system_clock

_SIGNED_DATA = "1.2.840.113549.1.7.2"
_TST_INFO = "1.2.840.113549.1.9.16.1.4"
_CONTENT_TYPE = "1.2.840.113549.1.9.3"
_MESSAGE_DIGEST = "1.2.840.113549.1.9.4"
_SIGNING_CERTIFICATE_V2 = "1.2.840.113549.1.9.16.2.47"
_POLICY = "1.3.6.1.4.1.57264.2"


@dataclass(frozen=True, slots=True)
class TimestampRequest:
    """What a client asks for: the digest (SHA-256), and a number to be repeated, if any."""

    digest: bytes
    nonce: int | None = None
    certificate: bool = False


class TimestampAuthority:
    """Makes timestamps; `chain` is its certificate and its root."""

    def __init__(
        self,
        *,
        clock: Clock = system_clock,
        lifetime: timedelta = timedelta(days=3650),
        usage: x509.ObjectIdentifier = ExtendedKeyUsageOID.TIME_STAMPING,
    ) -> None:
        """Certificates begin a year ago and live as long as `lifetime`."""
        self._clock = clock
        self.start = clock() - timedelta(days=365)
        self.end = self.start + lifetime
        self.key = ec.generate_private_key(ec.SECP256R1())
        root_key = ec.generate_private_key(ec.SECP256R1())
        root_name = _name("timestamp root")
        root = (
            self._builder(root_name, root_name, root_key, root_key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(signs_certificates=True), critical=True)
            .sign(root_key, hashes.SHA256())
        )
        own = (
            self._builder(_name("timestamps"), root_name, self.key, root_key)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=True)
            .sign(root_key, hashes.SHA256())
        )
        self.chain = (own, root)

    def timestamp(
        self,
        message: bytes,
        *,
        at: datetime | None = None,
        nonce: int | None = None,
        certificate: bool = True,
    ) -> bytes:
        """The TimeStampResp, DER, that says that `message` was there at that time."""
        request = TimestampRequest(hashlib.sha256(message).digest(), nonce, certificate)
        return self.answer(request, at=at)

    def answer(self, request: TimestampRequest, *, at: datetime | None = None) -> bytes:
        """The TimeStampResp, DER, to a request."""
        info = der.sequence(
            der.integer(1),
            der.oid(_POLICY),
            der.sequence(der.algorithm(der.SHA256, null=True), der.octets(request.digest)),
            der.integer(int.from_bytes(secrets.token_bytes(8), "big")),
            der.generalized_time(at or self._clock()),
            b"" if request.nonce is None else der.integer(request.nonce),
        )
        content = der.sequence(der.oid(_TST_INFO), der.explicit(0, der.octets(info)))
        certificate = self.chain[0].public_bytes(Encoding.DER)
        signed = der.sequence(
            der.integer(3),
            der.set_of(der.algorithm(der.SHA256)),
            content,
            der.explicit(0, certificate) if request.certificate else b"",
            der.set_of(self._signer_info(info, certificate)),
        )
        token = der.sequence(der.oid(_SIGNED_DATA), der.explicit(0, signed))
        return der.sequence(der.sequence(der.integer(0)), token)

    def _signer_info(self, info: bytes, certificate: bytes) -> bytes:
        """SignerInfo: the signature over the attributes, which have the content's hash."""
        hashed = der.sequence(der.octets(hashlib.sha256(certificate).digest()))
        attributes = der.set_of(
            _attribute(_CONTENT_TYPE, der.oid(_TST_INFO)),
            _attribute(_MESSAGE_DIGEST, der.octets(hashlib.sha256(info).digest())),
            _attribute(_SIGNING_CERTIFICATE_V2, der.sequence(der.sequence(hashed))),
        )
        own = self.chain[0]
        issuer = der.sequence(own.issuer.public_bytes(), der.integer(own.serial_number))
        # They are signed as a SET, and sent with an implicit tag in its place.
        return der.sequence(
            der.integer(1),
            issuer,
            der.algorithm(der.SHA256),
            b"\xa0" + attributes[1:],
            der.algorithm(der.ECDSA_SHA256),
            der.octets(self.key.sign(attributes, ec.ECDSA(hashes.SHA256()))),
        )

    def _builder(
        self,
        subject: x509.Name,
        issuer: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        issuer_key: ec.EllipticCurvePrivateKey,
    ) -> x509.CertificateBuilder:
        above = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(self.start)
            .not_valid_after(self.end)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
            )
            .add_extension(above, critical=False)
        )


def parse_request(content: bytes) -> TimestampRequest:
    """A TimeStampReq. Raises ValueError for what is none, or has another hash than SHA-256."""
    tag, body, rest = der.read(content)
    if tag != 0x30 or rest:
        raise ValueError("not a timestamp request")
    _, _, body = der.read(body)
    _, imprint, body = der.read(body)
    _, algorithm, imprint = der.read(imprint)
    tag, digest, _ = der.read(imprint)
    if not algorithm.startswith(der.oid(der.SHA256)) or tag != 0x04 or len(digest) != 32:
        raise ValueError("only timestamps of SHA-256 are made")
    nonce, certificate = None, False
    while body:
        tag, value, body = der.read(body)
        if tag == 0x02:
            nonce = int.from_bytes(value, "big", signed=True)
        elif tag == 0x01:
            certificate = value != b"\0"
    return TimestampRequest(digest, nonce, certificate)


def _attribute(dotted: str, value: bytes) -> bytes:
    return der.sequence(der.oid(dotted), der.set_of(value))


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"sigstore.test {common}")])


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

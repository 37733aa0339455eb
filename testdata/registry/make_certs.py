"""Makes the throw-away keys and certificates of the test registries in a directory.

One authority signs the server certificate (localhost, 127.0.0.1, ::1) and a client certificate;
two self-certified keys, one ECDSA and one RSA, sign tokens.
Nothing made here is kept in the repository: every test session makes its own.
"""

from __future__ import annotations

import argparse
import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: PrivateKey

    def write(self, directory: Path, stem: str) -> None:
        """Write STEM.crt and STEM.key (PKCS#8, mode 0600), both PEM."""
        certificate = self.certificate.public_bytes(serialization.Encoding.PEM)
        (directory / f"{stem}.crt").write_bytes(certificate)
        key = directory / f"{stem}.key"
        key.touch(mode=0o600)
        key.write_bytes(
            self.key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )


def issue(
    common_name: str,
    key: PrivateKey,
    *,
    issuer: Issued | None,
    alternative_names: tuple[str, ...] = (),
    usage: x509.ObjectIdentifier | None = None,
) -> Issued:
    """Certify `key`, by `issuer` or as an authority by itself, for a day from an hour ago."""
    now = datetime.datetime.now(datetime.UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    signer = issuer.key if issuer else key
    authority = issuer is None
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=True,
                key_cert_sign=authority,
                crl_sign=authority,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
    )
    if alternative_names:
        names = x509.SubjectAlternativeName([general_name(name) for name in alternative_names])
        builder = builder.add_extension(names, critical=False)
    if usage is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    return Issued(certificate=builder.sign(signer, hashes.SHA256()), key=key)


def general_name(name: str) -> x509.GeneralName:
    """An IPAddress where `name` is one, else a DNSName."""
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def elliptic_key() -> ec.EllipticCurvePrivateKey:
    """A fresh P-256 key."""
    return ec.generate_private_key(ec.SECP256R1())


def make(directory: Path) -> None:
    """Write ca, server, client, other-ca, token (ECDSA) and token-rsa, each as .crt and .key.

    `tokens.crt` holds both token certificates: the rootcertbundle of a registry. `other-ca` signed
    none of the rest; it is there to be the wrong authority. `trust/ca.crt` is the authority alone,
    as clients want it in a --cert-dir.
    """
    directory.mkdir(parents=True, exist_ok=True)
    authority = issue("imgtools test authority", elliptic_key(), issuer=None)
    authority.write(directory, "ca")
    trust = directory / "trust"
    trust.mkdir(exist_ok=True)
    (trust / "ca.crt").write_bytes((directory / "ca.crt").read_bytes())
    issue("some other authority", elliptic_key(), issuer=None).write(directory, "other-ca")
    issue(
        "localhost",
        elliptic_key(),
        issuer=authority,
        alternative_names=("localhost", "127.0.0.1", "::1"),
        usage=ExtendedKeyUsageOID.SERVER_AUTH,
    ).write(directory, "server")
    issue("tester", elliptic_key(), issuer=authority, usage=ExtendedKeyUsageOID.CLIENT_AUTH).write(
        directory, "client"
    )
    issue("token signer", elliptic_key(), issuer=None).write(directory, "token")
    rsa_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    issue("RSA token signer", rsa_key, issuer=None).write(directory, "token-rsa")
    bundle = (directory / "token.crt").read_bytes() + (directory / "token-rsa.crt").read_bytes()
    (directory / "tokens.crt").write_bytes(bundle)


def main() -> None:
    """Make the files in the directory given on the command line."""
    parser = argparse.ArgumentParser(description="make the test registries' certificates")
    parser.add_argument("directory", type=Path)
    make(parser.parse_args().directory)


if __name__ == "__main__":
    main()

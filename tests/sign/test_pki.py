"""Certificates of an own authority: valid now, by Go's rules for usages and host names."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from imgtools.errors import InvalidInput, InvalidKey, InvalidSignature
from imgtools.sign.certificates.pki import verify_pki
from imgtools.sign.checks import PkiCheck, check_sigstore_pki
from imgtools.sign.keys.public import load_public_key
from imgtools.testing.sigstore import LocalSigstore, der
from imgtools.testing.sigstore.authority import AuthorityOptions, Chain, Leaf
from imgtools.testing.sigstore.signer import BUNDLE
from tests.sign.attachments import EMAIL, PAYLOAD, attached, with_annotation

HOST = "build.example.test"
NAMES = (x509.RFC822Name(EMAIL), x509.DNSName(HOST))
TLS = ExtendedKeyUsageOID.SERVER_AUTH
NOW = datetime.now(UTC).replace(microsecond=0)


@pytest.fixture(scope="module")
def company() -> LocalSigstore:
    """An authority that certifies anything: no key usages on its own certificates."""
    return LocalSigstore(authority=AuthorityOptions(usages=None, key_usage=False))


def _leaf(**changes: Any) -> Leaf:
    options = {"issuer_extensions": "none", "timestamps": "none", "lifetime": timedelta(days=90)}
    return Leaf(**(options | {"usages": None} | changes))


def _issue(company: LocalSigstore, names: Any = NAMES, **changes: Any) -> Chain:
    return company.issue(names, leaf=_leaf(**changes))


def _verify(company: LocalSigstore, issued: Chain, **changes: Any) -> str:
    options: dict[str, Any] = {"roots_pem": company.root_pem, "subject_email": EMAIL}
    options |= changes
    above = options.pop("chain", issued.chain_pem)
    pem, proof = verify_pki(issued.leaf_pem, above, **options)
    load_public_key(pem, "the key")
    assert proof.kind == "certificate"
    assert proof.time is None
    return proof.subject


def test_chain_that_holds(company: LocalSigstore) -> None:
    """Through the chain that comes along, or the intermediates that are named."""
    issued = _issue(company)
    assert _verify(company, issued) == EMAIL
    with pytest.raises(InvalidSignature, match="no root that is trusted"):
        _verify(company, issued, chain=b"")
    assert _verify(company, issued, chain=b"", intermediates_pem=company.intermediate_pem) == EMAIL
    with pytest.raises(InvalidKey, match="intermediate certificates"):
        _verify(company, issued, intermediates_pem=b"")


def test_intermediate_is_no_root(company: LocalSigstore) -> None:
    """An intermediate that is named leads somewhere; it does not end there."""
    foreign = LocalSigstore()
    issued = _issue(foreign)
    with pytest.raises(InvalidSignature):
        _verify(company, issued, intermediates_pem=foreign.intermediate_pem + foreign.root_pem)


@pytest.mark.parametrize("days", [-1, 0, 89, 91])
def test_time_is_now(company: LocalSigstore, days: int) -> None:
    """There is no log, so the certificate has to be valid at this moment."""
    issued = _issue(company)
    at = issued.leaf.not_valid_before_utc + timedelta(days=days)
    if 0 <= days < 90:
        assert _verify(company, issued, at=at) == EMAIL
    else:
        with pytest.raises(InvalidSignature, match="was valid from"):
            _verify(company, issued, at=at)


def test_time_is_now_by_default(company: LocalSigstore) -> None:
    """A certificate that has expired is refused without saying what time it is."""
    old = company.issue(NAMES, at=NOW - timedelta(days=100), leaf=_leaf())
    with pytest.raises(InvalidSignature, match="was valid from"):
        _verify(company, old)


@pytest.mark.parametrize(
    ("usages", "holds"),
    [
        (None, True),
        ((ExtendedKeyUsageOID.CODE_SIGNING,), True),
        ((TLS, ExtendedKeyUsageOID.CODE_SIGNING), True),
        ((ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,), True),
        ((TLS,), False),
        ((x509.ObjectIdentifier("1.2.3.4"),), False),
    ],
)
def test_s53_usages(company: LocalSigstore, usages: Any, holds: bool) -> None:
    """None at all is fine, as Go has it; those that are there have to include code signing."""
    issued = _issue(company, usages=usages)
    if holds:
        assert _verify(company, issued) == EMAIL
    else:
        with pytest.raises(InvalidSignature, match="does not include code signing"):
            _verify(company, issued)


@pytest.mark.parametrize(
    ("email", "host", "holds"),
    [
        (EMAIL, "", True),
        ("", HOST, True),
        (EMAIL, HOST, True),
        (EMAIL, "other.example.test", False),
        ("other@example.test", HOST, False),
        ("User@example.test", "", False),
        (HOST, "", False),
        ("", EMAIL, False),
    ],
)
def test_both_must_hold(company: LocalSigstore, email: str, host: str, holds: bool) -> None:
    """Whatever is given is asked for."""
    issued = _issue(company)
    if holds:
        assert _verify(company, issued, subject_email=email, subject_hostname=host)
    else:
        with pytest.raises(InvalidSignature, match="not of the"):
            _verify(company, issued, subject_email=email, subject_hostname=host)


def test_somebody_has_to_be_wanted(company: LocalSigstore) -> None:
    """A certificate of anybody below the root proves nothing."""
    with pytest.raises(InvalidInput):
        _verify(company, _issue(company), subject_email="")


@pytest.mark.parametrize(
    ("pattern", "host", "holds"),
    [
        ("build.example.test", "build.example.test", True),
        ("build.example.test", "BUILD.Example.test", True),
        ("BUILD.example.test", "build.example.test", True),
        ("build.example.test", "build.example.test.", True),
        ("*.example.test", "build.example.test", True),
        ("*.example.test", "a.build.example.test", False),
        ("*.example.test", "example.test", False),
        ("*.example.test", ".example.test", False),
        ("*.example.test", "*.example.test", True),
        ("b*.example.test", "build.example.test", False),
        ("build.*.test", "build.example.test", False),
        ("*", "build", False),
        ("build.example.test.", "build.example.test", False),
        ("build.example.test.", "build.example.test.", True),
        ("*.", "build.", False),
        ("-x.example.test", "-y.example.test", False),
        ("build.example.test", "uild.example.test", False),
        ("build.example.test", "", False),
        ("build_1.example.test", "build_1.example.test", True),
        ("-x.example.test", "-x.example.test", True),
        ("build..test", "build..test", True),
        ("127.0.0.1", "127.0.0.1", False),
    ],
)
def test_host_names(company: LocalSigstore, pattern: str, host: str, holds: bool) -> None:
    """One wildcard, for one whole label, the first; case does not count in host names."""
    issued = _issue(company, (x509.DNSName(pattern),))
    if holds:
        assert _verify(company, issued, subject_email="", subject_hostname=host) == host
    else:
        with pytest.raises((InvalidSignature, InvalidInput)):
            _verify(company, issued, subject_email="", subject_hostname=host)


@pytest.mark.parametrize(
    ("name", "host", "holds"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8::1", "2001:db8:0::1", True),
        ("2001:db8::1", "[2001:db8::1]", True),
        ("192.0.2.1", HOST, False),
    ],
)
def test_addresses(company: LocalSigstore, name: str, host: str, holds: bool) -> None:
    """An address is compared with addresses."""
    issued = _issue(company, (x509.IPAddress(ip_address(name)),))
    if holds:
        assert _verify(company, issued, subject_email="", subject_hostname=host) == host
    else:
        with pytest.raises(InvalidSignature):
            _verify(company, issued, subject_email="", subject_hostname=host)


def test_common_name_is_no_host(company: LocalSigstore) -> None:
    """Only alternative names are looked at."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOST)])
    with pytest.raises(InvalidSignature, match="the certificate is of nobody"):
        _verify(company, _issue(company, (), subject=subject), subject_hostname=HOST)


def test_s56_root_is_no_signer(company: LocalSigstore) -> None:
    """Go takes a certificate that is itself a root; an authority signs no images here."""
    issued = _issue(company, authority=True)
    with pytest.raises(InvalidSignature, match="one of an authority"):
        _verify(company, issued, roots_pem=issued.leaf_pem)
    key = ec.generate_private_key(ec.SECP256R1())
    own = company.issue(NAMES, None, key.public_key(), leaf=_leaf(signer="self", own_key=key))
    with pytest.raises(InvalidSignature, match="is not an authority"):
        _verify(company, own, roots_pem=own.leaf_pem)


@pytest.mark.parametrize(
    ("permitted", "excluded", "holds"),
    [
        ([x509.DNSName("example.test")], None, True),
        ([x509.DNSName("other.test")], None, False),
        (None, [x509.DNSName("build.example.test")], False),
        (None, [x509.DNSName("other.test")], True),
    ],
)
def test_name_constraints(permitted: Any, excluded: Any, holds: bool) -> None:
    """An authority that is constrained to other names cannot issue this one."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "constrained")])
    root = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW - timedelta(days=1))
        .not_valid_after(NOW + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.NameConstraints(permitted, excluded), critical=True)
        .sign(key, hashes.SHA256())
    )
    leaf = _leaf(signer="self", own_key=key, subject=name, lifetime=timedelta(hours=1))
    issued = LocalSigstore().issue((x509.DNSName(HOST),), leaf=leaf)
    options = {"roots_pem": root.public_bytes(Encoding.PEM), "subject_hostname": HOST}
    if holds:
        assert _verify(LocalSigstore(), issued, chain=b"", subject_email="", **options) == HOST
    else:
        with pytest.raises(InvalidSignature, match="name constraints"):
            _verify(LocalSigstore(), issued, chain=b"", subject_email="", **options)


@pytest.mark.parametrize(
    ("make", "holds"),
    [
        (lambda: rsa.generate_private_key(65537, 2048), True),
        (lambda: ec.generate_private_key(ec.SECP521R1()), True),
        (ed25519.Ed25519PrivateKey.generate, True),
        (lambda: rsa.generate_private_key(65537, 1024), False),
        (lambda: ec.generate_private_key(ec.SECP256K1()), False),
        (lambda: ec.generate_private_key(ec.SECP224R1()), False),
    ],
)
def test_s42_keys_of_certificates(company: LocalSigstore, make: Any, holds: bool) -> None:
    """The same keys as without certificates; a weak one is the signature's fault."""
    issued = company.issue(NAMES, None, make().public_key(), leaf=_leaf())
    if holds:
        assert _verify(company, issued) == EMAIL
    else:
        with pytest.raises(InvalidSignature, match="the certificate's key is an"):
            _verify(company, issued)


def test_weak_hash_of_a_certificate(company: LocalSigstore) -> None:
    """SHA-1 signatures can be made for another certificate."""
    issued = _issue(company)
    key = company.authority.intermediate_key
    sha384 = der.algorithm("1.2.840.10045.4.3.3")
    for dotted, hashed, holds in (
        ("1.2.840.10045.4.1", hashes.SHA1(), False),
        ("1.2.840.10045.4.3.1", hashes.SHA224(), False),
        ("1.2.840.10045.4.3.2", hashes.SHA256(), True),
    ):
        _, content, _ = der.read(issued.leaf.tbs_certificate_bytes)
        tbs = der.sequence(content.replace(sha384, der.algorithm(dotted), 1))
        signature = key.sign(tbs, ec.ECDSA(hashed))
        whole = der.sequence(tbs, der.algorithm(dotted), der.tlv(0x03, b"\0" + signature))
        again = Chain(x509.load_der_x509_certificate(whole), issued.issuers)
        if holds:
            assert _verify(company, again) == EMAIL
        else:
            with pytest.raises(InvalidSignature, match=r"sha.*, which is too weak"):
                _verify(company, again)


def test_attachment_under_an_own_authority(company: LocalSigstore) -> None:
    """The signature is checked with the certificate's key; a log entry is not needed."""
    signer = company.signer(NAMES, leaf=_leaf())
    signature = with_annotation(attached(signer), BUNDLE, None)
    check = PkiCheck(roots=company.root_pem, intermediates=None, email=EMAIL, hostname=HOST)
    assert check_sigstore_pki(signature, check).claim.creator == "test 1"
    other = company.signer(NAMES, leaf=_leaf())
    mixed = signature.annotations["dev.sigstore.cosign/certificate"]
    stolen = with_annotation(attached(other, PAYLOAD), "dev.sigstore.cosign/certificate", mixed)
    with pytest.raises(InvalidSignature, match="not by the key of its certificate"):
        check_sigstore_pki(stolen, check)

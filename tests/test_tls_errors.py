"""Errors of TLS name what is wrong and the file that changes it; --tls-details is read.

The certificates are real ones, made here with the dates and names that a case needs.
"""

from __future__ import annotations

import datetime
import ipaddress
import shutil
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from imgtools.cli.tls_details import read_tls_details
from imgtools.errors import InvalidInput, LimitExceeded, NotFound, StorageError, Unsupported
from imgtools.transport.options import RegistryOptions, TlsDetails
from imgtools.transport.registry.wire.certificate import read_certificate
from imgtools.transport.registry.wire.exchange import ExchangeFailed
from imgtools.transport.registry.wire.tls import make_context, unwanted_cipher
from imgtools.transport.registry.wire.tls_errors import authority_path, client_hint
from imgtools.transport.registry.wire.tls_names import GROUPS, TLS12_SUITES, TLS13_SUITES
from tests.registry_fake import open_session
from tests.rig import RunCli
from tests.rig.listening import answering_over_tls

NOW = datetime.datetime.now(datetime.UTC)
DAY = datetime.timedelta(days=1)


def certify(
    directory: Path,
    names: tuple[str, ...] = ("127.0.0.1",),
    *,
    signer: Path | None = None,
    begin: datetime.datetime = NOW - DAY,
    end: datetime.datetime = NOW + DAY,
    common_name: str = "a server",
) -> Path:
    """A directory with server.crt and server.key, signed by the authority ca.crt and ca.key in
    `signer`, else by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    signing: ec.EllipticCurvePrivateKey = key
    if signer is not None:
        issuer = x509.load_pem_x509_certificate((signer / "ca.crt").read_bytes()).subject
        loaded = serialization.load_pem_private_key((signer / "ca.key").read_bytes(), None)
        assert isinstance(loaded, ec.EllipticCurvePrivateKey)
        signing = loaded
    alternatives: list[x509.GeneralName] = []
    for name in names:
        try:
            alternatives.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            alternatives.append(x509.DNSName(name))
    builder = (
        x509.CertificateBuilder(issuer, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
    )
    if alternatives:
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    certificate = builder.sign(signing, hashes.SHA256())
    directory.mkdir(exist_ok=True)
    (directory / "server.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (directory / "server.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return directory


@contextmanager
def server(directory: Path, *, client_ca: Path | None = None) -> Iterator[str]:
    """A TLS server with the pair in `directory`; wants client certificates of `client_ca`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "server.crt", directory / "server.key")
    if client_ca is not None:
        context.load_verify_locations(client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    with answering_over_tls(context) as address:
        yield address


def refused(host: str, **options: object) -> ExchangeFailed:
    """The error of a request that TLS does not let through."""
    session = open_session(host, None, tls_verify=True, **options)
    with pytest.raises(ExchangeFailed) as caught:
        session.request("GET", "/v2/", repository="a", scopes=()).close()
    session.close()
    assert caught.value.final
    return caught.value


# What is wrong with a certificate


def test_expired(tmp_path: Path, certificates: Path) -> None:
    pair = certify(tmp_path, signer=certificates, begin=NOW - 3 * DAY, end=NOW - DAY)
    with server(pair) as host:
        error = refused(host, ca_file=str(certificates / "ca.crt"))
    assert f"its certificate expired on {NOW - DAY:%Y-%m-%d %H:%M} UTC" in error.message
    assert "renew" in (error.hint or "")
    assert f"clock, which says {NOW:%Y-%m-%d}" in (error.hint or "")


def test_clock_is_wrong(tmp_path: Path, certificates: Path) -> None:
    pair = certify(tmp_path, signer=certificates, begin=NOW + DAY, end=NOW + 3 * DAY)
    with server(pair) as host:
        error = refused(host, ca_file=str(certificates / "ca.crt"))
    since = f"valid from {NOW + DAY:%Y-%m-%d %H:%M} UTC"
    assert f"its certificate is not valid yet (it is {since})" in error.message
    assert "check this machine's clock" in (error.hint or "")


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("registry.example", "10.0.0.1", "::1"),
         "its certificate is not for 127.0.0.1; it is for registry.example, 10.0.0.1, ::1"),
        ((), "its certificate is not for 127.0.0.1; it is for only a common name"),
        (tuple(f"host-{n}.example" for n in range(13)), "host-9.example and 3 more"),
    ],
)  # fmt: skip
def test_for_another_host(
    tmp_path: Path, certificates: Path, names: tuple[str, ...], words: str
) -> None:
    pair = certify(tmp_path, names, signer=certificates, common_name="only a common name")
    with server(pair) as host:
        error = refused(host, ca_file=str(certificates / "ca.crt"))
    assert words in error.message
    assert "name" in (error.hint or "")


@pytest.mark.parametrize("own", [True, False])
def test_untrusted_names_the_file_in_certs_d(tmp_path: Path, certificates: Path, own: bool) -> None:
    pair = certify(tmp_path / "pair", signer=None if own else certificates)
    writable = tmp_path / "config" / "certs.d"
    with server(pair) as host:
        error = refused(host, certs_dirs=(f"{pair}/server.crt/none", str(writable)))
        assert f"{writable}/{host}/ca.crt" in (error.hint or "")
        by = "itself" if own else "imgtools test authority"
        assert "its certificate is not trusted" in error.message
        assert f"(it is signed by {by})" in error.message
        # What the hint says is what helps.
        (writable / host).mkdir(parents=True)
        authority = pair / "server.crt" if own else certificates / "ca.crt"
        shutil.copy(authority, writable / host / "ca.crt")
        session = open_session(host, tls_verify=True, certs_dirs=(str(writable),))
        session.request("GET", "/v2/", repository="a", scopes=()).close()
        session.close()


def test_where_a_ca_belongs(tmp_path: Path) -> None:
    def path(**options: object) -> str:
        return authority_path(RegistryOptions(**options), "r.example:5000")  # type: ignore[arg-type]

    first, second = tmp_path / "first", tmp_path / "second"
    (second / "r.example:5000").mkdir(parents=True)
    assert path(cert_dir="/given") == "/given/ca.crt"
    # The directory that is there is the only one that is read.
    assert path(certs_dirs=(str(first), str(second))) == f"{second}/r.example:5000/ca.crt"
    assert path(certs_dirs=(str(first),)) == f"{first}/r.example:5000/ca.crt"
    assert path(certs_dirs=("/dev/null/x",)) == "/dev/null/x/r.example:5000/ca.crt"
    assert path() == ""


def test_client_certificate_is_wanted(tmp_path: Path, certificates: Path) -> None:
    with server(certificates, client_ca=certificates / "ca.crt") as host:
        trusted = {"ca_file": str(certificates / "ca.crt")}
        error = refused(host, certs_dirs=(str(tmp_path),), **trusted)
        assert "client.cert, and its key client.key" in (error.hint or "")
        assert (error.hint or "").endswith(f"in {tmp_path}/{host}")
        directory = tmp_path / host
        directory.mkdir()
        for stem, name in (("token", "a.cert"), ("client", "b.cert")):
            shutil.copy(certificates / f"{stem}.crt", directory / name)
            shutil.copy(certificates / f"{stem}.key", directory / name.replace("cert", "key"))
            if stem == "token":
                error = refused(host, certs_dirs=(str(tmp_path),), **trusted)
                assert f"{directory}/a.cert was sent and not accepted" in (error.hint or "")
                (directory / name).unlink()
                (directory / "a.key").unlink()
        session = open_session(host, None, tls_verify=True, certs_dirs=(str(tmp_path),), **trusted)
        session.request("GET", "/v2/", repository="a", scopes=()).close()
        session.close()


def test_hint_without_directories() -> None:
    assert "--cert-dir" in client_hint(RegistryOptions(), "r")
    assert "--cert-dir" in client_hint(RegistryOptions(), "")


def test_certificates_of_strangers_are_read(tmp_path: Path, certificates: Path) -> None:
    pair = certify(tmp_path, ("a.example", "::1"), signer=certificates, common_name="b\nad")
    der = ssl.PEM_cert_to_DER_cert((pair / "server.crt").read_text())
    seen = read_certificate(der)
    assert seen.names == ("a.example", "::1")
    assert (seen.subject, seen.issuer) == ("b\nad", "imgtools test authority")
    assert not seen.self_signed
    assert abs(seen.not_after - (NOW + DAY)) < datetime.timedelta(seconds=1)
    ca = ssl.PEM_cert_to_DER_cert((certificates / "ca.crt").read_text())
    assert read_certificate(ca).self_signed


def test_certificates_that_are_cut_or_changed(certificates: Path) -> None:
    der = ssl.PEM_cert_to_DER_cert((certificates / "server.crt").read_text())
    for end in range(len(der)):
        with pytest.raises(ValueError, match=r"certificate|element|length"):
            read_certificate(der[:end])
    for position in range(len(der)):
        for byte in (0x00, 0x80, 0xFF):
            with suppress(ValueError):
                read_certificate(der[:position] + bytes((byte,)) + der[position + 1 :])


@given(st.binary(max_size=200))
def test_certificates_that_are_none(data: bytes) -> None:
    with suppress(ValueError):
        read_certificate(data)


# Details


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{} # nothing", TlsDetails()),
        ('minVersion: "1.3"', TlsDetails(min_version="1.3")),
        ("minVersion: 1.3", TlsDetails(min_version="1.3")),
        ("minVersion:\ncipherSuites: null\nnamedGroups: ~", TlsDetails()),
        ("cipherSuites:\n- TLS_AES_128_GCM_SHA256\n- TLS_RSA_WITH_AES_128_CBC_SHA",
         TlsDetails(cipher_suites=("TLS_AES_128_GCM_SHA256", "TLS_RSA_WITH_AES_128_CBC_SHA"))),
        ("namedGroups: [X25519MLKEM768, x25519]",
         TlsDetails(named_groups=("X25519MLKEM768", "x25519"))),
        ('{"minVersion": "1.2"}', TlsDetails(min_version="1.2")),
    ],
)  # fmt: skip
def test_details_are_read(tmp_path: Path, text: str, expected: TlsDetails) -> None:
    path = tmp_path / "details.yaml"
    path.write_text(text)
    assert read_tls_details(str(path)) == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "expected a mapping"),
        (b"- a", "expected a mapping"),
        (b"minversion: 1.3", "unknown key 'minversion'"),
        (b"minVersion: 1.4", "unknown TLS version '1.4'"),
        (b"minVersion: [1.3]", "unknown TLS version"),
        (b"minVersion: 1.3\nminVersion: 1.2", "given twice"),
        (b"cipherSuites: TLS_AES_128_GCM_SHA256", "list of names"),
        (b"cipherSuites: []", "allows nothing"),
        (b"cipherSuites: [ECDHE-RSA-AES128-SHA]", "unknown name"),
        (b"namedGroups: [P-256]", "unknown name"),
        (b"namedGroups: [X25519]", "unknown name"),
        (b"namedGroups: [{a: b}]", "unknown name"),
        (b"a: b: c", "not a YAML document"),
        (b"\xff\xfe\x00", "not a YAML document"),
        (b"? [a]\n: b", "not a YAML document|unknown key"),
        (b"a: &x [*x]", "unknown key|not a YAML"),
        (b"[" * 5000, "not a YAML document"),
        (b"{}\n---\n{}", "not a YAML document"),
    ],
)
def test_details_that_are_none(tmp_path: Path, text: bytes, words: str) -> None:
    path = tmp_path / "details.yaml"
    path.write_bytes(text)
    with pytest.raises(InvalidInput, match=words):
        read_tls_details(str(path))


def test_details_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        read_tls_details(str(tmp_path / "missing"))
    with pytest.raises(StorageError):
        read_tls_details(str(tmp_path))
    large = tmp_path / "large"
    large.write_bytes(b"#" * 100_000)
    with pytest.raises(LimitExceeded):
        read_tls_details(str(large))


def test_details_from_the_command_line(run_cli: RunCli, tmp_path: Path) -> None:
    path = tmp_path / "details.yaml"
    path.write_text("minVersion: 7")
    done = run_cli("--tls-details", str(path), "inspect", "docker://127.0.0.1:1/a")
    assert done.returncode == 1
    assert "unknown TLS version '7'" in done.stderr


def context(**details: object) -> ssl.SSLContext:
    given_details = TlsDetails(**details)  # type: ignore[arg-type]
    return make_context(RegistryOptions(tls=given_details), client_identity=False)


def test_details_that_cannot_be_had_are_told_before_connecting() -> None:
    """Nothing listens there, and nothing is asked."""
    session = open_session(
        "127.0.0.1:1", tls_verify=True, tls=TlsDetails(named_groups=("X25519MLKEM768",))
    )
    with pytest.raises(Unsupported, match="X25519MLKEM768"):
        session.request("GET", "/v2/", repository="a", scopes=())
    session.close()


def test_versions() -> None:
    assert context().minimum_version is ssl.TLSVersion.TLSv1_2
    assert context(min_version="1.3").minimum_version is ssl.TLSVersion.TLSv1_3
    for old in ("1.0", "1.1"):
        with pytest.raises(Unsupported, match=r"lowest version is 1\.2"):
            context(min_version=old)


def test_suites_are_narrowed() -> None:
    chosen = ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_RSA_WITH_RC4_128_SHA")
    names = {cipher["name"] for cipher in context(cipher_suites=chosen).get_ciphers()}
    assert names - TLS13_SUITES == {"ECDHE-RSA-AES128-GCM-SHA256"}
    only = context(cipher_suites=("TLS_AES_128_GCM_SHA256",))
    assert only.minimum_version is ssl.TLSVersion.TLSv1_3
    with pytest.raises(Unsupported, match="has none"):
        context(cipher_suites=("TLS_RSA_WITH_RC4_128_SHA",))
    with pytest.raises(InvalidInput):
        context(cipher_suites=("NULL",))


@pytest.mark.parametrize("name", TLS12_SUITES)
def test_every_suite_has_openssl_s_name(name: str) -> None:
    """Those that a modern OpenSSL still has; the rest are old and few builds know them."""
    if "RC4" in name or "3DES" in name:
        with suppress(Unsupported):
            context(cipher_suites=(name,))
        return
    names = {cipher["name"] for cipher in context(cipher_suites=(name,)).get_ciphers()}
    assert names - TLS13_SUITES == {TLS12_SUITES[name]}


def test_groups() -> None:
    for name in ("secp256r1", "secp384r1", "secp521r1"):
        context(named_groups=(name,))
    context(named_groups=tuple(GROUPS))
    with pytest.raises(Unsupported, match="cannot be held"):
        context(named_groups=("X25519MLKEM768",))
    with pytest.raises(InvalidInput):
        context(named_groups=("P-256",))


@pytest.mark.parametrize(
    ("suites", "chosen", "unwanted"),
    [
        ((), "TLS_AES_128_GCM_SHA256", ""),
        (("TLS_AES_128_GCM_SHA256",), "TLS_AES_128_GCM_SHA256", ""),
        (("TLS_AES_128_GCM_SHA256",), "TLS_AES_256_GCM_SHA384", "TLS_AES_256_GCM_SHA384"),
        (("TLS_AES_128_GCM_SHA256",), "ECDHE-RSA-AES128-SHA", ""),
        (("TLS_RSA_WITH_AES_128_CBC_SHA",), "TLS_AES_256_GCM_SHA384", ""),
    ],
)
def test_suite_of_tls13_that_was_not_asked_for(
    suites: tuple[str, ...], chosen: str, unwanted: str
) -> None:
    details = TlsDetails(cipher_suites=suites)
    assert unwanted_cipher((chosen, "TLSv1.3", 128), details) == unwanted
    assert unwanted_cipher(None, details) == ""

"""Registries that answer badly: every answer ends in one line, and no secret goes astray."""

from __future__ import annotations

import base64
import datetime
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from imgtools.testing import images
from imgtools.testing.authority import AuthOptions
from imgtools.testing.registry import ScriptedRegistry
from tests.bad_input import PLAIN, Outcome, cli, everything, push
from tests.local_images import write

SAMPLE = images.random_image("registry", layers=2, size=3000)
MANIFEST = r"/manifests/"
SECRET = "hunter2"
NO_DIGEST = {"drop_headers": ("Docker-Content-Digest",)}


def inspect(tmp_path: Path, registry: ScriptedRegistry, *flags: str) -> Outcome:
    return cli(tmp_path, "inspect", PLAIN, *flags, push(registry, "app", SAMPLE))


@pytest.mark.parametrize(
    ("fault", "words", "code"),
    [
        ({"status": 200, "body": "<html>hi</html>"}, ["not valid JSON", "a web page"], 1),
        ({"status": 404, "body": "<title>Not \x1b here</title>"}, ["does not exist", "Not"], 2),
        ({"status": 404, "body": "<head " * 10_000}, ["does not exist"], 2),
        ({"status": 500, "body": '{"errors":[{"code":"UNKNOWN","message":"on fire"}]}'},
         ["GET http://", "/v2/app/manifests/1", "500 UNKNOWN on fire"], 1),
        ({"status": 503, "retry_after": 100_000}, ["503"], 1),
        ({"status": 429, "retry_after": 100_000}, ["429", "log in, or try again in 1 d 3 h"], 1),
        ({"status": 418, "body": "teapot\nand\x1b[31m more"}, ["418 teapot and"], 1),
        ({"status": 401}, ["401", "imgtools login", "creds"], 1),
        ({"status": 403}, ["403", "imgtools login"], 1),
        ({"body_override": b'{"schemaVersion":2,"schemaVersion":2}', **NO_DIGEST},
         ["duplicate key"], 1),
        ({"body_override": b'{"schemaVersion":NaN}', **NO_DIGEST}, ["NaN"], 1),
        ({"body_override": b" " * (5 << 20), **NO_DIGEST},
         ["app is larger than the limit of 4194304"], 1),
        ({"flip": 10}, ["digest mismatch"], 1),
        ({"truncate": 10}, ["digest mismatch"], 1),
        ({"set_headers": {"Docker-Content-Digest": "sha256:" + "0" * 64}}, ["mismatch"], 1),
        ({"cut_after": 10}, ["no complete answer"], 1),
        ({"cut_headers": True}, ["no complete answer"], 1),
        ({"redirect": "{target}"}, ["more than 10 redirects"], 1),
        ({"redirect": "ftp://x/y"}, ["GET http://", "ftp://x/y is not an absolute"], 1),
        ({"redirect": "http://[::1/"}, ["GET http://", "malformed"], 1),
        ({"redirect": "http://u:hunter2@127.0.0.1:1/x?sig=hunter2"}, ["connection refused"], 1),
        ({"status": 401, "headers": {"WWW-Authenticate": 'Bearer realm="http://[::1/"'}},
         ["token server", "not a URL"], 1),
        ({"status": 401, "headers": {"WWW-Authenticate": 'Bearer realm="ftp://x/"'}}, ["401"], 1),
    ],
)  # fmt: skip
def test_bad_answers(tmp_path: Path, fault: dict[str, Any], words: list[str], code: int) -> None:
    with ScriptedRegistry() as registry:
        registry.fail(path=MANIFEST, **fault)
        done = inspect(tmp_path, registry)
        done.refused(*words, code=code)
        assert SECRET not in done.err
        name = f"docker://{registry.host}/app:1"
        flags = ["-q", "--src-tls-verify=false"]
        cli(tmp_path, "copy", *flags, name, f"dir:{tmp_path}/new").refused(*words, code=code)
        assert everything(tmp_path) == {}


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ({"flip": 10}, ["digest mismatch"]),
        ({"body_override": b"x" * 100_000}, ["size mismatch"]),
        ({"status": 404}, ["is not in", "app"]),
        ({"status": 500, "body": "on fire"}, ["500 on fire", "GET http://"]),
        ({"redirect": "{target}"}, ["more than 10 redirects"]),
    ],
)
@pytest.mark.parametrize("transport", ["oci", "dir", "oci-archive"])
def test_bad_blobs(tmp_path: Path, fault: dict[str, Any], words: list[str], transport: str) -> None:
    write(f"{transport}:{tmp_path}/old", images.random_image("old", layers=1, size=10))
    before = everything(tmp_path)
    with ScriptedRegistry() as registry:
        name = push(registry, "app", SAMPLE)
        registry.fail(path="/blobs/", **fault)
        for target in ("old", "new"):
            flags = ["-q", "--src-tls-verify=false"]
            done = cli(tmp_path, "copy", *flags, name, f"{transport}:{tmp_path}/{target}")
            done.refused(*words, lines=len(done.err.splitlines()))
            assert everything(tmp_path) == before


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ({"status": 200, "body": "<html>"}, ["list of tags is not valid JSON"]),
        ({"body_override": b'{"tags":{}}'}, ["tags is not a list"]),
        ({"set_headers": {"Link": '</v2/app/tags/list?n=1>; rel="next"'}}, ["have no end"]),
        ({"set_headers": {"Link": '<http://127.0.0.2:1/>; rel="next"'}}, ["on another host"]),
        ({"body_override": b" " * (33 << 20)}, ["is larger than the limit"]),
    ],
)
def test_bad_lists_of_tags(tmp_path: Path, fault: dict[str, Any], words: list[str]) -> None:
    with ScriptedRegistry() as registry:
        push(registry, "app", SAMPLE)
        registry.fail(path="/tags/list", **fault)
        cli(tmp_path, "list-tags", PLAIN, f"docker://{registry.host}/app").refused(*words)


def test_lists_of_tags_are_bounded_in_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imgtools.transport.registry.pages._ALL_PAGES_LIMIT", 1000)
    with ScriptedRegistry() as registry:
        push(registry, "app", SAMPLE)
        for number in range(9):
            link = f'</v2/app/tags/list?last={number}>; rel="next"'
            registry.fail(
                path="/tags/list", nth=number + 1, set_headers={"Link": link},
                body_override=json.dumps({"tags": [f"{number}" * 100]}).encode(),
            )  # fmt: skip
        done = cli(tmp_path, "list-tags", PLAIN, f"docker://{registry.host}/app")
        done.refused("larger than the limit of 1000 bytes")


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ({"status": 200, "body": "garbage"}, ["token", "not valid JSON"]),
        ({"status": 200, "body": b"x" * (2 << 20)}, ["token", "larger than the limit"]),
        ({"status": 200, "body": '{"token":["a"]}'}, ["has no token"]),
        ({"status": 200, "body": '{"token":"a\\r\\nX-Evil: 1"}'}, ["has no token"]),
        ({"status": 500, "body": "on fire"}, ["/token: 500 on fire"]),
        ({"status": 401}, ["refused the credentials of user"]),
        ({"redirect": "{target}"}, ["more than 10 redirects"]),
    ],
)
def test_bad_token_servers(tmp_path: Path, fault: dict[str, Any], words: list[str]) -> None:
    with ScriptedRegistry(auth="bearer") as registry:
        registry.fail(path="^/token", **fault)
        done = inspect(tmp_path, registry, "--creds", f"user:{SECRET}")
        done.refused(*words)
        assert SECRET not in done.err


# --- secrets -----------------------------------------------------------------------------------


@pytest.mark.parametrize("auth", ["basic", "bearer"])
def test_refused_credentials(tmp_path: Path, auth: Any) -> None:
    with ScriptedRegistry(auth=auth) as registry:
        done = inspect(tmp_path, registry, "--debug", "--creds", f"user:{SECRET}")
        assert done.code == 1
        done = inspect(tmp_path, registry, "--creds", f"user:{SECRET}")
        done.refused("401", "imgtools login", "--creds")
        for text in (SECRET, base64.b64encode(f"user:{SECRET}".encode()).decode()):
            assert text not in done.err


@pytest.mark.parametrize(
    "token", [f"{SECRET}\n", f"{SECRET}\r\nX: y", f"{SECRET}€", "\x1b" + SECRET]
)
def test_token_that_is_no_header(tmp_path: Path, token: str) -> None:
    with ScriptedRegistry(auth="bearer") as registry:
        done = inspect(tmp_path, registry, "--registry-token", token)
        done.refused("the registry token has a character")
        assert SECRET not in done.err


def test_credentials_that_are_not_utf8(tmp_path: Path) -> None:
    with ScriptedRegistry(auth="basic") as registry:
        done = inspect(tmp_path, registry, "--creds", f"us\udcffer:{SECRET}\udcfe")
        done.refused("401")
        sent = [e.headers.get("authorization", "") for e in registry.requests]
        shown = {base64.b64decode(text.partition(" ")[2]) for text in sent if text}
        assert shown == {b"us\xffer:hunter2\xfe"}


def test_no_credentials_to_where_uploads_go(tmp_path: Path) -> None:
    """A Location on another host gets the blob that was asked for, and no Authorization."""
    write(f"oci:{tmp_path}/source", SAMPLE)
    with ScriptedRegistry() as other, ScriptedRegistry(auth="basic") as registry:
        location = f"http://localhost:{other.port}/v2/app/blobs/uploads/x?state=1"
        registry.fail(
            method="POST", path="/blobs/uploads/", status=202, headers={"Location": location}
        )  # a script without credentials: the answer to the first request
        flags = ["-q", "--dest-tls-verify=false", "--dest-creds", "user:secret"]
        done = cli(
            tmp_path, "copy", *flags, f"oci:{tmp_path}/source", f"docker://{registry.host}/app:1"
        )
        assert done.code == 1
        assert other.requests
        assert all("authorization" not in exchange.headers for exchange in other.requests)
        assert "secret" not in done.err


def test_refresh_token_stays_with_its_server(tmp_path: Path) -> None:
    """A token server that sends us elsewhere does not take the refresh token there."""
    options = AuthOptions(scheme="bearer", refresh_token=SECRET)
    with ScriptedRegistry() as other, ScriptedRegistry(auth=options) as registry:
        registry.fail(
            method="POST", path="^/token", redirect=f"http://localhost:{other.port}/steal"
        )
        auth = tmp_path / "auth.json"
        auth.write_text(json.dumps({"auths": {registry.host: {"identitytoken": SECRET}}}))
        done = inspect(tmp_path, registry, "--authfile", str(auth))
        done.refused("refused: it would take credentials to another host")
        assert SECRET not in done.err
        assert other.requests == []


def test_unverified_answers_do_not_redirect_credentials(tmp_path: Path, certificates: Path) -> None:
    """What a stranger said to a session without verification is not believed by one with it."""
    trust = ["--cert-dir", str(certificates / "trust")]
    cert, key = str(certificates / "server.crt"), str(certificates / "server.key")
    with (
        ScriptedRegistry(tls_cert=cert, tls_key=key) as thief,
        ScriptedRegistry(auth="bearer", tls_cert=cert, tls_key=key) as registry,
    ):
        name = push(registry, "app", SAMPLE)
        challenge = f'Bearer realm="{thief.url}/steal",service="x"'
        number = registry.fail(path="^/v2/", status=401, headers={"WWW-Authenticate": challenge})
        settings = {"cache_dir": str(tmp_path / "cache")}
        done = cli(tmp_path, "inspect", PLAIN, name, **settings)
        assert done.code == 1
        assert registry.faults.applied(number)
        assert thief.url in (tmp_path / "cache" / "registries.json").read_text()
        thief.forget_requests()
        registry.faults.clear()
        done = cli(tmp_path, "inspect", *trust, "--creds", "user:secret", name, **settings)
        assert (done.code, done.err) == (0, "")
        assert thief.requests == []


# --- connections -------------------------------------------------------------------------------


def test_nobody_listens(tmp_path: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
    for flags in ([], [PLAIN]):
        done = cli(tmp_path, "inspect", *flags, f"docker://127.0.0.1:{port}/app")
        done.refused(f"cannot connect to http{'' if flags else 's'}://127.0.0.1:{port}", "refused")


def test_no_such_host(tmp_path: Path) -> None:
    done = cli(tmp_path, "inspect", "docker://no-such-host.invalid/app")
    done.refused("no-such-host.invalid", "cannot be resolved", "check the name")


def test_http_where_https_is_expected(tmp_path: Path) -> None:
    with ScriptedRegistry() as registry:
        done = cli(tmp_path, "inspect", push(registry, "app", SAMPLE))
        done.refused("TLS", "--tls-verify=false")


@contextmanager
def certificate_for(
    tmp_path: Path, certificates: Path, host: str, days: int
) -> Iterator[tuple[str, str]]:
    """A certificate of the test authority for `host`, valid until `days` from now."""
    authority = x509.load_pem_x509_certificate((certificates / "ca.crt").read_bytes())
    signer: Any = serialization.load_pem_private_key(
        (certificates / "ca.key").read_bytes(), password=None
    )
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(authority.subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=30))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=True)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
        .sign(signer, hashes.SHA256())
    )
    (tmp_path / "c.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (tmp_path / "c.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    yield str(tmp_path / "c.crt"), str(tmp_path / "c.key")


@pytest.mark.parametrize(
    ("host", "days", "trusted", "words"),
    [
        ("localhost", 10, False, ["--cert-dir", ".crt", "SSL_CERT_FILE"]),
        (
            "other.example",
            10,
            True,
            ["its certificate is not for localhost; it is for other.example"],
        ),
        ("localhost", -1, True, ["its certificate expired on", "check this machine's clock"]),
    ],
)
def test_certificates(
    tmp_path: Path, certificates: Path, host: str, days: int, trusted: bool, words: list[str]
) -> None:
    flags = ["--cert-dir", str(certificates / "trust")] if trusted else []
    with (
        certificate_for(tmp_path, certificates, host, days) as (cert, key),
        ScriptedRegistry(tls_cert=cert, tls_key=key) as registry,
    ):
        push(registry, "app", SAMPLE)
        done = cli(tmp_path, "inspect", *flags, f"docker://localhost:{registry.port}/app:1")
        done.refused("cannot establish TLS", "its certificate", *words)


def test_answers_that_are_no_http(tmp_path: Path) -> None:
    """A server of another protocol says its greeting to whoever connects."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]

        def greet() -> None:
            while True:
                try:
                    sock, _ = listener.accept()
                except OSError:
                    return
                with sock:
                    sock.sendall(b"220 mail.example ESMTP\r\n")

        thread = threading.Thread(target=greet)
        thread.start()
        try:
            done = cli(tmp_path, "inspect", PLAIN, f"docker://127.0.0.1:{port}/app")
            done.refused(f"127.0.0.1:{port}")
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()

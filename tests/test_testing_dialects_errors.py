"""Every switch of errors, limits and connections does to the wire what it says."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import time
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import pytest

from imgtools.testing.dialect_errors import Rate
from imgtools.testing.dialects import Dialect
from imgtools.testing.registry import ScriptedRegistry
from tests.scripted import BLOB, CONTENT, UPLOADS, ask, begin, manifest, speaking

NONE = "/v2/app/manifests/none"


@pytest.mark.parametrize(
    ("form", "kind", "body"),
    [
        ("spec", "application/json", b'"code":"BLOB_UNKNOWN"'),
        ("details", "application/json", b'{"details": "BLOB_UNKNOWN: '),
        ("html", "text/html", b"<h1>404</h1>BLOB_UNKNOWN"),
        ("text", "text/plain; charset=utf-8", b"BLOB_UNKNOWN: "),
        ("empty", None, b""),
    ],
)
def test_errors(form: Any, kind: str | None, body: bytes) -> None:
    with speaking(errors=form) as registry:
        manifest(registry)
        reply = ask(registry, "GET", BLOB)
        assert (reply.status, reply.headers.get("content-type")) == (404, kind)
        assert body in reply.body
        assert bool(reply.body) is (form != "empty")
        assert ask(registry, "HEAD", BLOB).body == b""


@pytest.mark.parametrize(
    ("form", "status", "body"),
    [
        ("spec", 404, b"MANIFEST_UNKNOWN"),
        ("name", 404, b"NAME_UNKNOWN"),
        ("harbor", 404, b'"NOT_FOUND"'),
        ("html", 404, b"<html>"),
        ("text", 404, b"404 page not found"),
        ("message", 404, b'{"message":"Not Found"}'),
        ("empty", 404, b""),
        ("denied", 403, b"DENIED"),
        ("unauthorized", 401, b"UNAUTHORIZED"),
    ],
)
def test_not_found(form: Any, status: int, body: bytes) -> None:
    with speaking(not_found=form) as registry:
        manifest(registry)
        reply = ask(registry, "GET", NONE)
        assert reply.status == status
        assert body in reply.body
        assert ask(registry, "HEAD", NONE).status == status
        assert ask(registry, "GET", "/v2/none/tags/list").status == status
        assert ask(registry, "GET", BLOB).status == 404
        assert ask(registry, "GET", "/v2/app/manifests/v1").status == 200


def test_warnings_and_version() -> None:
    with speaking(warnings=("one", "two"), version_header=False) as registry:
        reply = ask(registry, "GET", "/v2/")
        assert reply.all("warning") == ['299 - "one"', '299 - "two"']
        assert "docker-distribution-api-version" not in reply.headers
    with speaking() as registry:
        assert ask(registry, "GET", "/v2/").headers["docker-distribution-api-version"]


def test_name_unknown() -> None:
    for known, blob, manifest_code in (
        (True, "NAME_UNKNOWN", "NAME_UNKNOWN"),
        (False, "BLOB_UNKNOWN", "MANIFEST_UNKNOWN"),
    ):
        with speaking(name_unknown=known) as registry:
            assert ask(registry, "GET", BLOB).code == blob
            assert ask(registry, "GET", NONE).code == manifest_code
            assert ask(registry, "GET", "/v2/app/tags/list").code == "NAME_UNKNOWN"
            assert "docker-distribution-api-version" in ask(registry, "GET", NONE).headers


# --- limits -------------------------------------------------------------------------------------


def test_rate() -> None:
    rate = Rate(allowed=2, refused=2, methods=("GET",), retry_after=3, headers=True)
    with speaking(rate=rate) as registry:
        assert ask(registry, "HEAD", NONE).status == 404
        replies = [ask(registry, "GET", "/v2/") for _ in range(5)]
        assert [r.status for r in replies] == [200, 200, 429, 429, 200]
        assert [r.headers.get("retry-after") for r in replies] == [None, None, "3", "3", None]
        assert replies[0].headers["ratelimit-limit"] == "2;w=21600"
        assert [r.headers["ratelimit-remaining"] for r in replies][:3] == [
            "1;w=21600",
            "0;w=21600",
            "0;w=21600",
        ]
        assert replies[2].code == "TOOMANYREQUESTS"


def test_rate_without_header_for_ever() -> None:
    with speaking(
        rate=Rate(allowed=0, refused=None, status=403, body='{"message":"x"}')
    ) as registry:
        for _ in range(3):
            reply = ask(registry, "GET", "/v2/")
            assert (reply.status, reply.body) == (403, b'{"message":"x"}')
            assert not {"retry-after", "ratelimit-limit"} & set(reply.headers)


def test_retry_after_as_a_date() -> None:
    with speaking(rate=Rate(allowed=0, retry_after="+60")) as registry:
        registry.fail(path="/v2/x", status=503, retry_after="+60")
        for target in ("/v2/", "/v2/x"):
            header = ask(registry, "GET", target).headers["retry-after"]
            seconds = parsedate_to_datetime(header).timestamp() - time.time()
            assert 0 < seconds <= 60


@pytest.mark.parametrize("status", [408, 499, 520, 521, 522, 523, 524])
def test_statuses_that_are_not_registered(status: int) -> None:
    with speaking() as registry:
        registry.fail(nth=1, status=status, body="<html>edge</html>")
        reply = ask(registry, "GET", "/v2/")
        assert (reply.status, reply.body) == (status, b"<html>edge</html>")


def test_namespace() -> None:
    with speaking(needs_namespace=True) as registry:
        manifest(registry)
        path = "/v2/app/manifests/v1"
        assert ask(registry, "GET", path).status == 404
        assert ask(registry, "GET", f"{path}?ns=docker.io").status == 200
        assert ask(registry, "GET", "/v2/").status == 200


# --- connections --------------------------------------------------------------------------------


def test_keep_alive_ends_without_notice() -> None:
    with speaking(keep_alive=2) as registry:
        connection = http.client.HTTPConnection(registry.host, timeout=10)
        for _ in range(2):
            connection.request("GET", "/v2/")
            response = connection.getresponse()
            response.read()
            assert response.getheader("connection") is None
        with pytest.raises((http.client.RemoteDisconnected, ConnectionError)):
            connection.request("GET", "/v2/")
            connection.getresponse()
        connection.close()
        assert len(registry.requests) == 2


def exchange(registry: ScriptedRegistry, data: bytes, timeout: float = 10) -> bytes:
    """Everything that comes back for these bytes; what has come when nothing more does."""
    received = b""
    with socket.create_connection(("127.0.0.1", registry.port), timeout=timeout) as sock:
        sock.sendall(data)
        try:
            while part := sock.recv(65536):
                received += part
        except TimeoutError:
            received += b"(silence)"
    return received


@pytest.mark.parametrize(
    ("expect", "first"),
    [("100", b"HTTP/1.1 100 Continue"), ("417", b"HTTP/1.1 417 "), ("ignored", b"HTTP/1.1 202 ")],
)
def test_expect(expect: Any, first: bytes) -> None:
    with speaking(expect=expect) as registry:
        head = (
            f"PATCH {begin(registry)} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
            "Expect: 100-continue\r\nContent-Length: 5\r\n\r\n"
        )
        assert exchange(registry, head.encode() + b"12345").startswith(first)


def secure(certificates: Path, **more: Any) -> ScriptedRegistry:
    return ScriptedRegistry(
        tls_cert=str(certificates / "server.crt"),
        tls_key=str(certificates / "server.key"),
        **more,
    )


def test_http_on_a_tls_port(certificates: Path) -> None:
    plain = b"GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n"
    for form, words in (
        ("400", b"Client sent an HTTP request to an HTTPS server.\n"),
        ("close", b""),
    ):
        with secure(certificates, dialect=Dialect(http_on_tls=form)) as registry:
            try:
                received = exchange(registry, plain)
            except ConnectionResetError:
                received = b""
            assert received.endswith(words)
            assert (b" 400 " in received) is (form == "400")
    with secure(certificates, dialect=Dialect(http_on_tls="hang")) as registry:
        assert exchange(registry, plain, timeout=0.1) == b"(silence)"
        assert registry.requests == []


def https(registry: ScriptedRegistry, context: ssl.SSLContext, host: str = "localhost") -> int:
    connection = http.client.HTTPSConnection(host, registry.port, context=context, timeout=10)
    try:
        connection.request("GET", "/v2/")
        return connection.getresponse().status
    finally:
        connection.close()


def test_client_certificates_and_names(certificates: Path) -> None:
    ca = str(certificates / "ca.crt")
    context = ssl.create_default_context(cafile=ca)
    with secure(certificates, client_ca=ca) as registry:
        with pytest.raises((ssl.SSLError, ConnectionError, http.client.RemoteDisconnected)):
            https(registry, context)
        # A server's certificate will do: it is its signature that is looked at.
        name = "client" if (certificates / "client.crt").exists() else "server"
        context.load_cert_chain(certificates / f"{name}.crt", certificates / f"{name}.key")
        assert https(registry, context) == 200
        assert set(registry.server_names) == {"localhost"}


def test_tls_versions(certificates: Path) -> None:
    context = ssl.create_default_context(cafile=str(certificates / "ca.crt"))
    with secure(certificates, tls_maximum=ssl.TLSVersion.TLSv1_2) as registry:
        assert https(registry, context) == 200
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        with pytest.raises(ssl.SSLError):
            https(registry, context)


def test_header_lines_are_kept_apart() -> None:
    with speaking() as registry:
        connection = http.client.HTTPConnection(registry.host, timeout=10)
        connection.putrequest("GET", "/v2/")
        connection.putheader("Accept", "a/a")
        connection.putheader("Accept", "b/b, c/c")
        connection.endheaders()
        connection.getresponse().read()
        connection.close()
        (sent,) = registry.requests
        assert [v for n, v in sent.lines if n == "accept"] == ["a/a", "b/b, c/c"]
        assert sent.headers["accept"] == "a/a, b/b, c/c"


def test_faults_with_several_headers() -> None:
    with speaking() as registry:
        registry.fail(nth=1, status=401, headers={"WWW-Authenticate": "Negotiate\nBasic realm=x"})
        reply = ask(registry, "GET", "/v2/")
        assert reply.all("www-authenticate") == ["Negotiate", "Basic realm=x"]
        assert json.loads(reply.body)["errors"]
        assert ask(registry, "POST", f"{UPLOADS}?digest=x", CONTENT).status == 400

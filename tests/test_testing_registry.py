"""The scripted registry does to the wire exactly what each fault says."""

from __future__ import annotations

import http.client
import json
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from imgtools.spec.digest import Digest
from imgtools.testing.faults import Fault, FaultScript
from imgtools.testing.registry import ScriptedRegistry
from tests.scripted import BLOB, CONTENT, DIGEST, ask


@pytest.fixture
def registry() -> Iterator[ScriptedRegistry]:
    with ScriptedRegistry() as made:
        made.push_blob("app", CONTENT)
        yield made


# --- choosing -----------------------------------------------------------------------------------


def test_script_counts_occurrences() -> None:
    script = FaultScript()
    second = script.add(Fault(method="GET", path="/blobs/", nth=2))
    some = script.add(Fault(path="/blobs/", nth=[1, 4]))
    every = script.add(Fault(path="/manifests/"))
    chosen = [script.choose("GET", "/v2/a/blobs/x") for _ in range(4)]
    numbers = [None if f is None else f.nth for f in chosen]
    assert numbers == [[1, 4], 2, None, [1, 4]]
    assert script.choose("HEAD", "/v2/a/blobs/x") is None
    assert script.choose("PUT", "/v2/a/manifests/x") == Fault(path="/manifests/")
    assert [script.applied(n) for n in (second, some, every)] == [1, 2, 1]
    script.clear()
    assert script.choose("GET", "/v2/a/blobs/x") is None


def test_without_faults(registry: ScriptedRegistry) -> None:
    reply = ask(registry, "GET", BLOB)
    assert (reply.status, reply.body, reply.whole) == (200, CONTENT, True)


def test_the_log(registry: ScriptedRegistry) -> None:
    connection = http.client.HTTPConnection(registry.host, timeout=10)
    for _ in range(2):
        connection.request("GET", BLOB, headers={"X-Mine": "yes"})
        connection.getresponse().read()
    connection.request("POST", f"/v2/app/blobs/uploads/?digest={Digest.of(b'abc')}", b"abc")
    connection.getresponse().read()
    connection.close()
    ask(registry, "HEAD", "/v2/app/manifests/none")
    first, second, third, fourth = registry.requests
    assert (first.method, first.path, first.status) == ("GET", BLOB, 200)
    assert (first.headers["x-mine"], first.sent, first.received) == ("yes", len(CONTENT), 0)
    assert first.connection == second.connection == third.connection != fourth.connection
    assert (third.received, third.status) == (3, 201)
    assert (fourth.status, fourth.sent) == (404, 0)
    assert third.response_headers is not None
    assert third.response_headers["location"].startswith("/v2/app/blobs/")
    assert (registry.count(), registry.count("GET", "/blobs/"), registry.connections) == (4, 2, 2)
    assert registry.lines()[3] == "HEAD /v2/app/manifests/none 404"
    registry.forget_requests()
    assert registry.requests == []


# --- answers ------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500, 503, 504])
def test_status(registry: ScriptedRegistry, status: int) -> None:
    registry.fail(path="/blobs/", nth=1, status=status, headers={"X-A": "b"}, retry_after=7)
    reply = ask(registry, "GET", BLOB)
    assert (reply.status, reply.headers["retry-after"], reply.headers["x-a"]) == (status, "7", "b")
    assert "errors" in json.loads(reply.body)
    assert ask(registry, "GET", BLOB).status == 200


def test_html(registry: ScriptedRegistry) -> None:
    registry.fail(status=502, body="<html>Bad gateway</html>")
    reply = ask(registry, "GET", "/v2/")
    assert (reply.status, reply.headers["content-type"]) == (502, "text/html")
    assert reply.body == b"<html>Bad gateway</html>"


def test_redirect(registry: ScriptedRegistry) -> None:
    with ScriptedRegistry() as other:
        registry.fail(path="/blobs/", redirect=other.url + "{target}?sig=1")
        reply = ask(registry, "GET", BLOB)
        assert (reply.status, reply.headers["location"]) == (307, f"{other.url}{BLOB}?sig=1")
        other.push_blob("app", CONTENT)
        assert ask(other, "GET", f"{BLOB}?sig=1").body == CONTENT


def test_answer_lost_after_it_was_done(registry: ScriptedRegistry) -> None:
    registry.fail(method="POST", nth=1, cut_headers=True)
    registry.fail(method="POST", nth=2, status=500, processed=True)
    for content in (b"one", b"two"):
        path = f"/v2/app/blobs/uploads/?digest={Digest.of(content)}"
        if content == b"one":
            with pytest.raises((http.client.RemoteDisconnected, ConnectionResetError)):
                ask(registry, "POST", path, content)
        else:
            assert ask(registry, "POST", path, content).status == 500
        assert ask(registry, "GET", f"/v2/app/blobs/{Digest.of(content)}").body == content


# --- the wire -----------------------------------------------------------------------------------


def test_cut_after(registry: ScriptedRegistry) -> None:
    registry.fail(method="GET", path="/blobs/", nth=1, cut_after=5000)
    reply = ask(registry, "GET", BLOB)
    assert (reply.headers["content-length"], reply.whole) == (str(len(CONTENT)), False)
    assert reply.body == CONTENT[:5000]
    assert registry.requests[0].sent == 5000
    assert ask(registry, "GET", BLOB).whole


def test_cut_after_nothing(registry: ScriptedRegistry) -> None:
    registry.fail(cut_after=0)
    reply = ask(registry, "GET", BLOB)
    assert (reply.status, reply.body, reply.whole) == (200, b"", False)


def test_cut_with_reset(registry: ScriptedRegistry) -> None:
    registry.fail(cut_after=0, reset=True)
    with pytest.raises(ConnectionResetError):
        ask(registry, "GET", BLOB)


def test_cut_before_headers(registry: ScriptedRegistry) -> None:
    registry.fail(cut_headers=True)
    with pytest.raises(http.client.RemoteDisconnected):
        ask(registry, "GET", BLOB)
    assert registry.requests[0].status == 0


def test_cut_in_the_request_body(registry: ScriptedRegistry) -> None:
    location = ask(registry, "POST", "/v2/app/blobs/uploads/").headers["location"]
    registry.fail(method="PATCH", nth=1, cut_request=1000)
    with pytest.raises((OSError, http.client.HTTPException)):
        ask(registry, "PATCH", location, bytes(50_000_000))
    assert ask(registry, "GET", location).headers["range"] == "0-999"
    assert ask(registry, "PATCH", location, b"rest").headers["range"] == "0-1003"


def test_stall(registry: ScriptedRegistry) -> None:
    registry.fail(nth=1, stall=30)
    with pytest.raises(TimeoutError):
        ask(registry, "GET", BLOB, timeout=0.05)
    assert ask(registry, "GET", BLOB).whole


def test_stall_in_the_body(registry: ScriptedRegistry) -> None:
    registry.fail(stall_after=300)
    with socket.create_connection(("127.0.0.1", registry.port), timeout=0.2) as sock:
        sock.sendall(f"GET {BLOB} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        received = b""
        with pytest.raises(TimeoutError):
            while part := sock.recv(65536):
                received += part
    assert received.partition(b"\r\n\r\n")[2] == CONTENT[:300]


def test_a_stalled_client_does_not_hold_up_the_end() -> None:
    with ScriptedRegistry(latency=3600) as registry:
        sock = socket.create_connection(("127.0.0.1", registry.port))
        sock.sendall(b"GET /v2/ HTTP/1.1\r\n\r\n")
        while not registry.requests:
            time.sleep(0.005)
    with sock:
        assert sock.recv(100) == b""
    assert not [t for t in threading.enumerate() if "_serve" in t.name]


# --- wrong answers ------------------------------------------------------------------------------


def test_truncate(registry: ScriptedRegistry) -> None:
    registry.fail(truncate=100)
    reply = ask(registry, "GET", BLOB)
    assert (reply.headers["content-length"], reply.body, reply.whole) == (
        "100",
        CONTENT[:100],
        True,
    )


def test_flip(registry: ScriptedRegistry) -> None:
    registry.fail(flip=1000)
    body = ask(registry, "GET", BLOB).body
    assert [i for i in range(len(CONTENT)) if body[i] != CONTENT[i]] == [1000]


def test_body_override(registry: ScriptedRegistry) -> None:
    registry.fail(body_override=b"other")
    reply = ask(registry, "GET", BLOB)
    assert (reply.status, reply.body) == (200, b"other")
    assert reply.headers["docker-content-digest"] == str(DIGEST)


def test_headers(registry: ScriptedRegistry) -> None:
    wrong = str(Digest.of(b"wrong"))
    registry.fail(nth=1, set_headers={"Docker-Content-Digest": wrong})
    registry.fail(nth=2, drop_headers=["docker-content-digest", "etag"])
    registry.fail(nth=3, drop_headers=["Content-Length"])
    registry.fail(nth=4, set_headers={"Content-Length": str(len(CONTENT) - 5)})
    registry.fail(nth=5, set_headers={"Content-Length": str(len(CONTENT) + 5)}, cut_after=1 << 30)
    assert ask(registry, "GET", BLOB).headers["docker-content-digest"] == wrong
    second = ask(registry, "GET", BLOB)
    assert not {"docker-content-digest", "etag"} & set(second.headers)
    third = ask(registry, "GET", BLOB)
    assert ("content-length" in third.headers, third.body) == (False, CONTENT)
    assert ask(registry, "GET", BLOB).body == CONTENT[:-5]
    fifth = ask(registry, "GET", BLOB)
    assert (fifth.body, fifth.whole) == (CONTENT, False)


def test_location_elsewhere(registry: ScriptedRegistry) -> None:
    registry.fail(method="POST", set_headers={"Location": "http://evil.test/upload"})
    assert ask(registry, "POST", "/v2/app/blobs/uploads/").headers["location"] == (
        "http://evil.test/upload"
    )


def test_ranges(registry: ScriptedRegistry) -> None:
    registry.fail(nth=1, ignore_range=True)
    registry.fail(nth=2, shift_range=10)
    first = ask(registry, "GET", BLOB, Range="bytes=100-")
    assert (first.status, first.body) == (200, CONTENT)
    second = ask(registry, "GET", BLOB, Range="bytes=100-")
    assert (second.status, second.body) == (206, CONTENT[110:])
    assert second.headers["content-range"].startswith("bytes 110-")
    third = ask(registry, "GET", BLOB, Range="bytes=100-")
    assert (third.status, third.body) == (206, CONTENT[100:])


# --- TLS ----------------------------------------------------------------------------------------


def test_tls(certificates: Path) -> None:
    with ScriptedRegistry(
        tls_cert=str(certificates / "server.crt"), tls_key=str(certificates / "server.key")
    ) as registry:
        registry.push_blob("app", CONTENT)
        registry.fail(path="/blobs/", nth=1, cut_after=100)
        assert re.fullmatch(r"https://127\.0\.0\.1:\d+", registry.url)
        context = ssl.create_default_context(cafile=str(certificates / "ca.crt"))
        connection = http.client.HTTPSConnection(registry.host, context=context, timeout=10)
        connection.request("GET", BLOB)
        with pytest.raises((http.client.IncompleteRead, ssl.SSLError)):
            connection.getresponse().read()
        connection.close()
        connection.request("GET", BLOB)
        assert connection.getresponse().read() == CONTENT
        connection.close()
        untrusting = http.client.HTTPSConnection(registry.host, timeout=10)
        with pytest.raises(ssl.SSLCertVerificationError):
            untrusting.request("GET", BLOB)
        untrusting.close()

"""Every switch of uploads does to the wire what it says."""

from __future__ import annotations

import http.client
import socket
import ssl
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import pytest

from imgtools.spec.digest import Digest
from imgtools.testing.dialects import Dialect
from imgtools.testing.registry import ScriptedRegistry
from tests.scripted import (
    BLOB,
    CONTENT,
    DIGEST,
    UPLOADS,
    ask,
    begin,
    manifest,
    put_manifest,
    speaking,
)

MONOLITHIC = f"{UPLOADS}?digest={DIGEST}"


def close(registry: ScriptedRegistry, location: str, body: bytes = b"") -> int:
    joint = "&" if "?" in location else "?"
    return ask(registry, "PUT", f"{location}{joint}digest={DIGEST}", body).status


# --- beginning ----------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 201])
def test_post_status(status: int) -> None:
    with speaking(post_status=status) as registry:
        reply = ask(registry, "POST", UPLOADS)
        assert reply.status == status
        assert close(registry, reply.headers["location"], CONTENT) == 201


def test_monolithic_post() -> None:
    for switches, status in (
        ({"monolithic_post": True}, 201),
        ({"monolithic_post": False}, 202),
        ({"monolithic_post": 405}, 405),
        ({"octet_stream": 415}, 415),
    ):
        with speaking(**switches) as registry:
            assert ask(registry, "POST", MONOLITHIC, CONTENT).status == status
            assert ask(registry, "HEAD", BLOB).status == (200 if status == 201 else 404)
    with speaking(octet_stream=415) as registry:
        kind = "application/octet-stream"
        assert ask(registry, "POST", MONOLITHIC, CONTENT, Content_Type=kind).status == 201


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405])
def test_mount_refused(status: int) -> None:
    with speaking(mount=status) as registry:
        registry.push_blob("other", CONTENT)
        path = f"{UPLOADS}?mount={DIGEST}&from=other"
        assert ask(registry, "POST", path).status == status
        assert close(registry, begin(registry), CONTENT) == 201


def test_mount_without_source() -> None:
    path = f"{UPLOADS}?mount={DIGEST}"
    for switches, status in (
        ({}, 202),
        ({"from_required": 400}, 400),
        ({"mount_anonymous": True}, 201),
    ):
        with speaking(**switches) as registry:
            registry.push_blob("other", CONTENT)
            assert ask(registry, "POST", path).status == status
            assert ask(registry, "HEAD", BLOB).status == (200 if status == 201 else 404)
    with speaking(mount_anonymous=True) as registry:
        assert ask(registry, "POST", path).status == 202


def test_mount_digest() -> None:
    path = f"{UPLOADS}?mount={DIGEST}&from=other"
    for said, expected in (("own", {str(DIGEST)}), ("none", {None})):
        with speaking(mount_digest=said) as registry:
            registry.push_blob("other", CONTENT)
            reply = ask(registry, "POST", path)
            assert {reply.headers.get("docker-content-digest")} == expected
    with speaking(mount_digest="other") as registry:
        registry.push_blob("other", CONTENT)
        said = ask(registry, "POST", path).headers["docker-content-digest"]
        assert Digest.parse(said) != DIGEST


# --- where it is --------------------------------------------------------------------------------


def test_location_forms() -> None:
    for form, start in (
        ("absolute", "http://{}/v2/"),
        ("scheme-relative", "//{}/v2/"),
        ("http", "http://{}/v2/"),
        ("state", "http://{}/v2/"),
        ("encoded", "http://{}/v2/"),
    ):
        with speaking(location=form) as registry:
            location = ask(registry, "POST", UPLOADS).headers["location"]
            assert location.startswith(start.format(registry.host))
    with speaking(location="path-relative") as registry:
        location = ask(registry, "POST", UPLOADS).headers["location"]
        assert "/" not in location
        path = urljoin(UPLOADS, location)
        assert urljoin(path, ask(registry, "PATCH", path, CONTENT).headers["location"]) == path
        assert close(registry, path) == 201


def test_created_location() -> None:
    for sent in (True, False):
        with speaking(created_location=sent) as registry:
            reply = ask(registry, "PUT", f"{begin(registry)}?digest={DIGEST}", CONTENT)
            assert (reply.status, "location" in reply.headers) == (201, sent)
            assert ("location" in put_manifest(registry, "v1").headers) is sent


def test_http_behind_tls(certificates: Path) -> None:
    with ScriptedRegistry(
        dialect=Dialect(location="http"),
        tls_cert=str(certificates / "server.crt"),
        tls_key=str(certificates / "server.key"),
    ) as registry:
        context = ssl.create_default_context(cafile=str(certificates / "ca.crt"))
        connection = http.client.HTTPSConnection(registry.host, context=context, timeout=10)
        connection.request("POST", UPLOADS)
        location = connection.getresponse().headers["location"]
        connection.close()
        assert location.startswith(f"http://{registry.host}/v2/")


def test_encoded_location_must_come_back_as_it_was() -> None:
    with speaking(location="encoded") as registry:
        first = begin(registry)
        assert "sig=a%2Bb%2fc%3D%7e&x=%7C" in first
        for changed in (
            first.replace("%7C", "|"),
            first.replace("%2f", "%2F"),
            first.replace("%7e", "~"),
            first.partition("?")[0],
            "&".join(reversed(first.split("&"))),
        ):
            assert ask(registry, "PATCH", changed, b"x").status == 404
        reply = ask(registry, "PATCH", first, CONTENT)
        second = reply.headers["location"].removeprefix(registry.url)
        assert (reply.status, second == first) == (202, False)
        assert ask(registry, "PATCH", first, b"x").status == 404
        assert close(registry, second) == 201


# --- chunks -------------------------------------------------------------------------------------


def test_chunked_bodies() -> None:
    for switch, status in ((True, 202), (False, 411), (400, 400)):
        with speaking(chunked=switch) as registry:
            assert ask(registry, "PATCH", begin(registry), iter([b"x"])).status == status
            assert ask(registry, "PATCH", begin(registry), b"x").status == 202


@pytest.mark.parametrize(
    ("form", "said"),
    [("0-N", "0-4"), ("bytes", "bytes=0-4"), ("stuck", "0-0"), ("none", None)],
)
@pytest.mark.parametrize("status", [202, 201, 204, 200])
def test_patch(form: Any, said: str | None, status: int) -> None:
    with speaking(range_form=form, patch_status=status) as registry:
        location = begin(registry)
        reply = ask(registry, "PATCH", location, b"12345")
        assert (reply.status, reply.headers.get("range")) == (status, said)
        assert registry.store.uploads[location.rpartition("/")[2]].content == b"12345"


@pytest.mark.parametrize("status", [204, 200, 202])
def test_close_status(status: int) -> None:
    with speaking(close_status=status) as registry:
        assert close(registry, begin(registry), CONTENT) == status
        assert ask(registry, "GET", BLOB).body == CONTENT


def test_dropped_chunks() -> None:
    with speaking(dropped_chunks=(2,)) as registry:
        location = begin(registry)
        replies = [
            ask(registry, "PATCH", location, part, Content_Range=where)
            for part, where in ((b"abc", "0-2"), (b"defg", "3-6"), (b"defg", "3-6"))
        ]
        assert [r.status for r in replies] == [202, 202, 202]
        assert [r.headers["range"] for r in replies] == ["0-2", "0-2", "0-6"]


def test_chunk_min() -> None:
    for announced in (True, False):
        with speaking(chunk_min=100, chunk_min_header=announced) as registry:
            reply = ask(registry, "POST", UPLOADS)
            assert reply.headers.get("oci-chunk-min-length") == ("100" if announced else None)
            location = reply.headers["location"]
            assert ask(registry, "PATCH", location, CONTENT[:100]).status == 202
            assert ask(registry, "PATCH", location, CONTENT[100:]).status == 202
            assert close(registry, location) == 201
            location = begin(registry)
            assert ask(registry, "PATCH", location, CONTENT[:99]).status == 202
            assert ask(registry, "PATCH", location, CONTENT[99:]).status == 400
            # The last chunk may be short.
            location = begin(registry)
            assert ask(registry, "PATCH", location, CONTENT[:-10]).status == 202
            assert ask(registry, "PATCH", location, CONTENT[-10:]).status == 202
            assert close(registry, location) == 201


def test_cancel_and_status() -> None:
    with speaking(cancel=403, upload_status=False) as registry:
        location = begin(registry)
        assert ask(registry, "DELETE", location).status == 403
        assert ask(registry, "GET", location).status == 400
        assert close(registry, location, CONTENT) == 201
    with speaking() as registry:
        location = begin(registry)
        assert (
            ask(registry, "GET", location).status,
            ask(registry, "DELETE", location).status,
        ) == (
            204,
            204,
        )


def test_other_algorithms() -> None:
    long = Digest.of(CONTENT, "sha512")
    odd = f"/v2/app/blobs/{long}"
    for form, status, kept, own in (
        ("kept", 201, 200, 404),
        ("renamed", 201, 404, 200),
        ("refused", 400, 404, 404),
    ):
        for monolithic in (True, False):
            with speaking(other_algorithms=form, monolithic_post=True) as registry:
                target = f"{UPLOADS}?digest={long}"
                method = "POST"
                if not monolithic:
                    target, method = f"{begin(registry)}?digest={long}", "PUT"
                reply = ask(registry, method, target, CONTENT)
                assert reply.status == status
                assert ask(registry, "HEAD", odd).status == kept
                assert ask(registry, "HEAD", BLOB).status == own
                if form == "renamed":
                    assert reply.headers["docker-content-digest"] == str(DIGEST)
                    assert reply.headers["location"] == BLOB


# --- lengths ------------------------------------------------------------------------------------


def bare_request(registry: ScriptedRegistry, method: str, target: str) -> int:
    """A request without Content-Length and Transfer-Encoding."""
    connection = http.client.HTTPConnection(registry.host, timeout=10)
    connection.putrequest(method, target)
    connection.endheaders()
    status = connection.getresponse().status
    connection.close()
    return status


def test_empty_blobs() -> None:
    empty = Digest.of(b"")
    for allowed, status in ((True, 201), (False, 400)):
        with speaking(empty_blobs=allowed) as registry:
            assert ask(registry, "POST", f"{UPLOADS}?digest={empty}", b"").status == status
            target = f"{begin(registry)}?digest={empty}"
            assert ask(registry, "PUT", target, b"").status == status
            location = begin(registry)
            assert ask(registry, "PATCH", location, CONTENT).status == 202
            assert close(registry, location) == 201
    for needed, status in ((True, 411), (False, 201)):
        with speaking(empty_needs_length=needed) as registry:
            target = f"{begin(registry, Content_Length='0')}?digest={empty}"
            assert bare_request(registry, "PUT", target) == status
            if needed:
                assert ask(registry, "PUT", target, b"", Content_Length="0").status == 201


def test_body_limit() -> None:
    with speaking(body_limit=5000) as registry:
        for body in (CONTENT, iter([CONTENT[:4000], CONTENT[4000:]])):
            location = begin(registry)
            reply = ask(registry, "PATCH", location, body)
            assert (reply.status, reply.headers["content-type"]) == (413, "text/html")
        location = begin(registry)
        for start in range(0, len(CONTENT), 5000):
            part = CONTENT[start : start + 5000]
            assert ask(registry, "PATCH", location, part).status == 202
        assert close(registry, location) == 201
        assert put_manifest(registry, "v1", annotations={"a": "x" * 5000}).status == 413


def test_put_stored_though_the_answer_is_lost() -> None:
    with speaking() as registry:
        registry.fail(method="PUT", path="/blobs/", status=504, processed=True)
        assert close(registry, begin(registry), CONTENT) == 504
        assert ask(registry, "HEAD", BLOB).status == 200


def test_refused_before_the_body_is_sent() -> None:
    with speaking() as registry:
        location = begin(registry)
        registry.fail(method="PATCH", early=1000, status=401)
        with socket.create_connection(("127.0.0.1", registry.port), timeout=10) as sock:
            head = f"PATCH {location} HTTP/1.1\r\nHost: x\r\nContent-Length: 9000\r\n\r\n"
            sock.sendall(head.encode() + CONTENT[:1000])
            received = b""
            while part := sock.recv(65536):
                received += part
        assert received.startswith(b"HTTP/1.1 401 ")
        assert registry.requests[-1].received == 1000


# --- repositories -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("switch", "status", "code"),
    [(False, 404, "NAME_UNKNOWN"), (401, 401, "UNAUTHORIZED"), (403, 403, "DENIED")],
)
def test_auto_create(switch: Any, status: int, code: str) -> None:
    with speaking(auto_create=switch) as registry:
        reply = ask(registry, "POST", UPLOADS)
        assert (reply.status, reply.code) == (status, code)
        assert ask(registry, "PUT", "/v2/other/manifests/v1", b"{}").status == status
        manifest(registry)
        assert close(registry, begin(registry), CONTENT) == 201
        assert put_manifest(registry, "v2").status == 201

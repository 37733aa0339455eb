"""Every switch of downloads does to the wire what it says, and so does the signing storage."""

from __future__ import annotations

import gzip
import re
from typing import Any

import pytest

from imgtools.testing.dialects import Dialect
from imgtools.testing.registry import ScriptedRegistry
from tests.scripted import BLOB, CONTENT, DIGEST, ask, speaking

SIZE = len(CONTENT)


def holding(**switches: Any) -> ScriptedRegistry:
    registry = speaking(**switches)
    registry.push_blob("app", CONTENT)
    return registry


@pytest.mark.parametrize(
    ("ranges", "status", "said", "first", "last"),
    [
        (True, 206, f"bytes 100-199/{SIZE}", 100, 200),
        (False, 200, None, 0, SIZE),
        ("shifted", 206, f"bytes 110-199/{SIZE}", 110, 200),
        ("shortened", 206, f"bytes 100-198/{SIZE}", 100, 199),
        ("unlabelled", 206, None, 100, 200),
    ],
)
def test_ranges(ranges: Any, status: int, said: str | None, first: int, last: int) -> None:
    with holding(ranges=ranges) as registry:
        reply = ask(registry, "GET", BLOB, Range="bytes=100-199")
        assert (reply.status, reply.headers.get("content-range")) == (status, said)
        assert reply.body == CONTENT[first:last]
        assert ask(registry, "GET", BLOB).body == CONTENT


def test_ranges_refused_or_wrapped() -> None:
    with holding(ranges=416) as registry:
        assert ask(registry, "GET", BLOB, Range="bytes=100-").status == 416
        assert ask(registry, "GET", BLOB).status == 200
    with holding(range_refusal="cut") as registry:
        reply = ask(registry, "GET", BLOB, Range=f"bytes={SIZE}-")
        assert (reply.status, reply.headers["content-length"]) == (416, str(SIZE))
        assert not reply.whole
    with holding(ranges="multipart") as registry:
        reply = ask(registry, "GET", BLOB, Range="bytes=100-199")
        kind, _, boundary = reply.headers["content-type"].partition("; boundary=")
        assert (reply.status, kind) == (206, "multipart/byteranges")
        assert "content-range" not in reply.headers
        _, part, end = reply.body.split(f"--{boundary}".encode())
        assert end == b"--\r\n"
        head, _, content = part.partition(b"\r\n\r\n")
        assert f"Content-Range: bytes 100-199/{SIZE}".encode() in head
        assert content.removesuffix(b"\r\n") == CONTENT[100:200]


def test_lengths() -> None:
    with holding(lengths="none") as registry:
        for method, body in (("GET", CONTENT), ("HEAD", b"")):
            reply = ask(registry, method, BLOB)
            assert (reply.status, reply.body) == (200, body)
            assert not {"content-length", "transfer-encoding"} & set(reply.headers)
    with holding(lengths="chunked") as registry:
        reply = ask(registry, "GET", BLOB)
        assert (reply.headers["transfer-encoding"], reply.body) == ("chunked", CONTENT)
        assert "content-length" not in reply.headers
        registry.fail(cut_after=5000)
        assert not ask(registry, "GET", BLOB).whole
    for lengths, said in (("head-none", None), ("head-wrong", str(SIZE + 7))):
        with holding(lengths=lengths) as registry:
            assert ask(registry, "HEAD", BLOB).headers.get("content-length") == said
            assert ask(registry, "GET", BLOB).headers["content-length"] == str(SIZE)


def test_content_encoding() -> None:
    with holding(content_encoding="gzip") as registry:
        reply = ask(registry, "GET", BLOB, Accept_Encoding="identity")
        assert reply.headers["content-encoding"] == "gzip"
        assert gzip.decompress(reply.body) == CONTENT != reply.body
    with holding(content_encoding="label") as registry:
        reply = ask(registry, "GET", BLOB, Accept_Encoding="identity")
        assert (reply.headers["content-encoding"], reply.body) == ("gzip", CONTENT)


# --- signed URLs --------------------------------------------------------------------------------


def follow(registry: ScriptedRegistry, url: str, method: str = "GET", **headers: str) -> Any:
    host, _, target = url.partition("//")[2].partition("/")
    return ask(registry, method, f"/{target}", host=host, **headers)


@pytest.mark.parametrize(("where", "host"), [("port", "127.0.0.1"), ("host", "localhost")])
def test_presigned(where: Any, host: str) -> None:
    with holding(presigned=where) as registry:
        reply = ask(registry, "GET", BLOB)
        url = reply.headers["location"]
        assert (reply.status, url.partition("?")[0]) == (
            307,
            f"http://{host}:{registry.storage_port}/storage/app/{DIGEST}",
        )
        assert registry.storage_port != registry.port
        assert follow(registry, url).body == CONTENT
        ranged = follow(registry, url, Range="bytes=5-")
        assert (ranged.status, ranged.body) == (206, CONTENT[5:])
        assert "docker-content-digest" not in ranged.headers
        refused = follow(registry, url, Authorization="Bearer x")
        assert (refused.status, refused.headers["content-type"]) == (400, "application/xml")
        forged = follow(registry, re.sub("Signature=.*", "Signature=0", url))
        assert forged.status == 403
        assert follow(registry, url, "PUT").status == 403
        assert ask(registry, "HEAD", BLOB).status == 200
        assert ask(registry, "GET", BLOB.replace(str(DIGEST), "sha256:" + "0" * 64)).status == 404
        assert [e.storage for e in registry.requests[:2]] == [False, True]


def test_presigned_expires() -> None:
    with holding(presigned="port", presigned_uses=2, redirect_status=302) as registry:
        reply = ask(registry, "GET", BLOB)
        url = reply.headers["location"]
        assert reply.status == 302
        assert [follow(registry, url).status for _ in range(3)] == [200, 200, 403]
        again = ask(registry, "GET", BLOB).headers["location"]
        assert again != url
        assert follow(registry, again).status == 200
    with holding(presigned="port", presigned_seconds=0, presigned_head=True) as registry:
        url = ask(registry, "HEAD", BLOB).headers["location"]
        assert follow(registry, url, "HEAD").status == 403


def test_presigned_is_open_and_the_registry_is_not() -> None:
    with ScriptedRegistry(auth="basic", dialect=Dialect(presigned="port")) as registry:
        digest = registry.push_blob("app", CONTENT)
        assert ask(registry, "GET", BLOB).status == 401
        assert follow(registry, registry.signed_url("app", digest)).body == CONTENT
        registry.fail(path="^/storage/", nth=1, cut_after=10)
        assert not follow(registry, registry.signed_url("app", digest)).whole

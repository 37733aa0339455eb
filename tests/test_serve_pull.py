"""Pulling, and what names may be: distribution-spec 1.1 "Pull", on both storages.

Every MUST for registries of that section has a test here, without a socket.
"""

from __future__ import annotations

import json

import pytest

from imgtools.serve.app import RegistryApp
from imgtools.serve.storage import RegistryStore
from imgtools.spec import media_type as mt
from imgtools.spec.digest import Digest
from tests.serve_client import ABSENT, REPO, Client, both_stores, image

store = pytest.fixture(params=["memory", "layouts"])(both_stores)


@pytest.fixture
def client(store: RegistryStore) -> Client:
    """The application over it."""
    return Client(RegistryApp(store))


# --- Determining support -----------------------------------------------------------------------


def test_version_endpoint(client: Client) -> None:
    for path in ("/v2/", "/v2"):
        answer = client("GET", path)
        assert (answer.status, answer.json()) == (200, {})
        assert answer.headers["Docker-Distribution-API-Version"] == "registry/2.0"
    assert client("POST", "/v2/").status == 405


# --- Pull --------------------------------------------------------------------------------------


def test_manifest_by_tag_and_digest(client: Client) -> None:
    value = image(client)
    put = client.manifest("v1", value)
    digest = put.headers["Docker-Content-Digest"]
    for reference in ("v1", digest):
        got = client("GET", f"/v2/{REPO}/manifests/{reference}", accept="text/nonsense")
        assert got.status == 200
        assert got.body == json.dumps(value).encode()
        assert got.headers["Docker-Content-Digest"] == digest == str(Digest.of(got.body))
        assert got.headers["Content-Type"] == mt.OCI_MANIFEST
        head = client("HEAD", f"/v2/{REPO}/manifests/{reference}")
        assert (head.status, head.body) == (200, b"")
        assert head.headers["Content-Length"] == str(len(got.body))
        assert head.headers["Docker-Content-Digest"] == digest


def test_manifest_without_its_own_media_type(client: Client) -> None:
    value = image(client)
    del value["mediaType"]
    assert client.manifest("v1", value).status == 201
    assert client("GET", f"/v2/{REPO}/manifests/v1").headers["Content-Type"] == mt.OCI_MANIFEST


@pytest.mark.parametrize("kind", ["manifests", "blobs"])
def test_entity_tags(client: Client, kind: str) -> None:
    put = client.manifest("v1", image(client))
    target = put.headers["Docker-Content-Digest"] if kind == "manifests" else client.blob(b"x")
    path = f"/v2/{REPO}/{kind}/{target}"
    etag = client("GET", path).headers["ETag"]
    for header in (etag, f"W/{etag}", etag.strip('"'), f'"other", {etag}', "*"):
        answer = client("GET", path, if_none_match=header)
        assert (answer.status, answer.body) == (304, b"")
        assert "Content-Length" not in answer.headers
    assert client("GET", path, if_none_match='"sha256:other"').status == 200


def test_blob(client: Client) -> None:
    digest = client.blob(b"0123456789")
    path = f"/v2/{REPO}/blobs/{digest}"
    got = client("GET", path)
    assert (got.status, got.body) == (200, b"0123456789")
    assert got.headers["Docker-Content-Digest"] == str(digest)
    assert got.headers["Content-Length"] == "10"
    assert got.headers["Accept-Ranges"] == "bytes"
    head = client("HEAD", path)
    assert (head.status, head.body, head.headers["Content-Length"]) == (200, b"", "10")
    assert head.headers["Docker-Content-Digest"] == str(digest)


@pytest.mark.parametrize(
    ("header", "status", "body", "content_range"),
    [
        ("bytes=0-0", 206, b"0", "bytes 0-0/10"),
        ("bytes=3-5", 206, b"345", "bytes 3-5/10"),
        ("Bytes=7-", 206, b"789", "bytes 7-9/10"),
        ("bytes=5-99999999999", 206, b"56789", "bytes 5-9/10"),
        ("bytes=-4", 206, b"6789", "bytes 6-9/10"),
        ("bytes=-400", 206, b"0123456789", "bytes 0-9/10"),
        ("bytes=10-", 416, None, "bytes */10"),
        ("bytes=-0", 416, None, "bytes */10"),
        # RFC 9110 section 14.2: what is malformed, or more than we do, is ignored.
        ("bytes=5-3", 200, b"0123456789", None),
        ("bytes=-", 200, b"0123456789", None),
        ("bytes=0-1,3-4", 200, b"0123456789", None),
        ("lines=0-1", 200, b"0123456789", None),
        ("bytes=-5-6", 200, b"0123456789", None),
        ("bytes=" + "9" * 5000 + "-", 200, b"0123456789", None),
    ],
)
def test_blob_ranges(
    client: Client, header: str, status: int, body: bytes | None, content_range: str | None
) -> None:
    path = f"/v2/{REPO}/blobs/{client.blob(b'0123456789')}"
    got = client("GET", path, range=header)
    assert got.status == status
    assert got.headers.get("Content-Range") == content_range
    if body is not None:
        assert got.body == body
        assert got.headers["Content-Length"] == str(len(body))
    assert client("HEAD", path, range=header).status == 200


def test_if_range(client: Client) -> None:
    path = f"/v2/{REPO}/blobs/{client.blob(b'0123456789')}"
    etag = client("GET", path).headers["ETag"]
    assert client("GET", path, range="bytes=1-2", if_range=etag).status == 206
    assert client("GET", path, range="bytes=1-2", if_range='"old"').status == 200


def test_empty_blob(client: Client) -> None:
    path = f"/v2/{REPO}/blobs/{client.blob(b'')}"
    assert (client("GET", path).status, client("GET", path).body) == (200, b"")
    assert client("GET", path, range="bytes=0-").status == 416
    assert client("HEAD", path).headers["Content-Length"] == "0"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_absent_content_is_404(client: Client, method: str) -> None:
    client.manifest("v1", image(client))
    table = [
        (f"/v2/{REPO}/manifests/nope", "MANIFEST_UNKNOWN"),
        (f"/v2/{REPO}/manifests/{ABSENT}", "MANIFEST_UNKNOWN"),
        (f"/v2/{REPO}/blobs/{ABSENT}", "BLOB_UNKNOWN"),
        ("/v2/no/such/manifests/latest", "NAME_UNKNOWN"),
        (f"/v2/no/such/blobs/{ABSENT}", "NAME_UNKNOWN"),
        ("/v2/no/such/tags/list", "NAME_UNKNOWN"),
        (f"/v2/{REPO}/nonsense", "UNSUPPORTED"),
        ("/v1/", "UNSUPPORTED"),
    ]
    for path, code in table:
        answer = client(method, path)
        assert answer.status == 404, path
        if method == "GET":
            assert answer.code == code, path


# --- Names, tags and digests -------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "UPPER",
        "a/../b",
        "..",
        "a//b",
        "-a",
        "a_",
        "a/.hidden",
        "a%2fb",
        "é",
        "a b",
        "a" * 256,
        "a\0b",
    ],
)
def test_bad_names_are_refused(client: Client, name: str) -> None:
    for method, rest in [
        ("GET", "manifests/latest"),
        ("GET", f"blobs/{ABSENT}"),
        ("GET", "tags/list"),
        ("POST", "blobs/uploads/"),
        ("PUT", "manifests/latest"),
        ("DELETE", f"blobs/{ABSENT}"),
    ]:
        answer = client(method, f"/v2/{name}/{rest}")
        assert (answer.status, answer.code) == (400, "NAME_INVALID")


@pytest.mark.parametrize(
    "digest",
    [
        "sha256:short",
        "sha256:" + "G" * 64,
        "sha256:" + "A" * 64,
        "md5:" + "0" * 32,
        "sha256:../../../../etc/passwd",
        "sha256:" + "0" * 64 + ":x",
        "sha256:..",
    ],
)
def test_bad_digests_are_refused(client: Client, digest: str) -> None:
    client.blob(b"x")
    for method, path in [
        ("GET", f"blobs/{digest}"),
        ("DELETE", f"blobs/{digest}"),
        ("GET", f"manifests/{digest}"),
        ("PUT", f"manifests/{digest}"),
        ("GET", f"referrers/{digest}"),
        ("POST", f"blobs/uploads/?digest={digest}"),
        ("POST", f"blobs/uploads/?mount={digest}&from=other"),
    ]:
        answer = client(method, f"/v2/{REPO}/{path}")
        assert answer.status in (400, 404), (method, path)
        if "/" not in digest or "?" in path:
            assert (answer.status, answer.code) == (400, "DIGEST_INVALID")


@pytest.mark.parametrize("tag", [".dot", "-dash", "a" * 129, "sp ace", "plus+"])
def test_bad_tags(client: Client, tag: str) -> None:
    value = image(client)
    assert client("GET", f"/v2/{REPO}/manifests/{tag}").status == 404
    answer = client.manifest(tag, value)
    assert (answer.status, answer.code) == (400, "MANIFEST_INVALID")
    content = json.dumps(value).encode()
    path = f"/v2/{REPO}/manifests/{Digest.of(content)}?tag={tag.replace('+', '%2B')}"
    assert client("PUT", path, content).code == "MANIFEST_INVALID"

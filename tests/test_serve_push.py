"""Pushing: distribution-spec 1.1 "Push", on both storages.

Every MUST for registries of that section has a test here, without a socket, but for those
on OCI-Chunk-Min-Length and Warning headers: we send neither, as we take chunks of any size.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from imgtools.serve.app import AppOptions, RegistryApp
from imgtools.serve.storage import RegistryStore
from imgtools.spec import media_type as mt
from imgtools.spec.digest import Digest
from tests.serve_client import ABSENT, REPO, Client, both_stores, image, index_of, start

store = pytest.fixture(params=["memory", "layouts"])(both_stores)


@pytest.fixture
def client(store: RegistryStore) -> Client:
    """The application over it."""
    return Client(RegistryApp(store))


# --- Push: blobs -------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["sha256", "sha384", "sha512"])
def test_post_then_put(client: Client, algorithm: str) -> None:
    digest = Digest.of(b"content", algorithm)
    done = client("PUT", f"{start(client)}?digest={digest}", b"content")
    assert done.status == 201
    assert client("GET", done.headers["Location"]).body == b"content"
    assert done.headers["Docker-Content-Digest"] == str(digest)


@pytest.mark.parametrize("said", ["", "?digest-algorithm=sha512"])
def test_chunks_then_another_algorithm(client: Client, said: str) -> None:
    location = start(client, said)
    assert client("PATCH", location, b"con", content_range="0-2").status == 202
    digest = Digest.of(b"content", "sha512")
    assert client("PUT", f"{location}?digest={digest}", b"tent").status == 201
    assert client("GET", f"/v2/{REPO}/blobs/{digest}").body == b"content"


def test_unknown_digest_algorithm(client: Client) -> None:
    answer = client("POST", f"/v2/{REPO}/blobs/uploads/?digest-algorithm=blake3")
    assert (answer.status, answer.code) == (400, "DIGEST_INVALID")


def test_chunked_upload(client: Client) -> None:
    location = start(client)
    first = client("PATCH", location, b"0123", content_range="0-3")
    assert (first.status, first.headers["Range"]) == (202, "0-3")
    second = client("PATCH", first.headers["Location"], b"456", chunked=True)
    assert (second.status, second.headers["Range"]) == (202, "0-6")
    status = client("GET", second.headers["Location"])
    assert (status.status, status.headers["Range"]) == (204, "0-6")
    assert status.headers["Location"] == second.headers["Location"]
    digest = Digest.of(b"0123456789")
    done = client("PUT", f"{location}?digest={digest}", b"789", content_range="7-9")
    assert done.status == 201
    assert client("GET", done.headers["Location"]).body == b"0123456789"
    assert client("GET", location).code == "BLOB_UPLOAD_UNKNOWN"


@pytest.mark.parametrize("method", ["PATCH", "PUT"])
@pytest.mark.parametrize(
    ("content_range", "body", "status", "code"),
    [
        ("5-6", b"xy", 416, "BLOB_UPLOAD_INVALID"),
        ("0-1", b"xy", 416, "BLOB_UPLOAD_INVALID"),
        ("4-5", b"xyz", 400, "SIZE_INVALID"),
        ("4-9", b"xyz", 400, "SIZE_INVALID"),
        ("5-4", b"xyz", 400, "BLOB_UPLOAD_INVALID"),
        ("bytes 4-6/*", b"xyz", 400, "BLOB_UPLOAD_INVALID"),
        ("-4-6", b"xyz", 400, "BLOB_UPLOAD_INVALID"),
        ("4--6", b"xyz", 400, "BLOB_UPLOAD_INVALID"),
        ("9" * 5000 + "-6", b"xyz", 400, "BLOB_UPLOAD_INVALID"),
    ],
)
def test_chunk_out_of_order_or_malformed(
    client: Client, method: str, content_range: str, body: bytes, status: int, code: str
) -> None:
    location = start(client)
    client("PATCH", location, b"0123", content_range="0-3")
    query = f"?digest={Digest.of(b'0123xyz')}" if method == "PUT" else ""
    answer = client(method, location + query, body, content_range=content_range)
    assert (answer.status, answer.code) == (status, code)
    if status == 416:
        assert (answer.headers["Range"], answer.headers["Location"]) == ("0-3", location)
    assert client("GET", location).headers["Range"] == "0-3"


def test_chunked_coding_must_agree_with_range(client: Client) -> None:
    for body in (b"ab", b"abcd"):
        location = start(client)
        answer = client("PATCH", location, body, chunked=True, content_range="0-2")
        assert (answer.status, answer.code) == (400, "SIZE_INVALID")
        assert client("GET", location).status == 404


@pytest.mark.parametrize("session", ["nope", "..", "%2e%2e", "a" * 4000])
def test_unknown_session(client: Client, session: str) -> None:
    for method in ("GET", "PATCH", "PUT", "DELETE"):
        answer = client(method, f"/v2/{REPO}/blobs/uploads/{session}?digest={ABSENT}")
        assert (answer.status, answer.code) == (404, "BLOB_UPLOAD_UNKNOWN")


def test_session_belongs_to_its_repository(client: Client) -> None:
    other = start(client).replace(REPO, "other/repo")
    assert client("PATCH", other, b"x").code == "BLOB_UPLOAD_UNKNOWN"


def test_cancel(client: Client, tmp_path: Path) -> None:
    location = start(client)
    client("PATCH", location, b"0123")
    assert client("DELETE", location).status == 204
    assert client("GET", location).status == 404
    assert not list(tmp_path.rglob("*upload-*"))


def test_session_busy_with_another_request(client: Client, store: RegistryStore) -> None:
    location = start(client)
    upload = store.upload(REPO, location.rpartition("/")[2])
    assert upload is not None
    assert upload.acquire()
    answer = client("PATCH", location, b"x")
    assert (answer.status, answer.code) == (409, "BLOB_UPLOAD_INVALID")
    upload.release()
    assert client("PATCH", location, b"x").status == 202


def test_wrong_digest(client: Client, tmp_path: Path) -> None:
    for method, path in [
        ("POST", f"/v2/{REPO}/blobs/uploads/?digest={ABSENT}"),
        ("PUT", f"{start(client)}?digest={ABSENT}"),
    ]:
        answer = client(method, path, b"content")
        assert (answer.status, answer.code) == (400, "DIGEST_INVALID")
        assert client("GET", path.partition("?")[0]).status != 204
    assert client("HEAD", f"/v2/{REPO}/blobs/{ABSENT}").status == 404
    assert not list(tmp_path.rglob("*upload-*"))
    missing = client("PUT", start(client), b"content")
    assert (missing.status, missing.code) == (400, "DIGEST_INVALID")


def test_mount(client: Client) -> None:
    digest = client.blob(b"shared", "from/here")
    path = f"/v2/{REPO}/blobs/uploads/?mount={digest}"
    mounted = client("POST", f"{path}&from=from/here")
    assert mounted.status == 201
    assert client("GET", mounted.headers["Location"]).body == b"shared"
    assert mounted.headers["Location"] == f"/v2/{REPO}/blobs/{digest}"
    for rest in ("&from=no/such", "&from=../..", "&from=", ""):
        answer = client("POST", f"/v2/{REPO}/blobs/uploads/?mount={ABSENT}{rest}")
        assert answer.status == 202, rest
        done = client("PUT", f"{answer.headers['Location']}?digest={Digest.of(b'y')}", b"y")
        assert done.status == 201


# --- Push: manifests ---------------------------------------------------------------------------


def test_bytes_are_kept(client: Client) -> None:
    content = b"\n  " + json.dumps(image(client), indent=3).encode() + b"\n"
    put = client("PUT", f"/v2/{REPO}/manifests/x", content, content_type=f"{mt.OCI_MANIFEST}; a=b")
    assert (put.status, put.headers["Location"]) == (201, f"/v2/{REPO}/manifests/x")
    assert client("GET", put.headers["Location"]).body == content
    assert put.headers["Docker-Content-Digest"] == str(Digest.of(content))


def test_put_by_digest_with_tags(client: Client) -> None:
    content = json.dumps(image(client)).encode()
    tags = [f"t{n}" for n in range(12)]
    query = "&".join(f"tag={tag}" for tag in tags)
    put = client("PUT", f"/v2/{REPO}/manifests/{Digest.of(content)}?{query}", content)
    assert put.status == 201
    assert put.headers["OCI-Tag"].split(", ") == tags
    assert client("GET", f"/v2/{REPO}/tags/list").json()["tags"] == sorted(tags)
    many = "&".join(f"tag=x{n}" for n in range(101))
    path = f"/v2/{REPO}/manifests/{Digest.of(content)}?{many}"
    assert client("PUT", path, content).status == 414


def test_put_by_sha512_digest(client: Client) -> None:
    content = json.dumps(image(client)).encode()
    digest = Digest.of(content, "sha512")
    put = client("PUT", f"/v2/{REPO}/manifests/{digest}", content)
    assert (put.status, put.headers["Docker-Content-Digest"]) == (201, str(digest))
    assert client("GET", f"/v2/{REPO}/manifests/{digest}").body == content


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        (b"", 400, "MANIFEST_INVALID"),
        (b"not json", 400, "MANIFEST_INVALID"),
        (b"[]", 400, "MANIFEST_INVALID"),
        (b"{}", 400, "MANIFEST_INVALID"),
        (b'{"schemaVersion":2,"config":{},"layers":[]}', 400, "MANIFEST_INVALID"),
        (b'{"schemaVersion":2,"manifests":[],"layers":[]}', 400, "MANIFEST_INVALID"),
        (b'{"a":1,"a":2,"manifests":[]}', 400, "MANIFEST_INVALID"),
        (b"[" * 5000, 400, "MANIFEST_INVALID"),
        (b'{"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}', 400,
         "MANIFEST_INVALID"),
        (b" " * (4 * 1024 * 1024 + 1), 413, "SIZE_INVALID"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("chunked", [False, True])
def test_bad_manifests(
    client: Client, content: bytes, status: int, code: str, chunked: bool
) -> None:
    path = f"/v2/{REPO}/manifests/v1"
    answer = client("PUT", path, content, chunked, content_type=mt.OCI_MANIFEST)
    assert (answer.status, answer.code) == (status, code)


def test_manifest_digest_must_agree(client: Client) -> None:
    answer = client.manifest(ABSENT, image(client))
    assert (answer.status, answer.code) == (400, "DIGEST_INVALID")


def test_four_mebibytes_are_accepted(client: Client) -> None:
    value = image(client)
    value["annotations"] = {"pad": ""}
    value["annotations"]["pad"] = "x" * (4 * 1024 * 1024 - len(json.dumps(value)))
    assert len(json.dumps(value)) == 4 * 1024 * 1024
    assert client.manifest("v1", value).status == 201


@pytest.mark.parametrize("part", ["config", "layers"])
def test_manifest_needs_its_blobs(client: Client, part: str) -> None:
    value = image(client)
    descriptor = value[part] if part == "config" else value[part][0]
    descriptor["size"] += 1
    assert client.manifest("v1", value).code == "SIZE_INVALID"
    descriptor["digest"] = ABSENT
    answer = client.manifest("v1", value)
    assert (answer.status, answer.code) == (404, "MANIFEST_BLOB_UNKNOWN")
    if part == "layers":
        descriptor["mediaType"] = mt.OCI_FOREIGN_GZIP
        assert client.manifest("v1", value).status == 201


def test_index_needs_its_children(client: Client, store: RegistryStore) -> None:
    value = image(client)
    child = client.manifest("@", value)
    size = len(json.dumps(value))
    index = index_of(child, sizes=[size])
    assert client.manifest("multi", index).status == 201
    index["manifests"][0]["digest"] = ABSENT
    answer = client.manifest("multi", index)
    assert (answer.status, answer.code) == (404, "MANIFEST_BLOB_UNKNOWN")
    sparse = Client(RegistryApp(store, AppOptions(sparse_indexes=True)))
    assert sparse.manifest("multi", index).status == 201


def test_conditional_put(client: Client) -> None:
    first, second = image(client), image(client, annotations={"a": "b"})
    content = json.dumps(first).encode()
    path = f"/v2/{REPO}/manifests/v1"
    assert client("PUT", path, content, if_match='"x"').status == 412
    assert client("PUT", path, content, if_none_match="*").status == 201
    assert client("PUT", path, content, if_none_match="*").status == 412
    etag = client("GET", path).headers["ETag"]
    assert client("PUT", path, json.dumps(second).encode(), if_match=etag).status == 201
    assert client("PUT", path, content, if_match=etag).status == 412

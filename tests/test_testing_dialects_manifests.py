"""Every switch of manifests does to the wire what it says."""

from __future__ import annotations

import http.client
import json
from typing import Any

import pytest

from imgtools.spec import media_type as mt
from imgtools.spec.digest import Digest
from imgtools.testing.registry import ScriptedRegistry
from tests.scripted import BLOB, CONTENT, ask, manifest, manifest_bytes, put_manifest, speaking

V1 = "/v2/app/manifests/v1"


@pytest.mark.parametrize(
    ("head", "status", "absent"),
    [
        (True, 200, set()),
        (False, 405, set()),
        (401, 401, set()),
        (403, 403, set()),
        ("no-length", 200, {"content-length"}),
        ("no-digest", 200, {"docker-content-digest", "etag"}),
    ],
)
def test_head(head: Any, status: int, absent: set[str]) -> None:
    with speaking(head=head) as registry:
        digest = manifest(registry)
        reply = ask(registry, "HEAD", V1)
        assert reply.status == status
        wanted = {"content-length", "docker-content-digest", "etag"} if status == 200 else set()
        assert wanted - set(reply.headers) == absent
        got = ask(registry, "GET", V1)
        assert (got.status, got.headers["docker-content-digest"]) == (200, digest)


def two_lines(registry: ScriptedRegistry, *values: str) -> int:
    connection = http.client.HTTPConnection(registry.host, timeout=10)
    connection.putrequest("GET", V1)
    for value in values:
        connection.putheader("Accept", value)
    connection.endheaders()
    status = connection.getresponse().status
    connection.close()
    return status


@pytest.mark.parametrize(
    ("lines", "first", "last"), [("all", 200, 200), ("first", 200, 406), ("last", 406, 200)]
)
def test_accept(lines: Any, first: int, last: int) -> None:
    with speaking(accept=406, accept_lines=lines) as registry:
        manifest(registry)
        assert ask(registry, "GET", V1).status == 406
        assert two_lines(registry, mt.OCI_MANIFEST, mt.OCI_INDEX) == first
        assert two_lines(registry, mt.OCI_INDEX, mt.OCI_MANIFEST) == last
        assert two_lines(registry, f"{mt.OCI_INDEX}, {mt.OCI_MANIFEST}") == 200


@pytest.mark.parametrize(
    ("switch", "sent"),
    [
        ("text/plain", "text/plain"),
        ("{}; charset=utf-8", f"{mt.OCI_MANIFEST}; charset=utf-8"),
        ("application/json", "application/json"),
    ],
)
def test_content_type(switch: str, sent: str) -> None:
    with speaking(content_type=switch) as registry:
        manifest(registry)
        assert ask(registry, "GET", V1).headers["content-type"] == sent
        assert ask(registry, "HEAD", V1).headers["content-type"] == sent


def test_digest_header() -> None:
    for said in (False, "sha512", "wrong"):
        with speaking(digest_header=said) as registry:
            registry.push_blob("app", CONTENT)
            manifest(registry)
            for path, content in ((V1, ask(registry, "GET", V1).body), (BLOB, CONTENT)):
                for method in ("GET", "HEAD"):
                    header = ask(registry, method, path).headers.get("docker-content-digest")
                    if said == "sha512":
                        assert header == str(Digest.of(content, "sha512"))
                    elif said == "wrong":
                        assert header not in (None, str(Digest.of(content)))
                    else:
                        assert header is None


def test_stale_reads() -> None:
    with speaking(stale_reads=2) as registry:
        digest = put_manifest(registry, "v1").headers["docker-content-digest"]
        assert [ask(registry, "GET", V1).status for _ in range(3)] == [404, 404, 200]
        put_manifest(registry, "v1")
        assert ask(registry, "GET", f"/v2/app/manifests/{digest}").status == 200
        assert ask(registry, "HEAD", V1).status == 404


def test_content_type_needed() -> None:
    with speaking(content_type_needed=415) as registry:
        for said, status in (("", 415), ("application/json", 415), (mt.OCI_MANIFEST, 201)):
            assert put_manifest(registry, "v1", said).status == status


def test_manifest_limit() -> None:
    for status, code in ((413, "SIZE_INVALID"), (400, "MANIFEST_INVALID")):
        with speaking(manifest_limit=1000, manifest_limit_status=status) as registry:
            assert put_manifest(registry, "v1").status == 201
            reply = put_manifest(registry, "v1", annotations={"a": "x" * 1000})
            assert (reply.status, reply.code) == (status, code)
    with speaking() as registry:
        reply = put_manifest(registry, "v1", annotations={"a": "x" * (4 << 20)})
        assert (reply.status, reply.code) == (413, "SIZE_INVALID")


def put_index(registry: ScriptedRegistry, digest: str, size: int, kind: str) -> int:
    value = {
        "schemaVersion": 2,
        "mediaType": mt.OCI_INDEX,
        "manifests": [{"mediaType": kind, "digest": digest, "size": size}],
    }
    content = json.dumps(value).encode()
    return ask(registry, "PUT", "/v2/app/manifests/list", content, Content_Type=mt.OCI_INDEX).status


def test_indexes() -> None:
    absent = str(Digest.of(b"absent"))
    for sparse, status in ((True, 201), (False, 404)):
        with speaking(sparse=sparse) as registry:
            layer = {"mediaType": mt.OCI_LAYER, "digest": absent, "size": 6}
            assert put_manifest(registry, "image", layers=[layer]).status == status
            assert put_index(registry, absent, 6, mt.OCI_MANIFEST) == status
    for nested, status in ((True, 201), (False, 400)):
        with speaking(nested_indexes=nested) as registry:
            digest = manifest(registry)
            size = len(ask(registry, "GET", V1).body)
            assert put_index(registry, digest, size, mt.OCI_MANIFEST) == 201
            list_digest = ask(registry, "HEAD", "/v2/app/manifests/list").headers
            inner, inner_size = list_digest["docker-content-digest"], list_digest["content-length"]
            assert put_index(registry, inner, int(inner_size), mt.OCI_INDEX) == status
            assert ask(registry, "PUT", V1, b"not json").status == 400


def test_not_modified() -> None:
    for bare in (True, False):
        with speaking(bare_304=bare) as registry:
            digest = manifest(registry)
            reply = ask(registry, "GET", V1, If_None_Match=f'"{digest}"')
            assert (reply.status, "docker-content-digest" in reply.headers) == (304, not bare)


def test_blob_unknown() -> None:
    layer = {"mediaType": mt.OCI_LAYER, "digest": str(Digest.of(b"absent")), "size": 6}
    for status in (400, 404):
        with speaking(blob_unknown=status) as registry:
            reply = put_manifest(registry, "v1", layers=[layer])
            assert (reply.status, reply.code) == (status, "MANIFEST_BLOB_UNKNOWN")


def test_refused_types() -> None:
    with speaking(refused_types=(mt.OCI_MANIFEST,), refused_text="Invalid JSON syntax") as registry:
        reply = put_manifest(registry, "v1", mt.OCI_MANIFEST)
        assert (reply.status, reply.code) == (400, "MANIFEST_INVALID")
        assert b"Invalid JSON syntax" in reply.body
        assert put_manifest(registry, "v1").status == 201


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, "TAG_INVALID"),
        (405, "UNSUPPORTED"),
        (409, "TAG_INVALID"),
        (412, "PRECONDITION"),
        (418, "DENIED"),
    ],
)
def test_immutable_tags(status: int, code: str) -> None:
    with speaking(immutable_tags=status) as registry:
        assert put_manifest(registry, "v1").status == 201
        for more in ({}, {"annotations": {"a": "b"}}):
            reply = put_manifest(registry, "v1", **more)
            assert (reply.status, reply.code) == (status, code)
        assert put_manifest(registry, "@").status == 201
    with speaking(immutable_tags=status, immutable_equal=True) as registry:
        assert put_manifest(registry, "v1").status == 201
        assert put_manifest(registry, "v1").status == 201
        assert put_manifest(registry, "v1", annotations={"a": "b"}).status == status


def test_answers_to_put() -> None:
    for status in (200, 202):
        with speaking(manifest_put=status) as registry:
            assert put_manifest(registry, "v1").status == status
            assert ask(registry, "GET", V1).status == 200
    with speaking(put_digest="none") as registry:
        assert "docker-content-digest" not in put_manifest(registry, "v1").headers
    with speaking(put_digest="other") as registry:
        said = put_manifest(registry, "v1").headers["docker-content-digest"]
        assert said != str(Digest.of(manifest_bytes(registry)))
        assert Digest.parse(said)


@pytest.mark.parametrize(
    ("switch", "status", "left"),
    [
        (True, 202, (["v2"], 1)),
        (False, 400, (["v1", "v2"], 1)),
        (405, 405, (["v1", "v2"], 1)),
        ("manifest", 202, ([], 0)),
    ],
)
def test_delete_tag(switch: Any, status: int, left: tuple[list[str], int]) -> None:
    with speaking(delete_tag=switch) as registry:
        manifest(registry, ("v1", "v2"))
        assert ask(registry, "DELETE", V1).status == status
        found = registry.repository("app")
        assert (sorted(found.tags), len(found.manifests)) == left
        assert ask(registry, "DELETE", "/v2/app/manifests/none").status in (404, status)


def test_delete_by_digest() -> None:
    for status in (200, 204):
        with speaking(delete_status=status) as registry:
            digest = manifest(registry, ("v1", "v2"))
            assert ask(registry, "DELETE", f"/v2/app/manifests/{digest}").status == status
            assert registry.repository("app").tags == {}
    with speaking(delete_tagged=400) as registry:
        digest = manifest(registry, ("v1",))
        path = f"/v2/app/manifests/{digest}"
        assert ask(registry, "DELETE", path).status == 400
        assert ask(registry, "DELETE", V1).status == 202
        assert ask(registry, "DELETE", path).status == 202

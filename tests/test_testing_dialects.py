"""Dialects of the scripted registry: the oldest switches, and those that meet in one request."""

from __future__ import annotations

import dataclasses
import http.client
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from imgtools.spec import media_type as mt
from imgtools.spec.digest import Digest
from imgtools.testing.authority import AuthOptions
from imgtools.testing.dialect_errors import Rate
from imgtools.testing.dialects import DISTRIBUTION_2, GGCR, Dialect
from imgtools.testing.faults import Fault
from imgtools.testing.registry import ScriptedRegistry
from tests.scripted import BLOB, CONTENT, DIGEST, ask, manifest, put_manifest, speaking


@pytest.fixture
def registry() -> Iterator[ScriptedRegistry]:
    with ScriptedRegistry() as made:
        made.push_blob("app", CONTENT)
        yield made


# --- dialects -----------------------------------------------------------------------------------


def test_mount_dialects() -> None:
    digest = Digest.of(b"m")
    path = f"/v2/app/blobs/uploads/?mount={digest}&from=other"
    for mount, status in (("yes", 201), ("no", 202), (400, 400), (405, 405)):
        with speaking(mount=mount) as registry:
            registry.push_blob("other", b"m")
            assert ask(registry, "POST", path).status == status


def test_monolithic_post_dialect() -> None:
    with speaking(monolithic_post=False) as registry:
        path = f"/v2/app/blobs/uploads/?digest={DIGEST}"
        begun = ask(registry, "POST", path, CONTENT)
        assert (begun.status, begun.headers["range"]) == (202, "0-0")
        assert ask(registry, "HEAD", BLOB).status == 404
        done = ask(registry, "PUT", f"{begun.headers['location']}?digest={DIGEST}", CONTENT)
        assert done.status == 201


@pytest.mark.parametrize(
    ("kind", "status", "content_type"),
    [
        ("yes", 200, mt.OCI_INDEX),
        ("404-text", 404, "text/plain; charset=utf-8"),
        ("404-json", 404, "application/json"),
        ("html", 200, "text/html"),
        (400, 400, "application/json"),
        (406, 406, "application/json"),
    ],
)
def test_referrers_dialects(kind: Any, status: int, content_type: str) -> None:
    with speaking(referrers=kind) as registry:
        reply = ask(registry, "GET", f"/v2/app/referrers/{DIGEST}")
        assert (reply.status, reply.headers["content-type"]) == (status, content_type)


def test_subject_and_tag_dialects() -> None:
    subject = {"mediaType": mt.OCI_MANIFEST, "digest": str(DIGEST), "size": 1}
    for on in (True, False):
        with speaking(subject=on, tag_parameters=on) as registry:
            reply = put_manifest(registry, "@?tag=x&tag=y", subject=subject)
            assert reply.status == 201
            assert ("oci-subject" in reply.headers, "oci-tag" in reply.headers) == (on, on)
            assert sorted(registry.repository("app").tags) == (["x", "y"] if on else [])


def test_location_dialects() -> None:
    with speaking(location="absolute") as registry:
        location = ask(registry, "POST", "/v2/app/blobs/uploads/").headers["location"]
        assert location.startswith(f"{registry.url}/v2/app/blobs/uploads/")
    with speaking(location="state") as registry:
        first = ask(registry, "POST", "/v2/app/blobs/uploads/").headers["location"]
        first = first.removeprefix(registry.url)
        assert "?_state=" in first
        second = ask(registry, "PATCH", first, CONTENT).headers["location"]
        second = second.removeprefix(registry.url)
        assert second != first
        for stale in (first, first.partition("?")[0]):
            assert ask(registry, "PATCH", stale, b"x").status == 404
        assert ask(registry, "PUT", f"{second}&digest={DIGEST}").status == 201


def test_refusing_dialects() -> None:
    switches: dict[str, Any] = {
        "head": False,
        "delete_tag": False,
        "chunked": False,
        "upload_status": False,
    }
    with speaking(**switches, immutable_tags=409) as registry:
        digest = manifest(registry)
        path = "/v2/app/manifests/"
        assert ask(registry, "HEAD", f"{path}v1").status == 405
        assert ask(registry, "GET", f"{path}v1").status == 200
        assert ask(registry, "DELETE", f"{path}v1").status == 400
        assert put_manifest(registry, "new").status == 201
        location = ask(registry, "POST", "/v2/app/blobs/uploads/").headers["location"]
        assert ask(registry, "GET", location).status == 400
        assert ask(registry, "PATCH", location, iter([b"x"])).status == 411
        assert ask(registry, "PATCH", location, b"x").status == 202
        assert ask(registry, "DELETE", f"{path}{digest}").status == 202
    with speaking(immutable_tags=409) as registry:
        manifest(registry)
        assert put_manifest(registry, "v1").status == 409
    with speaking(deletes=False) as registry:
        digest = manifest(registry)
        assert ask(registry, "DELETE", f"/v2/app/manifests/{digest}").status == 405
        assert ask(registry, "DELETE", BLOB).status == 405


def test_resume_and_content_range_dialects() -> None:
    with speaking(resume=False, content_range=False) as registry:
        location = ask(registry, "POST", "/v2/app/blobs/uploads/").headers["location"]
        out_of_order = ask(registry, "PATCH", location, b"abc", Content_Range="7-9")
        assert (out_of_order.status, out_of_order.headers["range"]) == (202, "0-2")
        registry.fail(method="PATCH", cut_request=10)
        with pytest.raises((OSError, http.client.HTTPException)):
            ask(registry, "PATCH", location, bytes(5_000_000))
        assert ask(registry, "GET", location).status == 404


def test_page_dialects() -> None:
    tags = tuple(f"t{n}" for n in range(5))
    path = "/v2/app/tags/list?n=2"
    for switches, count, link in (
        ({}, 2, True),
        ({"link": False}, 2, False),
        ({"pages": False}, 5, False),
        ({"page_size": 1}, 1, True),
    ):
        with speaking(**switches) as registry:
            manifest(registry, tags)
            reply = ask(registry, "GET", path)
            assert (len(json.loads(reply.body)["tags"]), "link" in reply.headers) == (count, link)


def test_header_dialects() -> None:
    with speaking(
        accept=True, etags=False, ranges=False, digest_header=False, content_type="text/plain"
    ) as registry:
        manifest(registry)
        registry.push_blob("app", CONTENT)
        path = "/v2/app/manifests/v1"
        assert ask(registry, "GET", path).status == 404
        reply = ask(registry, "GET", path, Accept=f"a/b, {mt.OCI_MANIFEST}")
        assert (reply.status, reply.headers["content-type"]) == (200, "text/plain")
        assert not {"etag", "docker-content-digest"} & set(reply.headers)
        ranged = ask(registry, "GET", BLOB, Range="bytes=5-")
        assert (ranged.status, "accept-ranges" in ranged.headers) == (200, False)


@pytest.mark.parametrize("dialect", [DISTRIBUTION_2, GGCR])
def test_presets_take_a_push(dialect: Dialect) -> None:
    with ScriptedRegistry(dialect=dialect) as registry:
        location = ask(registry, "POST", "/v2/app/blobs/uploads/").headers["location"]
        location = location.removeprefix(registry.url)
        joint = "&" if "?" in location else "?"
        assert ask(registry, "PUT", f"{location}{joint}digest={DIGEST}", CONTENT).status == 201
        assert put_manifest(registry, "v1").status == 201
        assert ask(registry, "GET", "/v2/app/tags/list").status == 200
        assert ask(registry, "GET", f"/v2/app/referrers/{DIGEST}").status == 404


def test_schema1_can_be_held(registry: ScriptedRegistry) -> None:
    value = {"schemaVersion": 1, "name": "app", "tag": "v1", "architecture": "amd64",
             "fsLayers": [], "history": []}  # fmt: skip
    raw = registry.push_manifest("app", json.dumps(value).encode(), tags=["old"])
    assert raw.media_type == mt.DOCKER_SCHEMA1
    assert ask(registry, "GET", "/v2/app/manifests/old").headers["content-type"] == raw.media_type


@pytest.mark.parametrize("options", [Dialect, AuthOptions, Fault, Rate])
def test_every_switch_is_tested(options: Any) -> None:
    """Somewhere in these files each switch is given a value."""
    text = "".join(path.read_text() for path in Path(__file__).parent.glob("test_testing_*.py"))
    names = {field.name for field in dataclasses.fields(options)}
    assert {name for name in names if not re.search(rf"\b{name}\b[\"]?[=:]", text)} == set()

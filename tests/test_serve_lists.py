"""Lists and deletion: distribution-spec 1.1 "Content Discovery", "Content Management".

Every MUST for registries of those sections has a test here, on both storages.
"""

from __future__ import annotations

import json
from typing import Any

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


# --- Content discovery -------------------------------------------------------------------------


def test_tags_and_pages(client: Client) -> None:
    value = image(client)
    for tag in ("b", "a", "C", "1", "a.b"):
        client.manifest(tag, value)
    everything = ["1", "C", "a", "a.b", "b"]
    path = f"/v2/{REPO}/tags/list"
    assert client("GET", path).json() == {"name": REPO, "tags": everything}
    table = [
        ("?n=2", ["1", "C"], True),
        ("?n=5", everything, False),
        ("?n=99", everything, False),
        ("?n=0", [], False),
        ("?last=a", ["a.b", "b"], False),
        ("?n=1&last=a", ["a.b"], True),
        ("?n=1&last=a.b", ["b"], False),
        ("?last=A", ["C", "a", "a.b", "b"], False),
        ("?last=zzz", [], False),
    ]
    for query, tags, more in table:
        answer = client("GET", path + query)
        assert (answer.json()["tags"], "Link" in answer.headers) == (tags, more), query
    for bad in ("-1", "x", "1.5", "9" * 5000, ""):
        assert client("GET", f"{path}?n={bad}").status == 400


def walk(client: Client, path: str, key: str) -> list[Any]:
    """All pages, by following Link."""
    found = []
    while path:
        answer = client("GET", path)
        assert answer.status == 200
        found += answer.json()[key]
        link = answer.headers.get("Link", "")
        assert not link or link.endswith('>; rel="next"')
        path = link[1:].partition(">")[0]
    return found


def test_following_links_yields_everything(client: Client, store: RegistryStore) -> None:
    value = image(client)
    tags = [f"v{n:02}" for n in range(23)]
    for tag in tags:
        client.manifest(tag, value)
    assert walk(client, f"/v2/{REPO}/tags/list?n=5", "tags") == tags
    small = Client(RegistryApp(store, AppOptions(page_size=4)))
    assert walk(small, f"/v2/{REPO}/tags/list", "tags") == tags


def test_catalog(client: Client) -> None:
    names = ["a", "a/b", "library/x", "z"]
    for name in reversed(names):
        client.manifest("v1", image(client, name), name)
    assert client("GET", "/v2/_catalog").json() == {"repositories": names}
    assert walk(client, "/v2/_catalog?n=3", "repositories") == names
    assert client("DELETE", "/v2/_catalog").status == 405


def test_referrers(client: Client, store: RegistryStore) -> None:
    subject = client.manifest("v1", image(client))
    digest = subject.headers["Docker-Content-Digest"]
    size = int(client("HEAD", f"/v2/{REPO}/manifests/v1").headers["Content-Length"])
    about = {"mediaType": mt.OCI_MANIFEST, "digest": digest, "size": size}
    path = f"/v2/{REPO}/referrers/{digest}"
    empty = client("GET", path)
    assert (empty.status, empty.json()["manifests"]) == (200, [])
    assert empty.headers["Content-Type"] == mt.OCI_INDEX

    typed = image(client, subject=about, artifactType="x/sbom", annotations={"k": "v"})
    plain = image(client, subject=about)
    index = index_of(subject, sizes=[size], subject=about)
    for value in (typed, plain, index):
        put = client.manifest("@", value)
        assert (put.status, put.headers["OCI-Subject"]) == (201, digest)

    listed = client("GET", path)
    found = {d["digest"]: d for d in listed.json()["manifests"]}
    by_value = [found[str(Digest.of(json.dumps(v).encode()))] for v in (typed, plain, index)]
    assert [d.get("artifactType") for d in by_value] == ["x/sbom", mt.OCI_CONFIG, None]
    assert by_value[0]["annotations"] == {"k": "v"}
    assert [d["mediaType"] for d in by_value] == [mt.OCI_MANIFEST, mt.OCI_MANIFEST, mt.OCI_INDEX]
    assert "OCI-Filters-Applied" not in listed.headers

    filtered = client("GET", f"{path}?artifactType=x/sbom")
    assert filtered.headers["OCI-Filters-Applied"] == "artifactType"
    assert [d["digest"] for d in filtered.json()["manifests"]] == [by_value[0]["digest"]]

    small = Client(RegistryApp(store, AppOptions(page_size=1)))
    assert {d["digest"] for d in walk(small, path, "manifests")} == set(found)

    client("DELETE", f"/v2/{REPO}/manifests/{by_value[0]['digest']}")
    assert len(client("GET", path).json()["manifests"]) == 2


def test_referrers_are_never_404(client: Client) -> None:
    answer = client("GET", f"/v2/no/such/referrers/{ABSENT}")
    assert (answer.status, answer.json()["manifests"]) == (200, [])


def test_subject_may_be_absent(client: Client) -> None:
    about = {"mediaType": mt.OCI_MANIFEST, "digest": ABSENT, "size": 9}
    assert client.manifest("@", image(client, subject=about)).headers["OCI-Subject"] == ABSENT
    assert len(client("GET", f"/v2/{REPO}/referrers/{ABSENT}").json()["manifests"]) == 1


def test_retagging_keeps_a_referrer(client: Client) -> None:
    about = {"mediaType": mt.OCI_MANIFEST, "digest": ABSENT, "size": 9}
    client.manifest("sig", image(client, subject=about, annotations={"n": "1"}))
    client.manifest("sig", image(client, subject=about, annotations={"n": "2"}))
    assert len(client("GET", f"/v2/{REPO}/referrers/{ABSENT}").json()["manifests"]) == 2


def test_referrers_of_the_tag_schema_are_included(client: Client) -> None:
    """ "Enabling the Referrers API": what only a fallback index names is listed too."""
    about = {"mediaType": mt.OCI_MANIFEST, "digest": ABSENT, "size": 9}
    value = image(client, subject=about)
    child = client.manifest("@", value)
    fallback = index_of(child, sizes=[len(json.dumps(value))])
    assert client.manifest(ABSENT.replace(":", "-"), fallback).status == 201
    path = f"/v2/{REPO}/referrers/{ABSENT}"
    assert len(client("GET", path).json()["manifests"]) == 1
    client("DELETE", f"/v2/{REPO}/manifests/{ABSENT.replace(':', '-')}")
    assert len(client("GET", path).json()["manifests"]) == 1


# --- Content management ------------------------------------------------------------------------


def test_delete_tag_leaves_the_manifest(client: Client) -> None:
    value = image(client)
    digest = client.manifest("a", value).headers["Docker-Content-Digest"]
    client.manifest("b", value)
    for tag, left in (("a", ["b"]), ("b", [])):
        assert client("DELETE", f"/v2/{REPO}/manifests/{tag}").status == 202
        assert client("GET", f"/v2/{REPO}/manifests/{tag}").status == 404
        assert client("GET", f"/v2/{REPO}/tags/list").json()["tags"] == left
        assert client("GET", f"/v2/{REPO}/manifests/{digest}").status == 200
    answer = client("DELETE", f"/v2/{REPO}/manifests/a")
    assert (answer.status, answer.code) == (404, "MANIFEST_UNKNOWN")


def test_delete_manifest_takes_its_tags(client: Client) -> None:
    value = image(client)
    digest = client.manifest("a", value).headers["Docker-Content-Digest"]
    client.manifest("b", value)
    client.manifest("other", image(client, annotations={"x": "y"}))
    assert client("DELETE", f"/v2/{REPO}/manifests/{digest}").status == 202
    for reference in ("a", "b", digest):
        assert client("GET", f"/v2/{REPO}/manifests/{reference}").status == 404
    assert client("GET", f"/v2/{REPO}/tags/list").json()["tags"] == ["other"]
    assert client("DELETE", f"/v2/{REPO}/manifests/{digest}").status == 404
    assert client("DELETE", f"/v2/no/such/manifests/{digest}").code == "NAME_UNKNOWN"


def test_delete_blob(client: Client) -> None:
    digest = client.blob(b"gone")
    path = f"/v2/{REPO}/blobs/{digest}"
    assert client("DELETE", path).status == 202
    assert client("GET", path).status == 404
    assert (client("DELETE", path).status, client("DELETE", path).code) == (404, "BLOB_UNKNOWN")


def test_deletion_can_be_disabled(store: RegistryStore) -> None:
    client = Client(RegistryApp(store, AppOptions(deletes=False)))
    client.manifest("v1", image(client))
    for path in ("manifests/v1", f"manifests/{ABSENT}", f"blobs/{ABSENT}"):
        answer = client("DELETE", f"/v2/{REPO}/{path}")
        assert (answer.status, answer.code) == (405, "UNSUPPORTED")
    assert client("DELETE", start(client)).status == 204


def test_read_only(client: Client, store: RegistryStore) -> None:
    client.manifest("v1", image(client))
    store.writable = False  # type: ignore[misc]
    for method, path in [
        ("POST", "blobs/uploads/"),
        ("PATCH", "blobs/uploads/x"),
        ("PUT", "manifests/v1"),
        ("DELETE", "manifests/v1"),
        ("DELETE", f"blobs/{ABSENT}"),
    ]:
        answer = client(method, f"/v2/{REPO}/{path}")
        assert (answer.status, answer.code) == (405, "UNSUPPORTED")
        assert answer.headers["Allow"] == "GET, HEAD"
    assert client("GET", f"/v2/{REPO}/manifests/v1").status == 200


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("POST", "manifests/v1", "GET, PUT, DELETE, HEAD"),
        ("PUT", f"blobs/{ABSENT}", "GET, DELETE, HEAD"),
        ("PUT", "tags/list", "GET, HEAD"),
        ("GET", "blobs/uploads/", "POST"),
        ("POST", "blobs/uploads/some-session", "GET, PATCH, PUT, DELETE, HEAD"),
        ("POST", f"referrers/{ABSENT}", "GET, HEAD"),
    ],
)
def test_wrong_method(client: Client, method: str, path: str, allow: str) -> None:
    answer = client(method, f"/v2/{REPO}/{path}")
    assert (answer.status, answer.code, answer.headers["Allow"]) == (405, "UNSUPPORTED", allow)

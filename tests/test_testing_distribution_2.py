"""The dialect DISTRIBUTION_2 answers as docker's registry 2.8 does: each probe is put to both."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from imgtools.spec import media_type as mt
from imgtools.spec.digest import Digest
from imgtools.testing.dialects import DISTRIBUTION_2
from imgtools.testing.registry import ScriptedRegistry
from tests.distribution_client import ABSENT, Repo, descriptor, index
from tests.rig import RegistryServer
from tests.scripted import Reply

Probe = Callable[[Repo], Reply]

# What a client acts on. Locations differ in their state, so that they are there is compared.
HEADERS = (
    "content-range",
    "docker-content-digest",
    "docker-distribution-api-version",
    "link",
    "oci-filters-applied",
    "oci-subject",
    "oci-tag",
    "range",
)


def seen(reply: Reply) -> dict[str, Any]:
    """What is compared of an answer."""
    found: dict[str, Any] = {name: reply.headers.get(name) for name in HEADERS}
    found["status"] = reply.status
    found["location"] = "location" in reply.headers
    if reply.status >= 400:
        try:
            found["code"] = json.loads(reply.body)["errors"][0]["code"]
        except (ValueError, KeyError):
            found["code"] = None
    return found


def patched(repo: Repo, content_range: str) -> Reply:
    return repo.ask("PATCH", repo.begin(), b"12345", Content_Range=content_range)


def stale(repo: Repo) -> Reply:
    location = repo.begin()
    assert repo.ask("PATCH", location, b"12345").status == 202
    return repo.ask("PATCH", location, b"12345")


def tagged(repo: Repo, method: str, target: str, **headers: str) -> Reply:
    repo.pushed("v1")
    return repo.ask(method, target, **headers)


def fixed(repo: Repo) -> str:
    """A manifest that is the same everywhere."""
    config = descriptor(mt.OCI_CONFIG, *repo.blob(b"{}"))
    value = {"schemaVersion": 2, "mediaType": mt.OCI_MANIFEST, "config": config, "layers": []}
    return repo.put("v1", value).digest


def with_subject(repo: Repo) -> Reply:
    subject = descriptor(mt.OCI_MANIFEST, b"nobody has this", ABSENT)
    config = descriptor(mt.OCI_CONFIG, *repo.blob(b"{}"))
    value = {"schemaVersion": 2, "mediaType": mt.OCI_MANIFEST, "config": config, "layers": []}
    return repo.put("@", {**value, "subject": subject}, "?tag=x").reply


BLOB = b"a blob of some bytes"
DIGEST = str(Digest.of(BLOB))
MIB5 = {"annotations": {"a": "x" * (5 << 20)}}


def blob(repo: Repo, method: str, target: str = f"blobs/{DIGEST}", **headers: str) -> Reply:
    repo.blob(BLOB)
    return repo.ask(method, target, **headers)


PROBES: Mapping[str, Probe] = {
    "version": lambda r: r.ask("GET", "/v2/"),
    "begin": lambda r: r.ask("POST", "blobs/uploads/", Content_Length="0"),
    "post with body": lambda r: r.ask("POST", f"blobs/uploads/?digest={DIGEST}", BLOB),
    "post then put": lambda r: r.close(r.begin(), DIGEST, BLOB),
    "mount": lambda r: blob(r, "POST", f"blobs/uploads/?mount={DIGEST}&from={r.name}"),
    "mount of nothing": lambda r: r.ask("POST", f"blobs/uploads/?mount={ABSENT}&from={r.name}"),
    "mount without from": lambda r: r.ask("POST", f"blobs/uploads/?mount={ABSENT}"),
    "status of nothing": lambda r: r.ask("GET", r.begin()),
    "chunk": lambda r: patched(r, "0-4"),
    "chunk out of order": lambda r: patched(r, "7-11"),
    "stale state": stale,
    "wrong digest": lambda r: r.close(r.begin(), ABSENT, b"x"),
    "sha512": lambda r: r.close(r.begin(), Digest.of(BLOB, "sha512"), BLOB),
    "no digest at all": lambda r: r.close(r.begin(), "sha256:xyz", b"x"),
    "cancel": lambda r: r.ask("DELETE", r.begin()),
    "empty blob": lambda r: r.close(r.begin(), Digest.of(b""), Content_Length="0"),
    "blob": lambda r: blob(r, "GET"),
    "blob head": lambda r: blob(r, "HEAD"),
    "blob range": lambda r: blob(r, "GET", Range="bytes=3-7"),
    "blob etag": lambda r: blob(r, "GET", If_None_Match=f'"{DIGEST}"'),
    "blob absent": lambda r: r.ask("GET", f"blobs/{ABSENT}"),
    "blob deleted": lambda r: blob(r, "DELETE"),
    "blob deletion absent": lambda r: r.ask("DELETE", f"blobs/{ABSENT}"),
    "manifest": lambda r: (fixed(r), r.manifest("v1"))[1],
    "manifest head": lambda r: (fixed(r), r.manifest("v1", "HEAD"))[1],
    "manifest etag": lambda r: r.ask(
        "GET", "manifests/v1", Accept=mt.OCI_MANIFEST, If_None_Match=f'"{fixed(r)}"'
    ),
    "manifest without accept": lambda r: tagged(r, "GET", "manifests/v1"),
    "manifest absent": lambda r: tagged(r, "GET", "manifests/v2", Accept=mt.OCI_MANIFEST),
    "manifest of no repository": lambda r: r.manifest("v1"),
    "subject and tags": with_subject,
    "missing blob": lambda r: (
        r.put("v1", r.image(layers=[descriptor(mt.OCI_LAYER, b"nobody has this", ABSENT)])).reply
    ),
    "missing child": lambda r: (
        r.put("v1", index(descriptor(mt.OCI_MANIFEST, b"nobody has this", ABSENT))).reply
    ),
    "too large": lambda r: r.put("v1", r.image(**MIB5)).reply,
    "no json": lambda r: r.ask("PUT", "manifests/v1", b"{", Content_Type=mt.OCI_MANIFEST),
    "other digest": lambda r: r.put(ABSENT, r.image()).reply,
    "deletion by tag": lambda r: tagged(r, "DELETE", "manifests/v1"),
    "deletion": lambda r: r.ask("DELETE", f"manifests/{fixed(r)}"),
    "deletion absent": lambda r: tagged(r, "DELETE", f"manifests/{ABSENT}"),
    "tags in pages": lambda r: tagged(r, "GET", "tags/list?n=0"),
    "tags of no repository": lambda r: r.ask("GET", "tags/list"),
    "referrers": lambda r: tagged(r, "GET", f"referrers/{ABSENT}"),
}


@pytest.mark.parametrize("probe", sorted(PROBES))
def test_as_the_registry(registry_plain: RegistryServer, repository: str, probe: str) -> None:
    with ScriptedRegistry(dialect=DISTRIBUTION_2) as scripted:
        ours = PROBES[probe](Repo(scripted.host, repository))
    theirs = PROBES[probe](Repo(registry_plain.host, repository))
    assert seen(ours) == seen(theirs)


def test_range_beyond_the_end(registry_plain: RegistryServer, repository: str) -> None:
    """The whole blob's length is announced with the error, which is cut then."""
    with ScriptedRegistry(dialect=DISTRIBUTION_2) as scripted:
        for host in (scripted.host, registry_plain.host):
            repo = Repo(host, repository)
            _, digest = repo.blob()
            with pytest.raises(http.client.IncompleteRead):
                repo.ask("GET", f"blobs/{digest}", Range="bytes=100-")

"""The rules of distribution-spec 1.1 for registries, each as a function that asserts one.

They are grouped by the specification's endpoints, end-1 to end-14; `RULES` has them all.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import urljoin

from imgtools.spec import media_type as mt
from imgtools.spec.digest import Digest
from tests.distribution_client import ABSENT, Repo, descriptor, index
from tests.scripted import Reply

Rule = Callable[[Repo], None]


def refused(reply: Reply, statuses: int | tuple[int, ...], *codes: str) -> None:
    """An error of the specification: its status, and its document with one of the codes."""
    assert reply.status in (statuses if isinstance(statuses, tuple) else (statuses,))
    errors = reply.json()["errors"]
    assert isinstance(errors, list)
    assert all(isinstance(e["code"], str) for e in errors)
    assert any(e["code"] in codes for e in errors)


# --- end-1 and pulling: end-2, end-3 ------------------------------------------------------------


def version_check(repo: Repo) -> None:
    assert repo.ask("GET", "/v2/").status == 200


def blob_get(repo: Repo) -> None:
    content, digest = repo.blob()
    reply = repo.ask("GET", f"blobs/{digest}")
    assert (reply.status, reply.body) == (200, content)
    assert reply.headers["docker-content-digest"] == digest
    assert reply.headers["content-length"] == str(len(content))


def blob_head(repo: Repo) -> None:
    content, digest = repo.blob()
    reply = repo.ask("HEAD", f"blobs/{digest}")
    assert (reply.status, reply.body) == (200, b"")
    assert reply.headers["docker-content-digest"] == digest
    assert reply.headers["content-length"] == str(len(content))


def blob_absent(repo: Repo) -> None:
    repo.blob()
    refused(repo.ask("GET", f"blobs/{ABSENT}"), 404, "BLOB_UNKNOWN")
    assert repo.ask("HEAD", f"blobs/{ABSENT}").status == 404
    assert repo.other().ask("GET", f"blobs/{ABSENT}").status == 404


def blob_range(repo: Repo) -> None:
    content, digest = repo.blob()
    for asked, first, last in (("10-19", 10, 20), ("90-", 90, 100), ("-5", 95, 100)):
        reply = repo.ask("GET", f"blobs/{digest}", Range=f"bytes={asked}")
        assert (reply.status, reply.body) == (206, content[first:last])
        assert reply.headers["content-range"] == f"bytes {first}-{last - 1}/100"


def blob_range_beyond(repo: Repo) -> None:
    _, digest = repo.blob()
    assert repo.ask("GET", f"blobs/{digest}", Range="bytes=100-").status == 416


def manifest_get(repo: Repo) -> None:
    put = repo.pushed("v1")
    for reference in ("v1", put.digest):
        reply = repo.manifest(reference)
        assert (reply.status, reply.body) == (200, put.content)
        assert reply.headers["docker-content-digest"] == put.digest
        assert reply.headers["content-type"] == mt.OCI_MANIFEST


def manifest_head(repo: Repo) -> None:
    put = repo.pushed("v1")
    for reference in ("v1", put.digest):
        reply = repo.manifest(reference, "HEAD")
        assert (reply.status, reply.body) == (200, b"")
        assert reply.headers["docker-content-digest"] == put.digest
        assert reply.headers["content-length"] == str(len(put.content))


def manifest_without_accept(repo: Repo) -> None:
    put = repo.pushed("v1")
    reply = repo.ask("GET", "manifests/v1")
    assert (reply.status, reply.body) == (200, put.content)


def manifest_absent(repo: Repo) -> None:
    repo.pushed("v1")
    for reference in ("none", ABSENT):
        refused(repo.manifest(reference), 404, "MANIFEST_UNKNOWN")
        assert repo.manifest(reference, "HEAD").status == 404
        assert repo.other().manifest(reference).status == 404


def name_invalid(repo: Repo) -> None:
    for name in ("UPPER", "a__-b", "-a", "a/" * 200 + "a"):
        reply = repo.ask("GET", f"/v2/{name}/tags/list")
        assert reply.status in (400, 404)


# --- pushing blobs: end-4 to end-6, end-11, end-13, end-14 --------------------------------------


def session_begin(repo: Repo) -> None:
    reply = repo.ask("POST", "blobs/uploads/", Content_Length="0")
    assert reply.status == 202
    location = reply.headers["location"]
    assert re.search(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", location)


def push_post_put(repo: Repo) -> None:
    content = b"post, then put"
    digest = str(Digest.of(content))
    kind = "application/octet-stream"
    reply = repo.close(repo.begin(), digest, content, Content_Type=kind)
    assert reply.status == 201
    assert reply.headers["docker-content-digest"] == digest
    assert repo.ask("GET", reply.headers["location"]).body == content


def push_post(repo: Repo) -> None:
    content = b"in one request"
    digest = Digest.of(content)
    reply = repo.ask("POST", f"blobs/uploads/?digest={digest}", content)
    assert reply.status == 201
    assert repo.ask("GET", reply.headers["location"]).body == content


def push_post_or_session(repo: Repo) -> None:
    """A registry without the short way begins a session, which works."""
    content = b"in one request, perhaps"
    digest = Digest.of(content)
    reply = repo.ask("POST", f"blobs/uploads/?digest={digest}", content)
    assert reply.status in (201, 202)
    if reply.status == 202:
        assert repo.close(reply.headers["location"], digest, content).status == 201
    assert repo.ask("GET", f"blobs/{digest}").body == content


def push_chunked(repo: Repo) -> None:
    content = bytes(range(250))
    location = repo.begin()
    for start, end in ((0, 99), (100, 199)):
        part = content[start : end + 1]
        reply = repo.ask("PATCH", location, part, Content_Range=f"{start}-{end}")
        assert (reply.status, reply.headers["range"]) == (202, f"0-{end}")
        location = reply.headers["location"]
        reply = repo.ask("GET", location)
        assert (reply.status, reply.headers["range"]) == (204, f"0-{end}")
        location = reply.headers["location"]
    digest = Digest.of(content)
    reply = repo.close(location, digest, content[200:], Content_Range="200-249")
    assert reply.status == 201
    assert repo.ask("GET", reply.headers["location"]).body == content


def push_chunked_closed_without_body(repo: Repo) -> None:
    content = bytes(range(100))
    reply = repo.ask("PATCH", repo.begin(), content, Content_Range="0-99")
    reply = repo.close(reply.headers["location"], Digest.of(content), Content_Length="0")
    assert reply.status == 201
    assert repo.ask("GET", reply.headers["location"]).body == content


def push_streamed(repo: Repo) -> None:
    content = bytes(range(100))
    reply = repo.ask("PATCH", repo.begin(), iter([content[:50], content[50:]]))
    assert reply.status == 202
    assert repo.close(reply.headers["location"], Digest.of(content)).status == 201


def push_out_of_order(repo: Repo) -> None:
    location = repo.begin()
    assert repo.ask("PATCH", location, b"12345", Content_Range="5-9").status == 416
    reply = repo.ask("PATCH", location, b"12345", Content_Range="0-4")
    location = reply.headers["location"]
    for again in ("0-4", "6-10"):
        assert repo.ask("PATCH", location, b"12345", Content_Range=again).status == 416
    reply = repo.ask("PATCH", location, b"6789", Content_Range="5-8")
    assert (reply.status, reply.headers["range"]) == (202, "0-8")


def push_empty_blob(repo: Repo) -> None:
    empty = Digest.of(b"")
    assert repo.close(repo.begin(), empty, Content_Length="0").status == 201
    reply = repo.ask("HEAD", f"blobs/{empty}")
    assert (reply.status, reply.headers["content-length"]) == (200, "0")


def push_sha512(repo: Repo) -> None:
    digest = Digest.of(b"long", "sha512")
    assert repo.close(repo.begin(), digest, b"long").status == 201
    assert repo.ask("GET", f"blobs/{digest}").body == b"long"


def push_wrong_digest(repo: Repo) -> None:
    refused(repo.close(repo.begin(), ABSENT, b"other"), 400, "DIGEST_INVALID")
    assert repo.ask("HEAD", f"blobs/{ABSENT}").status == 404
    refused(repo.close(repo.begin(), "sha256:xyz", b"other"), 400, "DIGEST_INVALID")


def session_unknown(repo: Repo) -> None:
    location = repo.begin()
    unknown = re.sub(r"[0-9a-f]{8}-[0-9a-f]{4}", "00000000-0000", location)
    refused(repo.ask("PATCH", unknown, b"x"), 404, "BLOB_UPLOAD_UNKNOWN", "BLOB_UPLOAD_INVALID")


def session_cancel(repo: Repo) -> None:
    location = repo.begin()
    assert repo.ask("DELETE", location).status == 204
    refused(repo.ask("GET", location), 404, "BLOB_UPLOAD_UNKNOWN")


def mount(repo: Repo) -> None:
    content, digest = repo.blob()
    other = repo.other()
    reply = other.ask("POST", f"blobs/uploads/?mount={digest}&from={repo.name}")
    assert reply.status == 201
    assert repo.ask("GET", reply.headers["location"]).body == content
    assert reply.headers["location"].endswith(f"/v2/{other.name}/blobs/{digest}")


def mount_of_nothing(repo: Repo) -> None:
    repo.blob()
    reply = repo.other().ask("POST", f"blobs/uploads/?mount={ABSENT}&from={repo.name}")
    assert reply.status == 202
    done = repo.other().close(reply.headers["location"], ABSENT, b"nobody has this")
    assert done.status == 201


def mount_without_from(repo: Repo) -> None:
    _, digest = repo.blob()
    reply = repo.other().ask("POST", f"blobs/uploads/?mount={digest}")
    assert reply.status in (201, 202)
    assert "location" in reply.headers


# --- pushing manifests: end-7 -------------------------------------------------------------------


def put_by_tag_and_digest(repo: Repo) -> None:
    value = repo.image()
    for reference in ("v1", "@"):
        put = repo.put(reference, value)
        assert put.reply.status == 201
        assert put.reply.headers["docker-content-digest"] == put.digest
        assert repo.manifest(put.reply.headers["location"].rpartition("/")[2]).body == put.content


def put_moves_a_tag(repo: Repo) -> None:
    first, second = repo.pushed("v1"), repo.pushed("v1")
    assert repo.manifest("v1").body == second.content
    assert repo.manifest(first.digest).body == first.content


def put_under_another_digest(repo: Repo) -> None:
    refused(repo.put(ABSENT, repo.image()).reply, 400, "DIGEST_INVALID", "MANIFEST_INVALID")


def put_with_tags(repo: Repo) -> None:
    """Tags as parameters (end-7b) are confirmed by OCI-Tag."""
    put = repo.put("@", repo.image(), "?tag=x&tag=y")
    assert put.reply.status == 201
    assert sorted(re.split(r"[, ]+", ",".join(put.reply.all("oci-tag")))) == ["x", "y"]
    assert repo.manifest("x").body == repo.manifest("y").body == put.content


def put_without_its_blobs(repo: Repo) -> None:
    missing = descriptor(mt.OCI_LAYER, b"nobody has this", ABSENT)
    reply = repo.put("v1", repo.image(layers=[missing])).reply
    refused(reply, (400, 404), "MANIFEST_BLOB_UNKNOWN")
    assert repo.manifest("v1").status == 404


def put_of_nonsense(repo: Repo) -> None:
    for content in (b"", b"{", b"[]", b'{"schemaVersion":2}'):
        reply = repo.ask("PUT", "manifests/v1", content, Content_Type=mt.OCI_MANIFEST)
        refused(reply, 400, "MANIFEST_INVALID", "DIGEST_INVALID")


def put_of_4_mib(repo: Repo) -> None:
    put = repo.pushed("big", annotations={"a": "x" * (4 * 1024 * 1024 - 2000)})
    assert len(put.content) > 4_000_000
    assert repo.manifest("big").body == put.content


def put_over_the_limit(repo: Repo) -> None:
    value = repo.image(annotations={"a": "x" * (5 * 1024 * 1024)})
    assert repo.put("big", value).reply.status == 413


def put_content_type_with_parameters(repo: Repo) -> None:
    value = repo.image()
    content = str(value).replace("'", '"').encode()
    kind = f"{mt.OCI_MANIFEST}; charset=utf-8"
    assert repo.ask("PUT", "manifests/v1", content, Content_Type=kind).status == 201
    assert repo.manifest("v1").headers["content-type"].partition(";")[0] == mt.OCI_MANIFEST


def put_indexes(repo: Repo) -> None:
    child = repo.pushed().descriptor()
    inner = repo.put("inner", index(child))
    assert inner.reply.status == 201
    outer = repo.put("outer", index(inner.descriptor(mt.OCI_INDEX)))
    assert outer.reply.status == 201
    assert repo.manifest("outer").headers["content-type"] == mt.OCI_INDEX
    assert repo.put("none", index()).reply.status == 201


def put_without_layers(repo: Repo) -> None:
    assert repo.pushed("none", layers=[]).reply.status == 201


def put_with_absent_subject(repo: Repo) -> None:
    subject = descriptor(mt.OCI_MANIFEST, b"nobody has this", ABSENT)
    assert repo.pushed(subject=subject).reply.status == 201


def put_confirms_its_subject(repo: Repo) -> None:
    subject = repo.pushed()
    for value in (
        repo.image(subject=subject.descriptor()),
        index(subject.descriptor(), subject=subject.descriptor()),
    ):
        assert repo.put("@", value).reply.headers["oci-subject"] == subject.digest
    assert "oci-subject" not in subject.reply.headers


# --- discovery: end-8, end-12 -------------------------------------------------------------------


def tags(repo: Repo) -> None:
    repo.pushed("b", "a", "c")
    reply = repo.ask("GET", "tags/list")
    assert (reply.status, reply.json()) == (200, {"name": repo.name, "tags": ["a", "b", "c"]})
    assert reply.headers["content-type"].startswith("application/json")
    assert "link" not in reply.headers


def tags_of_nothing(repo: Repo) -> None:
    refused(repo.ask("GET", "tags/list"), 404, "NAME_UNKNOWN")


def tags_in_pages(repo: Repo) -> None:
    names = ["t1", "t2", "t3", "t4", "t5"]
    repo.pushed(*names)
    found: list[list[str]] = []
    target = "tags/list?n=2"
    while target:
        reply = repo.ask("GET", target)
        found.append(reply.json()["tags"])
        match = re.fullmatch(r'<([^>]+)>; rel="next"', reply.headers.get("link", ""))
        target = urljoin(f"/v2/{repo.name}/{target}", match[1]) if match else ""
    assert [tag for page in found for tag in page] == names
    assert [len(page) for page in found[:2]] == [2, 2]


def tags_from_last(repo: Repo) -> None:
    repo.pushed("t1", "t2", "t3")
    for query, expected in (
        ("last=t1", ["t2", "t3"]),
        ("n=1&last=t1", ["t2"]),
        ("last=t11", ["t2", "t3"]),
    ):
        assert repo.ask("GET", f"tags/list?{query}").json()["tags"] == expected


def tags_after_the_end(repo: Repo) -> None:
    repo.pushed("t1")
    reply = repo.ask("GET", "tags/list?last=t1")
    assert (reply.json()["tags"], "link" in reply.headers) == ([], False)


def tags_no_more_link_at_the_end(repo: Repo) -> None:
    repo.pushed("t1", "t2")
    reply = repo.ask("GET", "tags/list?n=2")
    assert (reply.json()["tags"], "link" in reply.headers) == (["t1", "t2"], False)


def tags_none(repo: Repo) -> None:
    repo.pushed("t1")
    reply = repo.ask("GET", "tags/list?n=0")
    assert (reply.json()["tags"], "link" in reply.headers) == ([], False)


def referrers(repo: Repo) -> None:
    subject = repo.pushed("v1")
    named = {"subject": subject.descriptor(), "annotations": {"k": "v"}}
    typed = repo.pushed(artifactType="a/b", **named)
    untyped = repo.pushed(**named)
    listed = repo.put("@", index(artifactType="c/d", **named))
    bare = repo.put("@", index(subject.descriptor(), **named))
    reply = repo.referrers(subject.digest)
    assert (reply.status, reply.headers["content-type"]) == (200, mt.OCI_INDEX)
    found = {d.pop("digest"): d for d in reply.json()["manifests"]}
    types = {d: v.get("artifactType") for d, v in found.items()}
    assert types == {
        typed.digest: "a/b",
        untyped.digest: mt.OCI_CONFIG,
        listed.digest: "c/d",
        bare.digest: None,
    }
    assert all(d["annotations"] == {"k": "v"} for d in found.values())
    assert found[typed.digest]["size"] == len(typed.content)
    assert found[listed.digest]["mediaType"] == mt.OCI_INDEX


def referrers_none(repo: Repo) -> None:
    repo.pushed("v1")
    reply = repo.referrers(ABSENT)
    assert (reply.status, reply.headers["content-type"]) == (200, mt.OCI_INDEX)
    assert reply.json()["manifests"] == []
    assert (reply.json()["schemaVersion"], reply.json()["mediaType"]) == (2, mt.OCI_INDEX)


def referrers_filter(repo: Repo) -> None:
    subject = repo.pushed("v1").descriptor()
    wanted = repo.pushed(artifactType="a/b", subject=subject)
    repo.pushed(artifactType="c/d", subject=subject)
    reply = repo.referrers(subject["digest"], "?artifactType=a/b")
    assert [d["digest"] for d in reply.json()["manifests"]] == [wanted.digest]
    assert reply.headers["oci-filters-applied"] == "artifactType"
    none = repo.referrers(subject["digest"], "?artifactType=x/y")
    assert (none.status, none.json()["manifests"]) == (200, [])
    assert "oci-filters-applied" not in repo.referrers(subject["digest"]).headers


def referrers_of_what_comes_later(repo: Repo) -> None:
    value = repo.image()
    later = repo.put("@", value)
    repo.ask("DELETE", f"manifests/{later.digest}")
    report = repo.pushed(subject=later.descriptor())
    assert repo.put("v1", value).reply.status == 201
    (found,) = repo.referrers(later.digest).json()["manifests"]
    assert found["digest"] == report.digest


def referrers_of_no_digest(repo: Repo) -> None:
    repo.pushed("v1")
    refused(repo.referrers("sha256:xyz"), 400, "DIGEST_INVALID", "UNSUPPORTED", "MANIFEST_INVALID")


# --- management: end-9, end-10 ------------------------------------------------------------------


def delete_tag(repo: Repo) -> None:
    put = repo.pushed("v1", "v2")
    assert repo.ask("DELETE", "manifests/v1").status == 202
    assert repo.manifest("v1").status == 404
    assert repo.manifest("v2").status == repo.manifest(put.digest).status == 200
    assert repo.ask("GET", "tags/list").json()["tags"] == ["v2"]
    assert repo.ask("DELETE", "manifests/v1").status == 404


def delete_manifest(repo: Repo) -> None:
    put = repo.pushed("v1", "v2")
    assert repo.ask("DELETE", f"manifests/{put.digest}").status == 202
    for reference in ("v1", "v2", put.digest):
        assert repo.manifest(reference).status == 404
    refused(repo.ask("DELETE", f"manifests/{put.digest}"), 404, "MANIFEST_UNKNOWN")


def delete_of_a_referrer(repo: Repo) -> None:
    subject = repo.pushed("v1")
    report = repo.pushed(subject=subject.descriptor())
    assert repo.ask("DELETE", f"manifests/{report.digest}").status == 202
    assert repo.referrers(subject.digest).json()["manifests"] == []


def delete_blob(repo: Repo) -> None:
    _, digest = repo.blob()
    assert repo.ask("DELETE", f"blobs/{digest}").status == 202
    assert repo.ask("HEAD", f"blobs/{digest}").status == 404
    refused(repo.ask("DELETE", f"blobs/{ABSENT}"), 404, "BLOB_UNKNOWN")


def delete_in_no_repository(repo: Repo) -> None:
    assert repo.ask("DELETE", f"manifests/{ABSENT}").status == 404
    assert repo.ask("DELETE", f"blobs/{ABSENT}").status == 404


def method_not_allowed(repo: Repo) -> None:
    repo.pushed("v1")
    for method, target in (("POST", "tags/list"), ("PATCH", "manifests/v1")):
        assert repo.ask(method, target, b"").status == 405

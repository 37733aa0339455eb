"""The rules of distribution-spec 1.1 for pushing manifests, discovery and management.

They are grouped by the specification's endpoints, end-7 to end-10 and end-12.
"""

from __future__ import annotations

import re
from urllib.parse import urljoin

from imgtools.spec import media_type as mt
from tests.distribution_client import ABSENT, Repo, descriptor, index, refused

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

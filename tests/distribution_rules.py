"""The rules of distribution-spec 1.1 for pulling and for pushing blobs, a function for each.

They are grouped by the specification's endpoints; `tests.distribution_rules_manifests` has the
rest.
"""

from __future__ import annotations

import re

from imgtools.spec import media_type as mt
from imgtools.spec.digest import Digest
from tests.distribution_client import ABSENT, Repo, refused

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

"""Every switch of tag lists, pages and referrers does to the wire what it says."""

from __future__ import annotations

from typing import Any
from urllib.parse import urljoin

import pytest

from imgtools.spec import media_type as mt
from imgtools.testing.registry import ScriptedRegistry
from tests.scripted import DIGEST, ask, manifest, put_manifest, speaking

TAGS = "/v2/app/tags/list"
FIVE = tuple(f"t{n}" for n in range(5))


def test_empty_lists() -> None:
    for form, expected in (
        ("empty", {"name": "app", "tags": []}),
        ("null", {"name": "app", "tags": None}),
        ("missing", {"name": "app"}),
        ("empty-string", {"name": "app", "tags": [""]}),
    ):
        with speaking(no_tags=form) as registry:
            digest = manifest(registry)
            assert ask(registry, "GET", TAGS).json()["tags"] == ["v1"]
            ask(registry, "DELETE", f"/v2/app/manifests/{digest}")
            assert ask(registry, "GET", TAGS).json() == expected
    with speaking(empty_repository=404) as registry:
        manifest(registry, ())
        reply = ask(registry, "GET", TAGS)
        assert (reply.status, reply.code) == (404, "NAME_UNKNOWN")


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("duplicates", ["t0", "t0", "t1", "t1"]),
        ("unsorted", ["t1", "t0"]),
        ("digests", ["t0", "sha256:" + "5a" * 32, "t1"]),
    ],
)
def test_tags(form: Any, expected: list[str]) -> None:
    with speaking(tags=form) as registry:
        manifest(registry, FIVE[:2])
        assert ask(registry, "GET", TAGS).json()["tags"] == expected


def next_of(links: list[str]) -> str:
    """The target of the one link that leads on."""
    (found,) = [
        part.partition("<")[2].partition(">")[0]
        for link in links
        for part in link.split(", <")
        if "rel=next" in part.replace('"', "")
        for part in ["<" + part.removeprefix("<")]
    ]
    return found


@pytest.mark.parametrize(
    "form", [True, "absolute", "opaque", "query", "unquoted", "others", "several"]
)
def test_links_that_lead_on(form: Any) -> None:
    with speaking(link=form) as registry:
        manifest(registry, FIVE)
        found: list[str] = []
        target = f"{registry.url}{TAGS}?n=2"
        while target:
            assert target.startswith(registry.url)
            reply = ask(registry, "GET", target.removeprefix(registry.url))
            found += reply.json()["tags"]
            links = reply.all("link")
            target = urljoin(target, next_of(links)) if links else ""
        assert found == list(FIVE)


def test_forms_of_links() -> None:
    path = f"{TAGS}?n=2"
    following = f"{TAGS}?n=2&last=t1"
    for form, sent in (
        ("absolute", ["<http://{host}" + following + '>; rel="next"']),
        ("query", ['<?n=2&last=t1>; rel="next"']),
        ("unquoted", [f"<{following}>; rel=next"]),
        ("others", [f'<{TAGS}?page=1>; rel="first", <{following}>; title="a,b"; rel="next"']),
        ("several", [f'<{TAGS}?page=1>; rel="first"', f'<{following}>; rel="next"']),
        ("itself", [f'<{path}>; rel="next"']),
        ("host", [f'<http://other.invalid{following}>; rel="next"']),
        (False, []),
    ):
        with speaking(link=form) as registry:
            manifest(registry, FIVE)
            lines = [line.replace("{host}", registry.host) for line in sent]
            assert ask(registry, "GET", path).all("link") == lines
    with speaking(link="opaque") as registry:
        manifest(registry, FIVE)
        assert "last" not in ask(registry, "GET", path).headers["link"]


def test_counts() -> None:
    with speaking(page_limit=3) as registry:
        manifest(registry, FIVE)
        assert ask(registry, "GET", f"{TAGS}?n=3").status == 200
        assert ask(registry, "GET", f"{TAGS}?n=4").status == 400
    for form, tags, link in (
        ("empty", [], []),
        ("all", list(FIVE), []),
        ("itself", [], [f'<{TAGS}?n=0>; rel="next"']),
    ):
        with speaking(n_zero=form) as registry:
            manifest(registry, FIVE)
            reply = ask(registry, "GET", f"{TAGS}?n=0")
            assert (reply.json()["tags"], reply.all("link")) == (tags, link)


# --- referrers ----------------------------------------------------------------------------------


def refer(registry: ScriptedRegistry) -> None:
    subject = {"mediaType": mt.OCI_MANIFEST, "digest": str(DIGEST), "size": 1}
    for kind in ("a/a", "b/b", "c/c"):
        assert put_manifest(registry, "@", subject=subject, artifactType=kind).status == 201


REFERRERS = f"/v2/app/referrers/{DIGEST}"


@pytest.mark.parametrize(
    ("filters", "count", "said"),
    [
        ("yes", 1, "artifactType"),
        ("no", 3, None),
        ("silent", 1, None),
        ("claimed", 3, "annotation"),
    ],
)
def test_filters(filters: Any, count: int, said: str | None) -> None:
    with speaking(filters=filters) as registry:
        refer(registry)
        reply = ask(registry, "GET", f"{REFERRERS}?artifactType=b/b")
        assert len(reply.json()["manifests"]) == count
        assert reply.headers.get("oci-filters-applied") == said
        assert "oci-filters-applied" not in ask(registry, "GET", REFERRERS).headers


def test_pages_of_referrers() -> None:
    for form in (True, "opaque", "absolute"):
        with speaking(page_size=2, link=form) as registry:
            refer(registry)
            reply = ask(registry, "GET", REFERRERS)
            assert len(reply.json()["manifests"]) == 2
            target = next_of(reply.all("link")).removeprefix(registry.url)
            last = ask(registry, "GET", target)
            assert (len(last.json()["manifests"]), last.all("link")) == (1, [])


@pytest.mark.parametrize("status", [400, 401, 403, 405, 406, 500])
def test_referrers_refused(status: int) -> None:
    with speaking(referrers=status) as registry:
        assert ask(registry, "GET", REFERRERS).status == status


def test_referrers_that_are_no_index() -> None:
    with speaking(referrers="null") as registry:
        reply = ask(registry, "GET", REFERRERS)
        assert (reply.headers["content-type"], reply.json()["manifests"]) == (mt.OCI_INDEX, None)
    with speaking(referrers="not-an-index") as registry:
        assert "manifests" not in ask(registry, "GET", REFERRERS).json()

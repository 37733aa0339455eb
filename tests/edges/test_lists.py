"""Cases 58 to 60: tags, pages, and the ways of not having referrers."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from imgtools.spec import media_type as mt
from imgtools.spec.digest import Digest
from imgtools.spec.manifest import RawManifest
from imgtools.testing import images
from imgtools.testing.dialects import Dialect
from imgtools.testing.registry import ScriptedRegistry
from imgtools.transport.registry.api import Repository
from imgtools.transport.registry.referrers import fallback_tag, list_referrers
from tests.bad_input import PLAIN, Outcome, cli, push
from tests.edges.kit import copied
from tests.registry_fake import FakeRegistry, open_session, say

IMAGE = images.random_image("lists")
SBOM = "application/vnd.example.sbom"


def listed(tmp_path: Path, host: str) -> Outcome:
    return cli(tmp_path, "list-tags", PLAIN, f"docker://{host}/app")


def tags_of(outcome: Outcome) -> list[str]:
    assert outcome.code == 0, outcome.err
    return list(json.loads(outcome.out)["Tags"])


@pytest.mark.parametrize(
    ("document", "tags"),
    [
        ({"tags": None}, []),
        ({}, []),
        ({"tags": []}, []),
        ({"tags": [""]}, []),
        ({"tags": [None, 5, "a", {}]}, ["a"]),
        ({"tags": ["b", "a", "b", "a"]}, ["b", "a"]),
        ({"tags": ["z", "A", "m"]}, ["z", "A", "m"]),
        ({"tags": ["a", "sha256:" + "5" * 64, "b"]}, ["a", "sha256:" + "5" * 64, "b"]),
        ({"name": "another/one", "tags": ["a"], "more": True}, ["a"]),
    ],
)
def test_58_lists_of_tags_are_taken_as_they_are(
    tmp_path: Path, document: object, tags: list[str]
) -> None:
    with FakeRegistry(lambda request: say(200, document)) as registry:
        assert tags_of(listed(tmp_path, registry.host)) == tags


@pytest.mark.parametrize("document", [{"tags": {"a": 1}}, {"tags": "a"}, [], "a", None])
def test_58_what_is_no_list_is_an_error(tmp_path: Path, document: object) -> None:
    with FakeRegistry(lambda request: say(200, document)) as registry:
        listed(tmp_path, registry.host).refused()


def test_58_repository_without_tags_and_none_at_all(tmp_path: Path) -> None:
    with ScriptedRegistry() as registry:
        listed(tmp_path, registry.host).refused("does not exist", code=2)
        push(registry, "app", IMAGE)
        registry.repository("app").tags.clear()
        assert tags_of(listed(tmp_path, registry.host)) == []
    with ScriptedRegistry(dialect=Dialect(empty_repository=404)) as registry:
        registry.push_blob("app", b"x")
        listed(tmp_path, registry.host).refused("there are no tags", code=2)


def test_58_digests_among_tags_do_not_stop_a_sync(tmp_path: Path) -> None:
    dialect = Dialect(tags="digests")
    with ScriptedRegistry(dialect=dialect) as source, ScriptedRegistry() as target:
        for tag in ("a", "b"):
            push(source, "app", IMAGE, tag)
        done = cli(tmp_path, "sync", "-q", "--src=docker", "--dest=docker",
                   "--src-tls-verify=false", "--dest-tls-verify=false",
                   f"{source.host}/app", f"{target.host}/ns")  # fmt: skip
        assert done.code == 0, done.err
        assert set(target.repository("ns/app").tags) == {"a", "b"}


TAGS = [f"t{number:02}" for number in range(10)]


def fill(registry: ScriptedRegistry, tags: list[str]) -> None:
    """One image under many names."""
    push(registry, "app", IMAGE, tags[0])
    registry.repository("app").tags.update(dict.fromkeys(tags, IMAGE.top.digest))


@pytest.mark.parametrize(
    "link", [True, "absolute", "opaque", "query", "unquoted", "others", "several"]
)
@pytest.mark.parametrize("size", [1, 3, 5, 10, 11])
def test_59_every_form_of_link_is_followed(tmp_path: Path, link: Any, size: int) -> None:
    with ScriptedRegistry(dialect=Dialect(page_size=size, link=link)) as registry:
        fill(registry, TAGS)
        assert tags_of(listed(tmp_path, registry.host)) == TAGS
        assert registry.count("GET", "/tags/list") == -(-10 // size)


@pytest.mark.parametrize(
    ("links", "pages"),
    [
        (['</v2/app/tags/list?p=2>; rel="prev"'], 1),
        (['</v2/app/tags/list?p=2>; rel="prev next"'], 2),
        (['</v2/app/tags/list?p=2>; REL=NEXT; title="x"'], 2),
        (['<list?p=2>; rel="next"'], 2),
        (['</a,b>; rel="first", </v2/app/tags/list?p=2>;title="<";rel="next"'], 2),
        (['</v2/app/tags/list?p=2>'], 1),
        (["</v2/app/tags/list?p=2; rel=next"], 1),
        (["", "garbage", '</v2/app/tags/list?p=2>; rel="next"'], 2),
        (['<>; rel="next"'], 1),
    ],
)  # fmt: skip
def test_59_odd_links(tmp_path: Path, links: list[str], pages: int) -> None:
    def script(request: Any) -> Any:
        if request.query.get("p") == ["2"]:
            return say(200, {"tags": ["b"]})
        answer = say(200, {"tags": ["a"]})
        return type(answer)(body=answer.body, headers=[("Link", link) for link in links])

    with FakeRegistry(script) as registry:
        assert tags_of(listed(tmp_path, registry.host)) == ["a", "b"][:pages]


def test_59_pages_that_lead_to_themselves_end(tmp_path: Path) -> None:
    with ScriptedRegistry(dialect=Dialect(page_size=3, link="itself")) as registry:
        fill(registry, TAGS)
        listed(tmp_path, registry.host).refused("the pages have no end")
        assert registry.count("GET", "/tags/list") == 1


def test_59_pages_in_a_larger_circle_end(tmp_path: Path) -> None:
    def script(request: Any) -> Any:
        page = int(request.query.get("p", ["0"])[0])
        return say(200, {"tags": ["a"]}, Link=f'<?p={(page + 1) % 5}>; rel="next"')

    with FakeRegistry(script) as registry:
        listed(tmp_path, registry.host).refused("the pages have no end")
        assert len(registry.requests) == 6


def test_59_pages_stay_on_their_host(tmp_path: Path) -> None:
    with ScriptedRegistry(dialect=Dialect(page_size=3, link="host")) as registry:
        fill(registry, TAGS)
        listed(tmp_path, registry.host).refused("another host: http://other.invalid")


@pytest.mark.parametrize("kind", ["all", "itself"])
def test_59_no_more_and_no_fewer_are_asked_for_than_registries_bear(
    tmp_path: Path, kind: Any
) -> None:
    with ScriptedRegistry(dialect=Dialect(page_limit=1000, n_zero=kind)) as registry:
        fill(registry, TAGS)
        assert tags_of(listed(tmp_path, registry.host)) == TAGS
        asked = [re.search(r"[?&]n=(\d+)", e.target) for e in registry.requests]
        assert all(match is None or 1 <= int(match[1]) <= 1000 for match in asked)


@pytest.mark.parametrize("count", [999, 1000, 1001, 2000, 2500])
def test_59_lists_that_are_cut_without_a_link_go_on(tmp_path: Path, count: int) -> None:
    many = [f"t{number:05}" for number in range(count)]
    with ScriptedRegistry(dialect=Dialect(link=False)) as registry:
        fill(registry, many)
        assert tags_of(listed(tmp_path, registry.host)) == many
        assert registry.count("GET", "/tags/list") == count // 1000 + 1


@pytest.mark.parametrize("dialect", [{"pages": False}, {"tags": "unsorted"}])
def test_59_full_pages_that_cannot_go_on_are_the_end(
    tmp_path: Path, dialect: dict[str, Any]
) -> None:
    many = [f"t{number:05}" for number in range(1000)]
    with ScriptedRegistry(dialect=Dialect(link=False, **dialect)) as registry:
        fill(registry, many)
        assert sorted(tags_of(listed(tmp_path, registry.host))) == many
        assert registry.count("GET", "/tags/list") == (2 if "pages" in dialect else 1)


# Referrers


def attach(registry: ScriptedRegistry, seed: object, **more: Any) -> RawManifest:
    """An artifact that refers to IMAGE."""
    sample = images.random_artifact(seed, subject=IMAGE.top.descriptor(), **more)
    for content in sample.blobs.values():
        registry.push_blob("app", content)
    registry.push_manifest("app", sample.top.content, sample.top.media_type)
    return sample.top


def fallback(registry: ScriptedRegistry, *raws: RawManifest) -> str:
    """The tag that lists referrers of IMAGE where there is no API."""
    tag = f"sha256-{IMAGE.top.digest.hex}"
    value = {
        "schemaVersion": 2,
        "mediaType": mt.OCI_INDEX,
        "manifests": [raw.descriptor().to_json() for raw in raws],
    }
    registry.push_manifest("app", json.dumps(value).encode(), mt.OCI_INDEX, tags=[tag])
    return tag


def referred(tmp_path: Path, registry: ScriptedRegistry) -> list[str]:
    """The digests that `inspect --referrers` finds below IMAGE."""
    name = f"docker://{registry.host}/app:1"
    done = cli(tmp_path, "inspect", PLAIN, "--referrers", "--json", name)
    assert done.code == 0, done.err
    value = json.loads(done.out)
    (top,) = value if isinstance(value, list) else [value]
    assert top["Digest"] == str(IMAGE.top.digest)
    return [entry["Digest"] for entry in top["Referrers"]]


ABSENT = ["404-text", "404-json", "html", 400, 404, 405, 406, 501]


@pytest.mark.parametrize("answer", ABSENT)
@pytest.mark.parametrize("listed_by_tag", [True, False])
def test_60_without_the_api_the_fallback_tag_is_read(
    tmp_path: Path, answer: Any, listed_by_tag: bool
) -> None:
    with ScriptedRegistry(dialect=Dialect(referrers=answer, subject=False)) as registry:
        push(registry, "app", IMAGE)
        sbom = attach(registry, "sbom")
        if listed_by_tag:
            fallback(registry, sbom)
        assert referred(tmp_path, registry) == [str(sbom.digest)] * listed_by_tag


@pytest.mark.parametrize(
    "body", [b"{}", b"[]", b"null", b"", b'{"errors":[{"code":"NOT_FOUND"}]}', b"not found"]
)
def test_60_success_that_is_no_index_is_no_api(tmp_path: Path, body: bytes) -> None:
    with ScriptedRegistry(dialect=Dialect(referrers="404-text", subject=False)) as registry:
        push(registry, "app", IMAGE)
        sbom = attach(registry, "sbom")
        fallback(registry, sbom)
        kind = {"Content-Type": "application/json"}
        registry.fail(path="/referrers/", status=200, headers=kind, body=body)
        assert referred(tmp_path, registry) == [str(sbom.digest)]


def test_60_index_by_another_type_is_believed(tmp_path: Path) -> None:
    with ScriptedRegistry() as registry:
        push(registry, "app", IMAGE)
        sbom = attach(registry, "sbom")
        fallback(registry)
        registry.fail(path="/referrers/", set_headers={"Content-Type": "application/json"})
        assert referred(tmp_path, registry) == [str(sbom.digest)]


@pytest.mark.parametrize("status", [401, 403, 500])
def test_60_what_may_hide_referrers_is_an_error(tmp_path: Path, status: int) -> None:
    with ScriptedRegistry() as registry:
        name = push(registry, "app", IMAGE)
        registry.fail(path="/referrers/", status=status)
        cli(tmp_path, "inspect", PLAIN, "--referrers", name).refused(str(status))


def test_60_an_index_with_null_in_place_of_manifests_is_empty(tmp_path: Path) -> None:
    with ScriptedRegistry(dialect=Dialect(referrers="null")) as registry:
        push(registry, "app", IMAGE)
        assert referred(tmp_path, registry) == []


@pytest.mark.parametrize("size", [None, 1, 2])
def test_60_pages_of_referrers_are_followed(tmp_path: Path, size: int | None) -> None:
    with ScriptedRegistry(dialect=Dialect(page_size=size)) as registry:
        push(registry, "app", IMAGE)
        found = {str(attach(registry, number).digest) for number in range(5)}
        assert sorted(referred(tmp_path, registry)) == sorted(found)
        assert registry.count("GET", f"/referrers/{IMAGE.top.digest}") == -(-5 // (size or 5))


@pytest.mark.parametrize("filters", ["yes", "no", "silent", "claimed"])
def test_60_filters_are_applied_here_where_they_were_not_there(filters: Any) -> None:
    with ScriptedRegistry(dialect=Dialect(filters=filters)) as registry:
        push(registry, "app", IMAGE)
        wanted = attach(registry, "sbom", artifact_type=SBOM)
        attach(registry, "report")
        session = open_session(registry.host)
        found = list(list_referrers(Repository(session, "app"), IMAGE.top.digest, SBOM))
        session.close()
        assert [descriptor.digest for descriptor in found] == [wanted.digest]


def test_60_fallback_tags_have_their_length() -> None:
    short, long = Digest.of(b"x"), Digest.of(b"x", "sha512")
    assert fallback_tag(short) == f"sha256-{short.hex}"
    assert fallback_tag(long) == f"sha512-{long.hex[:64]}"


@pytest.mark.parametrize("case", ["first", "another is there", "another wins", "shown late"])
def test_60_subjects_that_are_not_acknowledged_are_listed_by_us(tmp_path: Path, case: str) -> None:
    late = 2 if case == "shown late" else 0
    dialect = Dialect(referrers="404-text", subject=False, stale_reads=late)
    with ScriptedRegistry() as source, ScriptedRegistry(dialect=dialect) as target:
        name = push(source, "app", IMAGE)
        copies = [attach(source, number) for number in range(3)]
        tag = f"sha256-{IMAGE.top.digest.hex}"
        old: list[RawManifest] = []
        if case.startswith("another"):
            old = [attach(target, "old")]
            fallback(target, *old)
        if case == "another wins":
            # Somebody else writes the tag at the same time, so that ours is gone again.
            target.fail(method="PUT", path=f"/manifests/{tag}", nth=1, status=201)
        done = copied(tmp_path, name, f"docker://{target.host}/app:1", "--referrers")
        assert done.code == 0, done.err
        repository = target.repository("app")
        value = json.loads(repository.manifests[repository.tags[tag]].content)
        assert {entry["digest"] for entry in value["manifests"]} == {
            str(raw.digest) for raw in (*copies, *old)
        }
        entry = value["manifests"][-1]
        assert entry["artifactType"] == "application/vnd.example.report"


def test_60_acknowledged_subjects_need_no_list(tmp_path: Path) -> None:
    with ScriptedRegistry() as source, ScriptedRegistry() as target:
        name = push(source, "app", IMAGE)
        sbom = attach(source, "sbom")
        done = copied(tmp_path, name, f"docker://{target.host}/app:1", "--referrers")
        assert done.code == 0, done.err
        assert set(target.repository("app").tags) == {"1"}
        assert sbom.digest in target.repository("app").manifests
        assert target.count("PUT", "/manifests/sha256-") == 0

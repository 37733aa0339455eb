"""What a process knows of a registry: uploads happen once, waits end, and refusals are kept."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from imgtools.blob.reader import BlobReader
from imgtools.errors import (
    Cancelled,
    Conflict,
    Denied,
    DigestMismatch,
    Error,
    RegistryError,
    TagImmutable,
)
from imgtools.spec import media_type as mt
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest
from imgtools.spec.manifest import RawManifest
from imgtools.spec.reference import Reference
from imgtools.task import Task
from imgtools.testing.dialects import GGCR, Dialect
from imgtools.testing.registry import ScriptedRegistry
from imgtools.transport.base import Origin
from imgtools.transport.options import Credentials
from imgtools.transport.registry.api import Repository
from imgtools.transport.registry.push.destination import RegistryDestination
from imgtools.transport.registry.push.known import KnownContent
from imgtools.transport.registry.referrers import add_to_fallback, fallback_tag, list_referrers
from imgtools.transport.registry.removal.delete import delete_image
from imgtools.transport.registry.removal.delete_plan import DeleteOptions
from imgtools.transport.registry.session import Session
from tests.registry_fake import open_session
from tests.rig import RegistryServer

BLOB = os.urandom(300_000)
LAYER = Descriptor(media_type="", digest=Digest.of(BLOB), size=len(BLOB))


@contextmanager
def opened(host: str, **options: Any) -> Iterator[Session]:
    session = open_session(host, **options)
    try:
        yield session
    finally:
        session.close()


def destination(session: Session, rest: str = "a/b:v1", **more: Any) -> RegistryDestination:
    return RegistryDestination(session, Reference.parse(f"{session.host}/{rest}"), **more)


def put(session: Session, rest: str = "a/b:v1", **more: Any) -> str:
    options = {"task": Task(), **more}
    return destination(session, rest).put_blob(LAYER, lambda: BlobReader.of(BLOB), **options)


def manifest(number: int = 0) -> RawManifest:
    value = {
        "schemaVersion": 2,
        "mediaType": mt.OCI_MANIFEST,
        "config": {"mediaType": mt.OCI_CONFIG, "digest": str(LAYER.digest), "size": LAYER.size},
        "layers": [],
        "annotations": {"number": str(number)},
    }
    return RawManifest.of(json.dumps(value).encode())


# Blobs


def test_second_copy_asks_nothing() -> None:
    with ScriptedRegistry() as registry, opened(registry.host) as session:
        assert put(session) == "stored"
        before = registry.count()
        assert put(session, "a/b:other") == "present"
        assert destination(session).has_blob(LAYER)
        assert registry.count() == before


def test_what_was_asked_is_known() -> None:
    with ScriptedRegistry() as registry, opened(registry.host) as session:
        registry.push_blob("a/b", BLOB)
        assert destination(session).has_blob(LAYER)
        assert put(session) == "present"
        assert registry.count() == 1


def test_next_process_asks_again() -> None:
    with ScriptedRegistry() as registry:
        for outcome in ("stored", "present"):
            with opened(registry.host) as session:
                assert put(session) == outcome
        # It is the POST that asks, so nothing is sent twice and no request is added.
        assert registry.count("POST") == 2
        assert registry.count("PUT") == registry.count() - 2 == 1


@pytest.mark.parametrize("mount", ["no", 400, 404, 405])
def test_registry_that_does_not_mount_gets_the_blob_again(mount: Any) -> None:
    with ScriptedRegistry(dialect=Dialect(mount=mount)) as registry:
        for _ in range(2):
            with opened(registry.host) as session:
                assert put(session) == "stored"
        assert registry.count("PUT") == 2


def test_one_token_serves_a_mount_from_the_repository_itself() -> None:
    with ScriptedRegistry(auth="bearer") as registry:
        credentials = Credentials(username="user", password="secret")
        for outcome in ("stored", "present"):
            with opened(registry.host, credentials=credentials) as session:
                assert put(session) == outcome
        assert [token.scopes for token in registry.tokens] == [
            ("repository:a/b:pull,push",),
            ("repository:a/b:pull,push",),
        ]


def test_parallel_copies_upload_a_blob_once() -> None:
    with ScriptedRegistry(latency=0.02) as registry, opened(registry.host) as session:
        with ThreadPoolExecutor(8) as pool:
            names = [f"a/b:t{number}" for number in range(8)]
            outcomes = list(pool.map(lambda name: put(session, name), names))
        assert sorted(outcomes) == ["present"] * 7 + ["stored"]
        assert registry.count("POST") == registry.count("PUT") == 1


def test_other_repositories_mount_what_one_got() -> None:
    """Although the copies come from elsewhere, and all at once."""
    with ScriptedRegistry(latency=0.02) as registry, opened(registry.host) as session:
        with ThreadPoolExecutor(8) as pool:
            names = [f"a/r{number}:v1" for number in range(6)]
            outcomes = list(pool.map(lambda name: put(session, name), names))
        assert sorted(outcomes) == ["mounted"] * 5 + ["stored"]
        assert registry.count("PUT") == 1
        mounts = [e.target for e in registry.requests if "mount=" in e.target]
        assert all("from=a/r" in target for target in mounts)


def test_real_registry_mounts_what_another_repository_got(
    registry_plain: RegistryServer, repository: str
) -> None:
    with opened(registry_plain.host) as session:
        assert put(session, f"{repository}/one:v1") == "stored"
        assert put(session, f"{repository}/two:v1") == "mounted"
        assert put(session, f"{repository}/two:v2") == "present"
    assert registry_plain.has_blob(f"{repository}/two", str(LAYER.digest))


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405])
def test_refused_mount_is_not_asked_for_again(status: int) -> None:
    here = "docker://x"
    with ScriptedRegistry(dialect=Dialect(mount=status)) as registry:
        with opened(registry.host) as session:
            source = Origin(transport="docker", name=here, registry=session.host, repository="from")
            assert put(session, mount_from=[source]) == "stored"
            assert put(session, "c/d:v1", mount_from=[source]) == "stored"
        mounts = [e.target.partition("from=")[2] for e in registry.requests if "mount=" in e.target]
        assert sorted(set(mounts)) == ["a/b", "from"]
        assert len(mounts) == len(set(mounts)) or status in (401, 403)


def test_registry_without_mounts_is_not_waited_for() -> None:
    """Repositories do not wait for each other's uploads once mounting was seen not to work."""
    with ScriptedRegistry(dialect=GGCR) as registry, opened(registry.host) as session:
        assert put(session) == "stored"
        assert put(session, "c/d:v1") == "stored"
        known = session.features.known
        with known.alone("e/f", LAYER.digest, Task().cancel):
            assert put(session, "g/h:v1") == "stored"
        assert registry.count("DELETE") == 0


def test_failure_lets_the_next_one_try() -> None:
    with ScriptedRegistry(latency=0.02) as registry, opened(registry.host) as session:
        registry.fail(method="PUT", nth=1, status=403)
        results: list[object] = []

        def work() -> None:
            try:
                results.append(put(session))
            except Denied:
                results.append("denied")

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(map(str, results)) == ["denied", "present", "present", "stored"]


def test_waiting_can_be_cancelled() -> None:
    known, task = KnownContent(), Task()
    outcome: list[object] = []

    def wait() -> None:
        try:
            with known.alone("a", LAYER.digest, task.cancel):
                outcome.append("in")
        except Cancelled as e:
            outcome.append(e)

    with known.alone("b", LAYER.digest, Task().cancel):
        thread = threading.Thread(target=wait)
        thread.start()
        task.cancel.cancel()
        thread.join()
    assert isinstance(outcome[0], Cancelled)
    # Nothing is left behind.
    with known.alone("a", LAYER.digest, Task().cancel):
        pass


def test_one_repository_gets_a_blob_once_also_without_mounts() -> None:
    known, entered, leave = KnownContent(), threading.Event(), threading.Event()
    order: list[str] = []

    def upload() -> None:
        with known.alone("a", LAYER.digest, Task().cancel):
            order.append("first")
            entered.set()
            leave.wait(10)
            order.append("first is done")

    def follow() -> None:
        with known.alone("a", LAYER.digest, Task().cancel):
            order.append("second")

    first, second = threading.Thread(target=upload), threading.Thread(target=follow)
    first.start()
    entered.wait(10)
    # Found out in the middle: other repositories do not wait any longer, this one does.
    known.no_mounts()
    with known.alone("b", LAYER.digest, Task().cancel):
        order.append("elsewhere")
    second.start()
    leave.set()
    first.join()
    second.join()
    assert order == ["first", "elsewhere", "first is done", "second"]


def test_what_is_known_of_repositories() -> None:
    known, other = KnownContent(), Digest.of(b"other")
    for name in ("a", "b", "c", "a"):
        known.add_blob(name, LAYER.digest)
        known.add_manifest(name, other)
    assert known.elsewhere("b", LAYER.digest) == ["c", "a"]
    assert known.elsewhere("b", other) == []
    known.forget("c")
    assert known.elsewhere("b", LAYER.digest) == ["a"]
    assert known.has_manifest("b", other)
    assert not known.has_manifest("c", other)
    assert not known.has_manifest("b", LAYER.digest)


# Manifests


def test_manifests_put_or_seen_are_known() -> None:
    with ScriptedRegistry() as registry, opened(registry.host) as session:
        put(session)
        there = destination(session)
        there.put_manifest(manifest(), top=True)
        before = registry.count()
        assert destination(session, "a/b:v2").has_manifest(manifest().descriptor())
        assert registry.count() == before
        assert not destination(session, "c/d:v2").has_manifest(manifest().descriptor())
    with opened(registry.host) as session:
        pass
    with ScriptedRegistry() as registry, opened(registry.host) as session:
        put(session)
        destination(session).put_manifest(manifest(), top=True)
        with opened(registry.host) as second:
            assert destination(second).current() == manifest().descriptor()
            before = registry.count()
            assert destination(second, "a/b:x").has_manifest(manifest().descriptor())
            assert registry.count() == before


def test_blobs_that_were_deleted_meanwhile_are_forgotten() -> None:
    with ScriptedRegistry() as registry, opened(registry.host) as session:
        put(session)
        registry.store.repository("a/b").blobs.clear()
        assert put(session) == "present"
        with pytest.raises(RegistryError, match="BLOB_UNKNOWN"):
            destination(session).put_manifest(manifest(), top=True)
        assert put(session) == "stored"
        destination(session).put_manifest(manifest(), top=True)


def test_what_was_deleted_is_not_known() -> None:
    # The blobs of a deleted manifest may be collected at once.
    with ScriptedRegistry() as registry, opened(registry.host) as session:
        put(session)
        destination(session).put_manifest(manifest(), top=True)
        reference = Reference.parse(f"{registry.host}/a/b@{manifest().digest}")
        repository = Repository(session, "a/b", push=True)
        delete_image(repository, reference, DeleteOptions(), task=Task())
        registry.store.repository("a/b").blobs.clear()
        assert not destination(session).has_manifest(manifest().descriptor())
        assert put(session) == "stored"


@pytest.mark.parametrize("status", [401, 403, 405])
def test_absence_that_looks_like_a_refusal(status: int) -> None:
    with ScriptedRegistry() as registry, opened(registry.host) as session:
        put(session)
        destination(session).put_manifest(manifest(), top=True)
        absent = manifest(5).descriptor()
        registry.fail(method="HEAD", path="/v2/a/b/", status=status)
        with opened(registry.host) as second:
            there = destination(second)
            assert there.has_manifest(manifest().descriptor())
            assert not there.has_manifest(absent)
        if status != 405:
            registry.fail(path="/v2/a/b/(manifests|blobs)/sha256", status=status)
            with opened(registry.host) as second:
                there = destination(second, "a/b:new")
                assert not there.has_manifest(absent)
                assert not there.has_blob(LAYER)
                assert there.current() is None


def test_trouble_is_no_absence() -> None:
    with ScriptedRegistry() as registry, opened(registry.host) as session:
        registry.fail(path="/manifests/", status=503)
        with pytest.raises(RegistryError, match="503"):
            destination(session).has_manifest(manifest().descriptor())


def test_missing_repository_has_a_hint() -> None:
    with ScriptedRegistry() as registry, opened(registry.host) as session:
        registry.fail(method="POST", status=404)
        with pytest.raises(RegistryError) as caught:
            put(session, "project/b:v1")
        assert "project" in (caught.value.hint or "")
        assert "must exist" in (caught.value.hint or "")


# Tags that stay where they are


@pytest.mark.parametrize("status", [405, 409, 412, 403])
def test_immutable_tag(status: int) -> None:
    with ScriptedRegistry() as registry, opened(registry.host) as session:
        put(session)
        destination(session).put_manifest(manifest(1), top=True)
        body = json.dumps({"errors": [{"code": "DENIED", "message": "the tag is immutable"}]})
        registry.fail(method="PUT", path="/manifests/v1", status=status, body=body)
        # The same again is as good as put, although nobody had looked before.
        destination(session).put_manifest(manifest(1), top=True)
        with pytest.raises(TagImmutable) as caught:
            destination(session).put_manifest(manifest(2), top=True)
        assert caught.value.name == f"{registry.host}/a/b:v1"
        assert caught.value.present == str(manifest(1).digest)
        assert caught.value.wanted == str(manifest(2).digest)
        assert str(manifest(1).digest) in caught.value.message
        # What is not there is refused for another reason.
        registry.fail(method="PUT", path="/manifests/new", status=status, body=body)
        with pytest.raises(Error) as other:
            destination(session, "a/b:new").put_manifest(manifest(2), top=True)
        assert not isinstance(other.value, TagImmutable)


@pytest.mark.parametrize(
    ("code", "message", "immutable"),
    [
        ("TAG_INVALID", "The image tag 'v1' already exists and cannot be overwritten", True),
        ("UNKNOWN", "ImageTagAlreadyExistsException", True),
        ("MANIFEST_INVALID", "Invalid JSON syntax", False),
    ],
)
def test_bad_request_may_mean_an_immutable_tag(code: str, message: str, immutable: bool) -> None:
    with ScriptedRegistry() as registry, opened(registry.host) as session:
        put(session)
        destination(session).put_manifest(manifest(1), top=True)
        body = json.dumps({"errors": [{"code": code, "message": message}]})
        registry.fail(method="PUT", path="/manifests/v1", status=400, body=body)
        before = registry.count("HEAD")
        with pytest.raises(TagImmutable if immutable else RegistryError, match=message):
            destination(session).put_manifest(manifest(2), top=True)
        # What the tag leads to is the whole question, in either case.
        assert registry.count("HEAD") - before == 1


def test_tags_of_one_push_have_the_same_bytes() -> None:
    with ScriptedRegistry() as registry, opened(registry.host) as session:
        put(session)
        destination(session, additional_tags=["v2", "latest"]).put_manifest(manifest(), top=True)
        found = registry.store.repository("a/b")
        assert {found.tags[name] for name in ("v1", "v2", "latest")} == {manifest().digest}
        assert found.manifests[manifest().digest].content == manifest().content


def test_tag_beside_a_digest_is_put_although_the_digest_is_there() -> None:
    with ScriptedRegistry() as registry, opened(registry.host) as session:
        put(session)
        destination(session).put_manifest(manifest(), top=True)
        there = destination(session, f"a/b:other@{manifest().digest}")
        assert there.current() is None
        there.put_manifest(manifest(), top=True)
        assert registry.store.repository("a/b").tags["other"] == manifest().digest
        # Nothing is written where both are right.
        again = destination(session, f"a/b:other@{manifest().digest}")
        assert again.current() == manifest().descriptor()
        before = registry.count("PUT")
        again.put_manifest(manifest(), top=True)
        assert registry.count("PUT") == before


def test_destination_named_by_another_algorithm() -> None:
    sha512 = Digest.of(manifest().content, "sha512")
    with ScriptedRegistry() as registry, opened(registry.host) as session:
        put(session)
        destination(session, f"a/b@{sha512}").put_manifest(manifest(), top=True)
        assert registry.count("PUT", f"/manifests/{sha512}$") == 1
        with pytest.raises(DigestMismatch):
            destination(session, f"a/b:v1@{sha512}").put_manifest(manifest(2), top=True)
        assert registry.store.repository("a/b").tags == {}


# Referrers under a tag


def push_referrers(session: Session, count: int) -> list[Descriptor]:
    put(session)
    there = destination(session)
    for number in range(count):
        there.put_manifest(manifest(number), top=False)
    return [manifest(number).descriptor() for number in range(count)]


def test_many_referrers_at_once_are_all_there() -> None:
    subject = Digest.of(b"subject")
    with (
        ScriptedRegistry(dialect=Dialect(referrers="404-text")) as registry,
        opened(registry.host) as session,
        ThreadPoolExecutor(12) as pool,
    ):
        pushed = push_referrers(session, 12)
        repository = Repository(session, "a/b", push=True)
        list(pool.map(lambda entry: add_to_fallback(repository, subject, entry), pushed))
        found = {entry.digest for entry in list_referrers(repository, subject)}
        assert found == {entry.digest for entry in pushed}
        # One after the other, so that nobody's entry is written over.
        assert registry.count("PUT", "/manifests/sha256-") == 12


@pytest.mark.parametrize(("times", "kept"), [(1, True), (8, True), (99, False)])
def test_list_that_others_write_over(times: int, kept: bool) -> None:
    """With several writers it may take a while until the last word is ours."""
    subject = Digest.of(b"subject")
    with (
        ScriptedRegistry(dialect=Dialect(referrers="404-text")) as registry,
        opened(registry.host) as session,
    ):
        first, second = push_referrers(session, 2)
        repository = Repository(session, "a/b", push=True)
        add_to_fallback(repository, subject, first)
        registry.forget_requests()
        # Each answer says stored, and what somebody else wrote is there.
        registry.fail(method="PUT", path="/manifests/sha256-", nth=range(1, times + 1), status=201)
        if kept:
            add_to_fallback(repository, subject, second)
        else:
            with pytest.raises(Conflict):
                add_to_fallback(repository, subject, second)
        found = {entry.digest for entry in list_referrers(repository, subject)}
        assert (second.digest in found) is kept
        assert registry.count("PUT", "/manifests/sha256-") == min(times + 1, 12)


def test_list_that_is_written_over_after_it_was_seen() -> None:
    """Who had to write again looks twice."""
    subject = Digest.of(b"subject")
    with (
        ScriptedRegistry(dialect=Dialect(referrers="404-text")) as registry,
        opened(registry.host) as session,
    ):
        first, second = push_referrers(session, 2)
        repository = Repository(session, "a/b", push=True)
        add_to_fallback(repository, subject, first)
        there = registry.store.repository("a/b")
        tag = fallback_tag(subject)
        before = there.tags[tag]
        registry.fail(method="PUT", path="/manifests/sha256-", nth=1, status=201)
        looks = 0

        def look(seconds: float, cancel: object = None) -> None:
            nonlocal looks
            looks += 1
            if looks == 2:
                there.tags[tag] = before

        session.wait = look  # type: ignore[method-assign]
        add_to_fallback(repository, subject, second)
        found = {entry.digest for entry in list_referrers(repository, subject)}
        assert found == {first.digest, second.digest}


def test_list_that_is_shown_late_keeps_its_entries() -> None:
    subject = Digest.of(b"subject")
    with (
        ScriptedRegistry(dialect=Dialect(referrers="404-text", stale_reads=2)) as registry,
        opened(registry.host) as session,
    ):
        pushed = push_referrers(session, 3)
        repository = Repository(session, "a/b", push=True)
        for entry in pushed:
            add_to_fallback(repository, subject, entry)
        found = {entry.digest for entry in list_referrers(repository, subject)}
        assert found == {entry.digest for entry in pushed}
        assert registry.count("PUT", "/manifests/sha256-") == 3


@pytest.mark.parametrize("status", [401, 403])
def test_list_that_nobody_may_read_is_not_replaced(status: int) -> None:
    subject = Digest.of(b"subject")
    with (
        ScriptedRegistry(dialect=Dialect(referrers="404-text")) as registry,
        opened(registry.host) as session,
    ):
        one, two = push_referrers(session, 2)
        repository = Repository(session, "a/b", push=True)
        hidden = registry.fail(method="GET", path="/manifests/sha256-", nth=1, status=status)
        # Where other manifests can be read, a refusal is how absence looks.
        add_to_fallback(repository, subject, one)
        assert registry.faults.applied(hidden) == 1
        registry.fail(path="/manifests/sha256[-:]", status=status)
        registry.fail(method="GET", path="/manifests/", status=status)
        before = registry.count("PUT")
        with pytest.raises(Denied):
            add_to_fallback(repository, subject, two)
        with pytest.raises(Denied):
            list(list_referrers(repository, subject))
        assert registry.count("PUT") == before


@pytest.mark.parametrize("kind", ["404-text", "404-json", "html", 400, 405, 406])
def test_registries_without_the_api(kind: Any) -> None:
    subject = Digest.of(b"subject", "sha512")
    assert fallback_tag(subject) == f"sha512-{subject.hex[:64]}"
    with (
        ScriptedRegistry(dialect=Dialect(referrers=kind)) as registry,
        opened(registry.host) as session,
    ):
        (pushed,) = push_referrers(session, 1)
        repository = Repository(session, "a/b", push=True)
        add_to_fallback(repository, subject, pushed)
        assert [e.digest for e in list_referrers(repository, subject)] == [pushed.digest]
        assert fallback_tag(subject) in registry.store.repository("a/b").tags

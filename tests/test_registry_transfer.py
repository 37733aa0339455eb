"""Blobs, manifests, tags and referrers against a scripted registry that misbehaves on cue."""

from __future__ import annotations

import json
import os
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from imgtools.blob.reader import BlobReader
from imgtools.errors import (
    BlobNotFound,
    Cancelled,
    Conflict,
    ConnectionFailed,
    Denied,
    DigestMismatch,
    ImageNotFound,
    LimitExceeded,
    NotFound,
    RegistryError,
    SizeMismatch,
    Unsupported,
)
from imgtools.spec import media_type as mt
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest
from imgtools.spec.manifest import RawManifest
from imgtools.spec.reference import Reference
from imgtools.task import Advanced, Event, Task
from imgtools.transport.base import Origin
from imgtools.transport.options import Credentials
from imgtools.transport.registry.access.challenge_cache import ChallengeCache, KnownHost
from imgtools.transport.registry.pull.source import RegistrySource
from imgtools.transport.registry.pull.tags import list_tags
from imgtools.transport.registry.push.destination import RegistryDestination
from imgtools.transport.registry.referrers import fallback_tag, list_referrers
from imgtools.transport.registry.session import Session
from imgtools.transport.registry.wire.exchange import ExchangeFailed
from tests.registry_fake import Answer, FakeRegistry, Request, open_session, say

BLOB = os.urandom(100_000)
LAYER = Descriptor(media_type=mt.OCI_LAYER_GZIP, digest=Digest.of(BLOB), size=len(BLOB))
MANIFEST = json.dumps(
    {
        "schemaVersion": 2,
        "mediaType": mt.OCI_MANIFEST,
        "config": {"mediaType": mt.OCI_CONFIG, "digest": str(Digest.of(b"{}")), "size": 2},
        "layers": [],
    }
).encode()
RAW = RawManifest.of(MANIFEST)


@contextmanager
def registry(script: Callable[[Request], Answer]) -> Iterator[tuple[FakeRegistry, Session]]:
    with FakeRegistry(script) as fake:
        session = open_session(fake.host)
        try:
            yield fake, session
        finally:
            session.close()


def source(session: Session, rest: str = "a/b:v1") -> RegistrySource:
    return RegistrySource(session, Reference.parse(f"{session.host}/{rest}"))


def destination(session: Session, rest: str = "a/b:v1", **more: Any) -> RegistryDestination:
    return RegistryDestination(session, Reference.parse(f"{session.host}/{rest}"), **more)


# Manifests


def manifest_answer(request: Request, **headers: str) -> Answer:
    return say(200, MANIFEST, Content_Type=mt.OCI_MANIFEST, **headers)


def test_resolve_is_one_head_and_top_one_get() -> None:
    with registry(lambda r: manifest_answer(r, Docker_Content_Digest=str(RAW.digest))) as (
        fake,
        session,
    ):
        image = source(session)
        assert image.resolve() == image.resolve() == RAW.descriptor()
        assert image.top() == image.top() == RAW
        assert image.manifest(RAW.descriptor()) == RAW
        assert fake.seen == ["HEAD /v2/a/b/manifests/v1", "GET /v2/a/b/manifests/v1"]
        assert fake.requests[0].headers["accept"].count(",") == len(mt.ACCEPTED_MANIFESTS) - 1


@pytest.mark.parametrize(
    "head",
    [
        say(405),
        say(403),
        say(200, MANIFEST, Content_Type=mt.OCI_MANIFEST),
        say(200, MANIFEST, Docker_Content_Digest=str(RAW.digest), Content_Type="text/plain"),
        say(200, MANIFEST, Docker_Content_Digest="md5:1", Content_Type=mt.OCI_MANIFEST),
    ],
)
def test_head_that_does_not_tell_falls_back_to_get(head: Answer) -> None:
    with registry(lambda r: head if r.method == "HEAD" else manifest_answer(r)) as (_, session):
        assert source(session).resolve() == RAW.descriptor()
        assert destination(session).current() == RAW.descriptor()


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"errors": [{"code": "MANIFEST_UNKNOWN", "message": "unknown"}]}, "MANIFEST_UNKNOWN"),
        ({"errors": [{"code": "NAME_UNKNOWN"}]}, "NAME_UNKNOWN"),
        (b"<html>Not Found</html>", "Not Found"),
        (b"", ""),
    ],
)
def test_missing_image(body: object, code: str) -> None:
    with registry(lambda r: say(404, body)) as (_, session):
        image = source(session)
        with pytest.raises(ImageNotFound):
            image.resolve()
        with pytest.raises(ImageNotFound) as caught:
            image.top()
        assert "a/b:v1 does not exist" in caught.value.message
        assert code in caught.value.message
        with pytest.raises(NotFound):
            image.manifest(RAW.descriptor())
        assert destination(session).current() is None
        assert not destination(session).has_manifest(RAW.descriptor())


def test_refused_image() -> None:
    body = {"errors": [{"code": "DENIED", "message": "requested access is denied"}]}
    with registry(lambda r: say(403, body)) as (_, session):
        with pytest.raises(Denied, match="requested access is denied"):
            source(session).top()
        # Some registries say this of what is not there; writing tells.
        assert destination(session).current() is None


@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_wrong_digest_is_noticed(method: str) -> None:
    other = str(Digest.of(b"other"))
    with registry(lambda r: manifest_answer(r, Docker_Content_Digest=other)) as (_, session):
        if method == "GET":
            with pytest.raises(DigestMismatch):
                source(session).top()
        pinned = source(session, f"a/b@{RAW.digest}")
        with pytest.raises(DigestMismatch):
            pinned.resolve() if method == "HEAD" else pinned.top()


def test_wrong_bytes_for_a_digest_are_noticed() -> None:
    with registry(lambda r: manifest_answer(r)) as (_, session):
        pinned = source(session, f"a/b@{Digest.of(b'other')}")
        with pytest.raises(DigestMismatch):
            pinned.top()


def test_digest_header_of_another_algorithm() -> None:
    sha512 = Digest.of(MANIFEST, "sha512")
    with registry(lambda r: manifest_answer(r, Docker_Content_Digest=str(sha512))) as (_, session):
        assert source(session, f"a/b@{RAW.digest}").top().digest == RAW.digest
        assert source(session).top().digest == sha512


def test_head_that_names_another_algorithm_is_not_taken_on_trust() -> None:
    for claim in (Digest.of(MANIFEST, "sha512"), Digest.of(b"other", "sha512")):
        said = {"Docker_Content_Digest": str(claim)}
        with registry(lambda r, said=said: manifest_answer(r, **said)) as (fake, session):  # type: ignore[misc]
            right = claim == Digest.of(MANIFEST, "sha512")
            for ask in (source(session).resolve, destination(session).current):
                if right:
                    found = ask()
                    assert found is not None
                    assert found.digest == claim
                else:
                    with pytest.raises(DigestMismatch):
                        ask()
            assert [r.method for r in fake.requests] == ["HEAD", "GET", "HEAD", "GET"]


def test_manifest_is_bounded() -> None:
    with (
        registry(lambda r: say(200, b" " * (5 << 20))) as (_, session),
        pytest.raises(LimitExceeded),
    ):
        source(session).top()


# Downloads


def test_blob_is_verified() -> None:
    with registry(lambda r: say(200, BLOB)) as (fake, session):
        with source(session).open_blob(LAYER) as reader:
            assert reader.read() == BLOB
        assert fake.seen == [f"GET /v2/a/b/blobs/{LAYER.digest}"]
        wrong = Descriptor(media_type="", digest=Digest.of(b"x"), size=len(BLOB))
        with pytest.raises(DigestMismatch), source(session).open_blob(wrong) as reader:
            reader.read()


def test_reading_nothing_is_not_the_end() -> None:
    with registry(lambda r: say(200, BLOB)) as (fake, session):
        with source(session).open_blob(LAYER) as reader:
            assert reader.read(0) == b""
            assert reader.read(10) == BLOB[:10]
            assert reader.read(0) == b""
            assert reader.read() == BLOB[10:]
        assert len(fake.requests) == 1


def test_blob_of_unknown_size() -> None:
    unsized = Descriptor(media_type="", digest=LAYER.digest, size=-1)
    with (
        registry(lambda r: Answer(body=BLOB, length=False)) as (_, session),
        source(session).open_blob(unsized) as reader,
    ):
        assert reader.read() == BLOB


def test_inline_data_needs_no_request() -> None:
    inline = Descriptor(media_type="", digest=Digest.of(b"{}"), size=2, data=b"{}")
    with registry(lambda r: say(500)) as (fake, session):
        with source(session).open_blob(inline) as reader:
            assert reader.read() == b"{}"
        assert source(session).read_range(inline, 1, 5) == b"}"
        data = Descriptor(
            media_type=mt.OCI_MANIFEST, digest=RAW.digest, size=RAW.size, data=MANIFEST
        )
        assert source(session).manifest(data) == RAW
        assert fake.seen == []


def range_of(request: Request) -> int:
    match = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("range", "bytes=0-"))
    assert match
    return int(match[1])


def partial(start: int, end: int | None = None) -> tuple[tuple[str, str], ...]:
    last = (end or len(BLOB)) - 1
    return (("Content-Range", f"bytes {start}-{last}/{len(BLOB)}"),)


def test_cut_download_is_resumed_many_times() -> None:
    def script(request: Request) -> Answer:
        start = range_of(request)
        return Answer(
            status=206 if start else 200, headers=partial(start), body=BLOB[start:], cut=9_000
        )

    with registry(script) as (fake, session):
        with source(session).open_blob(LAYER) as reader:
            assert reader.read() == BLOB
        starts = [range_of(r) for r in fake.requests]
        assert starts == list(range(0, 100_000, 9_000))


def test_registry_that_ignores_range_is_skipped_through() -> None:
    count = iter((40_000, 70_000, None))
    with registry(lambda r: Answer(body=BLOB, cut=next(count))) as (fake, session):
        with source(session).open_blob(LAYER) as reader:
            assert reader.read() == BLOB
        assert len(fake.requests) == 3


def test_download_without_progress_ends() -> None:
    def script(request: Request) -> Answer:
        start = range_of(request)
        if start:
            return Answer(status=206, headers=partial(start), body=BLOB[start:], cut=0)
        return Answer(body=BLOB, cut=10_000)

    with registry(script) as (fake, session):
        with (
            pytest.raises(ExchangeFailed, match="no complete answer"),
            source(session).open_blob(LAYER) as reader,
        ):
            reader.read()
        assert len(fake.requests) == 5


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (Answer(status=206, headers=partial(10_005), body=BLOB[10_005:]), ExchangeFailed),
        (Answer(status=206, body=BLOB), ExchangeFailed),
        (say(416), ExchangeFailed),
        (say(404), BlobNotFound),
    ],
)
def test_answers_to_resume_that_do_not_fit(answer: Answer, error: type[Exception]) -> None:
    with (
        registry(lambda r: answer if range_of(r) else Answer(body=BLOB, cut=10_000)) as (
            _,
            session,
        ),
        pytest.raises(error),
        source(session).open_blob(LAYER) as reader,
    ):
        reader.read()


def test_early_end_without_length_is_resumed() -> None:
    def script(request: Request) -> Answer:
        start = range_of(request)
        return Answer(
            status=206 if start else 200,
            headers=partial(start),
            body=BLOB[start : start + 60_000],
            length=False,
        )

    with registry(script) as (fake, session):
        with source(session).open_blob(LAYER) as reader:
            assert reader.read() == BLOB
        assert len(fake.requests) == 2


def test_too_much_is_an_error() -> None:
    with (
        registry(lambda r: say(200, BLOB + b"x")) as (_, session),
        pytest.raises(SizeMismatch),
        source(session).open_blob(LAYER) as reader,
    ):
        reader.read()


def test_missing_blob() -> None:
    with registry(lambda r: say(404, {"errors": [{"code": "BLOB_UNKNOWN"}]})) as (_, session):
        with pytest.raises(BlobNotFound, match="BLOB_UNKNOWN"):
            source(session).open_blob(LAYER)
        with pytest.raises(BlobNotFound):
            source(session).read_range(LAYER, 5, 5)
        assert not destination(session).has_blob(LAYER)


def test_ranges() -> None:
    def script(request: Request) -> Answer:
        match = re.fullmatch(r"bytes=(\d+)-(\d+)", request.headers["range"])
        assert match
        start, end = int(match[1]), int(match[2]) + 1
        return Answer(status=206, headers=partial(start, end), body=BLOB[start:end])

    with registry(script) as (fake, session):
        image = source(session)
        assert image.read_range(LAYER, 10, 20) == BLOB[10:30]
        assert image.read_range(LAYER, 99_990, 20) == BLOB[99_990:]
        assert image.read_range(LAYER, 100_000, 20) == b""
        assert fake.requests[1].headers["range"] == "bytes=99990-99999"
    with registry(lambda r: say(200, BLOB)) as (_, session):
        assert source(session).read_range(LAYER, 10, 20) is None


def test_foreign_layer_from_its_urls() -> None:
    with registry(lambda r: say(200, BLOB) if r.path == "/good" else say(404)) as (web, _):
        foreign = Descriptor(
            media_type=mt.DOCKER_FOREIGN_GZIP,
            digest=LAYER.digest,
            size=LAYER.size,
            urls=("ftp://x/y", f"{web.url}/bad", f"{web.url}/good"),
        )
        with registry(lambda r: say(404)) as (fake, session):
            with source(session).open_blob(foreign) as reader:
                assert reader.read() == BLOB
            assert web.seen == ["GET /bad", "GET /good"]
            assert fake.seen == [f"GET /v2/a/b/blobs/{LAYER.digest}"]
            task = Task()
            outcome = destination(session).put_blob(foreign, _never, task=task)
            assert outcome == "present"
            nowhere = Descriptor(
                media_type="", digest=LAYER.digest, size=1, urls=(f"{web.url}/bad",)
            )
            with pytest.raises(BlobNotFound, match="404"):
                source(session).open_blob(nowhere)


# Uploads


def _never() -> BlobReader:
    raise AssertionError("the blob was read")


def opener() -> BlobReader:
    return BlobReader.of(BLOB)


class Uploads:
    """A registry that takes uploads; `special` may answer in its place."""

    def __init__(self, special: Callable[[Request], Answer | None] | None = None) -> None:
        self.special = special or (lambda request: None)
        self.sessions = 0
        self.stored: dict[str, bytes] = {}
        self.open: dict[str, bytes] = {}

    def __call__(self, request: Request) -> Answer:
        special = self.special(request)
        if special is not None:
            return special
        match request.method:
            case "HEAD":
                digest = request.path.rpartition("/")[2]
                return say(200 if digest in self.stored else 404)
            case "POST":
                self.sessions += 1
                key = f"/u/{self.sessions}"
                self.open[key] = b""
                return say(202, Location=f"{key}?_state=a%2Fb%3d")
            case "PATCH":
                self.open[request.path] += request.body
                return say(202, Location=f"{request.path}?_state=next")
            case "PUT":
                digest = request.query["digest"][0]
                self.stored[digest] = self.open.pop(request.path) + request.body
                return say(201, Docker_Content_Digest=digest)
        return say(202)


def put(session: Session, task: Task | None = None, **more: Any) -> str:
    return destination(session).put_blob(LAYER, opener, task=task or Task(), **more)


def test_upload_is_post_and_put() -> None:
    script = Uploads()
    events: list[Event] = []
    with registry(script) as (fake, session):
        assert put(session, Task(progress=events.append)) == "stored"
        quoted = str(LAYER.digest).replace(":", "%3A")
        # The POST also asks for what the repository may have itself.
        assert fake.seen == [
            f"POST /v2/a/b/blobs/uploads/?mount={LAYER.digest}&from=a/b",
            f"PUT /u/1?_state=a%2Fb%3d&digest={quoted}",
        ]
        assert fake.requests[0].headers["content-length"] == "0"
        assert fake.requests[1].headers["content-length"] == str(len(BLOB))
    assert script.stored == {str(LAYER.digest): BLOB}
    assert sum(e.amount for e in events if isinstance(e, Advanced)) == len(BLOB)


def mount_answer(status: int) -> Callable[[Request], Answer | None]:
    def special(request: Request) -> Answer | None:
        if "mount" not in request.query:
            return None
        if status == 202:
            return None
        return say(status, Docker_Content_Digest=str(LAYER.digest))

    return special


@pytest.mark.parametrize(
    ("status", "requests", "outcome"),
    [(201, 1, "mounted"), (202, 2, "stored"), (400, 3, "stored"), (404, 3, "stored"),
     (401, 3, "stored"), (405, 3, "stored")],
)  # fmt: skip
def test_mount(status: int, requests: int, outcome: str) -> None:
    with registry(Uploads(mount_answer(status))) as (fake, session):
        here = Origin(transport="docker", name="x", registry=session.host, repository="c/d")
        elsewhere = Origin(transport="docker", name="x", registry="r", repository="e")
        assert put(session, mount_from=[elsewhere, here, here]) == outcome
        posts = [r for r in fake.requests if "mount" in r.query]
        assert [r.query for r in posts] == [{"mount": [str(LAYER.digest)], "from": ["c/d"]}]
        assert len([r for r in fake.requests if r.path != "/v2/"]) == requests


def test_mount_from_itself_is_a_question() -> None:
    script = Uploads()
    script.stored[str(LAYER.digest)] = BLOB
    with registry(script) as (fake, session):
        own = Origin(transport="docker", name="x", registry=session.host, repository="a/b")
        assert put(session, mount_from=[own]) == "present"
        assert fake.seen == [f"HEAD /v2/a/b/blobs/{LAYER.digest}"]


@pytest.mark.parametrize(
    ("status", "asked"),
    [
        (500, ["HEAD", "GET", "DELETE"]),
        (503, ["HEAD", "GET", "DELETE"]),
        (429, ["GET", "DELETE"]),
        (408, ["GET", "DELETE"]),
        (404, ["HEAD"]),
        (416, ["GET", "DELETE"]),
    ],
)
def test_failed_upload_begins_again(status: int, asked: list[str]) -> None:
    failed = []

    def special(request: Request) -> Answer | None:
        if request.method == "PUT" and not failed:
            failed.append(request)
            return say(status)
        return None

    script = Uploads(special)
    events: list[Event] = []
    with registry(script) as (fake, session):
        assert put(session, Task(progress=events.append)) == "stored"
        assert [r.method for r in fake.requests] == ["POST", "PUT", *asked, "POST", "PUT"]
        assert script.stored == {str(LAYER.digest): BLOB}
    assert sum(e.amount for e in events if isinstance(e, Advanced)) == len(BLOB)


def test_upload_that_may_have_been_stored_is_asked_for() -> None:
    def special(request: Request) -> Answer | None:
        if request.method == "PUT":
            script.stored[str(LAYER.digest)] = request.body
            return Answer(status=201, headers=[("X", "x" * 70000)], cut=0)
        return None

    script = Uploads(special)
    with registry(script) as (fake, session):
        assert put(session) == "stored"
        assert [r.method for r in fake.requests] == ["POST", "PUT", "HEAD"]


@pytest.mark.parametrize(
    ("status", "error"), [(400, RegistryError), (403, Denied), (500, RegistryError)]
)
def test_upload_gives_up(status: int, error: type[Exception]) -> None:
    body = {"errors": [{"code": "DIGEST_INVALID", "message": "no"}]}
    with (
        registry(Uploads(lambda r: say(status, body) if r.method == "PUT" else None)) as (
            _,
            session,
        ),
        pytest.raises(error, match="DIGEST_INVALID no"),
    ):
        put(session)


def test_refused_session() -> None:
    body = {"errors": [{"code": "NAME_UNKNOWN"}]}
    with registry(lambda r: say(404, body)) as (_, session):
        with pytest.raises(RegistryError) as caught:
            put(session)
        assert "repository" in (caught.value.hint or "")
    with (
        registry(lambda r: say(202)) as (_, session),
        pytest.raises(RegistryError, match="no Location"),
    ):
        put(session)


def test_source_failure_is_not_the_registrys() -> None:
    class Broken:
        def read(self, size: int, /) -> bytes:
            raise ExchangeFailed("source cut", host="elsewhere", stage="receive")

    opened = []

    def broken() -> BlobReader:
        opened.append(1)
        return BlobReader(Broken(), LAYER.digest, LAYER.size)

    with registry(Uploads()) as (_, session):
        with pytest.raises(ExchangeFailed, match="source cut"):
            destination(session).put_blob(LAYER, broken, task=Task())
        assert len(opened) == 1


def test_wrong_blob_is_not_stored() -> None:
    script = Uploads()
    with registry(script) as (_, session):
        with pytest.raises(DigestMismatch):
            destination(session).put_blob(
                LAYER, lambda: BlobReader.of(b"x" * LAYER.size, LAYER.digest), task=Task()
            )
        with pytest.raises(SizeMismatch):
            destination(session).put_blob(LAYER, lambda: BlobReader.of(b"x"), task=Task())


def test_expired_token_during_an_upload() -> None:
    valid = {"Bearer 1"}
    issued = [0]

    def special(request: Request) -> Answer | None:
        if request.path == "/token":
            issued[0] += 1
            return say(200, {"token": str(issued[0])})
        if request.method == "PUT" and issued[0] == 1:
            valid.clear()
            valid.add("Bearer 2")
        if request.authorization not in valid:
            realm = f'Bearer realm="{fake.url}/token"'
            return say(401, WWW_Authenticate=realm)
        return None

    script = Uploads(special)
    with registry(script) as (fake, session):
        assert put(session) == "stored"
        assert script.stored == {str(LAYER.digest): BLOB}
        scopes = {tuple(r.query["scope"]) for r in fake.requests if r.path == "/token"}
        assert scopes == {("repository:a/b:pull,push",)}


def test_cancelling_ends_the_wait_for_an_answer() -> None:
    task, release = Task(), threading.Event()

    def special(request: Request) -> Answer | None:
        if request.method == "PUT":
            task.cancel.cancel()
            release.wait(20)
        return None

    with registry(Uploads(special)) as (_, session):
        with pytest.raises(Cancelled):
            put(session, task)
        release.set()


def test_location_on_another_host_gets_no_authorization() -> None:
    with registry(lambda r: say(201)) as (storage, _):

        def script(request: Request) -> Answer:
            if request.authorization != "Bearer ready":
                return say(401)
            return say(202, Location=f"{storage.url}/upload?sig=1")

        with FakeRegistry(script) as fake:
            session = open_session(fake.host, credentials=Credentials(registry_token="ready"))
            assert put(session) == "stored"
            session.close()
        assert [r.method for r in storage.requests] == ["PUT"]
        assert storage.requests[0].authorization == ""
        assert storage.requests[0].body == BLOB


def test_refusal_before_the_body_was_read() -> None:
    """A server that answers and closes while we still send: its answer counts."""
    listener = socket.create_server(("127.0.0.1", 0))
    big = Descriptor(media_type="", digest=Digest.of(bytes(8 << 20)), size=8 << 20)

    def serve() -> None:
        for answer in (
            b"HTTP/1.1 202 OK\r\nLocation: /u\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            b"HTTP/1.1 403 No\r\nContent-Length: 9\r\nConnection: close\r\n\r\nno pushes",
        ):
            client, _ = listener.accept()
            with client:
                head = b""
                while b"\r\n\r\n" not in head:
                    head += client.recv(4096)
                client.sendall(answer)
                client.shutdown(socket.SHUT_WR)
                # Lingers, as nginx does, for the answer to be read; then it is gone.
                client.settimeout(0.2)
                with suppress(OSError):
                    while head.startswith(b"PUT") and client.recv(1 << 16):
                        pass

    thread = threading.Thread(target=serve)
    thread.start()
    host = f"127.0.0.1:{listener.getsockname()[1]}"
    cache = ChallengeCache(None)
    cache.put(host, KnownHost(scheme="http"))
    session = open_session(host, cache)
    with pytest.raises(Denied, match="no pushes"):
        destination(session).put_blob(
            big, lambda: BlobReader.of(bytes(8 << 20), big.digest), task=Task()
        )
    session.close()
    thread.join()
    listener.close()


def chunk_limit(limit: int) -> Callable[[Request], Answer | None]:
    def special(request: Request) -> Answer | None:
        return say(413) if len(request.body) > limit else None

    return special


def test_large_body_goes_in_chunks() -> None:
    big = os.urandom(3_000_000)
    layer = Descriptor(media_type="", digest=Digest.of(big), size=len(big))
    script = Uploads(chunk_limit(1_100_000))
    events: list[Event] = []
    with registry(script) as (fake, session):
        for _ in range(2):
            script.stored.clear()
            session.features.known.forget("a/b")
            before = len(fake.requests)
            outcome = destination(session).put_blob(
                layer, lambda: BlobReader.of(big), task=Task(progress=events.append)
            )
            assert outcome == "stored"
            assert script.stored == {str(layer.digest): big}
        # The limit is remembered: no attempt in one piece.
        methods = [r.method for r in fake.requests[before:]]
        assert methods == ["POST", "PATCH", "PATCH", "PATCH", "PUT"]
        ranges = [r.headers["content-range"] for r in fake.requests if r.method == "PATCH"]
        assert ranges[:3] == ["0-1048575", "1048576-2097151", "2097152-2999999"]
    assert sum(e.amount for e in events if isinstance(e, Advanced)) == 2 * len(big)


def test_chunks_shrink_until_they_fit() -> None:
    big = os.urandom(1_500_000)
    layer = Descriptor(media_type="", digest=Digest.of(big), size=len(big))
    script = Uploads(chunk_limit(300_000))
    with registry(script) as (_, session):
        destination(session).put_blob(layer, lambda: BlobReader.of(big), task=Task())
        assert script.stored == {str(layer.digest): big}


def test_blob_of_unknown_size_is_uploaded_in_chunks() -> None:
    unsized = Descriptor(media_type="", digest=LAYER.digest, size=-1)
    script = Uploads()
    with registry(script) as (fake, session):
        destination(session).put_blob(unsized, opener, task=Task())
        assert script.stored == {str(LAYER.digest): BLOB}
        assert [r.method for r in fake.requests] == ["POST", "PATCH", "PUT"]


SHA512 = Descriptor(media_type="", digest=Digest.of(BLOB, "sha512"), size=len(BLOB))


@pytest.mark.parametrize(
    ("head", "kept"),
    [
        (say(404), False),
        # Of what is remembered for a while only.
        (say(200, Docker_Content_Digest=str(LAYER.digest)), False),
        (say(200), False),
        (say(200, Docker_Content_Digest=str(SHA512.digest)), True),
    ],
)
def test_digest_algorithm_the_registry_does_not_keep(head: Answer, kept: bool) -> None:
    def special(request: Request) -> Answer | None:
        if request.method == "PUT":
            return say(201, Docker_Content_Digest=str(LAYER.digest))
        return head if request.method == "HEAD" else None

    with registry(Uploads(special)) as (_, session):
        there = destination(session)
        if kept:
            assert there.put_blob(SHA512, opener, task=Task()) == "stored"
            return
        with pytest.raises(Unsupported, match="sha512"):
            there.put_blob(SHA512, opener, task=Task())


# Manifests to a destination


def manifest_store(
    special: Callable[[Request], Answer | None] | None = None,
) -> tuple[dict[str, bytes], Callable[[Request], Answer]]:
    stored: dict[str, bytes] = {}

    def script(request: Request) -> Answer:
        answer = special(request) if special is not None else None
        if answer is not None:
            return answer
        name = request.path.rpartition("/")[2]
        if "/referrers/" in request.path:
            return say(404, b"404 page not found")
        if request.method == "PUT":
            digest = str(Digest.of(request.body))
            stored[name] = stored[digest] = request.body
            return say(201, Docker_Content_Digest=digest)
        if name not in stored:
            return say(404)
        return say(
            200,
            stored[name],
            Docker_Content_Digest=str(Digest.of(stored[name])),
            Content_Type=json.loads(stored[name])["mediaType"],
        )

    return stored, script


def test_put_manifest_by_name_tags_and_digest() -> None:
    stored, script = manifest_store()
    with registry(script) as (fake, session):
        with destination(session, additional_tags=["v2", "v1"]) as there:
            assert there.current() is None
            there.put_manifest(RAW, top=False)
            there.put_manifest(RAW, top=True)
            there.commit()
        assert fake.seen[1:] == [
            f"PUT /v2/a/b/manifests/{RAW.digest}",
            "PUT /v2/a/b/manifests/v1",
            "PUT /v2/a/b/manifests/v2",
        ]
        assert fake.requests[1].headers["content-type"] == mt.OCI_MANIFEST
        again = destination(session)
        assert again.current() == RAW.descriptor()
        assert again.has_manifest(RAW.descriptor())
        before = len(fake.requests)
        again.put_manifest(RAW, top=True)
        assert len(fake.requests) == before
    assert stored["v1"] == MANIFEST


def test_put_manifest_to_a_digest() -> None:
    _, script = manifest_store()
    with registry(script) as (fake, session):
        destination(session, f"a/b@{RAW.digest}").put_manifest(RAW, top=True)
        destination(session, f"a/b:t@{RAW.digest}").put_manifest(RAW, top=True)
        assert fake.seen == [f"PUT /v2/a/b/manifests/{RAW.digest}", "PUT /v2/a/b/manifests/t"]
        with pytest.raises(DigestMismatch):
            destination(session, f"a/b@{Digest.of(b'x')}").put_manifest(RAW, top=True)


def test_echoed_digest_is_checked() -> None:
    other = str(Digest.of(b"other"))
    with (
        registry(lambda r: say(201, Docker_Content_Digest=other)) as (_, session),
        pytest.raises(DigestMismatch),
    ):
        destination(session).put_manifest(RAW, top=True)


def test_refused_manifest() -> None:
    body = {"errors": [{"code": "MANIFEST_INVALID", "message": "bad", "detail": "why"}]}
    with registry(lambda r: say(400, body)) as (_, session):
        with pytest.raises(RegistryError) as caught:
            destination(session).put_manifest(RAW, top=True)
        assert caught.value.code == "MANIFEST_INVALID"
        assert "bad: why" in caught.value.message


# Referrers


def artifact(number: int, subject: Digest) -> RawManifest:
    value = {
        "schemaVersion": 2,
        "mediaType": mt.OCI_MANIFEST,
        "artifactType": f"application/x-{number}",
        "config": {"mediaType": mt.OCI_EMPTY, "digest": str(Digest.of(b"{}")), "size": 2},
        "layers": [],
        "subject": {"mediaType": mt.OCI_MANIFEST, "digest": str(subject), "size": 1},
        "annotations": {"number": str(number)},
    }
    return RawManifest.of(json.dumps(value).encode())


def test_subject_is_kept_under_a_fallback_tag() -> None:
    stored, script = manifest_store()
    with registry(script) as (fake, session):
        there = destination(session)
        first, second = artifact(1, RAW.digest), artifact(2, RAW.digest)
        for raw in (first, second, first):
            there.put_manifest(raw, top=False)
        there.commit()
        there.commit()
        found = list(source(session).referrers(RAW.digest))
        assert [d.digest for d in found] == [first.digest, second.digest]
        assert [d.artifact_type for d in found] == ["application/x-1", "application/x-2"]
        assert found[0].annotations == {"number": "1"}
        assert fallback_tag(RAW.digest) in stored
        assert list(source(session).referrers(first.digest)) == []
        assert sum("/referrers/" in r.path for r in fake.requests) == 1


def test_acknowledged_subject_needs_no_fallback() -> None:
    def special(request: Request) -> Answer | None:
        if request.method == "PUT":
            return say(201, OCI_Subject=str(RAW.digest))
        return None

    _, script = manifest_store(special)
    with registry(script) as (fake, session):
        there = destination(session)
        there.put_manifest(artifact(1, RAW.digest), top=False)
        there.commit()
        assert len(fake.requests) == 1


def test_fallback_tag_that_others_overwrite() -> None:
    tag = fallback_tag(RAW.digest)

    def special(request: Request) -> Answer | None:
        if request.path.endswith(tag) and request.method == "PUT":
            return say(201)
        return None

    _, script = manifest_store(special)
    with registry(script) as (_, session):
        there = destination(session)
        there.put_manifest(artifact(1, RAW.digest), top=False)
        with pytest.raises(Conflict):
            there.commit()


def index_of(*numbers: int) -> dict[str, object]:
    children = [artifact(number, RAW.digest) for number in numbers]
    return {
        "schemaVersion": 2,
        "mediaType": mt.OCI_INDEX,
        "manifests": [
            {
                "mediaType": mt.OCI_MANIFEST,
                "digest": str(child.digest),
                "size": child.size,
                "artifactType": f"application/x-{number}",
            }
            for number, child in zip(numbers, children, strict=True)
        ],
    }


@pytest.mark.parametrize("filtered", [True, False])
def test_referrers_api_in_pages(filtered: bool) -> None:
    def script(request: Request) -> Answer:
        headers = {"OCI_Filters_Applied": "artifactType"} if filtered else {}
        if "page" in request.query:
            return say(200, index_of(2, 3), **headers)
        link = f'<{request.target}&page=2>; rel="next"'
        return say(200, index_of(1, 2), Link=link, **headers)

    with registry(script) as (fake, session):
        api = source(session)._repository
        found = list(list_referrers(api, RAW.digest, "application/x-2"))
        kinds = [d.artifact_type.removeprefix("application/x-") for d in found]
        assert kinds == (["1", "2", "3"] if filtered else ["2"])
        assert fake.requests[0].query == {"artifactType": ["application/x-2"]}


@pytest.mark.parametrize(
    "answer",
    [say(404), say(400), say(405), say(406), say(200, b"<html>", Content_Type="text/html")],
)
def test_no_referrers_api(answer: Answer) -> None:
    with registry(lambda r: answer if "/referrers/" in r.path else say(404)) as (fake, session):
        assert list(source(session).referrers(RAW.digest)) == []
        assert fake.seen[1] == f"GET /v2/a/b/manifests/{fallback_tag(RAW.digest)}"


# Tags


def test_tags_in_pages() -> None:
    pages = {
        "": (["a", "b"], '</v2/a/b/tags/list?n=2&last=b>; rel="next"'),
        "b": (["b", None, "", "c"], '<?n=2&last=c>; rel="next"'),
        "c": (None, ""),
    }

    def script(request: Request) -> Answer:
        tags, link = pages[request.query.get("last", [""])[0]]
        return say(200, {"name": "a/b", "tags": tags}, Link=link)

    with registry(script) as (fake, session):
        assert list_tags(session, "a/b") == ["a", "b", "c"]
        assert fake.seen[0] == "GET /v2/a/b/tags/list?n=1000"
        before = len(fake.requests)
        assert list_tags(session, "a/b", 2) == ["a", "b"]
        assert fake.seen[before:] == ["GET /v2/a/b/tags/list?n=2"]


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (say(404, {"errors": [{"code": "NAME_UNKNOWN"}]}), ImageNotFound),
        (say(200, {"tags": ["a"]}, Link='</v2/a/b/tags/list?n=1000>; rel="next"'), RegistryError),
        (say(200, {"tags": ["a"]}, Link='<http://elsewhere/x>; rel="next"'), ConnectionFailed),
        (say(200, {"tags": "a"}), RegistryError),
        (say(403), Denied),
    ],
)
def test_tags_that_fail(answer: Answer, error: type[Exception]) -> None:
    with registry(lambda r: answer) as (_, session), pytest.raises(error):
        list_tags(session, "a/b")

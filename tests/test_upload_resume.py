"""Uploads that are interrupted: what is sent again, what is not, and what becomes of sessions."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgtools.blob.reader import BlobReader
from imgtools.errors import Cancelled, DigestMismatch, Error, RegistryError
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest
from imgtools.spec.reference import Reference
from imgtools.task import Advanced, CancelToken, Event, Task
from imgtools.testing.dialects import DISTRIBUTION_2, GGCR, Dialect
from imgtools.testing.registry import ScriptedRegistry
from imgtools.transport.registry.pull.source import RegistrySource
from imgtools.transport.registry.push import replay, upload_plan
from imgtools.transport.registry.push.destination import RegistryDestination
from imgtools.transport.registry.push.upload_plan import acknowledged, chunk_after_cut, next_limit
from imgtools.transport.registry.session import Session
from imgtools.transport.registry.wire.exchange import ExchangeFailed
from tests.registry_fake import Answer, FakeRegistry, Request, open_session, say
from tests.rig import RegistryServer
from tests.rig.cutting import CutLink
from tests.serve_process import serve

MB = 1 << 20
BIG = os.urandom(12 * MB)
LAYER = Descriptor(media_type="", digest=Digest.of(BIG), size=len(BIG))
SESSION = r"^/v2/a/b/blobs/uploads/."


def describe(content: bytes) -> Descriptor:
    return Descriptor(media_type="", digest=Digest.of(content), size=len(content))


@contextmanager
def opened(host: str, **options: Any) -> Iterator[Session]:
    session = open_session(host, **options)
    try:
        yield session
    finally:
        session.close()


def put(
    session: Session, content: bytes = BIG, *, repository: str = "a/b", task: Task | None = None
) -> str:
    there = RegistryDestination(session, Reference.parse(f"{session.host}/{repository}:v1"))
    return there.put_blob(describe(content), lambda: BlobReader.of(content), task=task or Task())


def sent(registry: ScriptedRegistry) -> int:
    return sum(e.received for e in registry.requests if e.method in ("PUT", "PATCH"))


def methods(registry: ScriptedRegistry) -> str:
    return " ".join(e.method for e in registry.requests)


def stored(registry: ScriptedRegistry, content: bytes = BIG, repository: str = "a/b") -> bool:
    return registry.store.repository(repository).blobs.get(Digest.of(content)) == content


# Decisions


@pytest.mark.parametrize(
    ("header", "sent", "bytes_there"),
    [
        ("0-99", 200, 100), ("bytes=0-99", 200, 100), ("bytes 0-99", 100, 100), (" 0-9 ", 10, 10),
        ("0-0", 100, 0), ("0-0", 0, 0), ("0-0", 1, 1), ("0-100", 100, None), ("0-99", 0, None),
        ("5-99", 200, None), ("0-", 10, None), ("", 10, None), ("x", 10, None),
        ("0-99999999999999999999", 10, None), ("0--1", 10, None), ("0-9, 0-9", 99, None),
    ],
)  # fmt: skip
def test_what_a_range_says(header: str, sent: int, bytes_there: int | None) -> None:
    assert acknowledged(header, sent) == bytes_there


@pytest.mark.parametrize(
    ("before", "sent", "kept", "size"),
    [
        (None, 1 << 30, True, 16 * MB), (None, 100, True, 16 * MB), (8 * MB, 100, True, 8 * MB),
        (None, 1 << 30, False, 16 * MB), (None, 20 * MB, False, 8 * MB),
        (None, 3 * MB, False, 8 * MB), (8 * MB, 3 * MB, False, MB), (8 * MB, 0, False, MB),
        (16 * MB, 30 * MB, False, 8 * MB), (16 * MB, 9 * MB, False, 4 * MB),
        (MB, MB, False, MB),
    ],
)  # fmt: skip
def test_chunks_after_a_cut(before: int | None, sent: int, kept: bool, size: int) -> None:
    assert chunk_after_cut(before, sent, kept=kept, least=MB) == size


def test_limits_shrink_and_amazon_has_a_least_chunk() -> None:
    assert [next_limit(size) for size in (1 << 30, 64 * MB, MB, 1000, 1)] == [
        64 * MB, 16 * MB, 512 << 10, 500, 1,
    ]  # fmt: skip
    amazon = upload_plan.least_chunk("1.dkr.ecr.eu-west-1.amazonaws.com")
    assert amazon >= 5_000_000 > upload_plan.least_chunk("registry.example")
    assert chunk_after_cut(amazon, 0, kept=False, least=amazon) == amazon


@given(
    st.binary(min_size=1, max_size=300),
    st.lists(st.tuples(st.integers(0, 300), st.integers(0, 300), st.integers(0, 5))),
)
def test_any_part_can_be_replayed(content: bytes, parts: list[tuple[int, int, int]]) -> None:
    """Whatever was read and left off before, a part has the bytes of its place."""
    events: list[Event] = []
    task = Task(progress=events.append)
    source = replay.Replay(describe(content), lambda: BlobReader.of(content), task)
    position = 0
    for start, length, pieces in parts:
        start = min(start, len(content))
        length = min(length, len(content) - start)
        got = b""
        running = source.pieces(start, length)
        for piece in running:
            got += piece
            if len(got) > pieces * 20:
                break
        running.close()
        assert content[start : start + len(got)] == got
        position = source.position
    # What was given out and asked for more after counts as done.
    assert sum(e.amount for e in events if isinstance(e, Advanced)) == position
    source.close()


def test_going_back_a_little_does_not_open_the_source_again() -> None:
    openings: list[int] = []

    def opener() -> BlobReader:
        openings.append(1)
        return BlobReader.of(BIG)

    source = replay.Replay(LAYER, opener, Task())
    assert b"".join(source.pieces(0, 5 * MB)) == BIG[: 5 * MB]
    back = 5 * MB - replay.KEPT // 2
    assert b"".join(source.pieces(back, MB)) == BIG[back : back + MB]
    assert b"".join(source.pieces(4 * MB, len(BIG) - 4 * MB)) == BIG[4 * MB :]
    assert len(openings) == 1
    assert b"".join(source.pieces(MB, MB)) == BIG[MB : 2 * MB]
    assert len(openings) == 2
    source.close()


# Sessions that outlive a cut


@pytest.mark.parametrize("location", ["relative", "absolute", "state"])
@pytest.mark.parametrize("reset", [False, True])
def test_cut_body_goes_on_where_it_ended(location: Any, reset: bool) -> None:
    events: list[Event] = []
    with ScriptedRegistry(dialect=Dialect(location=location)) as registry:
        registry.fail(method="PUT", path=SESSION, nth=1, cut_request=5 * MB, reset=reset)
        with opened(registry.host) as session:
            assert put(session, task=Task(progress=events.append)) == "stored"
        assert methods(registry) == "POST PUT GET PATCH PUT"
        assert stored(registry)
        status = registry.requests[2]
        assert status.response_headers is not None
        assert status.response_headers["range"] == f"0-{5 * MB - 1}"
        patch = registry.requests[3].headers
        assert patch["content-range"] == f"{5 * MB}-{len(BIG) - 1}"
        assert patch["content-length"] == str(7 * MB)
        assert "transfer-encoding" not in patch
    assert sum(e.amount for e in events if isinstance(e, Advanced)) == len(BIG)


def test_link_that_is_cut_twenty_times() -> None:
    """What is sent again is what was under way; more cuts than a policy has tries."""
    content = BIG * 2
    with ScriptedRegistry() as registry:
        registry.fail(method="PUT|PATCH", path=SESSION, cut_request=MB)
        registry.faults.clear()
        registry.fail(method="PUT", path=SESSION, nth=1, cut_request=MB + 7)
        registry.fail(method="PATCH", path=SESSION, nth=range(1, 20), cut_request=MB + 7)
        with opened(registry.host) as session:
            assert put(session, content) == "stored"
        assert stored(registry, content)
        assert registry.faults.applied(0) + registry.faults.applied(1) == 20
        assert sent(registry) <= len(content) * 1.05
        assert registry.count("POST") == 1


@pytest.mark.parametrize("status", [500, 502, 503, 429, 408])
def test_server_out_of_order(status: int) -> None:
    """What it took before it failed is not sent again."""
    with ScriptedRegistry() as registry:
        registry.fail(method="PUT", path=SESSION, nth=1, cut_request=4 * MB)
        registry.fail(method="PATCH", path=SESSION, nth=1, status=status)
        with opened(registry.host) as session:
            assert put(session) == "stored"
        # One that took too long is followed by smaller ones.
        parts = "PATCH PATCH" if status in (502, 408) else "PATCH"
        assert methods(registry) == f"POST PUT GET PATCH GET {parts} PUT"
        assert stored(registry)


def test_stalled_upload_goes_on() -> None:
    from imgtools.transport.options import Timeouts

    with ScriptedRegistry() as registry:
        registry.fail(method="PUT", path=SESSION, nth=1, stall=30)
        timeouts = Timeouts(connect=5, first_byte=0.3, idle=0.3)
        with opened(registry.host, timeouts=timeouts) as session:
            assert put(session) == "stored"
        assert stored(registry)


def test_retry_after_is_obeyed(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    with ScriptedRegistry() as registry:
        registry.fail(method="PUT", path=SESSION, nth=1, status=503, retry_after=7)
        with opened(registry.host) as session:
            monkeypatch.setattr(
                session, "wait", lambda seconds, cancel=None: waited.append(seconds)
            )
            assert put(session) == "stored"
    assert waited == [7.0]


def test_expired_token_does_not_cost_the_session() -> None:
    """A chunk that is refused with 401 is sent again from its start, in the same session."""
    with ScriptedRegistry(auth="bearer") as registry:
        registry.fail(method="PUT", path=SESSION, nth=1, cut_request=4 * MB)
        registry.fail(
            method="PATCH", path=SESSION, nth=1, status=401,
            headers={
                "WWW-Authenticate": f'Bearer realm="{registry.url}/token",service="x",'
                'error="invalid_token"'
            },
        )  # fmt: skip
        from imgtools.transport.options import Credentials

        credentials = Credentials(username="user", password="secret")
        with opened(registry.host, credentials=credentials) as session:
            assert put(session) == "stored"
        assert registry.count("POST", "/blobs/uploads/") <= 2  # the first one brings the challenge
        patches = [e.headers["content-range"] for e in registry.requests if e.method == "PATCH"]
        assert len(patches) == 2
        assert len(set(patches)) == 1
        assert stored(registry)


def test_chunk_out_of_step_goes_on_where_the_registry_is() -> None:
    with ScriptedRegistry() as registry:
        registry.fail(method="PUT", path=SESSION, nth=1, cut_request=4 * MB)
        # Its answer is lost, so that we would begin the next chunk at the wrong place.
        registry.fail(method="PATCH", path=SESSION, nth=1, status=416, processed=True)
        with opened(registry.host) as session:
            assert put(session) == "stored"
        assert methods(registry) == "POST PUT GET PATCH GET PUT"
        assert stored(registry)
        assert sent(registry) == len(BIG)


def test_answer_to_the_closing_request_is_lost() -> None:
    with ScriptedRegistry() as registry:
        registry.fail(method="PUT", path=SESSION, nth=1, cut_headers=True)
        with opened(registry.host) as session:
            assert put(session) == "stored"
        assert methods(registry) == "POST PUT HEAD"


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_connection_that_ended_in_silence_is_followed_by_one_of_its_own(method: str) -> None:
    # However often: it says nothing about the blob, and is no try.
    content = os.urandom(700_000)
    dialect = Dialect(body_limit=300_000) if method == "PATCH" else Dialect()
    with ScriptedRegistry(dialect=dialect) as registry:
        registry.fail(method=method, nth=1, cut_request=0, reset=True)
        tries = 5 if method == "PUT" else 4  # The first chunk has a new connection as it is.
        registry.fail(method=method, nth=range(2, tries + 1), cut_request=0)
        with opened(registry.host) as session:
            assert put(session, content) == "stored"
        assert stored(registry, content)
        used = [e.connection for e in registry.requests]
        own = [e for e in registry.requests if e.headers.get("connection") == "close"]
        assert own
        assert all(used.count(e.connection) == 1 for e in own)


def test_server_that_closes_after_every_answer() -> None:
    dialect = Dialect(keep_alive=1)
    contents = [os.urandom(400_000) for _ in range(24)]
    with (
        ScriptedRegistry(dialect=dialect) as registry,
        opened(registry.host) as session,
        ThreadPoolExecutor(6) as pool,
    ):
        assert list(pool.map(lambda c: put(session, c), contents)) == ["stored"] * 24
        assert all(stored(registry, content) for content in contents)


@pytest.mark.parametrize("size", [0, 1, 1000, 300_000, 1_000_000])
@pytest.mark.parametrize("method", ["PUT", "PATCH|PUT"])
def test_registry_to_which_everything_is_too_large(size: int, method: str) -> None:
    with ScriptedRegistry() as registry:
        for each in method.split("|"):
            registry.fail(method=each, status=413)
        with opened(registry.host) as session, pytest.raises(RegistryError, match="413"):
            put(session, bytes(size))
        assert registry.count() < 30


@pytest.mark.parametrize("status", [401, 403, 405])
def test_lost_answer_where_nothing_may_be_asked(status: int) -> None:
    with ScriptedRegistry() as registry:
        registry.fail(method="PUT", path=SESSION, nth=1, cut_headers=True)
        registry.fail(method="HEAD", path="/blobs/", status=status)
        registry.fail(method="GET", path="/blobs/sha256", status=status)
        with opened(registry.host) as session:
            assert put(session) == "stored"
        assert registry.count("PUT", SESSION) == 2


def test_sessions_may_get_lost_as_long_as_each_comes_further() -> None:
    # Servers that do not share their sessions behave like that.
    with ScriptedRegistry(dialect=Dialect(body_limit=MB)) as registry:
        lost = registry.fail(method="PATCH", nth=(5, 15, 27), status=404)
        with opened(registry.host) as session:
            session.features.limit_bodies(MB)
            assert put(session) == "stored"
        assert stored(registry)
        assert registry.faults.applied(lost) == 3
        assert registry.count("POST") == 4


# Sessions that do not


@pytest.mark.parametrize("dialect", [DISTRIBUTION_2, GGCR], ids=["distribution", "ggcr"])
def test_session_that_a_cut_ends(dialect: Dialect) -> None:
    """A new one, in smaller pieces, each on a connection of its own."""
    with ScriptedRegistry(dialect=dialect) as registry:
        registry.fail(method="PUT", path=SESSION, nth=1, cut_request=6 * MB)
        with opened(registry.host) as session:
            assert put(session) == "stored"
            assert session.features.loses_cut
            before = registry.count()
            other = BIG * 2
            assert put(session, other) == "stored"
        assert stored(registry)
        assert stored(registry, other)
        patches = [e for e in registry.requests if e.method == "PATCH"]
        assert len({e.connection for e in patches}) == len(patches) == 2 + 3
        # The next blob is not put in one piece first.
        assert registry.requests[before + 1].method == "PATCH"


@pytest.mark.parametrize(
    "says", [{"Range": "0-99999999"}, {"Range": "5-10"}, {"Range": "junk"}, {}]
)
def test_status_that_cannot_be_true(says: dict[str, str]) -> None:
    with ScriptedRegistry() as registry:
        registry.fail(method="PUT", path=SESSION, nth=1, cut_request=5 * MB)
        registry.fail(
            method="GET", path=SESSION, status=204, headers={**says, "Connection": "close"}
        )
        with opened(registry.host) as session:
            assert put(session) == "stored"
        assert methods(registry).startswith("POST PUT GET DELETE POST PATCH")
        assert stored(registry)
        assert all(upload.ended for upload in registry.store.uploads.values())


def test_registry_that_loses_chunks_gets_the_whole_blob() -> None:
    """As ECR did: PATCH is accepted, and Range does not move."""
    with ScriptedRegistry() as registry:
        registry.fail(method="PUT", path=SESSION, nth=1, cut_request=5 * MB)
        registry.fail(method="PATCH", status=202, headers={"Range": f"0-{5 * MB - 1}"})
        with opened(registry.host) as session:
            assert put(session) == "stored"
            assert not session.features.chunks
        assert methods(registry) == "POST PUT GET PATCH DELETE POST PUT"
        assert stored(registry)


@pytest.mark.parametrize(("status", "tries"), [(405, 1), (404, 1), (501, 1)])
def test_registry_without_chunks_gets_the_whole_blob(status: int, tries: int) -> None:
    with ScriptedRegistry() as registry:
        registry.fail(method="PUT", path=SESSION, nth=1, cut_request=5 * MB)
        registry.fail(method="PATCH", status=status)
        with opened(registry.host) as session:
            assert put(session) == "stored"
        assert registry.count("PATCH") == tries
        assert registry.requests[-1].received == len(BIG)
        assert stored(registry)


def test_part_of_a_chunk_is_kept() -> None:
    """A registry says how much it took, and the rest comes again."""
    parts: list[Request] = []

    def script(request: Request) -> Answer:
        match request.method:
            case "POST":
                return say(202, Location="/u", OCI_Chunk_Min_Length=str(2 * MB))
            case "PATCH":
                parts.append(request)
                end = int(request.headers["content-range"].partition("-")[0]) + len(request.body)
                kept = end - 1000 if len(parts) == 1 else end
                return say(202, Location="/u", Range=f"0-{kept - 1}")
        return say(201)

    content = BIG[: 5 * MB]
    with FakeRegistry(script) as fake, opened(fake.host) as session:
        session.features.limit_bodies(MB)
        assert put(session, content) == "stored"
    ranges = [part.headers["content-range"] for part in parts]
    second = 2 * MB - 1000
    assert ranges[:2] == [f"0-{2 * MB - 1}", f"{second}-{second + 2 * MB - 1}"]
    body = parts[0].body[:second] + b"".join(part.body for part in parts[1:])
    assert body == content


def test_registry_that_keeps_a_byte_of_a_chunk_is_given_up() -> None:
    kept = 0

    def script(request: Request) -> Answer:
        nonlocal kept
        if request.method == "POST":
            return say(202, Location="/v2/a/b/blobs/uploads/1")
        if request.method == "PUT":
            return say(413)
        if request.method == "PATCH":
            assert len(fake.requests) < 50
            kept += 1
            return say(202, Location="/v2/a/b/blobs/uploads/1", Range=f"0-{kept}")
        return say(404)

    content = os.urandom(MB)
    with FakeRegistry(script) as fake, opened(fake.host) as session:
        with pytest.raises(RegistryError, match="accepted and not kept"):
            put(session, content)
        assert sum(request.method == "PATCH" for request in fake.requests) < 10


def test_wrong_bytes_are_sent_twice_at_most() -> None:
    body = {"errors": [{"code": "DIGEST_INVALID", "message": "no"}]}

    def script(request: Request) -> Answer:
        return say(202, Location="/u") if request.method == "POST" else say(400, body)

    with FakeRegistry(script) as fake, opened(fake.host) as session:
        with pytest.raises(RegistryError, match="DIGEST_INVALID"):
            put(session, b"x" * 1000)
        assert [r.method for r in fake.requests if r.method == "PUT"] == ["PUT"] * 2


# Sessions that are given up


def uploads_open(registry: ScriptedRegistry) -> int:
    return sum(not upload.ended for upload in registry.store.uploads.values())


def test_session_is_ended_after_an_error() -> None:
    with ScriptedRegistry() as registry, opened(registry.host) as session:
        there = RegistryDestination(session, Reference.parse(f"{session.host}/a/b:v1"))
        with pytest.raises(DigestMismatch):
            there.put_blob(LAYER, lambda: BlobReader.of(bytes(len(BIG)), LAYER.digest), task=Task())
        assert registry.requests[-1].method == "DELETE"
        assert uploads_open(registry) == 0


def test_session_is_ended_when_its_server_gives_up() -> None:
    with ScriptedRegistry() as registry, opened(registry.host) as session:
        registry.fail(method="PUT", path=SESSION, status=500)
        with pytest.raises(RegistryError):
            put(session)
        assert uploads_open(registry) == 0


@pytest.mark.parametrize("everything", [False, True])
def test_session_is_ended_when_cancelled(everything: bool) -> None:
    """Also when every request of the session was aborted, as an interrupt does."""
    task = Task(cancel=CancelToken())
    reading, go_on = threading.Event(), threading.Event()

    class Slow:
        def read(self, size: int, /) -> bytes:
            reading.set()
            go_on.wait(20)
            return b"x" * size

    with ScriptedRegistry(auth="basic") as registry:
        from imgtools.transport.options import Credentials

        credentials = Credentials(username="user", password="secret")
        with opened(registry.host, credentials=credentials) as session:
            there = RegistryDestination(session, Reference.parse(f"{session.host}/a/b:v1"))
            caught: list[BaseException] = []

            def work() -> None:
                try:
                    there.put_blob(
                        LAYER, lambda: BlobReader(Slow(), LAYER.digest, LAYER.size), task=task
                    )
                except Error as e:
                    caught.append(e)

            thread = threading.Thread(target=work)
            thread.start()
            assert reading.wait(20)
            task.cancel.cancel()
            if everything:
                session.abort()
            go_on.set()
            thread.join()
            assert isinstance(caught[0], Cancelled)
            assert registry.requests[-1].method == "DELETE"
            assert uploads_open(registry) == 0


def test_ending_a_session_tells_nothing() -> None:
    """Whatever the registry says of it, and whether it is there at all."""
    with ScriptedRegistry() as registry, opened(registry.host) as session:
        registry.fail(method="PUT", path=SESSION, status=403)
        registry.fail(method="DELETE", status=500)
        with pytest.raises(Error, match="403"):
            put(session)
        assert registry.requests[-1].method == "DELETE"
        session.give_up("DELETE", "http://127.0.0.1:1/u", repository="a/b", scopes=())
        session.give_up("DELETE", "nonsense", repository="a/b", scopes=())


# The real thing


def test_real_registry_behind_a_link_that_limits_connections(
    registry_plain: RegistryServer, repository: str
) -> None:
    """It ends a session with a cut; chunks on connections of their own get through."""
    content = os.urandom(40 * MB)
    with CutLink(registry_plain.host, cut_after=6 * MB) as link, opened(link.host) as session:
        assert put(session, content, repository=repository) == "stored"
        assert 1 <= link.cuts <= 3
        assert link.carried < len(content) + 16 * MB
    assert registry_plain.has_blob(repository, str(Digest.of(content)))


def test_real_registry_whose_answers_are_lost(
    registry_plain: RegistryServer, repository: str, make_proxy: Callable[..., Any]
) -> None:
    """One cut in the body, one before the closing answer."""
    with (
        CutLink(registry_plain.host, cut_after=5 * MB, cuts=1) as link,
        opened(link.host) as session,
    ):
        assert put(session, repository=repository) == "stored"
        assert link.cuts == 1
        assert put(session, repository=repository) == "present"
    assert registry_plain.has_blob(repository, str(LAYER.digest))


def test_registry_that_is_gone_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is nobody to end the session, and nothing to wait for."""
    with ScriptedRegistry() as registry, opened(registry.host) as session:
        told: list[str] = []
        monkeypatch.setattr(session, "give_up", lambda method, *rest, **more: told.append(method))

        class Leaving:
            def read(self, size: int, /) -> bytes:
                registry.__exit__(None, None, None)
                raise ExchangeFailed("it left", host=registry.host, stage="connect")

        there = RegistryDestination(session, Reference.parse(f"{session.host}/a/b:v1"))
        with pytest.raises(ExchangeFailed, match="it left"):
            there.put_blob(LAYER, lambda: BlobReader(Leaving(), LAYER.digest), task=Task())
        assert told == []


# From one registry to another


@pytest.mark.parametrize("cut", [3 * MB, 9 * MB])
def test_source_is_asked_for_what_is_missing_only(cut: int) -> None:
    """Going back further than what is kept costs one range of the source, not all of it."""
    with ScriptedRegistry() as source, ScriptedRegistry() as registry:
        source.push_blob("c/d", BIG)
        registry.fail(method="PUT", path=SESSION, nth=1, cut_request=cut, stall=0.2)
        with opened(source.host) as reading, opened(registry.host) as session:
            image = RegistrySource(reading, Reference.parse(f"{source.host}/c/d:v1"))
            there = RegistryDestination(session, Reference.parse(f"{session.host}/a/b:v1"))
            assert there.put_blob(LAYER, lambda: image.open_blob(LAYER), task=Task()) == "stored"
        assert stored(registry)
        assert sent(registry) == len(BIG)
        ranges = [e.headers.get("range", "") for e in source.requests]
        assert ranges in ([""], ["", f"bytes={cut}-"])


def test_imgtools_serve_keeps_what_came(tmp_path: Path) -> None:
    """The server of this project, as a process that writes to disk."""
    (tmp_path / "content").mkdir()
    with (
        serve(tmp_path / "content", "--writable") as server,
        CutLink(server.host, cut_after=2 * MB, cuts=5) as link,
        opened(link.host) as session,
    ):
        assert put(session) == "stored"
        assert link.cuts == 5
        # What a reset took from the server's receive buffer goes again, and no more.
        assert link.carried < len(BIG) + 5 * MB

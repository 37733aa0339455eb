"""Downloads that are interrupted, badly answered, or begun in the middle."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgtools.blob.reader import BlobReader
from imgtools.errors import Denied, DigestMismatch, Error, SizeMismatch
from imgtools.spec import media_type as mt
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest
from imgtools.spec.reference import Reference
from imgtools.testing.registry import ScriptedRegistry
from imgtools.transport.options import Credentials, Limits, Timeouts
from imgtools.transport.registry.api import Repository
from imgtools.transport.registry.pull.download import ResumingBody
from imgtools.transport.registry.pull.source import RegistrySource
from imgtools.transport.registry.pull.tries import Pace, Tries
from imgtools.transport.registry.session import Session
from imgtools.transport.registry.wire.exchange import ExchangeFailed
from tests.registry_fake import QUICK, Answer, FakeRegistry, Request, open_session, say

BLOB = os.urandom(300_000)
LAYER = Descriptor(media_type=mt.OCI_LAYER_GZIP, digest=Digest.of(BLOB), size=len(BLOB))
FAILURE = ExchangeFailed("cut", host="h", stage="receive")


@contextmanager
def registry(script: Callable[[Request], Answer]) -> Iterator[tuple[FakeRegistry, Session]]:
    with FakeRegistry(script) as fake:
        session = open_session(fake.host)
        try:
            yield fake, session
        finally:
            session.close()


def source(session: Session) -> RegistrySource:
    return RegistrySource(session, Reference.parse(f"{session.host}/a/b:v1"))


def wanted(request: Request) -> int:
    match = re.fullmatch(r"bytes=(\d+)-", request.headers.get("range", "bytes=0-"))
    assert match
    return int(match[1])


def ranged(start: int, body: bytes = BLOB, **more: object) -> Answer:
    """What a registry should answer to a request from `start` on."""
    headers = (("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}"),)
    answer = Answer(body=body[start:], status=206 if start else 200, headers=headers)
    return replace(answer, **more)  # type: ignore[arg-type]


# How often


def test_a_transfer_that_moves_on_is_interrupted_without_end() -> None:
    tries = Tries(QUICK, 1 << 30)
    for _ in range(1000):
        tries.gained(64 * 1024)
        assert tries.delay_after(FAILURE) is not None


@given(st.integers(-1, 1 << 40), st.integers(0, 15))
def test_a_transfer_that_crawls_ends(size: int, gain: int) -> None:
    tries = Tries(QUICK, size)
    for _ in range(QUICK.attempts - 1):
        assert tries.delay_after(FAILURE) is not None
        tries.gained(gain)
    assert tries.delay_after(FAILURE) is None


def test_small_gains_add_up() -> None:
    tries = Tries(QUICK, 1 << 30)
    for _ in range(1000):
        tries.gained(16 * 1024)
        assert tries.delay_after(FAILURE, jitter=0) is not None


def test_a_byte_per_connection_is_no_progress() -> None:
    with registry(lambda r: ranged(wanted(r), cut=1)) as (fake, session):
        with pytest.raises(ExchangeFailed), source(session).open_blob(LAYER) as reader:
            reader.read()
        assert len(fake.requests) == QUICK.attempts


# Bad answers to the request for the rest


@pytest.mark.parametrize(
    "rest",
    [
        pytest.param(lambda start: say(416), id="416"),
        pytest.param(lambda start: ranged(start + 7), id="a later range"),
        pytest.param(
            lambda start: say(206, BLOB, Content_Type="multipart/byteranges; boundary=x"),
            id="several ranges",
        ),
        pytest.param(
            lambda start: say(206, BLOB[start:], Content_Range=f"bytes {start}-9/10"),
            id="of something shorter",
        ),
        pytest.param(lambda start: say(206, BLOB[start:]), id="a range it does not name"),
    ],
)
def test_useless_ranges_are_done_without(rest: Callable[[int], Answer]) -> None:
    def script(request: Request) -> Answer:
        start = wanted(request)
        if start:
            return rest(start)
        return say(200, BLOB) if len(fake.requests) > 1 else Answer(body=BLOB, cut=100_000)

    with registry(script) as (fake, session):
        with source(session).open_blob(LAYER) as reader:
            assert reader.read() == BLOB
        assert [wanted(r) for r in fake.requests] == [0, 100_000, 0]


def test_an_earlier_range_is_skipped_through() -> None:
    def script(request: Request) -> Answer:
        start = wanted(request)
        return ranged(start - 1000) if start else Answer(body=BLOB, cut=100_000)

    with registry(script) as (fake, session):
        with source(session).open_blob(LAYER) as reader:
            assert reader.read() == BLOB
        assert len(fake.requests) == 2


def test_ignored_ranges_are_skipped_through() -> None:
    cuts = iter((100_000, 50_000, 250_000, None))
    with registry(lambda r: Answer(body=BLOB, cut=next(cuts))) as (fake, session):
        with source(session).open_blob(LAYER) as reader:
            assert reader.read() == BLOB
        assert len(fake.requests) == 4


@pytest.mark.parametrize("length", [250_000, 100])
def test_a_length_that_is_too_small_is_resumed(length: int) -> None:
    def script(request: Request) -> Answer:
        start = wanted(request)
        if start:
            return ranged(start)
        return Answer(body=BLOB[:length], headers=(("Content-Length", str(length)),))

    with registry(script) as (fake, session):
        with source(session).open_blob(LAYER) as reader:
            assert reader.read() == BLOB
        assert [wanted(r) for r in fake.requests] == [0, length]


def test_a_length_that_is_too_large_ends_with_the_blob() -> None:
    answer = Answer(body=BLOB, headers=(("Content-Length", "400000"),), cut=len(BLOB))
    with registry(lambda r: answer) as (fake, session):
        with source(session).open_blob(LAYER) as reader:
            assert reader.read() == BLOB
        assert len(fake.requests) == 1


@pytest.mark.parametrize("length", [True, False])
def test_a_body_that_is_too_long_is_an_error(length: bool) -> None:
    with registry(lambda r: Answer(body=BLOB + b"more", length=length)) as (fake, session):
        with pytest.raises(SizeMismatch), source(session).open_blob(LAYER) as reader:
            reader.read()
        assert len(fake.requests) == 1


def test_content_that_changes_between_answers_is_known_as_pieced() -> None:
    other = os.urandom(len(BLOB))

    def script(request: Request) -> Answer:
        start = wanted(request)
        return ranged(start, other) if start else Answer(body=BLOB, cut=100_000)

    with registry(script) as (_, session):
        reader = source(session).open_blob(LAYER)
        with pytest.raises(DigestMismatch), reader:
            reader.read()
        assert reader.pieced


def test_content_of_one_answer_is_not_pieced() -> None:
    with registry(lambda r: say(200, BLOB[::-1])) as (_, session):
        reader = source(session).open_blob(LAYER)
        with pytest.raises(DigestMismatch), reader:
            reader.read()
        assert not reader.pieced


# Who is asked


def test_a_redirect_that_expired_is_asked_for_again() -> None:
    """A signed address is good for one request here; the registry makes a new one each time."""
    used: set[str] = set()

    def storage(request: Request) -> Answer:
        if request.target in used:
            return say(403, b"<Error><Code>AccessDenied</Code></Error>")
        used.add(request.target)
        return ranged(wanted(request), cut=100_000 if len(used) < 3 else None)

    with FakeRegistry(storage) as store:
        signed = iter(["1", "1", "2", "2", "3"])

        def script(request: Request) -> Answer:
            return say(307, Location=f"{store.url}/blob?signature={next(signed)}")

        with registry(script) as (fake, session):
            with source(session).open_blob(LAYER) as reader:
                assert reader.read() == BLOB
            assert [wanted(r) for r in fake.requests] == [0, 100_000, 100_000, 200_000, 200_000]


def test_a_redirect_that_is_refused_for_good_ends() -> None:
    with (
        FakeRegistry(lambda r: say(403)) as store,
        registry(lambda r: say(307, Location=f"{store.url}/blob")) as (fake, session),
    ):
        with pytest.raises(Denied):
            source(session).open_blob(LAYER)
        assert len(fake.requests) == 2


def test_a_token_that_expires_is_renewed() -> None:
    with ScriptedRegistry(auth="bearer") as scripted:
        digest = scripted.push_blob("a/b", BLOB)
        scripted.fail(method="GET", path="/blobs/", nth=2, cut_after=70_000)
        session = open_session(
            scripted.host, credentials=Credentials(username="user", password="secret")
        )
        try:
            with source(session).open_blob(replace(LAYER, digest=digest)) as reader:
                first = reader.read(1000)
                scripted.authority.expire_all()
                assert first + reader.read() == BLOB
        finally:
            session.close()
        assert len(scripted.tokens) == 2


@pytest.mark.parametrize("stage", ["headers", "body"])
def test_a_stall_is_a_cut(stage: str) -> None:
    fault = {"stall": 20.0} if stage == "headers" else {"stall_after": 100_000}
    with ScriptedRegistry() as scripted:
        scripted.push_blob("a/b", BLOB)
        scripted.fail(method="GET", path="/blobs/", nth=1, **fault)
        session = open_session(
            scripted.host, timeouts=Timeouts(connect=5, first_byte=0.3, idle=0.3)
        )
        try:
            with source(session).open_blob(LAYER) as reader:
                assert reader.read() == BLOB
        finally:
            session.close()
        assert scripted.count("GET", "/blobs/") == 2


CRAWL = Timeouts(connect=5, first_byte=5, idle=5, crawl=0.05)


@pytest.mark.parametrize("ranges", [True, False])
def test_a_crawl_is_a_cut(ranges: bool) -> None:
    """Who is never silent for long does not hold a transfer up for ever."""

    def script(request: Request) -> Answer:
        first = len(fake.requests) == 1
        answer = ranged(wanted(request)) if ranges else say(200, BLOB)
        return replace(answer, cut=100_000, drip=0.01) if first else answer

    with FakeRegistry(script) as fake:
        session = open_session(fake.host, timeouts=CRAWL)
        try:
            with source(session).open_blob(LAYER) as reader:
                assert reader.read() == BLOB
        finally:
            session.close()
        assert len(fake.requests) == 2
        assert wanted(fake.requests[1]) > 100_000


@pytest.mark.parametrize("ranges", [True, False])
def test_crawling_for_good_ends(ranges: bool) -> None:
    def script(request: Request) -> Answer:
        answer = ranged(wanted(request)) if ranges else say(200, BLOB)
        return replace(answer, cut=0, drip=0.01)

    with FakeRegistry(script) as fake:
        session = open_session(fake.host, timeouts=CRAWL)
        try:
            with (
                pytest.raises(ExchangeFailed, match="less than 1 KiB a second"),
                source(session).open_blob(LAYER) as reader,
            ):
                reader.read()
        finally:
            session.close()
        assert len(fake.requests) == QUICK.attempts


def test_a_limit_of_our_own_is_no_crawl() -> None:
    with FakeRegistry(lambda r: Answer(body=BLOB[:10], drip=0.01, cut=0)) as fake:
        session = open_session(fake.host, timeouts=CRAWL, limits=Limits(bandwidth=1000))
        try:
            body = ResumingBody(Repository(session, "a/b"), Digest.of(BLOB[:10]), 10)
            assert read_all(body) == BLOB[:10]
        finally:
            session.close()
        assert len(fake.requests) == 1


def test_pace_counts_what_is_waited_for() -> None:
    pace = Pace(120)
    assert not any(pace.crawls(3, 30) for _ in range(3))
    assert pace.crawls(3, 30)
    assert not any(pace.crawls(60 * 1024, 30) for _ in range(40))
    assert not any(pace.crawls(100, 0) for _ in range(4000))


# From the middle


def read_all(body: ResumingBody) -> bytes:
    return b"".join(iter(lambda: body.read(1 << 20), b""))


def test_a_body_begins_where_it_is_told() -> None:
    with registry(lambda r: ranged(wanted(r))) as (fake, session):
        body = ResumingBody(Repository(session, "a/b"), LAYER.digest, LAYER.size, 200_000)
        assert read_all(body) == BLOB[200_000:]
        assert body.read(10) == b""
        assert [wanted(r) for r in fake.requests] == [200_000]


def test_a_body_from_the_middle_skips_what_it_did_not_ask_for() -> None:
    with registry(lambda r: say(200, BLOB)) as (_, session):
        body = ResumingBody(Repository(session, "a/b"), LAYER.digest, LAYER.size, 200_000)
        assert read_all(body) == BLOB[200_000:]


@pytest.mark.parametrize("known", [1, 200_000, len(BLOB)])
def test_a_primed_download_is_verified_and_asks_for_the_rest(known: int) -> None:
    with registry(lambda r: ranged(wanted(r))) as (fake, session):
        image = source(session)
        with image.open_blob(LAYER) as reader:
            reader.abandon()
        with image.open_blob(LAYER) as reader:
            assert reader.prime(BytesIO(BLOB[:known])) == known
            assert reader.position == known
            assert reader.read() == BLOB[known:]
        assert reader.verified
        rest = [known] if known < len(BLOB) else []
        assert [wanted(r) for r in fake.requests] == [0, *rest]


def test_a_skipped_download_asks_for_the_rest_only() -> None:
    with registry(lambda r: ranged(wanted(r))) as (fake, session):
        image = source(session)
        with image.open_blob(LAYER) as reader:
            reader.abandon()
        with image.open_blob(LAYER) as reader:
            reader.skip(1000)
            reader.skip(0)
            reader.skip(2000)
            assert reader.read() == BLOB[3000:]
        assert not reader.verified
        assert [wanted(r) for r in fake.requests] == [0, 3000]


# The reader, over carriers that can and cannot move


class Fixed:
    """A carrier that can only be read."""

    def __init__(self, content: bytes) -> None:
        self._file = BytesIO(content)

    def read(self, size: int, /) -> bytes:
        return self._file.read(size)


class Moving(Fixed):
    """A carrier that can be moved."""

    def skip(self, count: int, /) -> None:
        self._file.seek(count, os.SEEK_CUR)


@pytest.mark.parametrize("carrier", [Fixed, Moving])
@given(known=st.integers(0, 3000))
def test_priming_verifies_the_whole(carrier: type[Fixed], known: int) -> None:
    content = BLOB[:3000]
    digest = Digest.of(content)
    with BlobReader(carrier(content), digest, 3000) as reader:
        reader.prime(BytesIO(content[:known]))
        assert reader.read() == content[known:]
    assert reader.verified
    assert reader.pieced == bool(known)


@pytest.mark.parametrize("carrier", [Fixed, Moving])
@pytest.mark.parametrize(
    ("prefix", "error"), [(b"wrong", DigestMismatch), (bytes(3001), SizeMismatch)]
)
def test_priming_with_other_bytes_fails(
    carrier: type[Fixed], prefix: bytes, error: type[Error]
) -> None:
    content = BLOB[:3000]
    with (
        pytest.raises(error),
        BlobReader(carrier(content), Digest.of(content), 3000) as reader,
    ):
        reader.prime(BytesIO(prefix))
        reader.read()


@pytest.mark.parametrize("carrier", [Fixed, Moving])
def test_skipping_leaves_out_and_checks_the_size(carrier: type[Fixed]) -> None:
    content = BLOB[:3000]
    with BlobReader(carrier(content), Digest.of(content), 3000) as reader:
        reader.skip(1000)
        assert reader.read() == content[1000:]
    assert reader.verified == (carrier is Fixed)
    with pytest.raises(SizeMismatch):
        BlobReader(carrier(content), Digest.of(content), 3000).skip(3001)
    with (
        pytest.raises(SizeMismatch),
        BlobReader(carrier(content), Digest.of(content), 3001) as reader,
    ):
        reader.skip(1000)
        reader.read()

"""Rates: our own limits, those a registry announces, pauses that all share, and warnings.

Clocks are the test's own; nothing here waits.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgtools.blob.reader import CHUNK
from imgtools.errors import Cancelled, Denied, RegistryError
from imgtools.task import CancelToken
from imgtools.transport.options import Limits, RegistryOptions
from imgtools.transport.registry.pool import SessionPool
from imgtools.transport.registry.wire.exchange import Body
from imgtools.transport.registry.wire.http import HttpClient
from imgtools.transport.registry.wire.limits import Bucket
from imgtools.transport.registry.wire.ratelimit import (
    RateLimit,
    advice,
    is_rate_limited,
    parse_rate_limit,
    seconds_to_wait,
    span_text,
)
from imgtools.transport.registry.wire.retry import RetryPolicy, delay_before_retry
from imgtools.transport.registry.wire.traffic import Traffic
from tests.registry_fake import QUICK, Answer, FakeRegistry, Request, open_session, say


class Clock:
    """A time that only moves when somebody waits."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.waits: list[float] = []

    def __call__(self) -> float:
        return self.now

    def pause(self, seconds: float, cancel: CancelToken | None) -> None:
        if cancel is not None:
            cancel.check()
        if seconds > 0:
            self.waits.append(round(seconds, 6))
            self.now += seconds


def header(values: Mapping[str, str]) -> Callable[[str], str]:
    lower = {name.lower(): value for name, value in values.items()}
    return lambda name: lower.get(name.lower(), "")


# Buckets


def test_slots_are_given_out_in_order() -> None:
    clock = Clock()
    bucket = Bucket(4.0, clock=clock)
    assert [bucket.reserve() for _ in range(4)] == [0.0, 0.25, 0.5, 0.75]
    clock.now += 0.5
    assert bucket.reserve() == 0.5
    clock.now += 100
    assert [bucket.reserve() for _ in range(2)] == [0.0, 0.25]


def test_idle_time_is_made_up_for_up_to_the_burst() -> None:
    clock = Clock()
    bucket = Bucket(10.0, 2.0, clock)
    assert [round(bucket.reserve(), 3) for _ in range(4)] == [0.0, 0.0, 0.0, 0.1]


@given(
    st.floats(0.1, 1e9),
    st.lists(st.tuples(st.floats(0, 10), st.integers(1, 1 << 20)), min_size=1, max_size=50),
)
def test_no_more_than_the_rate(rate: float, asked: list[tuple[float, int]]) -> None:
    """What was given out by any time is within the rate, but for the one that may use it now."""
    clock = Clock()
    bucket = Bucket(rate, clock=clock)
    begin, used = clock.now, 0
    for idle, units in asked:
        clock.now += idle
        clock.now += bucket.reserve(units)
        assert used <= rate * (clock.now - begin) * (1 + 1e-6) + rate * 1e-3
        used += units


@pytest.mark.parametrize(
    ("rate", "piece"), [(1, 4096), (100_000, 25_000), (1 << 20, CHUNK), (1 << 40, CHUNK)]
)
def test_pieces_are_smooth(rate: int, piece: int) -> None:
    assert Bucket(rate).piece == piece


# Our own limits


def client(clock: Clock, limits: Limits, traffic: Traffic | None = None) -> HttpClient:
    return HttpClient(
        RegistryOptions(limits=limits),
        traffic=traffic or Traffic(clock=clock),
        pause=clock.pause,
    )


def test_requests_per_second_are_per_host_and_shared() -> None:
    clock = Clock()
    traffic = Traffic(clock=clock)
    limits = Limits(requests=2.0)
    with FakeRegistry(lambda r: say(200)) as one, FakeRegistry(lambda r: say(200)) as two:
        clients = [client(clock, limits, traffic) for _ in range(2)]
        for http in (*clients, *clients):
            http.exchange("GET", f"{one.url}/", {}).close()
        assert clock.waits == [0.5, 0.5, 0.5]
        clients[0].exchange("GET", f"{two.url}/", {}).close()
        assert len(clock.waits) == 3
        for http in clients:
            http.close()


def test_bandwidth_counts_both_ways_and_over_all_connections() -> None:
    content = bytes(100_000)
    clock = Clock()
    traffic = Traffic(clock=clock)
    limits = Limits(bandwidth=10_000)
    with FakeRegistry(lambda r: say(200, content if r.method == "GET" else b"")) as fake:
        for http in (client(clock, limits, traffic), client(clock, limits, traffic)):
            with http.exchange("GET", f"{fake.url}/", {}) as response:
                # Reads are whole, whatever the pieces on the wire.
                assert len(response.read(60_000)) == 60_000
                assert len(response.read(60_000)) == 40_000
                assert response.read(1) == b""
            http.exchange("PUT", f"{fake.url}/", {}, Body.of(content)).close()
            http.close()
        assert fake.requests[1].body == content
    # The last piece is not waited for: it is what comes after that would be too much.
    assert 38 <= clock.now - 1000 <= 40
    assert max(clock.waits) <= 4096 / 10_000 + 1e-6


def test_limited_transfer_can_be_cancelled() -> None:
    clock = Clock()
    cancel = CancelToken()
    with FakeRegistry(lambda r: say(200, bytes(100_000))) as fake:
        http = client(clock, Limits(bandwidth=1000))
        with http.exchange("GET", f"{fake.url}/", {}, cancel=cancel) as response:
            assert response.read(10)
            cancel.cancel()
            with pytest.raises(Cancelled):
                response.read(50_000)
        with pytest.raises(Cancelled):
            client(clock, Limits(requests=1.0)).exchange("GET", f"{fake.url}/", {}, cancel=cancel)
        http.close()


def test_waits_end_with_the_session() -> None:
    """Without a clock of ours: the wait of an hour is ended by closing."""
    with FakeRegistry(lambda r: say(200)) as fake:
        session = open_session(fake.host, limits=Limits(requests=1 / 3600))
        session.anonymous_request("GET", f"{fake.url}/", {}).close()
        session.abort()
        with pytest.raises(Cancelled):
            session.anonymous_request("GET", f"{fake.url}/", {})
        session.close()


# What registries announce


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"RateLimit-Limit": "100;w=21600", "RateLimit-Remaining": "76;w=21600"},
         RateLimit(limit=100, remaining=76, window=21600)),
        ({"RateLimit-Limit": "100, 100;w=60", "RateLimit-Remaining": "0", "RateLimit-Reset": "30"},
         RateLimit(limit=100, remaining=0, reset=30.0, window=60)),
        ({"RateLimit": "limit=100, remaining=50, reset=5"},
         RateLimit(limit=100, remaining=50, reset=5.0)),
        ({"RateLimit": '"default";r=0;t=30', "RateLimit-Policy": '"default";q=100;w=60'},
         RateLimit(limit=100, remaining=0, reset=30.0, window=60)),
        ({"X-RateLimit-Limit": "60", "X-RateLimit-Remaining": "0",
          "X-RateLimit-Reset": "1700000100"}, RateLimit(limit=60, remaining=0, reset=100.0)),
        ({"X-RateLimit-Limit": "60", "X-RateLimit-Remaining": "5",
          "X-RateLimit-Reset": "1600000000"}, RateLimit(limit=60, remaining=5, reset=0.0)),
        ({"RateLimit-Remaining": "many"}, RateLimit()),
        ({"RateLimit-Remaining": "-1", "RateLimit-Limit": "1" * 400}, RateLimit()),
        ({"RateLimit": "nonsense"}, None),
    ],
)  # fmt: skip
def test_dialects(headers: dict[str, str], expected: RateLimit | None) -> None:
    assert parse_rate_limit(header(headers), 1_700_000_000) == expected


@given(st.dictionaries(
    st.sampled_from(["RateLimit", "RateLimit-Policy", "RateLimit-Remaining", "RateLimit-Reset",
                     "X-RateLimit-Remaining", "X-RateLimit-Reset", "Retry-After"]),
    st.text(max_size=40)), st.sampled_from([200, 403, 429]))  # fmt: skip
def test_any_headers(headers: dict[str, str], status: int) -> None:
    parse_rate_limit(header(headers), 0)
    wait = seconds_to_wait(status, header(headers), 0)
    assert wait is None or wait >= 0
    assert advice(header(headers), 0, status=status)


@pytest.mark.parametrize(
    ("status", "headers", "limited", "wait"),
    [
        (429, {}, True, None),
        (429, {"Retry-After": "7"}, True, 7.0),
        (429, {"RateLimit-Remaining": "0", "RateLimit-Reset": "9"}, True, 9.0),
        (429, {"RateLimit-Remaining": "3", "RateLimit-Reset": "9"}, True, None),
        (429, {"RateLimit-Remaining": "0;w=21600"}, True, None),
        (403, {}, False, None),
        (403, {"RateLimit-Remaining": "0", "RateLimit-Reset": "9"}, False, None),
        (403, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1000000050"}, True, 50.0),
        (403, {"X-RateLimit-Remaining": "9", "X-RateLimit-Reset": "1000000050"}, False, None),
        (403, {"Retry-After": "60"}, True, 60.0),
        (503, {"Retry-After": "60"}, False, 60.0),
    ],
)
def test_what_is_a_rate_limit(
    status: int, headers: dict[str, str], limited: bool, wait: float | None
) -> None:
    assert is_rate_limited(status, header(headers)) is limited
    assert seconds_to_wait(status, header(headers), 1_000_000_000) == wait


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ({}, "the registry limits the rate of requests: log in, or try again later"),
        ({"RateLimit-Limit": "100;w=21600", "RateLimit-Remaining": "0;w=21600"},
         "to 100 in 6 h: log in, or try again later"),
        ({"Retry-After": "5400"}, "try again in 1 h 30 min (at 2001-09-09 03:16:40 UTC)"),
        ({"Retry-After": "999999999"}, "at 20"),
    ],
)  # fmt: skip
def test_advice(headers: dict[str, str], words: str) -> None:
    assert words in advice(header(headers), 1_000_000_000)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (0.4, "0 s"), (59, "59 s"), (61, "1 min 1 s"), (3600, "1 h"), (90061, "1 d 1 h")],
)
def test_spans(seconds: float, text: str) -> None:
    assert span_text(seconds) == text


def limited(status: int, **headers: str) -> Callable[[Request], Answer]:
    return lambda request: say(status, {"errors": [{"code": "TOOMANYREQUESTS"}]}, **headers)


def test_hosts_that_say_later_hold_everybody() -> None:
    """One client's 429 makes another one, of another session, wait."""
    clock = Clock()
    traffic = Traffic(clock=clock)
    with FakeRegistry(lambda r: say(200)) as fake:
        traffic.hold(fake.host, 30.0)
        traffic.hold(fake.host, 10.0)
        http = client(clock, Limits(), traffic)
        http.exchange("GET", f"{fake.url}/", {}).close()
        http.exchange("GET", f"{fake.url}/", {}).close()
        http.close()
    assert clock.waits == [30.0]


def test_sessions_of_a_pool_share_what_hosts_say() -> None:
    with FakeRegistry(limited(429, Retry_After="0", RateLimit_Remaining="0;w=60")) as fake:
        with SessionPool() as pool:
            options = RegistryOptions(tls_verify=False)
            quick = RetryPolicy(attempts=2, first=0.001, longest=0.001)
            one = pool.session(fake.host, options, quick)
            two = pool.session(fake.host, options)
            assert two.rate_limit() is None
            one.anonymous_request("GET", f"{fake.url}/", {}).close()
            assert two.rate_limit() == RateLimit(remaining=0, window=60)
            assert fake.host in two._traffic.gates
        assert len(fake.requests) == 2


def test_nothing_left_is_waited_for_when_the_host_says_how_long() -> None:
    clock = Clock()

    def script(request: Request) -> Answer:
        reset = {"/soon": "20", "/later": "9999"}[request.path]
        return say(200, RateLimit_Remaining="0", RateLimit_Reset=reset)

    with FakeRegistry(script) as fake:
        http = client(clock, Limits())
        for path, waits in (("/later", []), ("/soon", []), ("/later", [20.0])):
            http.exchange("GET", f"{fake.url}{path}", {}).close()
            assert clock.waits == waits
        http.close()


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (429, {"Retry_After": "3600"}),
        (429, {"RateLimit_Remaining": "0", "RateLimit_Reset": "3600"}),
        (403, {"Retry_After": "3600"}),
        (403, {"X_RateLimit_Remaining": "0", "X_RateLimit_Reset": "99999999999"}),
    ],
)
def test_limits_beyond_patience_are_told(status: int, headers: dict[str, str]) -> None:
    with FakeRegistry(limited(status, **headers)) as fake:
        session = open_session(fake.host)
        response = session.request("GET", "/v2/", repository="a", scopes=())
        error = session.failure(response, "a")
        assert isinstance(error, RegistryError)
        assert not isinstance(error, Denied)
        assert error.status == status
        assert "try again in" in (error.hint or "")
        assert "UTC" in (error.hint or "")
        assert len(fake.requests) == 1
        session.close()


def test_secondary_limit_of_github_is_waited_for() -> None:
    answers = [say(403, Retry_After="0"), say(200)]
    with FakeRegistry(lambda r: answers.pop(0)) as fake:
        session = open_session(fake.host)
        assert session.request("GET", "/v2/", repository="a", scopes=()).status == 200
        session.close()


@pytest.mark.parametrize(
    ("elapsed", "retry_after", "expected"),
    [(0, None, 1.0), (8, None, 1.0), (9.5, None, None), (0, 9, 9), (5, 9, None)],
)
def test_retries_have_a_deadline(
    elapsed: float, retry_after: float | None, expected: float | None
) -> None:
    policy = RetryPolicy(first=1.0, deadline=10.0)
    delay = delay_before_retry(policy, 503, tried=1, retry_after=retry_after, elapsed=elapsed)
    assert delay == expected


def test_deadline_ends_a_request() -> None:
    with FakeRegistry(lambda r: say(503)) as fake:
        session = open_session(fake.host)
        session.policy = RetryPolicy(first=5.0, deadline=1.0)
        assert session.request("GET", "/v2/", repository="a", scopes=()).status == 503
        assert len(fake.requests) == 1
        session.close()


# Warnings


def test_warnings_are_shown_once() -> None:
    shown: list[str] = []
    values = [
        '299 - "moved to \\"new\\""',
        '299 - "moved to \\"new\\"", 299 - "and\x0bnow"',
        '199 - "not ours"',
        "299 - unquoted",
        f'299 - "{"x" * 3000}"',
    ]
    headers = [("Warning", value.replace("\x0b", "\t")) for value in values]
    with (
        FakeRegistry(lambda r: Answer(headers=headers)) as fake,
        SessionPool(warn=shown.append) as pool,
    ):
        for anonymous in (False, True):
            session = pool.session(
                fake.host, RegistryOptions(tls_verify=False, anonymous=anonymous)
            )
            session.request("GET", "/v2/", repository="a", scopes=()).close()
        says = f"{fake.host} warns: "
        assert shown[:2] == [f'{says}moved to "new"', f"{says}and now"]
        assert len(shown) == 3
        assert len(shown[2]) < 400


def test_warnings_are_bounded_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    counter = iter(range(1000))
    traffic = Traffic()
    with caplog.at_level(logging.WARNING):
        for _ in range(500):
            line = f'299 - "number {next(counter)}"'
            traffic.observe("host", 200, header({}), [line], 0.0)
    assert len(caplog.messages) == 50
    assert caplog.messages[0] == "host warns: number 0"


# Words for HEAD


def test_head_is_explained_by_a_get() -> None:
    def script(request: Request) -> Answer:
        return say(403, {"errors": [{"code": "DENIED", "message": "project is archived"}]})

    with FakeRegistry(script) as fake:
        session = open_session(fake.host)
        response = session.request("HEAD", "/v2/a/blobs/x", repository="a", scopes=())
        assert "project is archived" in session.failure(response, "a").message
        assert fake.seen == ["HEAD /v2/a/blobs/x", "GET /v2/a/blobs/x"]
        assert fake.requests[1].headers["range"] == "bytes=0-0"
        session.close()


@pytest.mark.parametrize(
    ("status", "get", "requests"), [(403, 200, 2), (403, 404, 2), (401, 401, 1), (500, 500, 5)]
)
def test_head_stays_wordless_where_a_get_would_not_be_refused_alike(
    status: int, get: int, requests: int
) -> None:
    answers = {"HEAD": say(status), "GET": say(get, {"message": "words"})}
    with FakeRegistry(lambda r: answers[r.method]) as fake:
        session = open_session(fake.host, anonymous=True)
        session.policy = QUICK
        response = session.request("HEAD", "/x", repository="a", scopes=())
        error = session.failure(response, "a")
        assert f"HEAD {fake.url}/x: {status}" in error.message
        assert "words" not in error.message
        assert len([r for r in fake.requests if r.path == "/x"]) == requests
        session.close()

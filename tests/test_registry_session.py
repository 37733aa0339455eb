"""Sessions against a scripted registry: challenges, tokens, redirects, retries, schemes."""

from __future__ import annotations

import base64
import itertools
import socket
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from imgtools.errors import (
    Cancelled,
    ConnectionFailed,
    Denied,
    InvalidInput,
    LimitExceeded,
    RegistryError,
)
from imgtools.task import CancelToken
from imgtools.transport.options import Credentials, Proxies, RegistryOptions, Timeouts
from imgtools.transport.registry.access.challenge_cache import ChallengeCache, KnownHost
from imgtools.transport.registry.pool import SessionPool
from imgtools.transport.registry.session import Session
from imgtools.transport.registry.wire.connect import Address
from imgtools.transport.registry.wire.connection import Network
from imgtools.transport.registry.wire.exchange import Body, ExchangeFailed
from imgtools.transport.registry.wire.http import Response
from imgtools.transport.registry.wire.url import Origin
from tests.registry_fake import Answer, FakeRegistry, Request, Script, open_session, say
from tests.rig import RegistryServer

PULL = ("repository:a/b:pull",)
USER = Credentials(username="me", password="pass:word")
BASIC = "Basic " + base64.b64encode(b"me:pass:word").decode()


class TokenRegistry:
    """A script of a registry with bearer tokens; `answer` is for who is let in."""

    def __init__(self, answer: Script | None = None) -> None:
        self.answer = answer or (lambda request: say(200, b"content"))
        self.url = ""
        self.issued = 0
        self.valid: set[str] = set()
        self.expires: object = 300
        self.token_answer: Callable[[Request], Answer | None] = lambda request: None
        self.challenge = 'Bearer realm="{url}/token",service="srv",scope="repository:a/b:pull"'

    def __call__(self, request: Request) -> Answer:
        if request.path == "/token":
            special = self.token_answer(request)
            if special is not None:
                return special
            self.issued += 1
            token = f"token-{self.issued}"
            self.valid = {f"Bearer {token}"}
            return say(200, {"token": token, "expires_in": self.expires})
        if request.authorization not in self.valid:
            return say(
                401,
                {"errors": [{"code": "UNAUTHORIZED", "message": "who are you"}]},
                WWW_Authenticate=self.challenge.format(url=self.url),
            )
        return self.answer(request)


def get(session: Session, target: str = "/v2/a/b/x", **more: object) -> Response:
    return session.request("GET", target, repository="a/b", scopes=PULL, **more)  # type: ignore[arg-type]


def read(session: Session, target: str = "/v2/a/b/x") -> tuple[int, bytes]:
    with get(session, target) as response:
        return response.status, response.body(1000, "x")


def fake_with_tokens(stack: ExitStack, script: TokenRegistry) -> FakeRegistry:
    fake = stack.enter_context(FakeRegistry(script))
    script.url = fake.url
    return fake


def test_first_request_carries_the_challenge() -> None:
    with ExitStack() as stack:
        fake = fake_with_tokens(stack, TokenRegistry())
        session = open_session(fake.host)
        assert read(session) == (200, b"content")
        assert read(session, "/v2/a/b/y") == (200, b"content")
        session.close()
        token = "GET /token?service=srv&scope=repository:a/b:pull"
        assert fake.seen == ["GET /v2/a/b/x", token, "GET /v2/a/b/x", "GET /v2/a/b/y"]
        assert fake.requests[1].authorization == ""


def test_base_url_on_another_host_has_no_say_in_who_gives_tokens() -> None:
    def elsewhere(request: Request) -> Answer:
        realm = f"{other.url}/token"
        return say(401, WWW_Authenticate=f'Bearer realm="{realm}",service="s"')

    def script(request: Request) -> Answer:
        return say(307, Location=f"{other.url}/v2/") if request.path == "/v2/" else say(401)

    with FakeRegistry(elsewhere) as other, FakeRegistry(script) as fake:
        session = open_session(fake.host, credentials=USER)
        assert read(session)[0] == 401
        session.close()
        assert other.seen == ["GET /v2/"]
        assert not any(request.authorization for request in (*fake.requests, *other.requests))


def test_sessions_made_after_cancelling_send_nothing() -> None:
    cancel = CancelToken()
    with FakeRegistry(lambda r: say(200)) as fake, SessionPool(cancel) as pool:
        options = RegistryOptions(tls_verify=False)
        cancel.cancel("enough")
        with pytest.raises(Cancelled):
            get(pool.session(fake.host, options))
        assert fake.requests == []


def test_realm_is_remembered_without_user_information(tmp_path: Path) -> None:
    path = tmp_path / "challenges"
    script = TokenRegistry()
    script.challenge = 'Bearer realm="{url}/token?k=1",service="srv"'
    with FakeRegistry(script) as fake:
        script.url = fake.url.replace("//", "//me:secret@")
        for _ in range(2):
            with SessionPool() as pool:
                options = RegistryOptions(tls_verify=False, challenge_cache=str(path))
                assert read(pool.session(fake.host, options))[0] == 200
        assert [r.authorization for r in fake.requests if r.path == "/token"] == ["", ""]
        assert f"{fake.url}/token?k=1" in path.read_text()
        assert "secret" not in path.read_text()


def test_refresh_token_with_half_a_character_is_not_taken() -> None:
    script = TokenRegistry()
    script.token_answer = lambda request: say(200, {"token": "t", "refresh_token": "\ud800"})
    script.valid = {"Bearer t"}
    with ExitStack() as stack:
        fake = fake_with_tokens(stack, script)
        session = open_session(fake.host, credentials=Credentials(identity_token="mine"))
        for name in ("a", "b"):
            scopes = (f"repository:{name}:pull",)
            session.request("GET", "/v2/x", repository=name, scopes=scopes).drain()
        session.close()
        tokens = [request for request in fake.requests if request.path == "/token"]
        assert [b"refresh_token=mine" in request.body for request in tokens] == [True, True]


def test_few_connections_are_kept_to_hosts_that_a_registry_leads_to() -> None:
    numbers = itertools.count()

    def script(request: Request) -> Answer:
        if request.path == "/led":
            return say(200)
        return say(307, Location=f"http://h{next(numbers)}.test:{port}/led")

    with FakeRegistry(script) as fake:
        port = int(fake.host.rpartition(":")[2])
        network = Network(resolve=lambda *_: [Address(socket.AF_INET, ("127.0.0.1", port))])
        options = RegistryOptions(tls_verify=False)
        session = Session(fake.host, options, ChallengeCache(None), network=network)
        for _ in range(40):
            get(session).drain()
        kept = session._client._idle
        assert sum(map(len, kept.values())) == len(kept) == 16
        assert Origin.of(fake.url) in kept
        session.close()


def test_remembered_challenge_fetches_the_token_first(tmp_path: Path) -> None:
    path = str(tmp_path / "challenges")
    with ExitStack() as stack:
        fake = fake_with_tokens(stack, TokenRegistry())
        for expected in (3, 2):
            with SessionPool() as pool:
                options = RegistryOptions(tls_verify=False, challenge_cache=path)
                before = len(fake.requests)
                assert read(pool.session(fake.host, options)) == (200, b"content")
                assert len(fake.requests) - before == expected
        assert "token-" not in Path(path).read_text()


@pytest.mark.parametrize("stale", ["realm", "scheme", "auth"])
def test_remembered_challenge_corrects_itself(stale: str) -> None:
    with ExitStack() as stack:
        script = TokenRegistry()
        fake = fake_with_tokens(stack, script)
        cache = ChallengeCache(None)
        known = {
            "realm": KnownHost(scheme="http", auth="bearer", realm=f"{fake.url}/gone", service="s"),
            "scheme": KnownHost(scheme="https", auth="", realm="", service=""),
            "auth": KnownHost(scheme="http", auth="basic"),
        }[stale]
        cache.put(fake.host, known)
        session = open_session(fake.host, cache, credentials=USER)
        assert read(session) == (200, b"content")
        session.close()
        assert cache.get(fake.host) == KnownHost(
            scheme="http", auth="bearer", realm=f"{fake.url}/token", service="srv"
        )


def test_credentials_go_to_the_token_server_only() -> None:
    with ExitStack() as stack:
        fake = fake_with_tokens(stack, TokenRegistry())
        session = open_session(fake.host, credentials=USER)
        assert read(session) == (200, b"content")
        session.close()
        assert [r.authorization for r in fake.requests] == ["", BASIC, "Bearer token-1"]
        assert fake.requests[1].query["account"] == ["me"]


def test_one_token_for_many_threads() -> None:
    with ExitStack() as stack:
        script = TokenRegistry()
        fake = fake_with_tokens(stack, script)
        session = open_session(fake.host)
        start = threading.Barrier(8)
        results: list[tuple[int, bytes]] = []

        def work() -> None:
            start.wait()
            results.append(read(session))

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        session.close()
        assert results == [(200, b"content")] * 8
        assert script.issued == 1


def test_refused_token_is_replaced() -> None:
    with ExitStack() as stack:
        script = TokenRegistry()
        fake = fake_with_tokens(stack, script)
        session = open_session(fake.host)
        assert read(session)[0] == 200
        script.valid = {"nothing"}
        assert read(session)[0] == 200
        assert script.issued == 2
        session.close()


@pytest.mark.parametrize(
    ("expires", "life"), [(None, 60), (5, 60), ("x", 60), (3600, 3600), (-1, 60), (1e30, 60)]
)
def test_token_is_renewed_before_it_expires(
    expires: object, life: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr("imgtools.transport.registry.access.auth.time.monotonic", lambda: now[0])
    with ExitStack() as stack:
        script = TokenRegistry()
        script.expires = expires
        fake = fake_with_tokens(stack, script)
        session = open_session(fake.host)
        read(session)
        now[0] += life - 11
        read(session)
        assert script.issued == 1
        now[0] += 2
        read(session)
        assert script.issued == 2
        session.close()


def test_wrong_credentials_are_tried_once() -> None:
    with ExitStack() as stack:
        script = TokenRegistry()
        script.token_answer = lambda request: say(401, {"details": "incorrect password"})
        fake = fake_with_tokens(stack, script)
        session = open_session(fake.host, credentials=USER)
        for _ in range(2):
            with pytest.raises(Denied) as caught:
                get(session)
        session.close()
        assert sum(r.path == "/token" for r in fake.requests) == 1
        assert "incorrect password" in caught.value.message
        assert "me" in caught.value.message
        assert f"imgtools login {fake.host}" in (caught.value.hint or "")
        assert "pass:word" not in caught.value.message


@pytest.mark.parametrize("credentials", [None, USER])
def test_basic(credentials: Credentials | None) -> None:
    def script(request: Request) -> Answer:
        if request.authorization != BASIC:
            return say(401, WWW_Authenticate='Negotiate, Basic realm="r"')
        return say(200, b"in")

    with FakeRegistry(script) as fake:
        session = open_session(fake.host, credentials=credentials)
        response = get(session)
        if credentials is None:
            assert response.status == 401
            error = session.failure(response, "a/b")
            assert isinstance(error, Denied)
            assert "imgtools login" in (error.hint or "")
            assert len(fake.requests) == 1
        else:
            assert response.body(10, "x") == b"in"
            get(session).drain()
            assert len(fake.requests) == 3
        session.close()


def test_refused_basic_credentials_are_not_repeated() -> None:
    with FakeRegistry(lambda r: say(401, WWW_Authenticate="Basic realm=r")) as fake:
        session = open_session(fake.host, credentials=USER)
        response = get(session)
        assert isinstance(session.failure(response, "a/b"), Denied)
        assert [r.authorization for r in fake.requests] == ["", BASIC]
        session.close()


def test_anonymous_uses_no_credentials() -> None:
    with ExitStack() as stack:
        fake = fake_with_tokens(stack, TokenRegistry())
        session = open_session(fake.host, credentials=USER, anonymous=True)
        assert read(session)[0] == 200
        session.close()
        assert all("Basic" not in r.authorization for r in fake.requests)


def test_registry_token_is_sent_at_once() -> None:
    def script(request: Request) -> Answer:
        good = request.authorization == "Bearer ready"
        return say(200, b"in") if good else say(401, WWW_Authenticate='Bearer realm="http://t"')

    with FakeRegistry(script) as fake:
        for token, status in (("ready", 200), ("other", 401)):
            session = open_session(fake.host, credentials=Credentials(registry_token=token))
            assert read(session)[0] == status
            session.close()
        assert len(fake.requests) == 2


@pytest.mark.parametrize("refused", [None, 404, 405])
def test_identity_token(refused: int | None) -> None:
    def token_answer(request: Request) -> Answer | None:
        if request.method == "POST" and refused:
            return say(refused)
        if request.method == "POST":
            rotated = "second" if b"refresh_token=first" in request.body else "third"
            script.issued += 1
            script.valid = {f"Bearer t{script.issued}"}
            return say(200, {"access_token": f"t{script.issued}", "refresh_token": rotated})
        return None

    with ExitStack() as stack:
        script = TokenRegistry()
        script.token_answer = token_answer
        fake = fake_with_tokens(stack, script)
        identity = Credentials(username="me", password="pass:word", identity_token="first")
        session = open_session(fake.host, credentials=identity)
        assert read(session)[0] == 200
        script.valid = {"none"}
        assert read(session)[0] == 200
        session.close()
    posts = [r for r in fake.requests if r.method == "POST"]
    assert all(r.authorization == "" for r in posts)
    assert b"grant_type=refresh_token" in posts[0].body
    assert b"client_id=imgtools" in posts[0].body
    assert b"scope=repository%3Aa%2Fb%3Apull" in posts[0].body
    gets = [r for r in fake.requests if r.method == "GET" and r.path == "/token"]
    if refused:
        assert [r.authorization for r in gets] == [BASIC, BASIC]
    else:
        assert not gets
        assert b"refresh_token=second" in posts[1].body


def test_insufficient_scope_adds_the_scope() -> None:
    with ExitStack() as stack:
        script = TokenRegistry()

        def token_answer(request: Request) -> Answer | None:
            more = "repository:a/b:admin" in request.query["scope"]
            script.challenge = (
                'Bearer realm="{url}/token",service="srv",error="insufficient_scope",'
                'scope="repository:a/b:admin repository:a/b:pull"'
            )
            return None if more else say(200, {"token": "weak"})

        script.token_answer = token_answer
        fake = fake_with_tokens(stack, script)
        session = open_session(fake.host)
        assert read(session)[0] == 200
        assert read(session)[0] == 200
        session.close()
        scopes = [r.query["scope"] for r in fake.requests if r.path == "/token"]
        assert scopes == [[PULL[0]], [PULL[0], "repository:a/b:admin"]]


def test_scope_that_stays_insufficient_is_denied() -> None:
    with ExitStack() as stack:
        script = TokenRegistry()
        script.challenge += ',error="insufficient_scope"'
        script.token_answer = lambda request: say(200, {"token": "weak"})
        fake = fake_with_tokens(stack, script)
        session = open_session(fake.host)
        response = get(session)
        assert isinstance(session.failure(response, "a/b"), Denied)
        assert sum(r.path == "/token" for r in fake.requests) == 1
        session.close()


def test_challenge_from_the_base_url_when_the_answer_has_none() -> None:
    with ExitStack() as stack:
        script = TokenRegistry()

        def answer(request: Request) -> Answer:
            if request.path == "/v2/a/b/x" and not request.authorization:
                return say(401, b"go away")
            return script(request)

        fake = stack.enter_context(FakeRegistry(answer))
        script.url = fake.url
        session = open_session(fake.host)
        assert read(session)[0] == 200
        session.close()
        assert fake.seen[:2] == ["GET /v2/a/b/x", "GET /v2/"]


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{}", b'{"token":1}', b'{"token":"a\\nb"}', b'{"token":"\\u00e9"}', b"x" * 2**21],
)
def test_answers_without_a_token(body: bytes) -> None:
    with ExitStack() as stack:
        script = TokenRegistry()
        script.token_answer = lambda request: say(200, body)
        fake = fake_with_tokens(stack, script)
        session = open_session(fake.host)
        with pytest.raises((RegistryError, LimitExceeded)):
            get(session)
        session.close()


def test_token_server_without_tls_for_a_registry_with_tls() -> None:
    session = open_session("registry.example", tls_verify=True)
    with pytest.raises(Denied, match="leaves TLS"):
        session._fetch_token("GET", "http://tokens.example/t?scope=x", {}, None, BASIC)
    session.close()


def test_broken_auth_file_matters_only_when_credentials_do(tmp_path: Path) -> None:
    path = tmp_path / "auth.json"
    path.write_text("{")
    with FakeRegistry(lambda r: say(418 if r.path == "/v2/a/b/x" else 401, b"tea")) as fake:
        session = open_session(fake.host, auth_files=(str(path),))
        error = session.failure(get(session), "a/b")
        assert isinstance(error, RegistryError)
        with pytest.raises(InvalidInput, match=r"auth\.json"):
            session.failure(get(session, "/v2/a/b/y"), "a/b")
        session.close()


def test_location_does_not_leave_tls(registry_tls: RegistryServer) -> None:
    session = open_session(registry_tls.host, tls_verify=True, cert_dir=str(registry_tls.cert_dir))
    with get(session, "/v2/") as response:
        with pytest.raises(ConnectionFailed, match="leaves TLS"):
            session.resolve(response, "http://storage.example/u")
        assert session.resolve(response, "https://storage.example/u")
    session.close()


def test_ipv6_literal() -> None:
    with FakeRegistry(lambda r: say(200, b"six"), address="::1") as fake:
        session = open_session(fake.host)
        assert read(session) == (200, b"six")
        assert fake.requests[0].headers["host"] == fake.host
        assert fake.host.startswith("[::1]:")
        session.close()


# Redirects


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_authorization_does_not_follow_to_another_port(status: int, method: str) -> None:
    with ExitStack() as stack:
        other = stack.enter_context(FakeRegistry(lambda r: say(200, b"blob")))

        def answer(request: Request) -> Answer:
            if request.path == "/v2/a/b/here":
                return say(status, Location="/v2/a/b/same")
            return say(status, Location=f"{other.url}/bucket?sig=a%2Bb%3d")

        script = TokenRegistry(answer)
        fake = fake_with_tokens(stack, script)
        session = open_session(fake.host)
        response = session.request(
            method,
            "/v2/a/b/here",
            repository="a/b",
            scopes=PULL,
            headers={"Range": "bytes=1-"},
        )
        assert response.status == 200
        response.close()
        session.close()
        assert other.seen == [f"{method} /bucket?sig=a%2Bb%3d"]
        assert other.requests[0].authorization == ""
        assert other.requests[0].headers["range"] == "bytes=1-"
        assert fake.requests[-1].authorization == "Bearer token-1"


def test_401_of_another_host_is_not_a_challenge() -> None:
    with ExitStack() as stack:
        other = stack.enter_context(
            FakeRegistry(lambda r: say(401, WWW_Authenticate='Basic realm="phish"'))
        )
        fake = stack.enter_context(FakeRegistry(lambda r: say(307, Location=f"{other.url}/bucket")))
        session = open_session(fake.host, credentials=USER)
        assert read(session)[0] == 401
        session.close()
        assert [r.authorization for r in other.requests] == [""]


def test_redirects_are_bounded_and_stay_http() -> None:
    with FakeRegistry(lambda r: say(302, Location=r.target + "1")) as fake:
        session = open_session(fake.host)
        with pytest.raises(ConnectionFailed, match="more than 10"):
            get(session)
        assert len(fake.requests) == 11
        session.close()
    with FakeRegistry(lambda r: say(302, Location="file:///etc/passwd")) as fake:
        session = open_session(fake.host)
        with pytest.raises(ConnectionFailed, match="not an absolute http"):
            get(session)
        session.close()


def test_body_is_sent_again_on_307() -> None:
    def script(request: Request) -> Answer:
        return say(201) if request.path == "/there" else say(307, Location="/there")

    with FakeRegistry(script) as fake:
        session = open_session(fake.host)
        response = session.request(
            "PUT", "/here", repository="a", scopes=(), body=Body.of(b"manifest")
        )
        assert response.status == 201
        session.close()
        assert [(r.method, r.body) for r in fake.requests] == [("PUT", b"manifest")] * 2


def test_body_is_not_turned_into_another_request() -> None:
    with FakeRegistry(lambda r: say(302, Location="/there")) as fake:
        session = open_session(fake.host)
        response = session.request("PUT", "/here", repository="a", scopes=(), body=Body.of(b"m"))
        assert response.status == 302
        session.close()
        assert len(fake.requests) == 1


# Retries


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_later_is_tried_again(status: int) -> None:
    count = iter(range(9))
    with FakeRegistry(
        lambda r: say(status, b"busy", Retry_After="0") if next(count) < 3 else say(200, b"ok")
    ) as fake:
        session = open_session(fake.host)
        assert read(session) == (200, b"ok")
        assert len(fake.requests) == 4
        session.close()


def test_retries_end() -> None:
    with FakeRegistry(lambda r: say(503, b"busy")) as fake:
        session = open_session(fake.host)
        response = get(session)
        assert len(fake.requests) == 5
        error = session.failure(response, "a/b")
        assert isinstance(error, RegistryError)
        assert error.status == 503
        assert error.message.endswith("503 busy")
        session.close()


def test_cut_before_the_answer_is_tried_again() -> None:
    count = iter(range(9))
    with FakeRegistry(
        lambda r: (
            Answer(status=200, headers=[("X", "x" * 70000)], cut=0)
            if next(count) < 2
            else say(200, b"ok")
        )
    ) as fake:
        session = open_session(fake.host)
        assert read(session) == (200, b"ok")
        session.close()


def test_waiting_ends_when_cancelled() -> None:
    with FakeRegistry(lambda r: say(429, Retry_After="100")) as fake:
        session = open_session(fake.host)
        cancel = CancelToken()
        timer = threading.Timer(0.1, cancel.cancel)
        timer.start()
        with pytest.raises(Cancelled):
            get(session, cancel=cancel)
        timer.join()
        timer = threading.Timer(0.1, session.close)
        timer.start()
        with pytest.raises(Cancelled):
            get(session)
        timer.join()


def test_impatient_retry_after_is_reported() -> None:
    with FakeRegistry(lambda r: say(429, Retry_After="100000")) as fake:
        session = open_session(fake.host)
        error = session.failure(get(session), "a/b")
        assert isinstance(error, RegistryError)
        assert error.status == 429
        assert "rate" in (error.hint or "")
        session.close()


def test_closed_idle_connection_is_replaced() -> None:
    with FakeRegistry(lambda r: say(200, b"ok")) as fake:
        session = open_session(fake.host)
        assert read(session)[0] == 200
        fake._connections.close()
        fake._connections._closed = False
        assert read(session)[0] == 200
        session.close()


def test_nobody_listens() -> None:
    with FakeRegistry(lambda r: say(200)) as fake:
        host = fake.host
    for verify in (True, False):
        session = open_session(host, tls_verify=verify)
        with pytest.raises(ExchangeFailed, match="refused") as caught:
            get(session)
        assert caught.value.stage == "connect"
        assert host in caught.value.message
        session.close()


def test_tls_wanted_but_plain_answers() -> None:
    with FakeRegistry(lambda r: say(200)) as fake:
        session = open_session(fake.host, tls_verify=True)
        with pytest.raises(ExchangeFailed) as caught:
            get(session)
        assert caught.value.stage == "tls"
        assert fake.requests == []
        session.close()


def test_slow_answer_times_out() -> None:
    wake = threading.Event()

    def script(request: Request) -> Answer:
        wake.wait(20)
        return say(200)

    with FakeRegistry(script) as fake:
        timeouts = Timeouts(connect=5, first_byte=0.05, idle=0.05)
        session = open_session(fake.host, timeouts=timeouts)
        with pytest.raises(ExchangeFailed, match="timed out"):
            get(session)
        wake.set()
        session.close()


def test_http_proxy_sees_the_whole_url() -> None:
    with FakeRegistry(lambda r: say(200, b"proxied")) as proxy:
        proxies = Proxies(http=f"http://u:p%40x@{proxy.host}")
        cache = ChallengeCache(None)
        cache.put("registry.test", KnownHost(scheme="http"))
        session = open_session("registry.test", cache, proxies=proxies)
        assert read(session, "/v2/a%2fb") == (200, b"proxied")
        session.close()
        seen = proxy.requests[0]
        assert seen.target == "http://registry.test/v2/a%2fb"
        assert seen.headers["host"] == "registry.test"
        expected = base64.b64encode(b"u:p@x").decode()
        assert seen.headers["proxy-authorization"] == f"Basic {expected}"


def test_body_without_length_and_with_wrong_length() -> None:
    def script(request: Request) -> Answer:
        if request.path == "/v2/open":
            return Answer(status=200, body=b"until the end", length=False)
        return Answer(status=200, headers=[("Content-Length", "100")], body=b"short", cut=5)

    with FakeRegistry(script) as fake:
        session = open_session(fake.host)
        assert read(session, "/v2/open") == (200, b"until the end")
        with pytest.raises(ExchangeFailed, match="no complete answer"):
            read(session, "/v2/short")
        session.close()


def test_content_coding_is_left_alone() -> None:
    body = b"\x1f\x8b\x08\x00not really gzip"
    with FakeRegistry(lambda r: say(200, body, Content_Encoding="gzip")) as fake:
        session = open_session(fake.host)
        assert read(session) == (200, body)
        assert fake.requests[0].headers["accept-encoding"] == "identity"
        session.close()


def test_one_session_per_host_and_options() -> None:
    with SessionPool() as pool:
        one = RegistryOptions()
        assert pool.session("r", one) is pool.session("r", RegistryOptions())
        assert pool.session("r", one) is not pool.session("s", one)
        assert pool.session("r", one) is not pool.session("r", RegistryOptions(anonymous=True))
        assert pool.session("docker.io", one).base == "https://registry-1.docker.io"

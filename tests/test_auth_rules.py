"""Rules of authentication that registries in the field depend on, one test for each."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs

import pytest

from imgtools.errors import Denied, RegistryError
from imgtools.transport.options import Credentials
from imgtools.transport.registry.access.challenge_cache import ChallengeCache, KnownHost
from imgtools.transport.registry.access.scopes import covers, delete_scope, parse_scope, widened
from imgtools.transport.registry.session import Session
from tests.registry_fake import Answer, FakeRegistry, Request, open_session, say

PULL = ("repository:a/b:pull",)
PUSH = ("repository:a/b:pull,push",)
MOUNT = (*PUSH, "repository:other:pull")


def basic(username: str, password: str) -> str:
    """The header of credentials."""
    pair = f"{username}:{password}".encode("utf-8", "surrogateescape")
    return f"Basic {base64.b64encode(pair).decode()}"


class Tokens:
    """A registry whose tokens say what they allow, and the server that gives them."""

    def __init__(self) -> None:
        self.url = ""
        self.asked: list[list[str]] = []
        self.users: list[str] = []
        self.special: Callable[[Request], Answer | None] = lambda request: None
        self.extra: dict[str, object] = {}
        self.refused: set[str] = set()
        self.challenge = 'Bearer realm="{url}/token",service="srv"'
        self.error = ""

    def __call__(self, request: Request) -> Answer:
        if request.path == "/token":
            self.users.append(request.authorization)
            form = {**request.query, **parse_qs(request.body.decode())}
            scopes = [s for value in form.get("scope", []) for s in value.split()]
            self.asked.append(scopes)
            special = self.special(request)
            if special is not None:
                return special
            token = f"{len(self.asked)};" + ";".join(scopes).replace(" ", "")
            return say(200, {"token": token, "expires_in": 300, **self.extra})
        token = request.authorization.removeprefix("Bearer ")
        if not token or token in self.refused:
            challenge = self.challenge.format(url=self.url)
            error = f',error="{self.error}"' if self.error else ""
            return say(401, WWW_Authenticate=challenge + error)
        return say(200, b"content")


@contextmanager
def registry(script: Tokens) -> Iterator[FakeRegistry]:
    """The registry of `script`."""
    with FakeRegistry(script) as fake:
        script.url = fake.url
        yield fake


def status(session: Session, scopes: tuple[str, ...] = PULL, repository: str = "a/b") -> int:
    """The status of one request."""
    response = session.request("GET", f"/v2/{repository}/x", repository=repository, scopes=scopes)
    response.drain()
    return response.status


@pytest.mark.parametrize(
    ("scope", "parts"),
    [
        ("repository:a/b:pull,push", ("repository", "a/b", {"pull", "push"})),
        ("repository:host:5000/a:pull", ("repository", "host:5000/a", {"pull"})),
        ("registry:catalog:*", ("registry", "catalog", {"*"})),
        ("nonsense", ("nonsense", "", set())),
    ],
)
def test_scopes_are_parsed(scope: str, parts: tuple[str, str, Set[str]]) -> None:
    assert parse_scope(scope) == parts


@pytest.mark.parametrize(
    ("held", "wanted", "expected"),
    [
        (PUSH, PULL, True),
        (PULL, PUSH, False),
        (MOUNT, PULL, True),
        (MOUNT, ("repository:other:pull",), True),
        (MOUNT, ("repository:other:push",), False),
        (("repository:a/b:pull", "repository:a/b:push"), PUSH, True),
        (("repository:a/b:*",), ("repository:a/b:delete",), True),
        (("repository:a:pull",), PULL, False),
        (("registry:a/b:pull",), PULL, False),
        (PULL, (), False),
    ],
)
def test_which_scopes_cover_others(
    held: tuple[str, ...], wanted: tuple[str, ...], expected: bool
) -> None:
    assert covers(held, wanted) is expected


def test_delete_has_another_name() -> None:
    assert delete_scope("a/b") == "repository:a/b:pull,push,delete"
    assert widened((delete_scope("a/b"), *PULL)) == ("repository:a/b:*", *PULL)
    assert widened(PUSH) == PUSH


def test_a_token_serves_smaller_requests() -> None:
    script = Tokens()
    with registry(script) as fake:
        session = open_session(fake.host)
        assert status(session, MOUNT) == 200
        assert status(session, PUSH) == 200
        assert status(session, PULL) == 200
        assert status(session, ("repository:other:pull",), "other") == 200
        assert script.asked == [list(MOUNT)]
        assert status(session, ("repository:other:pull,push",), "other") == 200
        assert script.asked == [list(MOUNT), ["repository:other:pull,push"]]
        session.close()


def test_no_more_is_asked_for_than_is_needed() -> None:
    script = Tokens()
    with registry(script) as fake:
        session = open_session(fake.host)
        for scopes in (PULL, PUSH, MOUNT):
            assert status(session, scopes) == 200
        session.close()
    assert script.asked == [list(PULL), list(PUSH), list(MOUNT)]


def test_a_server_that_reads_only_the_first_scope() -> None:
    """The token for both is refused for the second, which then gets its own."""
    script = Tokens()
    with registry(script) as fake:
        session = open_session(fake.host)
        assert status(session, MOUNT) == 200
        both = fake.requests[-1].authorization.removeprefix("Bearer ")
        script.refused, script.error = {both}, "insufficient_scope"
        other = ("repository:other:pull",)
        assert status(session, other, "other") == 200
        assert status(session, other, "other") == 200
        session.close()
    assert script.asked == [list(MOUNT), list(other)]


def test_a_token_made_out_for_another_user_is_not_shared(tmp_path: Path) -> None:
    entries = {name: {"auth": base64.b64encode(f"{name}:p".encode()).decode()} for name in "xy"}
    script = Tokens()
    with registry(script) as fake:
        path = tmp_path / "auth.json"
        keys = {f"{fake.host}/a": entries["x"], f"{fake.host}/other": entries["y"]}
        path.write_text(json.dumps({"auths": keys}))
        session = open_session(fake.host, auth_files=(str(path),))
        assert status(session, MOUNT) == 200
        assert status(session, PULL) == 200
        assert status(session, ("repository:other:pull",), "other") == 200
        session.close()
    assert script.users == [basic("x", "p"), basic("y", "p")]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (say(400, {"error": "invalid_scope"}), True),
        (say(400, b"what?"), True),
        (
            say(401, {"errors": [{"code": "UNAUTHORIZED", "message": "unknown action delete"}]}),
            True,
        ),
        (say(403, {"details": "action not supported"}), True),
        (say(401, {"details": "wrong password"}), False),
        (say(403, {"details": "you may not"}), False),
    ],
)
def test_delete_falls_back_to_everything(answer: Answer, expected: bool) -> None:
    script = Tokens()
    script.special = lambda r: answer if "delete" in r.query["scope"][0] else None
    scopes = (delete_scope("a/b"),)
    with registry(script) as fake:
        session = open_session(fake.host, credentials=Credentials(username="u", password="p"))
        for _ in range(2):
            if expected:
                assert status(session, scopes) == 200
            else:
                with pytest.raises(Denied):
                    status(session, scopes)
        session.close()
    if expected:
        assert script.asked == [list(scopes), ["repository:a/b:*"]]
    else:
        assert ["repository:a/b:*"] not in script.asked


def test_delete_that_was_not_granted_is_asked_for_as_everything() -> None:
    """Some servers leave an unknown action out without a word."""
    script = Tokens()
    script.error = "insufficient_scope"
    script.challenge += ',scope="repository:a/b:delete"'
    script.refused = {f"1;{delete_scope('a/b')}"}
    with registry(script) as fake:
        session = open_session(fake.host)
        assert status(session, (delete_scope("a/b"),)) == 200
        session.close()
    assert script.asked == [[delete_scope("a/b")], ["repository:a/b:*"]]


def test_scopes_of_a_challenge_do_not_pile_up() -> None:
    script = Tokens()
    count = iter(range(1000))

    def special(request: Request) -> Answer | None:
        script.refused.add("weak")
        return say(200, {"token": "weak"})

    script.special, script.error = special, "insufficient_scope"
    plain = script.challenge

    def answer(request: Request) -> Answer:
        more = " ".join(f"repository:r{next(count)}:pull" for _ in range(9))
        script.challenge = f'{plain},scope="{more}"'
        return script(request)

    with FakeRegistry(answer) as fake:
        script.url = fake.url
        session = open_session(fake.host)
        for _ in range(4):
            assert status(session) == 401
        session.close()
    assert max(len(scopes) for scopes in script.asked) <= 20


@pytest.mark.parametrize(
    ("fields", "token"),
    [
        ({"token": "t"}, "t"),
        ({"access_token": "a"}, "a"),
        ({"token": "t", "access_token": "a"}, "t"),
        ({"token": "", "access_token": "a"}, "a"),
        ({"token": None, "access_token": "a"}, "a"),
    ],
)
def test_both_names_of_a_token(fields: dict[str, object], token: str) -> None:
    script = Tokens()
    script.special = lambda request: say(200, fields)
    with registry(script) as fake:
        session = open_session(fake.host)
        assert status(session) == 200
        session.close()
        assert fake.requests[-1].authorization == f"Bearer {token}"


@pytest.mark.parametrize("issued", ["1999-01-01T00:00:00Z", "2999-01-01T00:00:00Z", "?", 5])
def test_clocks_do_not_matter(issued: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imgtools.transport.registry.access.auth.time.time", lambda: 0.0)
    script = Tokens()
    script.extra = {"issued_at": issued}
    with registry(script) as fake:
        session = open_session(fake.host)
        for _ in range(3):
            assert status(session) == 200
        session.close()
    assert len(script.asked) == 1


def test_the_life_of_a_token_begins_with_its_request(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr("imgtools.transport.registry.access.auth.time.monotonic", lambda: now[0])
    script = Tokens()
    script.extra = {"expires_in": 100}

    def slow(request: Request) -> Answer | None:
        now[0] += 50
        return None

    script.special = slow
    with registry(script) as fake:
        session = open_session(fake.host)
        assert status(session) == 200
        now[0] += 39
        assert status(session) == 200
        assert len(script.asked) == 1
        now[0] += 2
        assert status(session) == 200
        assert len(script.asked) == 2
        session.close()


def test_wrong_credentials_for_a_public_image_are_reported() -> None:
    """They are not left out, which would hide that a login has gone bad."""
    script = Tokens()
    script.special = lambda r: say(401, {"details": "incorrect"}) if r.authorization else None
    with registry(script) as fake:
        known = KnownHost(scheme="http", auth="bearer", realm=f"{fake.url}/token", service="srv")
        for cache in (None, known):
            memory = ChallengeCache(None)
            if cache is not None:
                memory.put(fake.host, cache)
            script.users.clear()
            wrong = Credentials(username="u", password="wrong")
            session = open_session(fake.host, memory, credentials=wrong)
            with pytest.raises(Denied, match="refused the credentials of u: 401 incorrect"):
                status(session)
            assert script.users == [basic("u", "wrong")]
            session.close()
        session = open_session(fake.host, anonymous=True)
        assert status(session) == 200
        session.close()


@pytest.mark.parametrize("code", [404, 405])
def test_identity_tokens_are_not_dropped_in_silence(code: int) -> None:
    script = Tokens()
    script.special = lambda r: say(code) if r.method == "POST" else None
    with registry(script) as fake:
        session = open_session(fake.host, credentials=Credentials(identity_token="hidden"))
        with pytest.raises(Denied, match="does not take identity tokens") as caught:
            status(session)
        assert "hidden" not in caught.value.message
        assert [r.method for r in fake.requests if r.path == "/token"] == ["POST"]
        session.close()


def test_a_registry_token_of_a_file_is_sent_as_it_is(tmp_path: Path) -> None:
    script = Tokens()
    with registry(script) as fake:
        path = tmp_path / "auth.json"
        path.write_text(json.dumps({"auths": {fake.host: {"registrytoken": "ready"}}}))
        session = open_session(fake.host, auth_files=(str(path),))
        assert status(session) == 200
        assert fake.requests[-1].authorization == "Bearer ready"
        script.refused = {"ready"}
        assert status(session) == 401
        session.close()
    assert script.asked == []


@pytest.mark.parametrize(
    ("username", "password"),
    [("AWS", "e" * 4096), ("u", "a:b:c"), ("ü", "pässwörd"), ("", "only"), ("u", "\udcff")],
)
def test_basic_takes_any_credentials(username: str, password: str) -> None:
    expected = basic(username, password)

    def script(request: Request) -> Answer:
        ok = request.authorization == expected
        return say(200) if ok else say(401, WWW_Authenticate='Basic realm="not a URL"')

    with FakeRegistry(script) as fake:
        given = Credentials(username=username, password=password)
        session = open_session(fake.host, credentials=given)
        assert status(session) == 200
        session.close()


def test_names_with_odd_bytes_reach_the_token_server() -> None:
    script = Tokens()
    with registry(script) as fake:
        given = Credentials(username="u\udcff&x", password="p")
        session = open_session(fake.host, credentials=given)
        assert status(session) == 200
        session.close()
        asked = next(r for r in fake.requests if r.path == "/token")
        assert "account=u%FF%26x&" in asked.target


# Credentials that a helper gave, and that have become too old


class Clock:
    """What `time.monotonic` says to the wallet."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(
            "imgtools.transport.registry.access.wallet.time.monotonic", lambda: self.now
        )


@pytest.fixture
def secrets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A file whose text is what the helper "cloud" gives as the password; it counts calls."""
    program = tmp_path / "bin" / "docker-credential-cloud"
    program.parent.mkdir()
    program.write_text(
        f"#!/bin/sh\necho x >> {tmp_path}/calls\n"
        f'printf \'{{"Username":"AWS","Secret":"%s"}}\' "$(cat {tmp_path}/secret)"\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    (tmp_path / "secret").write_text("one")
    return tmp_path / "secret"


def calls(secrets: Path) -> int:
    """How often the helper was asked."""
    path = secrets.parent / "calls"
    return path.read_text().count("x") if path.exists() else 0


@pytest.mark.parametrize("refusal", [401, 403])
def test_a_helper_is_asked_again_when_basic_is_refused(
    refusal: int, secrets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    good = ["one"]

    def script(request: Request) -> Answer:
        if request.authorization == basic("AWS", good[0]):
            return say(200)
        if not request.authorization or refusal == 401:
            return say(401, WWW_Authenticate='Basic realm="r"')
        return say(403, b"Your authorization token has expired.")

    with FakeRegistry(script) as fake:
        session = open_session(fake.host, credential_helpers=("cloud",))
        assert status(session) == 200
        assert calls(secrets) == 1
        good[0] = "two"
        secrets.write_text("two")
        assert status(session) == 200
        assert calls(secrets) == 2
        # Refused at once, the new ones are wrong; nobody is asked for each request.
        good[0] = "three"
        for _ in range(3):
            assert status(session) == refusal
        assert calls(secrets) == 2
        clock.now += 61
        secrets.write_text("three")
        assert status(session) == 200
        assert calls(secrets) == 3
        session.close()


def test_a_helper_is_asked_again_when_the_token_server_refuses(secrets: Path) -> None:
    script = Tokens()
    good = ["one"]
    script.special = lambda r: (
        None if r.authorization == basic("AWS", good[0]) else say(401, {"details": "expired"})
    )
    with registry(script) as fake:
        session = open_session(fake.host, credential_helpers=("cloud",))
        assert status(session, PULL) == 200
        good[0] = "two"
        secrets.write_text("two")
        assert status(session, PUSH) == 200
        assert calls(secrets) == 2
        session.close()
    assert script.users == [basic("AWS", p) for p in ("one", "one", "two")]


def test_the_same_answer_is_not_tried_again(secrets: Path) -> None:
    script = Tokens()
    script.special = lambda request: say(401, {"details": "wrong"})
    with registry(script) as fake:
        session = open_session(fake.host, credential_helpers=("cloud",))
        for _ in range(2):
            with pytest.raises(Denied):
                status(session)
        session.close()
    assert script.users == [basic("AWS", "one")]
    assert calls(secrets) == 2


def test_a_helper_is_asked_once_for_all_repositories(secrets: Path) -> None:
    good = ["one"]

    def script(request: Request) -> Answer:
        ok = request.authorization == basic("AWS", good[0])
        return say(200) if ok else say(401, WWW_Authenticate='Basic realm="r"')

    with FakeRegistry(script) as fake:
        session = open_session(fake.host, credential_helpers=("cloud",))
        assert [status(session, repository=name) for name in "abc"] == [200] * 3
        assert calls(secrets) == 1
        good[0] = "two"
        secrets.write_text("two")
        assert [status(session, repository=name) for name in "abcd"] == [200] * 4
        assert calls(secrets) == 2
        session.close()


def test_a_slow_helper_is_asked_once_for_many_threads(secrets: Path) -> None:
    script = Tokens()
    with registry(script) as fake:
        session = open_session(fake.host, credential_helpers=("cloud",))
        results: list[int] = []
        threads = [
            threading.Thread(target=lambda: results.append(status(session))) for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        session.close()
    assert results == [200] * 8
    assert (calls(secrets), len(script.asked)) == (1, 1)


def test_other_answers_of_a_token_server_are_not_about_credentials() -> None:
    script = Tokens()
    script.special = lambda request: say(418, b"tea")
    with registry(script) as fake:
        session = open_session(fake.host, credentials=Credentials(username="u", password="p"))
        with pytest.raises(RegistryError, match="418 tea"):
            status(session)
        session.close()

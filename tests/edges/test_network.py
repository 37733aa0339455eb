"""Cases 63 to 67: what hosts say about limits and failures, and the way there through proxies."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from imgtools.cli.settings import Settings
from imgtools.spec import media_type as mt
from imgtools.task import CancelToken
from imgtools.testing import images
from imgtools.testing.authority import AuthOptions
from imgtools.testing.dialects import Dialect
from imgtools.testing.registry import ScriptedRegistry
from imgtools.transport.options import Proxies, RegistryOptions, Timeouts
from imgtools.transport.registry.access.challenge_cache import ChallengeCache
from imgtools.transport.registry.session import Session
from imgtools.transport.registry.wire.exchange import Body
from imgtools.transport.registry.wire.proxies import bypasses
from imgtools.transport.registry.wire.retry import RetryPolicy
from imgtools.transport.registry.wire.traffic import Traffic
from imgtools.transport.registry.wire.url import Origin
from tests.bad_input import cli, push
from tests.edges.kit import USER, copied, raw
from tests.registry_fake import FakeRegistry, say
from tests.rig import RunCli
from tests.test_connect import four, hanging, session_in, world
from tests.test_proxies import connects, proxy, socks

IMAGE = images.random_image("network", layers=2, size=20_000)
LAYER = next(d for d in IMAGE.blobs if mt.kind(d.media_type) == "layer")
TOP = r"^/v2/app/manifests/1$"
TOO_MANY = '{"errors":[{"code":"TOOMANYREQUESTS","message":"slow down"}]}'


class Timed(Session):
    """A session whose waits take no time; what they would have been is in `waits`."""

    def __init__(self, host: str, traffic: Traffic | None = None, **options: Any) -> None:
        self.waits: list[float] = []
        self.passed = 0.0
        given = RegistryOptions(tls_verify=False, **options)
        super().__init__(host, given, ChallengeCache(None), RetryPolicy(), traffic=traffic)

    def during_wait(self) -> None:
        """What else happens while this session waits."""

    def _wait(self, seconds: float, cancel: CancelToken | None) -> None:
        if seconds > 0:
            self.waits.append(seconds)
            self.during_wait()
            self.passed += seconds

    def ask(self, target: str = "/v2/", method: str = "GET", body: Body | None = None) -> int:
        """The status of one request, however often it is sent."""
        with self.request(method, target, repository="a", scopes=(), body=body) as response:
            response.drain()
            return response.status


# 63


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (429, {}),
        (429, {"Retry-After": "0"}),
        (429, {"Retry-After": "Fri, 31 Dec 1999 23:59:59 GMT"}),
        (429, {"Retry-After": "Friday, 31-Dec-99 23:59:59 GMT"}),
        (429, {"Retry-After": "soon"}),
        (429, {"Retry-After": "-5"}),
        (429, {"Retry-After": "0.5"}),
        (429, {"RateLimit-Limit": "100;w=21600", "RateLimit-Remaining": "0;w=21600"}),
        (429, {"RateLimit-Limit": "100;w=21600", "RateLimit-Remaining": "76;w=21600"}),
        (429, {"RateLimit-Remaining": "0", "RateLimit-Reset": "0"}),
        (429, {"RateLimit": '"hub";r=0;t=0', "RateLimit-Policy": '"hub";q=100;w=60'}),
        (403, {"Retry-After": "0"}),
        (403, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1600000000"}),
        (503, {"Retry-After": "0"}),
    ],
)
def test_63_limits_that_pass_are_waited_for(
    tmp_path: Path, status: int, headers: dict[str, str]
) -> None:
    with ScriptedRegistry() as registry:
        name = push(registry, "app", IMAGE)
        registry.fail(path=TOP, nth=1, status=status, headers=headers, body=TOO_MANY)
        assert raw(tmp_path, name).out == IMAGE.top.content
        assert registry.count(path=TOP) == 2


@pytest.mark.parametrize(
    ("status", "retry_after", "headers", "words"),
    [
        (429, 3600, {}, "try again in 1 h (at "),
        (429, "+3600", {}, "(at "),
        (429, "9" * 30, {}, "try again in 11574 d"),
        (429, "Fri, 31 Dec 9999 23:59:59 GMT", {}, "(at 9999-12-31"),
        (429, None, {"RateLimit-Limit": "100;w=21600", "RateLimit-Remaining": "0;w=21600",
                     "RateLimit-Reset": "7200"}, "to 100 in 6 h: log in, or try again in 2 h"),
        (429, None, {"RateLimit": '"hub";r=0;t=1800', "RateLimit-Policy": '"hub";q=10;w=3600'},
         "to 10 in 1 h: log in, or try again in 30 min"),
        (403, None, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "99999999999"}, "again in"),
        (403, 7200, {}, "try again in 2 h"),
        (503, 7200, {}, "503"),
    ],
)  # fmt: skip
def test_63_limits_beyond_patience_are_told_at_once(
    tmp_path: Path, status: int, retry_after: Any, headers: dict[str, str], words: str
) -> None:
    with ScriptedRegistry() as registry:
        name = push(registry, "app", IMAGE)
        registry.fail(path=TOP, status=status, retry_after=retry_after, headers=headers,
                      body=TOO_MANY)  # fmt: skip
        raw(tmp_path, name).refused(words, "TOOMANYREQUESTS")
        assert registry.count(path=TOP) == 1


def test_63_limit_that_does_not_pass_is_not_tried_for_ever(tmp_path: Path) -> None:
    with ScriptedRegistry() as registry:
        name = push(registry, "app", IMAGE)
        registry.fail(path=TOP, status=429, body=TOO_MANY)
        raw(tmp_path, name).refused("429", "log in, or try again later")
        assert registry.count(path=TOP) == 5


def test_63_waits_are_as_long_as_was_said() -> None:
    answers = [say(429, Retry_After="7"), say(429, Retry_After="120"), say(200)]
    with FakeRegistry(lambda r: answers.pop(0)) as fake:
        session = Timed(fake.host)
        # A clock of its own, because no time passes here.
        session._traffic.clock = lambda: session.passed
        assert session.ask() == 200
        session.close()
    assert session.waits == [7.0, 120.0]


def test_63_requests_that_are_left_slow_nobody_down() -> None:
    headers = {"RateLimit_Limit": "100;w=21600", "RateLimit_Remaining": "76;w=21600"}
    with FakeRegistry(lambda r: say(200, **headers)) as fake:
        session = Timed(fake.host)
        assert [session.ask() for _ in range(5)] == [200] * 5
        limit = session.rate_limit()
        session.close()
    assert session.waits == []
    assert limit is not None
    assert (limit.limit, limit.remaining, limit.window) == (100, 76, 21600)


def test_63_one_gate_per_host_holds_every_worker() -> None:
    """While one session waits for a host, so does another; a third host is not concerned."""
    answers = [say(429, Retry_After="30")]
    with FakeRegistry(lambda r: answers.pop() if answers else say(200)) as fake, FakeRegistry(
        lambda r: say(200)
    ) as elsewhere:  # fmt: skip
        traffic = Traffic()
        first, second = Timed(fake.host, traffic), Timed(fake.host, traffic)
        third = Timed(elsewhere.host, traffic)
        traffic.clock = lambda: first.passed + second.passed

        def meanwhile() -> None:
            assert third.ask() == 200
            assert second.ask() == 200

        first.during_wait = meanwhile  # type: ignore[method-assign]
        assert first.ask() == 200
        for session in (first, second, third):
            session.close()
        assert (first.waits, second.waits, third.waits) == ([30.0], [30.0], [])
        assert len(fake.requests) == 3


# 64


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ('{"errors":[{"code":"DENIED","message":"project is archived"}]}', "project is archived"),
        ('{"errors":[{"code":"X","message":"a","detail":"in detail"}]}', "X a: in detail"),
        ('{"errors":[{"code":"X","message":"","detail":{"Name":"app"}}]}', "X"),
        ('{"details":"the project is locked"}', "the project is locked"),
        ('{"message":"Not allowed here"}', "Not allowed here"),
        ('{"error":"invalid_scope","error_description":"no such"}', "invalid_scope no such"),
        ('{"errors":[]}', ""), ('{"errors":null}', ""), ('{"errors":["text"]}', ""),
        ('{"errors":{"code":"X"}}', ""), ('"just words"', "just words"), ("[1, 2]", ""),
        ("<html><head><title>Blocked by policy</title></head><body>x</body></html>",
         "Blocked by policy"),
        ("<html><body><h1>Teapot</h1><script>alert(1)</script></body></html>", "Teapot"),
        ("<?xml version='1.0'?><Error><Code>NoSuchKey</Code><Message>gone</Message></Error>",
         "NoSuchKey gone"),
        ("plain words\nin lines\x1b[2J\x00\x07", "plain words in lines"),
        ("x" * 1_000_000, "400"), ("", "400"), (b"\xff\xfe\x00binary", "binary"),
        ("[" * 30_000, "400"), ('{"errors":[{"code":' + "9" * 9000 + "}]}", "400"),
    ],
)  # fmt: skip
def test_64_errors_of_every_form_are_one_short_line(
    tmp_path: Path, body: str | bytes, words: str
) -> None:
    with ScriptedRegistry() as registry:
        name = push(registry, "app", IMAGE)
        registry.fail(path=TOP, status=400, body=body)
        done = raw(tmp_path, name)
        done.refused("400", words)
        assert len(done.err) < 1000


def test_64_refused_head_is_asked_for_its_reason(tmp_path: Path) -> None:
    words = '{"errors":[{"code":"DENIED","message":"not in your country"}]}'
    with ScriptedRegistry() as source, ScriptedRegistry() as target:
        name = push(source, "app", IMAGE)
        # Where the tag is another image already, blobs may be there, and are asked for.
        push(target, "copy", images.random_image("other"))
        target.fail(path=f"^/v2/copy/blobs/{LAYER.digest}", status=451, body=words)
        copied(tmp_path, name, f"docker://{target.host}/copy:1").refused("not in your country")
        asked = [e.method for e in target.requests if e.path.endswith(str(LAYER.digest))]
        assert asked == ["HEAD", "GET"]


@pytest.mark.parametrize(
    "text",
    [
        "token Bearer {secret} is too old",
        "Authorization: Basic {secret}",
        "see https://s.example/b?X-Amz-Signature={secret}&X-Amz-Expires=9",
        "see https://user:{secret}@s.example/b",
        'access_token=\\"{secret}\\"',
        "password: {secret}, user: me",
        "/v2/x?_state={secret} is at https://r.example/v2/x?_state={secret}".replace(
            "/v2/x?_state={secret} is", "it is", 1
        ),
    ],
)
def test_64_what_registries_quote_is_rid_of_secrets(tmp_path: Path, text: str) -> None:
    secret = "c2VjcmV0c2VjcmV0c2VjcmV0"
    body = '{"errors":[{"code":"X","message":"' + text.format(secret=secret) + '"}]}'
    with ScriptedRegistry() as registry:
        name = push(registry, "app", IMAGE)
        registry.fail(path=TOP, status=400, body=body)
        done = raw(tmp_path, name)
        done.refused("400 X")
        assert secret not in done.err


def test_64_failing_storage_does_not_give_its_signature_away(tmp_path: Path) -> None:
    with ScriptedRegistry(dialect=Dialect(presigned="host")) as registry:
        name = push(registry, "app", IMAGE)
        path = f"^/storage/.*{LAYER.digest}"
        failing = registry.fail(path=path, status=404, body="<Error><Code>NoSuchKey</Code></Error>")
        done = copied(tmp_path, name, f"dir:{tmp_path}/d")
        done.refused()
        assert registry.faults.applied(failing)
        registry.faults.clear()
        registry.fail(path=path, cut_headers=True)
        cut = copied(tmp_path, name, f"dir:{tmp_path}/d")
        cut.refused("no complete answer")
        for sent in (e.target for e in registry.requests if e.storage):
            assert sent.rpartition("=")[2] not in done.err + cut.err


def test_64_debug_output_has_no_secrets(run_cli: RunCli, tmp_path: Path) -> None:
    options = AuthOptions(scheme="bearer", anonymous_pull=False, refresh_token="refresh-1234567890")
    dialect = Dialect(presigned="host", location="encoded")
    with ScriptedRegistry(auth=options, dialect=dialect) as registry:
        name = push(registry, "app", IMAGE)
        registry.fail(path=f"^/storage/.*{LAYER.digest}", nth=1, cut_after=100)
        registry.fail(method="PUT", path="/blobs/uploads/", nth=1, status=503)
        done = run_cli(
            "--debug", "copy", "--src-tls-verify=false", "--dest-tls-verify=false",
            "--src-creds", USER, "--dest-creds", USER, name, f"oci:{tmp_path}/l:1",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        back = run_cli(
            "--debug", "copy", "--dest-tls-verify=false", "--dest-creds", USER,
            f"oci:{tmp_path}/l:1", f"docker://{registry.host}/copy:1",
        )  # fmt: skip
        assert back.returncode == 0, back.stderr
        said = done.stderr + back.stderr
        # It does say what is asked and decided.
        assert f"GET {registry.url}/v2/app/manifests/1" in said
        assert "X-Amz-Signature=…" in said
        assert "/blobs/uploads/" in said
        shown = {e.headers.get("authorization", "") for e in registry.requests} - {""}
        signed = {e.target.rpartition("=")[2] for e in registry.requests if e.storage}
        secrets = {value.partition(" ")[2] for value in shown} | signed
        secrets |= {token.value for token in registry.tokens} | {"secret", "a%2Bb%2fc"}
        assert len(secrets) > 6
        assert not [word for word in secrets if word in said]


# 65


@pytest.mark.parametrize("status", [408, 425, 499, 500, 502, 503, 504, 520, 521, 522, 523, 524])
@pytest.mark.parametrize("body", ["<html><title>Bad gateway</title></html>", ""])
def test_65_statuses_of_proxies_pass(tmp_path: Path, status: int, body: str) -> None:
    with ScriptedRegistry() as registry:
        name = push(registry, "app", IMAGE)
        places = [
            registry.fail(method="GET", path=TOP, nth=1, status=status, body=body),
            registry.fail(method="GET", path="/app/blobs/", nth=(1, 3), status=status, body=body),
            registry.fail(method="HEAD", path="/copy/manifests/", nth=1, status=status),
            registry.fail(method="POST", path="/copy/", nth=2, status=status, body=body),
            registry.fail(method="PUT", path="/uploads/", nth=1, status=status, body=body),
            registry.fail(method="PUT", path="/manifests/", nth=1, status=status, body=body),
        ]
        done = copied(tmp_path, name, f"dir:{tmp_path}/d")
        assert done.code == 0, done.err
        done = copied(tmp_path, f"dir:{tmp_path}/d", f"docker://{registry.host}/copy:1")
        assert done.code == 0, done.err
        assert registry.repository("copy").tags["1"] == IMAGE.top.digest
        assert all(registry.faults.applied(place) for place in places)


@pytest.mark.parametrize("status", [501, 505, 525, 526, 530])
def test_65_statuses_that_do_not_pass_are_told_at_once(tmp_path: Path, status: int) -> None:
    with ScriptedRegistry() as registry:
        name = push(registry, "app", IMAGE)
        registry.fail(path=TOP, status=status, body="<html><title>Invalid SSL</title></html>")
        raw(tmp_path, name).refused(str(status), "Invalid SSL")
        assert registry.count(path=TOP) == 1


@pytest.mark.parametrize("noticed", [True, False])
def test_65_stale_connections_cost_no_wait(monkeypatch: pytest.MonkeyPatch, noticed: bool) -> None:
    """The end of an idle connection is seen before it is used, or only by what comes of it."""
    if not noticed:
        monkeypatch.setattr(
            "imgtools.transport.registry.wire.http._readable", lambda connection: False
        )
    with ScriptedRegistry(dialect=Dialect(keep_alive=1)) as registry:
        session = Timed(registry.host, timeouts=Timeouts(connect=5, first_byte=5, idle=5))
        assert [session.ask() for _ in range(4)] == [200] * 4
        assert session.ask("/v2/app/blobs/uploads/", "POST", Body.of(b"")) == 202
        assert session.ask("/v2/app/manifests/x", "PUT", Body.of(b"{}")) == 400
        session.close()
        assert session.waits == []
        assert len(registry.requests) == 6
        assert len({e.connection for e in registry.requests}) == 6


@pytest.mark.parametrize("reset", [True, False])
@pytest.mark.parametrize("times", [1, 3])
def test_65_cut_answers_are_asked_for_again(
    certificates: Path, tmp_path: Path, reset: bool, times: int
) -> None:
    pair = (str(certificates / "server.crt"), str(certificates / "server.key"))
    with ScriptedRegistry(tls_cert=pair[0], tls_key=pair[1]) as registry:
        name = push(registry, "app", IMAGE)
        registry.fail(path=TOP, nth=range(1, times + 1), cut_headers=True, reset=reset)
        assert raw(tmp_path, name).out == IMAGE.top.content
        assert registry.count(path=TOP) == times + 1


# 66


def test_66_warnings_are_shown_once_each(tmp_path: Path) -> None:
    texts = ("this registry moves in May", "your client is old")
    with ScriptedRegistry(dialect=Dialect(warnings=texts)) as registry:
        name = push(registry, "app", IMAGE)
        done = copied(tmp_path, name, f"docker://{registry.host}/copy:1")
        assert done.code == 0
        assert len(registry.requests) > 5
        lines = done.err.splitlines()
        assert sorted(lines) == [
            f"imgtools: warning: {registry.host} warns: {text}" for text in texts
        ]
        assert done.out == b""


def test_66_warnings_are_foreign_text(tmp_path: Path) -> None:
    text = "a\x1b]0;title\x07b" + "c" * 3000
    with ScriptedRegistry(dialect=Dialect(warnings=(text,))) as registry:
        done = raw(tmp_path, push(registry, "app", IMAGE))
        assert done.out == IMAGE.top.content
        (line,) = done.err.splitlines()
        assert line.isprintable()
        assert len(line) < 500


# 67


@pytest.mark.parametrize(
    ("rules", "direct", "through"),
    [
        ("", [], ["https://r.example", "https://10.0.0.1", "http://r.example:5000"]),
        ("*", ["https://r.example", "http://10.0.0.1:1"], []),
        ("r.example", ["https://r.example", "https://a.r.example", "https://r.example:5000"],
         ["https://xr.example", "https://example"]),
        (".example", ["https://r.example", "https://a.b.example:1"], ["https://example"]),
        ("*.example", ["https://r.example"], ["https://example", "https://r.examples"]),
        ("r.example:5000", ["https://r.example:5000"], ["https://r.example"]),
        ("r.example:443", ["https://r.example"], ["http://r.example"]),
        ("10.0.0.0/8", ["https://10.255.0.1:5000"], ["https://11.0.0.1", "https://10.example"]),
        ("10.0.0.1:5000", ["https://10.0.0.1:5000"], ["https://10.0.0.1"]),
        ("fd00::/8", ["https://[fd12::1]:5000"], ["https://[fe00::1]"]),
        (" a.example , ,R.Example. ,", ["https://r.example", "https://a.example"],
         ["https://b.example"]),
        ("10.0.0.0/99,r.example", ["https://r.example"], ["https://10.0.0.1"]),
        ("r.*", [], ["https://r.example"]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["NO_PROXY", "no_proxy"])
def test_67_exceptions_from_the_proxy(
    name: str, rules: str, direct: list[str], through: list[str]
) -> None:
    env = {name: rules, "HTTPS_PROXY": "http://p:1"}
    found = Settings.from_environment(env).proxies.no_proxy
    own = ["https://localhost:5000", "http://127.3.2.1:5000", "https://[::1]"]
    assert [url for url in direct + own if not bypasses(Origin.of(url), found)] == []
    assert [url for url in through if bypasses(Origin.of(url), found)] == []


@pytest.mark.parametrize(
    ("form", "talk"),
    [
        ("http://me:pass@{}", connects()),
        ("{}", connects()),
        ("socks5h://me:pass@{}", socks(login=b"me:pass")),
        ("socks5://{}", socks()),
    ],
)
def test_67_images_come_through_proxies_by_names_we_cannot_resolve(
    tmp_path: Path, certificates: Path, form: str, talk: Any
) -> None:
    pair = (str(certificates / "server.crt"), str(certificates / "server.key"))
    seen: list[Any] = []
    with (
        ScriptedRegistry(tls_cert=pair[0], tls_key=pair[1]) as registry,
        proxy(talk, seen, target=registry.host) as address,
    ):
        push(registry, "app", IMAGE)
        proxies = Proxies(https=form.format(address))
        name = "docker://registry.invalid:5000/app:1"
        done = copied(tmp_path, name, f"dir:{tmp_path}/d", proxies=proxies)
        assert done.code == 0, done.err
        assert seen
        assert "registry.invalid" in registry.server_names
        assert {e.headers["host"] for e in registry.requests} == {"registry.invalid:5000"}
        assert not any("proxy-authorization" in e.headers for e in registry.requests)


def test_67_proxy_that_wants_credentials_says_so_without_ours(tmp_path: Path) -> None:
    talk = connects(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", stays=False)
    with proxy(talk, []) as address:
        proxies = Proxies(https=f"http://me:hunter2@{address}")
        done = cli(tmp_path, "inspect", "docker://registry.invalid/app:1", proxies=proxies)
        done.refused("407", address)
        assert "hunter2" not in done.err


def test_67_exception_goes_there_itself(tmp_path: Path) -> None:
    """A proxy that nobody may use is not asked for what is excepted."""
    seen: list[Any] = []
    with proxy(connects(), seen) as address:
        proxies = Proxies(https=f"http://{address}", http=f"http://{address}",
                          no_proxy=("192.0.2.0/24", ".invalid"))  # fmt: skip
        name = "docker://registry.invalid:5000/app:1"
        done = cli(tmp_path, "inspect", "--raw", name, proxies=proxies)
        done.refused("cannot be resolved")
        assert seen == []
        proxies = replace(proxies, no_proxy=())
        cli(tmp_path, "inspect", "--raw", name, proxies=proxies).refused()
        assert seen


@pytest.mark.parametrize("dead", [1, 2])
def test_67_addresses_that_do_not_answer_are_passed_by(dead: int) -> None:
    """As a host whose IPv6 leads nowhere: whoever waits for each in turn gets nowhere."""
    with FakeRegistry(lambda r: say(200, b"here")) as fake, hanging() as slow:
        good = four("127.0.0.1", int(fake.host.rpartition(":")[2]))
        network = world({})
        network = replace(network, resolve=lambda *_: [slow] * dead + [good])
        timeouts = Timeouts(connect=5, first_byte=5, idle=5)
        session = session_in(network, "registry.test", timeouts=timeouts)
        with session.request("GET", "/v2/", repository="a", scopes=()) as response:
            assert response.body(10, "answer") == b"here"
        session.close()
        assert [r.headers["host"] for r in fake.requests] == ["registry.test"]


def test_67_report_names_the_proxy_that_is_away(tmp_path: Path) -> None:
    proxies = Proxies(https="http://me:hunter2@127.0.0.1:1")
    done = cli(tmp_path, "inspect", "docker://registry.invalid/app:1", proxies=proxies)
    done.refused("127.0.0.1:1", "HTTPS_PROXY")
    assert "hunter2" not in done.err


def test_67_debug_of_a_proxy_has_no_password(run_cli: RunCli) -> None:
    talk = connects(b"HTTP/1.1 403 No\r\n\r\n", stays=False)
    with proxy(talk, []) as address:
        env = {"HTTPS_PROXY": f"http://me:hunter2@{address}"}
        done = run_cli("--debug", "inspect", "docker://registry.invalid/app:1", env=env)
        assert done.returncode == 1
        assert address in done.stderr
        assert "hunter2" not in done.stderr
        assert "bWU6aHVudGVyMg" not in done.stderr

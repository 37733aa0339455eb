"""The pure parts of the registry client: challenges, links, URLs, retries, proxies, errors."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgtools.errors import ConnectionFailed, Unsupported
from imgtools.transport.options import Proxies
from imgtools.transport.registry.access.challenge import parse_challenges
from imgtools.transport.registry.failure import parse_error
from imgtools.transport.registry.link import next_link
from imgtools.transport.registry.push.upload_plan import next_limit
from imgtools.transport.registry.wire.exchange import ExchangeFailed
from imgtools.transport.registry.wire.proxies import bypasses, proxy_for
from imgtools.transport.registry.wire.retry import (
    RetryPolicy,
    delay_before_retry,
    parse_retry_after,
)
from imgtools.transport.registry.wire.url import (
    Origin,
    clean,
    redact,
    resolve,
    target_of,
    with_query,
)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([], []),
        ([""], []),
        (['Basic realm="x"'], [("basic", {"realm": "x"})]),
        (["BASIC Realm=x"], [("basic", {"realm": "x"})]),
        (
            ['Bearer realm="https://a/token",service="b c",scope="repository:a/b:pull,push"'],
            [
                (
                    "bearer",
                    {
                        "realm": "https://a/token",
                        "service": "b c",
                        "scope": "repository:a/b:pull,push",
                    },
                )
            ],
        ),
        (
            ['Negotiate, Basic realm="a,b", Bearer realm = "c" , service=d'],
            [
                ("negotiate", {}),
                ("basic", {"realm": "a,b"}),
                ("bearer", {"realm": "c", "service": "d"}),
            ],
        ),
        (
            ["Negotiate YWJjZA==", 'Basic realm="x"'],
            [("negotiate", {}), ("basic", {"realm": "x"})],
        ),
        (['NTLM TlRMTVNT==, Basic realm="x"'], [("ntlm", {}), ("basic", {"realm": "x"})]),
        ([r'Basic realm="say \"hi\" \\"'], [("basic", {"realm": r"say \"hi\" \\"})]),
        (["Bearer realm=https://a/b?c=d"], [("bearer", {"realm": "https://a/b?c=d"})]),
        (['Bearer realm="unterminated'], [("bearer", {"realm": "unterminated"})]),
        (['Bearer realm="a" service="b"'], [("bearer", {"realm": "a", "service": "b"})]),
        (['Basic realm="a", realm="b"'], [("basic", {"realm": "a"})]),
        ([',,; Basic realm="a"'], []),
        ([',, Basic realm="a",,'], [("basic", {"realm": "a"})]),
    ],
)
def test_challenges(headers: list[str], expected: list[tuple[str, dict[str, str]]]) -> None:
    found = [(c.scheme, dict(c.parameters)) for c in parse_challenges(headers)]
    expected = [
        (s, {k: v.replace('\\"', '"').replace("\\\\", "\\") for k, v in p.items()})
        for s, p in expected
    ]
    assert found == expected


_NAMES = st.from_regex(r"\A[a-z][a-z0-9-]{0,8}\Z")
_VALUES = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20)


@given(
    st.lists(
        st.tuples(_NAMES, st.dictionaries(_NAMES, _VALUES, min_size=1, max_size=4)), max_size=4
    )
)
def test_challenges_written_are_read(challenges: list[tuple[str, dict[str, str]]]) -> None:
    def quote(value: str) -> str:
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'

    header = ", ".join(
        f"{scheme} " + ",".join(f"{name}={quote(value)}" for name, value in parameters.items())
        for scheme, parameters in challenges
    )
    found = [(c.scheme, dict(c.parameters)) for c in parse_challenges([header])]
    assert found == challenges


@given(st.lists(st.text(max_size=200), max_size=3))
def test_any_header_is_survived(headers: list[str]) -> None:
    for challenge in parse_challenges(headers):
        assert challenge.scheme == challenge.scheme.lower() != ""
    assert next_link(headers) != ""


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([], None),
        (["nonsense"], None),
        (['</v2/a/tags/list?n=2&last=b>; rel="next"'], "/v2/a/tags/list?n=2&last=b"),
        (["<https://h/x>;rel=next"], "https://h/x"),
        (['<a>; rel="prev", <b>; title="x, y"; rel="next"'], "b"),
        (['<a>; rel="first last", <b>; rel="prefetch NEXT"'], "b"),
        (['<a>; rel="prev"', '<b>; rel="next"'], "b"),
        (['<a>; rel="nextish"'], None),
        (['<>; rel="next"'], None),
        (['<b>; rel="next", <c>; rel="next"'], "b"),
    ],
)
def test_next_link(headers: list[str], expected: str | None) -> None:
    assert next_link(headers) == expected


@pytest.mark.parametrize(
    ("base", "location", "expected"),
    [
        ("https://r/v2/a/blobs/uploads/", "/v2/a/u/1?_state=a%2Fb%3d", None),
        ("https://r/v2/a/", "https://other:444/x?y=%2f", "https://other:444/x?y=%2f"),
        ("https://r:5000/v2/", "http://r/v2/u?a=b", "https://r:5000/v2/u?a=b"),
        ("https://r:5000/v2/", "http://r:5000/v2/u", "https://r:5000/v2/u"),
        ("https://r/v2/", "http://r:80/v2/u", "https://r/v2/u"),
        ("https://r/v2/", "http://r:8080/v2/u", "http://r:8080/v2/u"),
        ("http://r/v2/", "http://r:8080/v2/u#f", "http://r:8080/v2/u"),
        ("http://r/v2/a/b", "?x=1", "http://r/v2/a/b?x=1"),
        ("http://r/v2/a/b", "//s/c", "http://s/c"),
    ],
)
def test_resolve(base: str, location: str, expected: str | None) -> None:
    assert resolve(base, location) == (expected or "https://r" + location)


@pytest.mark.parametrize("location", ["ftp://r/x", "http://", "http://[::1", "http://h:99999/x"])
def test_resolve_refuses(location: str) -> None:
    with pytest.raises(ConnectionFailed):
        resolve("https://r/v2/", location)


@pytest.mark.parametrize(
    ("url", "origin", "text"),
    [
        ("HTTP://Example.COM/x", Origin("http", "example.com", 80), "http://example.com"),
        ("https://h:443/", Origin("https", "h", 443), "https://h"),
        ("https://h:80/", Origin("https", "h", 80), "https://h:80"),
        ("http://[::1]:5000/v2/", Origin("http", "::1", 5000), "http://[::1]:5000"),
        ("https://me:secret@h/", Origin("https", "h", 443), "https://h"),
        ("https://B\u00fccher.example/", Origin("https", "xn--bcher-kva.example", 443),
         "https://xn--bcher-kva.example"),
    ],
)  # fmt: skip
def test_origin(url: str, origin: Origin, text: str) -> None:
    assert Origin.of(url) == origin
    assert str(origin) == text


@pytest.mark.parametrize("host", ["a b", "a%2eb", "a,b", "a;b", "a<b", "a'b", "a" * 256])
def test_no_origin(host: str) -> None:
    with pytest.raises(ConnectionFailed):
        Origin.of(f"https://{host}/")


def test_with_query_keeps_what_is_there() -> None:
    assert with_query("http://r/u", "digest=x") == "http://r/u?digest=x"
    assert with_query("http://r/u?_state=a%3D&b", "digest=x") == "http://r/u?_state=a%3D&b&digest=x"


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("http://r", "/"),
        ("http://r/a%2fb?c=%3d", "/a%2fb?c=%3d"),
        ("http://r/a b\u00e9", "/a%20b%C3%A9"),
        ("http://r/a\x7fb", "/a%7Fb"),
    ],
)
def test_target(url: str, target: str) -> None:
    assert target_of(url) == target


def test_redaction() -> None:
    url = "https://u:secret@s3/x?X-Amz-Signature=secret&digest=sha256:1&_state=secret"
    assert redact(url) == "https://s3/x?X-Amz-Signature=…&digest=sha256:1&_state=…"
    assert "secret" not in redact("http://[secret")
    assert clean("a\x1b[31m\nb\t c") == "a [31m b c"
    assert len(clean("x" * 9999)) == 300


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (
            b'{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}',
            ("MANIFEST_UNKNOWN", "manifest unknown"),
        ),
        (b'{"errors":[{"code":"X","message":"m","detail":"why"}]}', ("X", "m: why")),
        (b'{"errors":[{"code":"X","message":"m","detail":{"a":1}}]}', ("X", "m")),
        (b'{"errors":[]}', ("", "")),
        (b'{"error":"invalid_grant","error_description":"no"}', ("invalid_grant", "no")),
        (b'{"details":"wrong"}', ("", "wrong")),
        (b'"text"', ("", "text")),
        (b"[1]", ("", "")),
        (b"Not  Found\n", ("", "Not Found")),
        (b"<html><head><title>502 Bad\nGateway</title></head></html>", ("", "502 Bad Gateway")),
        (b"<h1>Oh</h1><p>no</p>", ("", "Oh no")),
        (b"", ("", "")),
        (b"\xff\xfe", ("", "\ufffd\ufffd")),
    ],
)
def test_error_bodies(body: bytes, expected: tuple[str, str]) -> None:
    assert parse_error(body) == expected


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("Authorization: Basic bWU6c2VjcmV0 is wrong", "Authorization: … is wrong"),
        ("map[Authorization:[Basic bWU6c2VjcmV0]]", "map[Authorization:…]]"),
        ('with "Authorization": "Bearer secret"', 'with "Authorization": …"'),
        ("Proxy-Authorization=secret; x", "Proxy-Authorization=…; x"),
        ("Set-Cookie: session=secret; x", "Set-Cookie: …; x"),
        ("basic bWU6c2VjcmV0 was refused", "basic … was refused"),
        ("Bearer secretsecretsecret.x", "Bearer …"),
        ("at https://me:secret@h/x?sig=secret", "at https://h/x?sig=…"),
        ("refresh_token=secret&x", "refresh_token=…&x"),
        ("basic authentication is required", "basic authentication is required"),
        ("a bearer token is missing", "a bearer token is missing"),
    ],
)
def test_what_a_registry_repeats_of_secrets_is_not_shown(said: str, shown: str) -> None:
    content = json.dumps({"errors": [{"code": "DENIED", "message": said}]}).encode()
    for body in (content, said.encode()):
        assert parse_error(body)[1] == shown


@given(st.binary(max_size=300))
def test_any_error_body_is_survived(body: bytes) -> None:
    code, message = parse_error(body)
    assert (code + message).isprintable() or not code + message


POLICY = RetryPolicy(attempts=4, connect_attempts=2, first=1, longest=3, patience=60)


def _failed(stage: str = "receive", **more: bool) -> ExchangeFailed:
    return ExchangeFailed("x", host="h", stage=stage, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("outcome", "tried", "retry_after", "expected"),
    [
        (200, 1, None, None),
        (404, 1, None, None),
        (501, 1, None, None),
        (503, 1, None, 1),
        (503, 2, None, 2),
        (503, 3, None, 3),
        (503, 4, None, None),
        (429, 1, 10, 10),
        (429, 1, 0, 1),
        (429, 1, 61, None),
        (_failed(), 1, None, 1),
        (_failed(), 4, None, None),
        (_failed("connect"), 1, None, 1),
        (_failed("connect"), 2, None, None),
        (_failed("tls", final=True), 1, None, None),
        (_failed(stale=True), 1, None, 0),
        (_failed(stale=True), 2, None, 2),
    ],
)
def test_retry_decision(
    outcome: int | ExchangeFailed, tried: int, retry_after: float | None, expected: float | None
) -> None:
    assert delay_before_retry(POLICY, outcome, tried=tried, retry_after=retry_after) == expected


@given(st.sampled_from([429, 500, 503]), st.integers(1, 3), st.floats(0, 1))
def test_jitter_only_shortens(status: int, tried: int, jitter: float) -> None:
    whole = delay_before_retry(POLICY, status, tried=tried)
    part = delay_before_retry(POLICY, status, tried=tried, jitter=jitter)
    assert whole is not None
    assert part is not None
    assert whole / 2 <= part <= whole


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("", None),
        ("7", 7),
        (" 7 ", 7),
        ("-7", None),
        ("soon", None),
        ("Thu, 01 Jan 1970 00:01:40 GMT", 60),
        ("Thu, 01 Jan 1970 00:00:10 GMT", 0),
        ("Thu, 99 Jan 1970 00:00:10 GMT", None),
    ],
)
def test_retry_after(value: str, expected: float | None) -> None:
    assert parse_retry_after(value, now=40) == expected


@pytest.mark.parametrize(
    ("url", "rule", "expected"),
    [
        ("https://registry.example.com", "example.com", True),
        ("https://registry.example.com", ".example.com", True),
        ("https://registry.example.com", "*.example.com", True),
        ("https://example.com", ".example.com", False),
        ("https://badexample.com", "example.com", False),
        ("https://example.com:5000", "example.com:5000", True),
        ("https://example.com:5001", "example.com:5000", False),
        ("https://10.1.2.3", "10.0.0.0/8", True),
        ("https://11.1.2.3", "10.0.0.0/8", False),
        ("https://[fd00::1]:5000", "fd00::/8", True),
        ("https://[fd00::1]:5000", "[fd00::1]:5000", True),
        ("https://anything", "*", True),
        ("https://localhost:5000", "", True),
        ("https://127.0.0.1:5000", "", True),
        ("https://10.0.0.1", "example.com", False),
    ],
)
def test_no_proxy(url: str, rule: str, expected: bool) -> None:
    assert bypasses(Origin.of(url), (rule,)) is expected


def test_proxy_for() -> None:
    proxies = Proxies(http="proxy:3128", https="http://u:p@proxy", no_proxy=("direct",))
    assert str(proxy_for(Origin.of("http://r"), proxies)) == "proxy http://proxy:3128"
    assert str(proxy_for(Origin.of("https://r"), proxies)) == "proxy http://proxy:80"
    assert proxy_for(Origin.of("https://direct"), proxies) is None
    assert "u:p" not in repr(proxies)
    with pytest.raises(Unsupported):
        proxy_for(Origin.of("http://r"), Proxies(http="socks4://proxy"))


@given(st.integers(1, 1 << 40))
def test_chunks_get_smaller(refused: int) -> None:
    assert 1 <= next_limit(refused) <= max(1, refused - 1)

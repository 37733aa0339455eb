"""Cases 1 to 7: challenges, and what token servers are asked and answer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from imgtools.testing import images
from imgtools.testing.authority import AuthOptions
from imgtools.testing.registry import ScriptedRegistry
from tests.bad_input import PLAIN, cli, push
from tests.edges.kit import USER, auth_file, basic, copied, raw, scopes, shown, token_requests
from tests.registry_fake import Answer, FakeRegistry, Request, open_session, say

IMAGE = images.random_image("tokens", layers=3)
BEARER = AuthOptions(scheme="bearer", anonymous_pull=False)
BOTH = ("--src-creds", USER, "--dest-creds", USER)


@pytest.mark.parametrize("first_only", [False, True])
def test_01_a_mount_asks_for_two_scopes_ours_first(tmp_path: Path, first_only: bool) -> None:
    options = replace(BEARER, first_scope_only=first_only)
    with ScriptedRegistry(auth=options) as registry:
        name = push(registry, "lib/base", IMAGE)
        done = copied(tmp_path, name, f"docker://{registry.host}/app:1", *BOTH)
        assert done.code == 0, done.err
        assert ["repository:app:pull,push", "repository:lib/base:pull"] in scopes(registry)
        mounts = [e.status for e in registry.requests if "mount=" in e.target]
        # Who reads only the first scope lets nobody mount, and gets every byte.
        assert (201 in mounts) is not first_only
        sent = sum(e.received for e in registry.requests if "/blobs/uploads/" in e.target)
        assert (sent > 0) is first_only
        assert set(registry.repository("app").blobs) == set(registry.repository("lib/base").blobs)


@pytest.mark.parametrize("content", ["none", "no-scope", "full"])
def test_02_the_base_url_has_the_challenge_that_content_lacks(tmp_path: Path, content: Any) -> None:
    with ScriptedRegistry(auth=replace(BEARER, content_challenge=content)) as registry:
        name = push(registry, "app", IMAGE)
        assert raw(tmp_path, name, "--creds", USER).out == IMAGE.top.content
        assert registry.count("GET", "^/v2/$") == (content == "none")
        # The scope is ours to know.
        assert scopes(registry) == [["repository:app:pull"]]


@pytest.mark.parametrize(
    "lines",
    [
        ("Negotiate", "{own}"),
        ("Negotiate, {own}",),
        ("Negotiate YWJj==, NTLM, {own}",),
        ('Basic realm="a,b", {own}',),
        ('Digest realm="x", nonce="y,z", qop="auth,auth-int"', 'Basic realm="a,b"', "{own}"),
        ('Basic realm="say \\"Bearer realm=\\\\\\"{other}/token\\\\\\"\\", please", {own}',),
        ('Basic realm="Bearer realm={other}/token,service=x", {own}',),
        ('Unheard-Of realm="{other}/token", service="x",{own}',),
        (",, ,{own},, ",),
        ('BEARER REALM="{url}/token",SERVICE="test-registry"',),
        ('bearer realm = "{url}/token" , service = test-registry',),
        ('Bearer service="test-registry",unknown="\\"",realm="{url}\\/token"',),
        ("{own}", 'Bearer realm="{other}/token"'),
        ('Bearer realm="not a url"', "{own}"),
    ],
)
def test_03_the_one_challenge_we_understand_is_found(
    tmp_path: Path, lines: tuple[str, ...]
) -> None:
    with ScriptedRegistry() as other, ScriptedRegistry(auth=BEARER) as registry:
        places = (("{url}", registry.url), ("{other}", other.url))
        for mark, url in places:
            lines = tuple(line.replace(mark, url) for line in lines)
        registry.authority.options = replace(BEARER, challenges=lines)
        name = push(registry, "app", IMAGE)
        done = raw(tmp_path, name, "--creds", USER)
        assert done.out == IMAGE.top.content, done.err
        assert [e.status for e in token_requests(registry)] == [200]
        # Only the token server sees the password.
        content = [e for e in registry.requests if e.path != "/token"]
        assert all(header.startswith("Bearer ") for header in shown(content))
        assert other.requests == []


@pytest.mark.parametrize("lines", [("Negotiate", "NTLM"), ('Digest realm="r",nonce="n"',), ("",)])
def test_03_challenges_that_nobody_understands_are_a_refusal(
    tmp_path: Path, lines: tuple[str, ...]
) -> None:
    with ScriptedRegistry(auth=replace(BEARER, challenges=lines)) as registry:
        raw(tmp_path, push(registry, "app", IMAGE), "--creds", USER).refused("401")
        assert shown(registry.requests) == []


def test_04_insufficient_scope_is_asked_for_as_the_challenge_says(tmp_path: Path) -> None:
    with ScriptedRegistry(auth=replace(BEARER, delete_action="*")) as registry:
        name = push(registry, "app", IMAGE)
        done = cli(tmp_path, "delete", PLAIN, "--creds", USER, name)
        assert done.code == 0, done.err
        asked = scopes(registry)
        assert asked[0] == ["repository:app:pull,push,delete"]
        assert "repository:app:*" in asked[1]
        assert len(asked) == 2


@pytest.mark.parametrize("announced", [True, False])
def test_04_a_token_that_ended_is_replaced(tmp_path: Path, announced: bool) -> None:
    options = replace(BEARER, requests_per_token=2, announce_errors=announced)
    with ScriptedRegistry(auth=options) as registry:
        name = push(registry, "app", IMAGE)
        done = copied(tmp_path, name, f"dir:{tmp_path}/d", "--src-creds", USER,
                      "--image-parallel-copies=1")  # fmt: skip
        assert done.code == 0, done.err
        assert len(registry.tokens) > 1
        assert {e.status for e in token_requests(registry)} == {200}


@pytest.mark.parametrize("scheme", ["basic", "bearer"])
@pytest.mark.parametrize("side", ["source", "destination"])
def test_04_a_wrong_password_is_tried_once(tmp_path: Path, scheme: Any, side: str) -> None:
    options = AuthOptions(scheme=scheme)
    with ScriptedRegistry(auth=options) as registry, ScriptedRegistry() as free:
        here, there = (registry, free) if side == "source" else (free, registry)
        name = push(here, "app", images.random_image("many", layers=8))
        given = "--src-creds" if side == "source" else "--dest-creds"
        done = copied(tmp_path, name, f"docker://{there.host}/copy:1", given, "user:wrong",
                      "--retry-times=3", "--retry-delay=1ms")  # fmt: skip
        done.refused(registry.host)
        tried = [(e.method, e.target) for e in registry.requests if "authorization" in e.headers]
        if scheme == "bearer":
            assert len(tried) == registry.authority.rejected == 1
            assert registry.tokens == ()
        else:
            # HEAD may be what is refused, so GET has its one try too, and nothing else has.
            manifest = f"/v2/{'app' if side == 'source' else 'copy'}/manifests/1"
            assert tried == [("HEAD", manifest), ("GET", manifest)]


def test_04_a_token_server_that_refused_credentials_is_not_shown_them_again(
    tmp_path: Path,
) -> None:
    with ScriptedRegistry(auth=BEARER) as registry:
        # The list of tags and the manifest are asked for at the same time, if both are at all.
        cli(tmp_path, "inspect", PLAIN, "--creds", "user:wrong", push(registry, "app", IMAGE))
        assert registry.count(path="/manifests/") > 0
        assert len(token_requests(registry)) == 1


def test_04_a_real_registry_refuses_a_wrong_password_once(
    registry_htpasswd: Any, make_proxy: Any, run_cli: Any, preload: Any, repository: str
) -> None:
    preload(registry_htpasswd, "oci", f"{repository}:1")
    proxy = make_proxy(registry_htpasswd)
    name = f"docker://{proxy.host}/{repository}:1"
    given = f"{registry_htpasswd.username}:wrong"
    done = run_cli("inspect", "--raw", PLAIN, "--creds", given, name, check=False)
    assert done.returncode == 1
    tried = [e for e in proxy.exchanges if e.request.get("Authorization")]
    assert len(tried) == 1


FORMS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"token_field": "token"}, {}),
    ({"token_field": "access_token"}, {}),
    ({"token_field": "both"}, {}),
    ({"token_field": "access_token"}, {"token": ""}),
    ({"token_field": "access_token"}, {"token": None}),
    ({"announce_lifetime": False}, {}),
    ({}, {"expires_in": 0}),
    ({}, {"expires_in": 1}),
    ({}, {"expires_in": -3600}),
    ({}, {"expires_in": 1e300}),
    ({}, {"expires_in": "soon"}),
    ({}, {"expires_in": None}),
    ({}, {"issued_at": "1999-12-31T23:59:59Z"}),
    ({}, {"issued_at": "2999-12-31T23:59:59Z"}),
    ({}, {"issued_at": "yesterday"}),
    ({}, {"issued_at": 0}),
]


@pytest.mark.parametrize(("switches", "claims"), FORMS)
def test_05_one_token_serves_a_command_whatever_its_answer_looks_like(
    tmp_path: Path, switches: dict[str, Any], claims: dict[str, Any]
) -> None:
    with ScriptedRegistry(auth=replace(BEARER, claims=claims, **switches)) as registry:
        name = push(registry, "app", IMAGE)
        done = copied(tmp_path, name, f"dir:{tmp_path}/d", "--src-creds", USER)
        assert done.code == 0, done.err
        assert len(token_requests(registry)) == 1


@pytest.mark.parametrize(
    ("claims", "life"),
    [
        ({}, 60),
        ({"expires_in": 5}, 60),
        ({"expires_in": 59}, 60),
        ({"expires_in": 3600}, 3600),
        ({"expires_in": 3600, "issued_at": "1999-12-31T23:59:59Z"}, 3600),
        ({"expires_in": 3600, "issued_at": "2999-12-31T23:59:59Z"}, 3600),
    ],
)
def test_05_a_token_is_renewed_before_its_end_by_our_own_clock(
    claims: dict[str, Any], life: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1e6]
    monkeypatch.setattr("imgtools.transport.registry.access.auth.time.monotonic", lambda: now[0])
    options = replace(BEARER, anonymous_pull=True, announce_lifetime=False, claims=claims)
    # The registry's own clock is the same, and its tokens live long.
    with ScriptedRegistry(auth=replace(options, lifetime=1e9)) as registry:
        push(registry, "app", IMAGE)
        session = open_session(registry.host)
        for later, issued in ((0, 1), (life - 11, 1), (2, 2)):
            now[0] += later
            one = {"repository": "app", "scopes": ["repository:app:pull"]}
            with session.request("GET", "/v2/app/manifests/1", **one) as response:
                assert response.status == 200
            assert len(registry.tokens) == issued
        session.close()


def test_06_anonymous_pulls_have_a_token_without_a_name(tmp_path: Path) -> None:
    with ScriptedRegistry(auth="bearer") as registry:
        assert raw(tmp_path, push(registry, "app", IMAGE)).code == 0
        assert [token.anonymous for token in registry.tokens] == [True]
        assert shown(token_requests(registry)) == []


def test_06_wrong_credentials_are_reported_for_public_images_too(tmp_path: Path) -> None:
    with ScriptedRegistry(auth="bearer") as registry:
        name = push(registry, "app", IMAGE)
        raw(tmp_path, name, "--creds", "user:wrong").refused("credentials of user", "--no-creds")
        assert registry.tokens == ()
        files = auth_file(tmp_path / "auth.json", {registry.host: {"auth": basic("user", "old")}})
        raw(tmp_path, name, auth_files=files).refused("credentials of user")
        assert registry.tokens == ()
        assert raw(tmp_path, name, "--no-creds", auth_files=files).out == IMAGE.top.content


def test_07_identity_tokens_are_exchanged_with_a_form(tmp_path: Path) -> None:
    def script(request: Request) -> Answer:
        if request.path == "/token":
            return say(200, {"access_token": "good", "refresh_token": "next"})
        if request.authorization != "Bearer good":
            realm = f"http://{request.headers['host']}/token"
            return say(401, WWW_Authenticate=f'Bearer realm="{realm}",service="s"')
        return say(200, IMAGE.top.content, Content_Type=IMAGE.top.media_type)

    with FakeRegistry(script) as registry:
        entry = {"auth": basic("someone", "x"), "identitytoken": "ident&ity"}
        files = auth_file(tmp_path / "auth.json", {registry.host: entry})
        done = raw(tmp_path, f"docker://{registry.host}/app:1", auth_files=files)
        assert done.out == IMAGE.top.content, done.err
        (request,) = (r for r in registry.requests if r.path == "/token")
        assert (request.method, request.authorization) == ("POST", "")
        form = {name: values for name, (values,) in parse_qs(request.body.decode()).items()}
        assert form.pop("client_id")
        assert form == {
            "grant_type": "refresh_token",
            "service": "s",
            "scope": "repository:app:pull",
            "refresh_token": "ident&ity",
        }


ENTRIES = {
    "identitytoken": {"auth": basic("<token>", "ident"), "identitytoken": "ident"},
    "with a password": {"auth": basic("user", "secret"), "identitytoken": "ident"},
    "<token>": {"auth": basic("<token>", "ident")},
}


@pytest.mark.parametrize("oauth", [True, False, 405])
@pytest.mark.parametrize("entry", ENTRIES)
def test_07_where_post_is_unknown_get_is_asked(
    tmp_path: Path, entry: str, oauth: bool | int
) -> None:
    with ScriptedRegistry(auth=replace(BEARER, refresh_token="ident", oauth=oauth)) as registry:
        files = auth_file(tmp_path / "auth.json", {registry.host: ENTRIES[entry]})
        done = raw(tmp_path, push(registry, "app", IMAGE), auth_files=files)
        assert done.out == IMAGE.top.content, done.err
        asked = [(e.method, e.status) for e in token_requests(registry)]
        unknown = [("POST", int(oauth) or 404)]
        if entry == "<token>":
            assert asked[-1:] in ([("GET", 200)], [("POST", 200)])
        else:
            assert asked == ([("POST", 200)] if oauth is True else [*unknown, ("GET", 200)])


def test_07_an_identity_token_that_rotates_serves_the_whole_command(tmp_path: Path) -> None:
    options = replace(BEARER, refresh_token="first", rotate_refresh=True, requests_per_token=3)
    with ScriptedRegistry(auth=options) as registry:
        name = push(registry, "app", IMAGE)
        entry = {"auth": basic("user", ""), "identitytoken": "first"}
        files = auth_file(tmp_path / "auth.json", {registry.host: entry})
        done = copied(tmp_path, name, f"dir:{tmp_path}/d", auth_files=files)
        assert done.code == 0, done.err
        assert [e.method for e in token_requests(registry)] == ["POST"] * len(registry.tokens)
        assert len(registry.tokens) > 1
        assert registry.authority.rejected == 0

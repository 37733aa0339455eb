"""Credentials of the scripted registry, and what token servers do differently."""

from __future__ import annotations

import json
from typing import Any

import pytest

from imgtools.testing.authority import AuthOptions
from imgtools.testing.registry import ScriptedRegistry
from tests.scripted import BLOB, CONTENT, DIGEST, UPLOADS, ask, basic, manifest, token


def test_basic() -> None:
    with ScriptedRegistry(auth="basic") as registry:
        refused = ask(registry, "GET", "/v2/")
        assert (refused.status, refused.headers["www-authenticate"]) == (
            401,
            'Basic realm="test registry"',
        )
        for header, status in ((basic(), 200), (basic("x"), 401), ("Basic !!", 401), ("x", 401)):
            assert ask(registry, "GET", "/v2/", Authorization=header).status == status


def test_bearer_challenges_and_scopes() -> None:
    with ScriptedRegistry(auth="bearer") as registry:
        registry.push_blob("app", CONTENT)
        challenge = ask(registry, "GET", BLOB).headers["www-authenticate"]
        assert challenge == (
            f'Bearer realm="{registry.url}/token",service="test-registry",'
            'scope="repository:app:pull"'
        )
        pull = token(registry, "repository:app:pull")
        assert ask(registry, "GET", BLOB, Authorization=pull).body == CONTENT
        assert ask(registry, "GET", "/v2/", Authorization=pull).status == 200
        refused = ask(registry, "POST", "/v2/app/blobs/uploads/", Authorization=pull)
        assert refused.status == 401
        assert 'scope="repository:app:pull,push"' in refused.headers["www-authenticate"]
        assert 'error="insufficient_scope"' in refused.headers["www-authenticate"]
        # Anonymous tokens never push, whatever they ask for.
        anonymous = token(registry, "repository:app:pull,push")
        assert (
            ask(registry, "POST", "/v2/app/blobs/uploads/", Authorization=anonymous).status == 401
        )
        push = token(registry, "repository:app:pull,push", Authorization=basic())
        assert ask(registry, "POST", "/v2/app/blobs/uploads/", Authorization=push).status == 202
        mount = f"/v2/app/blobs/uploads/?mount={DIGEST}&from=other"
        challenge = ask(registry, "POST", mount, Authorization=push).headers["www-authenticate"]
        assert 'scope="repository:app:pull,push repository:other:pull"' in challenge
        both = token(
            registry, "repository:app:pull,push", "repository:other:pull", Authorization=basic()
        )
        assert ask(registry, "POST", mount, Authorization=both).status == 201
        assert ask(registry, "GET", "/token", Authorization=basic("no")).status == 401
        assert [t.anonymous for t in registry.tokens] == [True, True, False, False]


def test_bearer_options() -> None:
    options = AuthOptions(scheme="bearer", lifetime=0, announce_lifetime=False,
                          token_field="access_token")  # fmt: skip
    with ScriptedRegistry(auth=options) as registry:
        expired = token(registry, "repository:app:pull")
        refused = ask(registry, "GET", BLOB, Authorization=expired)
        assert 'error="invalid_token"' in refused.headers["www-authenticate"]
        assert set(json.loads(ask(registry, "GET", "/token").body)) == {"access_token"}
    strict = AuthOptions(scheme="bearer", anonymous_pull=False, first_scope_only=True)
    with ScriptedRegistry(auth=strict) as registry:
        assert ask(registry, "GET", "/token").status == 401
        token(registry, "repository:a:pull", "repository:b:pull", Authorization=basic())
        assert registry.tokens[0].scopes == ("repository:a:pull",)


def test_tokens_can_be_expired() -> None:
    with ScriptedRegistry(auth="bearer") as registry:
        registry.push_blob("app", CONTENT)
        given = token(registry, "repository:app:pull")
        assert ask(registry, "GET", BLOB, Authorization=given).status == 200
        registry.authority.expire_all()
        assert ask(registry, "GET", BLOB, Authorization=given).status == 401


@pytest.mark.parametrize(
    ("form", "status"),
    [
        ("grant_type=refresh_token&refresh_token=r3fresh&scope=repository:app:pull", 200),
        ("grant_type=refresh_token&refresh_token=wrong", 401),
        ("grant_type=password&username=user&password=secret", 200),
        ("grant_type=password&username=user&password=no", 401),
        ("", 401),
    ],
)
def test_oauth(form: str, status: int) -> None:
    with ScriptedRegistry(auth=AuthOptions(scheme="bearer", refresh_token="r3fresh")) as registry:
        assert ask(registry, "POST", "/token", form.encode()).status == status
    with ScriptedRegistry(auth=AuthOptions(scheme="bearer", oauth=False)) as registry:
        assert ask(registry, "POST", "/token", form.encode()).status == 404


# --- what token servers do differently ----------------------------------------------------------


def asking(**options: Any) -> ScriptedRegistry:
    registry = ScriptedRegistry(auth=AuthOptions(scheme="bearer", **options))
    registry.push_blob("app", CONTENT)
    return registry


@pytest.mark.parametrize(
    ("kind", "ping", "scope", "content"),
    [("full", True, True, True), ("no-scope", True, False, True), ("none", True, False, False)],
)
def test_challenges_of_content(kind: Any, ping: bool, scope: bool, content: bool) -> None:
    with asking(content_challenge=kind) as registry:
        assert ("www-authenticate" in ask(registry, "GET", "/v2/").headers) is ping
        reply = ask(registry, "GET", BLOB)
        assert (reply.status, "www-authenticate" in reply.headers) == (401, content)
        assert ("scope=" in reply.headers.get("www-authenticate", "")) is scope


def test_several_challenges() -> None:
    odd = ('Negotiate, Basic realm="a,\\"b"', "NTLM", "{own}")
    with asking(challenges=odd) as registry:
        found = ask(registry, "GET", "/v2/").all("www-authenticate")
        assert found[:2] == ['Negotiate, Basic realm="a,\\"b"', "NTLM"]
        assert found[2].startswith(f'Bearer realm="{registry.url}/token"')
    with asking(challenges=('Negotiate, Basic realm="a,b", {own}',)) as registry:
        (found_one,) = ask(registry, "GET", "/v2/").all("www-authenticate")
        assert found_one.startswith('Negotiate, Basic realm="a,b", Bearer realm=')


def test_realms() -> None:
    with asking(realm="http://169.254.169.254/token") as registry:
        found = ask(registry, "GET", "/v2/").headers["www-authenticate"]
        assert found.startswith('Bearer realm="http://169.254.169.254/token"')
    options = AuthOptions(scheme="basic", username="AWS", password="p" * 4000, basic_realm="no URL")
    with ScriptedRegistry(auth=options) as registry:
        assert ask(registry, "GET", "/v2/").headers["www-authenticate"] == 'Basic realm="no URL"'
        given = basic("AWS", "p" * 4000)
        assert ask(registry, "GET", "/v2/", Authorization=given).status == 200


def test_ping_open_and_silent_errors() -> None:
    with asking(ping_open=True, announce_errors=False) as registry:
        assert ask(registry, "GET", "/v2/").status == 200
        reply = ask(registry, "GET", BLOB, Authorization="Bearer wrong")
        assert (reply.status, "error=" in reply.headers["www-authenticate"]) == (401, False)
    with asking(scope_status=403) as registry:
        pull = token(registry, "repository:app:pull")
        reply = ask(registry, "POST", UPLOADS, Authorization=pull)
        assert (reply.status, reply.code) == (403, "DENIED")


def test_claims() -> None:
    claims = {"expires_in": 1, "issued_at": "1970-01-01T00:00:00Z", "token": None, "x": [1]}
    with asking(claims=claims, token_field="both") as registry:
        answer = ask(registry, "GET", "/token").json()
        assert {k: v for k, v in answer.items() if k != "access_token"} == {
            "expires_in": 1,
            "issued_at": "1970-01-01T00:00:00Z",
            "x": [1],
        }
        given = token(registry, "repository:app:pull")
        assert ask(registry, "GET", BLOB, Authorization=given).status == 200


def test_requests_per_token() -> None:
    with asking(requests_per_token=2) as registry:
        given = token(registry, "repository:app:pull")
        replies = [ask(registry, "GET", BLOB, Authorization=given) for _ in range(3)]
        assert [r.status for r in replies] == [200, 200, 401]
        assert 'error="invalid_token"' in replies[2].headers["www-authenticate"]
        fresh = token(registry, "repository:app:pull")
        assert ask(registry, "GET", BLOB, Authorization=fresh).status == 200


def test_actions() -> None:
    with asking(known_actions=frozenset(("pull", "push", "*"))) as registry:
        asked = "/token?scope=repository:app:pull,delete"
        assert ask(registry, "GET", asked, Authorization=basic()).status == 400
        assert ask(registry, "GET", "/token?scope=repository:app:*").status == 200
    known = frozenset(("pull",))
    with asking(known_actions=known, unknown_action_status=401) as registry:
        assert ask(registry, "GET", "/token?scope=repository:app:push").status == 401
    for needed, enough in (
        ("delete", ("delete", "*")),
        ("*", ("*",)),
        ("push", ("push", "pull,push", "*")),
    ):
        with asking(delete_action=needed) as registry:
            challenge = ask(registry, "DELETE", BLOB).headers["www-authenticate"]
            shown = "pull,push" if needed == "push" else needed
            assert f'scope="repository:app:{shown}"' in challenge
            for actions in ("pull", "push", "pull,push", "delete", "*"):
                manifest(registry)
                given = token(registry, f"repository:app:{actions}", Authorization=basic())
                reply = ask(registry, "DELETE", "/v2/app/manifests/v1", Authorization=given)
                assert reply.status == (202 if actions in enough else 401)


def test_cancelling_may_need_to_delete() -> None:
    for needed, status in ((True, 401), (False, 204)):
        with asking(cancel_needs_delete=needed) as registry:
            given = token(registry, "repository:app:pull,push", Authorization=basic())
            location = ask(registry, "POST", UPLOADS, Authorization=given).headers["location"]
            assert ask(registry, "DELETE", location, Authorization=given).status == status


def test_missing_repository() -> None:
    with asking(missing_repository=404) as registry:
        assert ask(registry, "GET", "/token?scope=repository:none:pull").status == 404
        assert ask(registry, "GET", "/token?scope=repository:app:pull").status == 200
        push = "/token?scope=repository:none:pull,push"
        assert ask(registry, "GET", push, Authorization=basic()).status == 200


def refresh(registry: ScriptedRegistry, value: str) -> Any:
    form = f"grant_type=refresh_token&refresh_token={value}&scope=repository:app:pull"
    return ask(registry, "POST", "/token", form.encode())


def test_refresh_tokens() -> None:
    for rotated in (False, True):
        with asking(refresh_token="first", rotate_refresh=rotated) as registry:
            reply = refresh(registry, "first")
            following = reply.json()["refresh_token"]
            assert (following != "first") is rotated
            assert refresh(registry, "first").status == (401 if rotated else 200)
            assert refresh(registry, following).status == 200
    with asking(refresh_token="first", oauth=405) as registry:
        assert refresh(registry, "first").status == 405
        offline = ask(registry, "GET", "/token?offline_token=true", Authorization=basic())
        assert offline.json()["refresh_token"] == "first"
        assert "refresh_token" not in ask(registry, "GET", "/token").json()
        identity = basic("<token>", "first")
        assert ask(registry, "GET", "/token", Authorization=identity).status == 200


def test_wrong_credentials_are_counted() -> None:
    with asking() as registry:
        for _ in range(2):
            ask(registry, "GET", "/token", Authorization=basic("user", "no"))
        ask(registry, "POST", "/token", b"grant_type=password")
        assert registry.authority.rejected == 3

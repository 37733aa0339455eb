"""Cases 15 to 17: Basic registries, auth files with their helpers, and Docker Hub's names."""

from __future__ import annotations

import base64
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from imgtools.spec.reference import Reference
from imgtools.testing import images
from imgtools.testing.authority import AuthOptions
from imgtools.testing.registry import ScriptedRegistry
from imgtools.transport.options import RegistryOptions
from imgtools.transport.registry.access.auth_files import (
    DOCKER_HUB_KEY,
    candidate_keys,
    normalise_key,
)
from imgtools.transport.registry.access.challenge_cache import ChallengeCache, KnownHost
from imgtools.transport.registry.access.credential_helpers import servers
from imgtools.transport.registry.access.credentials import find
from imgtools.transport.registry.session import Session
from tests.bad_input import PLAIN, cli, push
from tests.edges.kit import auth_file, basic, raw, shown
from tests.registry_fake import Answer, FakeRegistry, Request, say

IMAGE = images.random_image("credentials")
LONG = "p4:" + "x" * 4093

MakeHelper = Callable[[str, str], Path]


@pytest.fixture
def make_helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeHelper:
    """make_helper(name, script) puts a helper on PATH; the file that notes what it was asked."""
    directory = tmp_path / "bin"
    directory.mkdir()
    monkeypatch.setenv("PATH", str(directory), prepend=os.pathsep)

    def make(name: str, script: str) -> Path:
        program = directory / f"docker-credential-{name}"
        asked = tmp_path / f"asked-{name}"
        note = f'read -r server; echo "$1 $server" >> {asked}'
        program.write_text(f"#!/bin/sh\n{note}\n{script}\n")
        program.chmod(0o755)
        return asked

    return make


@pytest.mark.parametrize(
    "realm", ["test", "", "https://not.a.url:99999/%zz", "a, Bearer realm=b", "http://[", "ä"]
)
@pytest.mark.parametrize(
    ("user", "password"),
    [("AWS", LONG), ("user", "a:b:c"), ("user", ""), ("", "secret"), ("ä", "pässwörd €")],
)
def test_15_basic_credentials_of_any_kind_whatever_the_realm_says(
    tmp_path: Path, realm: str, user: str, password: str
) -> None:
    options = AuthOptions(scheme="basic", username=user, password=password, basic_realm=realm)
    with ScriptedRegistry(auth=options) as registry:
        name = push(registry, "app", IMAGE)
        files = auth_file(tmp_path / "auth.json", {registry.host: {"auth": basic(user, password)}})
        done = raw(tmp_path, name, auth_files=files)
        assert done.out == IMAGE.top.content, done.err
        assert set(shown(registry.requests)) == {f"Basic {basic(user, password)}"}
        assert raw(tmp_path, name, "--creds", f"{user}:{password}").code == (0 if user else 1)


@pytest.mark.parametrize(
    "key",
    [
        "{host}",
        "{host}/",
        "{host}/ns",
        "{host}/ns/app",
        "https://{host}",
        "https://{host}/v1/",
        "http://{host}/v2/",
        "http://{host}/anything/else",
    ],
)
def test_16_forms_of_keys_that_are_for_an_image(tmp_path: Path, key: str) -> None:
    with ScriptedRegistry(auth="basic") as registry:
        name = push(registry, "ns/app", IMAGE)
        auths = {
            key.format(host=registry.host): {"auth": basic("user", "secret")},
            f"{registry.host}/n": {"auth": basic("user", "wrong")},
            f"{registry.host}/ns/app/below": {"auth": basic("user", "wrong")},
            registry.host.partition(":")[0]: {"auth": basic("user", "wrong")},
        }
        files = auth_file(tmp_path / "auth.json", auths)
        done = raw(tmp_path, name, auth_files=files)
        assert done.out == IMAGE.top.content, done.err
        assert registry.authority.rejected == 0


def test_16_the_most_specific_key_comes_first(tmp_path: Path) -> None:
    assert candidate_keys("R.io:5000", "a/b/c") == [
        "r.io:5000/a/b/c", "r.io:5000/a/b", "r.io:5000/a", "r.io:5000",
    ]  # fmt: skip
    keys = ["r.io/a/b", "r.io/a", "https://r.io/v1/"]
    for used in range(len(keys)):
        auths = {key: {"auth": basic(key, "p")} for key in reversed(keys[used:])}
        files = auth_file(tmp_path / "auth.json", auths)
        found = find(RegistryOptions(auth_files=files), "r.io", "a/b")
        assert found is not None
        assert found.place.key == keys[used]


@pytest.mark.parametrize(
    ("auth", "user", "password"),
    [
        (b"user:secret\0\0\0", "user", "secret"),
        (b"user:a:b:", "user", "a:b:"),
        (b"user:", "user", ""),
        (b":secret", "", "secret"),
        ("ü:ß".encode(), "ü", "ß"),
    ],
)
def test_16_odd_values_of_auth(tmp_path: Path, auth: bytes, user: str, password: str) -> None:
    entry = {"auth": base64.b64encode(auth).decode()}
    files = auth_file(tmp_path / "auth.json", {"r.io": entry})
    found = find(RegistryOptions(auth_files=files), "r.io")
    assert found is not None
    assert (found.credentials.username, found.credentials.password) == (user, password)


@pytest.mark.parametrize("auth", ["dXNlcjpzZWNyZXQ", "not base64!", "dXNlcg==", "dXNl cjpw"])
def test_16_values_of_auth_that_are_none_are_named_without_them(tmp_path: Path, auth: str) -> None:
    with ScriptedRegistry(auth="basic") as registry:
        files = auth_file(tmp_path / "auth.json", {registry.host: {"auth": auth}})
        done = raw(tmp_path, push(registry, "app", IMAGE), auth_files=files)
        done.refused(files[0], registry.host)
        assert auth not in done.err
        assert shown(registry.requests) == []


NOTHING = "echo 'credentials not found in native keychain'; exit 1"
KNOWS = """echo '{"ServerURL":"https://elsewhere/","Username":"user","Secret":"secret"}'"""
WRONG = """echo '{"Username":"user","Secret":"wrong"}'"""
RIGHT = {"auth": basic("user", "secret")}


@pytest.mark.parametrize(
    ("own", "store", "entry", "helpers", "asked"),
    [
        # An empty entry stands for what a helper keeps.
        (None, KNOWS, {}, False, ["store"]),
        # credHelpers is more specific than credsStore, and than entries of the file.
        (KNOWS, WRONG, None, True, ["own"]),
        (KNOWS, WRONG, {"auth": basic("user", "wrong")}, True, ["own"]),
        # The store is for what has no secret in the file.
        (None, WRONG, RIGHT, False, []),
        (None, KNOWS, None, False, ["store"]),
        # credsStore set but credHelpers for others only.
        (NOTHING, KNOWS, None, False, ["store"]),
    ],
)
def test_16_helpers_and_entries_in_their_order(
    tmp_path: Path, make_helper: MakeHelper, own: str | None, store: str,
    entry: dict[str, str] | None, helpers: bool, asked: list[str],
) -> None:  # fmt: skip
    notes = {"own": make_helper("own", own or "exit 9"), "store": make_helper("store", store)}
    with ScriptedRegistry(auth="basic") as registry:
        name = push(registry, "app", IMAGE)
        files = auth_file(
            tmp_path / "auth.json",
            {} if entry is None else {registry.host: entry},
            credsStore="store",
            credHelpers={registry.host if helpers else "else.example": "own"},
        )
        done = raw(tmp_path, name, auth_files=files)
        assert done.out == IMAGE.top.content, done.err
        assert [helper for helper, note in notes.items() if note.exists()] == asked
        for helper in asked:
            assert notes[helper].read_text() == f"get {registry.host}\n"


def test_16_a_helper_that_has_nothing_is_no_failure(
    tmp_path: Path, make_helper: MakeHelper
) -> None:
    asked = make_helper("none", NOTHING)
    with ScriptedRegistry(auth="bearer") as registry:
        name = push(registry, "app", IMAGE)
        files = auth_file(tmp_path / "auth.json", {}, credsStore="none")
        assert raw(tmp_path, name, auth_files=files).out == IMAGE.top.content
        assert asked.exists()
        assert [token.anonymous for token in registry.tokens] == [True]


def test_16_a_helper_that_fails_is_named(tmp_path: Path, make_helper: MakeHelper) -> None:
    make_helper("broken", "echo 'the vault is locked' >&2; exit 3")
    with ScriptedRegistry(auth="basic") as registry:
        name = push(registry, "app", IMAGE)
        files = auth_file(tmp_path / "auth.json", {}, credHelpers={registry.host: "broken"})
        raw(tmp_path, name, auth_files=files).refused("docker-credential-broken", "vault")


def test_07_helpers_keep_identity_tokens_under_a_name_of_their_own(
    tmp_path: Path, make_helper: MakeHelper
) -> None:
    make_helper("ident", """echo '{"Username":"<token>","Secret":"ident"}'""")
    options = AuthOptions(scheme="bearer", anonymous_pull=False, refresh_token="ident")
    with ScriptedRegistry(auth=options) as registry:
        name = push(registry, "app", IMAGE)
        files = auth_file(tmp_path / "auth.json", {}, credsStore="ident")
        done = raw(tmp_path, name, auth_files=files)
        assert done.out == IMAGE.top.content, done.err
        assert [e.method for e in registry.requests if e.path == "/token"] == ["POST"]


def test_16_files_are_written_whole_and_private(tmp_path: Path) -> None:
    path = tmp_path / "auth.json"
    before = {"auths": {"else.example": {"auth": basic("a", "b")}}, "unheard": [1]}
    path.write_text(json.dumps(before))
    path.chmod(0o644)
    kept, old = os.open(path, os.O_RDONLY), path.stat().st_ino
    try:
        with ScriptedRegistry(auth="basic") as registry:
            given = ("-u", "user", "-p", "secret", "--authfile", str(path))
            done = cli(tmp_path, "login", PLAIN, *given, registry.host)
            assert done.code == 0, done.err
            name = push(registry, "app", IMAGE)
            assert raw(tmp_path, name, "--authfile", str(path)).code == 0
        after = json.loads(path.read_text())
        assert after["auths"].pop(registry.host) == RIGHT
        assert after == before
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        # Who had the old file open still reads the old file, to its end.
        assert path.stat().st_ino != old
        assert json.loads(os.read(kept, 9999)) == before
        # A wrong password is not kept.
        with ScriptedRegistry(auth="basic") as registry:
            content = path.read_bytes()
            given = ("-u", "user", "-p", "wrong", "--authfile", str(path))
            assert cli(tmp_path, "login", PLAIN, *given, registry.host).code == 1
            assert path.read_bytes() == content
    finally:
        os.close(kept)
    left = {name.name for name in tmp_path.iterdir() if "auth" in name.name}
    assert left <= {"auth.json", "auth.json.lock", ".auth.json.lock"}


# Docker Hub


@pytest.mark.parametrize(
    "key",
    [
        "docker.io",
        "index.docker.io",
        "registry-1.docker.io",
        "https://index.docker.io/v1/",
        "https://index.docker.io/v2/",
        "http://index.docker.io/v1",
        "index.docker.io/v1/",
        "https://registry-1.docker.io",
    ],
)
def test_17_every_name_of_docker_hub_is_for_its_images(tmp_path: Path, key: str) -> None:
    files = auth_file(tmp_path / "auth.json", {key: {"auth": basic("hub", "p")}})
    assert normalise_key(key) == "docker.io"
    for name in ("alpine", "index.docker.io/me/app", "registry-1.docker.io/library/alpine"):
        reference = Reference.parse(name)
        found = find(RegistryOptions(auth_files=files), reference.registry, reference.repository)
        assert found is not None
        assert (found.credentials.username, found.place.key) == ("hub", key)


def test_17_keys_of_hub_images_and_what_helpers_are_asked() -> None:
    reference = Reference.parse("alpine")
    keys = ["docker.io/library/alpine", "docker.io/library", "docker.io"]
    assert candidate_keys(reference.registry, reference.repository) == keys
    assert DOCKER_HUB_KEY == "https://index.docker.io/v1/"
    assert servers("docker.io")[0] == DOCKER_HUB_KEY
    assert servers("r.io") == ("r.io",)
    # Another host that is named alike is another host.
    assert normalise_key("docker.io.example") != "docker.io"


def test_17_logins_at_hub_are_kept_by_the_name_that_docker_looks_for(
    tmp_path: Path, make_helper: MakeHelper
) -> None:
    asked = make_helper("store", KNOWS)
    files = auth_file(tmp_path / "config.json", {}, credsStore="store")
    found = find(RegistryOptions(auth_files=files), "docker.io", "library/alpine")
    assert found is not None
    assert found.credentials.username == "user"
    assert asked.read_text() == f"get {DOCKER_HUB_KEY}\n"


def test_17_the_api_has_one_host_and_tokens_another_service(tmp_path: Path) -> None:
    """Both are reached through a proxy, which is what tells their names without asking DNS."""
    from imgtools.transport.options import Proxies

    def script(request: Request) -> Answer:
        if request.target.startswith("http://auth.docker.io/token"):
            return say(200, {"token": "good"})
        if request.authorization != "Bearer good":
            own = 'realm="http://auth.docker.io/token",service="registry.docker.io"'
            return say(401, WWW_Authenticate=f"Bearer {own}")
        return say(200, IMAGE.top.content, Content_Type=IMAGE.top.media_type)

    with FakeRegistry(script) as proxy:
        cache = ChallengeCache(None)
        cache.put("registry-1.docker.io", KnownHost(scheme="http"))
        options = RegistryOptions(
            tls_verify=False,
            proxies=Proxies(http=f"http://{proxy.host}"),
            auth_files=auth_file(
                tmp_path / "auth.json", {DOCKER_HUB_KEY: {"auth": basic("hub", "p")}}
            ),
        )
        session = Session("docker.io", options, cache)
        one: Any = {"repository": "library/alpine", "scopes": ["repository:library/alpine:pull"]}
        with session.request("GET", "/v2/library/alpine/manifests/latest", **one) as response:
            assert response.status == 200
        session.close()
        api = "http://registry-1.docker.io/v2/library/alpine/manifests/latest"
        assert [r.target.partition("?")[0] for r in proxy.requests] == [
            api, "http://auth.docker.io/token", api,
        ]  # fmt: skip
        token = proxy.requests[1]
        assert token.authorization == f"Basic {basic('hub', 'p')}"
        assert token.query["service"] == ["registry.docker.io"]
        assert token.query["scope"] == ["repository:library/alpine:pull"]

"""Credentials from auth files and helpers, and the file of remembered challenges."""

from __future__ import annotations

import base64
import json
import os
import stat
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgtools.errors import InvalidInput
from imgtools.transport.options import Credentials, RegistryOptions
from imgtools.transport.registry.access.auth_files import (
    candidate_keys,
    decode_auth,
    normalise_key,
    parse_auth_file,
)
from imgtools.transport.registry.access.challenge_cache import ChallengeCache, KnownHost
from imgtools.transport.registry.access.credentials import find


def _auth(user: str, password: str = "p") -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


def find_credentials(paths: Sequence[str], registry: str, repository: str) -> Credentials | None:
    """What is found in files alone."""
    found = find(RegistryOptions(auth_files=tuple(paths)), registry, repository)
    return found.credentials if found is not None else None


def _write(path: Path, value: object) -> str:
    path.write_text(json.dumps(value))
    return str(path)


@pytest.mark.parametrize(
    ("registry", "repository", "user"),
    [
        ("r.io", "ns/repo", "repo"),
        ("r.io", "ns/other", "ns"),
        ("r.io", "nsx/repo", "host"),
        ("R.io", "x", "host"),
        ("r.io:5000", "x", "port"),
        ("docker.io", "library/busybox", "hub"),
        ("docker.io", "me/private", "hub-me"),
        ("legacy.io", "x", "legacy"),
        ("plain.io:80", "x", "plain"),
        ("unknown.io", "x", None),
        ("empty.io", "x", None),
    ],
)
def test_most_specific_key_wins(
    tmp_path: Path, registry: str, repository: str, user: str | None
) -> None:
    path = _write(
        tmp_path / "auth.json",
        {
            "auths": {
                "r.io": _auth("host"),
                "r.io/ns": _auth("ns"),
                "r.io/ns/repo": _auth("repo"),
                "r.io:5000": _auth("port"),
                "https://index.docker.io/v1/": _auth("hub"),
                "docker.io/me": _auth("hub-me"),
                "https://legacy.io/v2/": _auth("legacy"),
                "http://plain.io:80": _auth("plain"),
                "empty.io": {},
            }
        },
    )
    found = find_credentials([path], registry, repository)
    assert (found.username if found else None) == user


def test_files_in_order_and_missing_ones(tmp_path: Path) -> None:
    first = _write(tmp_path / "1", {"auths": {"a": _auth("one")}})
    second = _write(tmp_path / "2", {"auths": {"a": _auth("two"), "b": _auth("two")}})
    paths = [str(tmp_path / "missing"), first, second]
    for host, user in (("a", "one"), ("b", "two")):
        found = find_credentials(paths, host, "x")
        assert found is not None
        assert found.username == user


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        (_auth("u", "pass:with:colons"), Credentials(username="u", password="pass:with:colons")),
        (_auth("u", "p\0\0\0"), Credentials(username="u", password="p")),
        (_auth("u", "pässwörd"), Credentials(username="u", password="pässwörd")),
        ({"username": "u", "password": "p"}, Credentials(username="u", password="p")),
        ({"identitytoken": "t"}, Credentials(identity_token="t")),
        (
            {**_auth("u", ""), "identitytoken": "t"},
            Credentials(username="u", identity_token="t"),
        ),
        ({"registrytoken": "t"}, Credentials(registry_token="t")),
        ({"email": "x@y"}, None),
        ({"auth": ""}, None),
    ],
)
def test_entries(tmp_path: Path, entry: object, expected: Credentials | None) -> None:
    path = _write(tmp_path / "auth.json", {"auths": {"r": entry}})
    assert find_credentials([path], "r", "x") == expected


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "not valid JSON"),
        ("[]", "not a JSON object"),
        ('{"auths":[]}', "'auths' is not an object"),
        ('{"auths":{"r":1}}', "entry 'r' is not an object"),
        ('{"auths":{"r":{"auth":"%%%"}}}', "not base64"),
        ('{"auths":{"r":{"auth":"c2VjcmV0"}}}', "not user:password"),
        ('{"auths":{"r":{"auth":"/w=="}}}', "not user:password"),
    ],
)
def test_broken_files_are_named_without_their_secrets(
    tmp_path: Path, content: str, words: str
) -> None:
    path = tmp_path / "auth.json"
    path.write_text(content)
    with pytest.raises(InvalidInput) as caught:
        find_credentials([str(path)], "r", "x")
    assert words in caught.value.message
    assert str(path) in caught.value.message
    assert "secret" not in caught.value.message
    assert "c2VjcmV0" not in caught.value.message


def test_empty_file_and_broken_entry_of_another_host(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.write_text("")
    other = _write(tmp_path / "other", {"auths": {"elsewhere": 1, "r": _auth("u")}})
    found = find_credentials([str(empty), other], "r", "x")
    assert found is not None


@given(
    st.text(st.characters(exclude_characters=":\0", codec="utf-8")),
    st.text(st.characters(exclude_characters="\0", codec="utf-8")),
)
def test_auth_is_read_back(user: str, password: str) -> None:
    text = base64.b64encode(f"{user}:{password}".encode()).decode()
    assert decode_auth(text, "x") == (user, password)


@given(st.text())
def test_any_auth_is_survived(text: str) -> None:
    try:
        decode_auth(text, "x")
    except InvalidInput:
        return


def test_keys() -> None:
    assert candidate_keys("h:1", "a/b") == ["h:1/a/b", "h:1/a", "h:1"]
    assert candidate_keys("h", "") == ["h"]
    assert normalise_key("HTTPS.example/a") == "https.example/a"


@pytest.fixture
def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A credential helper "test" that knows two servers and notes what it was asked."""
    program = tmp_path / "bin" / "docker-credential-test"
    program.parent.mkdir()
    program.write_text(
        "#!/bin/sh\n"
        f'read -r server; echo "$1 $server" >> {tmp_path}/asked\n'
        'case "$server" in\n'
        """user.io) echo '{"ServerURL":"x","Username":"u","Secret":"s"}' ;;\n"""
        """https://index.docker.io/v1/) echo '{"Username":"<token>","Secret":"t"}' ;;\n"""
        """bad.io) echo '{}' ;;\n"""
        "*) echo 'credentials not found in native keychain'; exit 1 ;;\n"
        "esac\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    return tmp_path / "asked"


@pytest.mark.parametrize(
    ("file", "registry", "expected"),
    [
        ({"credsStore": "test"}, "user.io", Credentials(username="u", password="s")),
        ({"credsStore": "test"}, "docker.io", Credentials(identity_token="t")),
        ({"credsStore": "test"}, "none.io", None),
        ({"credHelpers": {"user.io": "test"}}, "user.io", Credentials(username="u", password="s")),
        ({"credHelpers": {"user.io": "test"}}, "none.io", None),
        (
            {"credsStore": "test", "auths": {"r": {}, "none.io": {}}},
            "user.io",
            Credentials(username="u", password="s"),
        ),
    ],
)
def test_helpers(
    helper: Path, tmp_path: Path, file: object, registry: str, expected: Credentials | None
) -> None:
    path = _write(tmp_path / "config.json", file)
    assert find_credentials([path], registry, "x") == expected
    if helper.exists():
        assert helper.read_text().startswith("get ")


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ({"credHelpers": {"bad.io": "test"}}, "no Username"),
        ({"credHelpers": {"bad.io": "not-there"}}, "not installed"),
        ({"credHelpers": {"bad.io": "../x"}}, "not the end of a program's name"),
    ],
)
def test_helpers_that_fail(helper: Path, tmp_path: Path, file: object, words: str) -> None:
    path = _write(tmp_path / "config.json", file)
    with pytest.raises(InvalidInput, match=words):
        find_credentials([path], "bad.io", "x")


def test_secrets_are_not_in_reprs(tmp_path: Path) -> None:
    file = parse_auth_file(json.dumps({"auths": {"r": _auth("u", "hidden")}}).encode(), "f")
    assert _auth("u", "hidden")["auth"] not in repr(file)


BEARER = KnownHost(scheme="https", auth="bearer", realm="https://t/token", service="s")


def test_cache_is_written_once_and_private(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "challenges.json"
    cache = ChallengeCache(str(path))
    assert cache.get("r:5000") is None
    cache.save()
    assert not path.exists()
    cache.put("r:5000", BEARER)
    cache.save()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    written = path.stat().st_mtime_ns
    again = ChallengeCache(str(path))
    assert again.get("r:5000") == BEARER
    again.put("r:5000", BEARER)
    again.save()
    assert path.stat().st_mtime_ns == written
    assert sorted(os.listdir(path.parent)) == ["challenges.json"]


def test_cache_merges_what_others_wrote(tmp_path: Path) -> None:
    path = str(tmp_path / "c")
    one, two = ChallengeCache(path), ChallengeCache(path)
    assert one.get("a") is two.get("b") is None
    one.put("a", BEARER)
    two.put("b", KnownHost(auth="basic"))
    one.save()
    two.save()
    both = ChallengeCache(path)
    assert both.get("a") == BEARER
    assert both.get("b") == KnownHost(auth="basic")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b'{"version":2,"hosts":{"r":{"auth":"basic"}}}',
        b'{"version":1,"hosts":[]}',
        b'{"version":1,"hosts":{"r":1}}',
        b'{"version":1,"hosts":{"r":{"auth":"digest"}}}',
        b'{"version":1,"hosts":{"r":{"auth":"bearer","realm":"file:///x"}}}',
        b'{"version":1,"hosts":{"r":{"scheme":"gopher"}}}',
    ],
)
def test_cache_ignores_what_it_cannot_read(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "c"
    path.write_bytes(content)
    cache = ChallengeCache(str(path))
    assert cache.get("r") is None
    cache.put("r", BEARER)
    cache.save()
    assert ChallengeCache(str(path)).get("r") == BEARER


def test_cache_that_cannot_be_written_is_no_failure(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    cache = ChallengeCache(str(tmp_path / "file" / "c"))
    cache.put("r", BEARER)
    cache.save()
    assert cache.get("r") == BEARER
    nowhere = ChallengeCache(None)
    nowhere.put("r", BEARER)
    nowhere.save()
    assert nowhere.get("r") == BEARER


@pytest.mark.parametrize("name", ["realm", "service"])
@pytest.mark.parametrize("text", ["https://a\ud800", "https://a\r\nX: y", "https://a\x00"])
def test_remembered_challenge_that_no_header_had(name: str, text: str) -> None:
    entry = {"scheme": "https", "auth": "bearer", "realm": "https://a/token", "service": "s"}
    assert KnownHost.from_json(entry) is not None
    assert KnownHost.from_json({**entry, name: text}) is None

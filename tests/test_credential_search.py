"""Where credentials are looked for: order of files and helpers, and what a helper may do to us."""

from __future__ import annotations

import base64
import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgtools.cli.settings import Settings
from imgtools.errors import Cancelled, InvalidInput, StorageError
from imgtools.transport.options import Credentials, RegistryOptions
from imgtools.transport.registry.access import credential_helpers
from imgtools.transport.registry.access.auth_files import parse_auth_file
from imgtools.transport.registry.access.credential_helpers import (
    HelperFailed,
    HelperMissing,
    helper_erase,
    helper_get,
    helper_list,
    helper_store,
)
from imgtools.transport.registry.access.credentials import (
    CredentialsPlace,
    find,
    lookup,
    where_credentials,
)
from imgtools.transport.registry.access.token_server import basic
from tests.registry_fake import FakeRegistry, open_session, say

MakeHelper = Callable[[str, str], None]


def entry(user: str) -> dict[str, str]:
    """An entry of `user`."""
    return {"auth": base64.b64encode(f"{user}:p".encode()).decode()}


def write(path: Path, value: object) -> str:
    """Write JSON; the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
    return str(path)


@pytest.fixture
def make_helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeHelper:
    """make_helper(name, script) puts docker-credential-NAME on PATH."""
    directory = tmp_path / "bin"
    directory.mkdir()
    monkeypatch.setenv("PATH", str(directory), prepend=os.pathsep)

    def make(name: str, script: str) -> None:
        program = directory / f"docker-credential-{name}"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)

    return make


NOTHING = "echo 'credentials not found in native keychain'; exit 1"


def user(name: str) -> str:
    """The script of a helper that knows every server."""
    return f"""echo '{{"Username":"{name}","Secret":"s"}}'"""


def found_user(options: RegistryOptions, registry: str, repository: str = "ns/repo") -> str:
    """Who is found, "" for nobody."""
    found = find(options, registry, repository)
    return found.credentials.username if found is not None else ""


def test_files_are_searched_one_after_the_other(tmp_path: Path) -> None:
    """A general key in an early file beats a specific one in a later file."""
    early = write(tmp_path / "1", {"auths": {"r.io": entry("host")}})
    late = write(
        tmp_path / "2", {"auths": {"r.io/ns/repo": entry("repo"), "late.io": entry("late")}}
    )
    options = RegistryOptions(auth_files=(early, late))
    assert found_user(options, "r.io") == "host"
    assert found_user(options, "late.io") == "late"
    assert found_user(RegistryOptions(auth_files=(late, early)), "r.io") == "repo"


def test_an_empty_entry_decides_for_its_file_alone(tmp_path: Path) -> None:
    first = write(tmp_path / "1", {"auths": {"r.io/ns": {}, "r.io": entry("one")}})
    second = write(tmp_path / "2", {"auths": {"r.io": entry("two")}})
    assert found_user(RegistryOptions(auth_files=(first, second)), "r.io") == "two"
    assert found_user(RegistryOptions(auth_files=(first, second)), "r.io", "x") == "one"


@pytest.mark.parametrize("key", ["docker.io", "index.docker.io", "registry-1.docker.io",
                                 "https://index.docker.io/v1/", "index.docker.io/v1/"])  # fmt: skip
def test_names_of_docker_hub(tmp_path: Path, key: str) -> None:
    path = write(tmp_path / "auth.json", {"auths": {key: entry("hub")}})
    assert found_user(RegistryOptions(auth_files=(path,)), "docker.io", "library/busybox") == "hub"


@pytest.mark.parametrize(
    ("auths", "registry", "expected"),
    [
        ({"https://r.io/v1/": entry("url"), "r.io": entry("exact")}, "r.io", "exact"),
        ({"http://r.io:5000/v2/x": entry("url")}, "r.io:5000", "url"),
        ({"R.IO": entry("upper")}, "r.io", "upper"),
        ({"r.io/": entry("slash")}, "r.io", "slash"),
        ({"r.io/ns": entry("ns")}, "r.io", "ns"),
        ({"r.io/n": entry("n")}, "r.io", ""),
        ({"[::1]:5000": entry("six")}, "[::1]:5000", "six"),
    ],
)
def test_forms_of_keys(tmp_path: Path, auths: object, registry: str, expected: str) -> None:
    path = write(tmp_path / "auth.json", {"auths": auths})
    assert found_user(RegistryOptions(auth_files=(path,)), registry) == expected


def test_the_file_of_old_dockers(tmp_path: Path) -> None:
    old = {"https://r.io/v1/": entry("old"), "https://index.docker.io/v1/": entry("hub")}
    options = RegistryOptions(auth_files=(write(tmp_path / ".dockercfg", old),))
    assert found_user(options, "r.io") == "old"
    assert found_user(options, "docker.io") == "hub"
    new = RegistryOptions(auth_files=(write(tmp_path / "config.json", old),))
    assert found_user(new, "r.io") == ""


def test_credhelpers_before_credsstore_before_nothing(
    tmp_path: Path, make_helper: MakeHelper
) -> None:
    make_helper("own", user("own"))
    make_helper("none", NOTHING)
    make_helper("store", user("store"))
    value = {
        "auths": {"kept.io": entry("kept"), "marked.io": {}, "kept.io/ns/marked": {}},
        "credHelpers": {"own.io": "own", "empty.io": "none", "https://index.docker.io/v1/": "own"},
        "credsStore": "store",
    }
    later = write(tmp_path / "later", {"auths": {"empty.io": entry("later")}})
    options = RegistryOptions(auth_files=(write(tmp_path / "config.json", value), later))
    expected = {"own.io": "own", "docker.io": "own", "kept.io": "kept", "marked.io": "store",
                "other.io": "store", "empty.io": "later"}  # fmt: skip
    assert {host: found_user(options, host) for host in expected} == expected
    assert found_user(options, "kept.io", "ns/marked") == "store"


def test_a_store_that_is_not_installed_has_nothing(tmp_path: Path) -> None:
    value = {"auths": {"r.io": {}}, "credsStore": "desktop.exe"}
    options = RegistryOptions(auth_files=(write(tmp_path / "config.json", value),))
    assert find(options, "r.io") is None
    named = {"credHelpers": {"r.io": "desktop.exe"}}
    with pytest.raises(HelperMissing, match=r"docker-credential-desktop\.exe is not installed"):
        find(RegistryOptions(auth_files=(write(tmp_path / "2", named),)), "r.io")


def test_helpers_of_registries_conf(tmp_path: Path, make_helper: MakeHelper) -> None:
    make_helper("one", f'read -r s; test "$s" = both.io || {{ {NOTHING}; }}; {user("one")}')
    make_helper("broken", "echo 'the keychain is locked'; exit 1")
    file = write(tmp_path / "auth.json", {"auths": {"both.io": entry("f"), "file.io": entry("f")}})
    order = ("broken", "one", "containers-auth.json")
    options = RegistryOptions(auth_files=(file,), credential_helpers=order)
    assert found_user(options, "both.io") == "one"
    assert found_user(options, "file.io") == "f"
    with pytest.raises(HelperFailed, match=r"status 1\): the keychain is locked"):
        find(options, "nobody.io")
    files_first = RegistryOptions(auth_files=(file,), credential_helpers=order[::-1])
    assert found_user(files_first, "both.io") == "f"
    helper_only = RegistryOptions(auth_files=(file,), credential_helpers=("one",))
    assert found_user(helper_only, "file.io") == ""


def test_where_credentials_are_from(tmp_path: Path, make_helper: MakeHelper) -> None:
    make_helper("own", user("own"))
    make_helper("all", NOTHING)
    file = write(
        tmp_path / "auth.json",
        {"auths": {"https://r.io/v1/": entry("u")}, "credHelpers": {"own.io": "own"}},
    )
    options = RegistryOptions(
        auth_files=(file,), credential_helpers=("all", "containers-auth.json")
    )
    assert where_credentials(options, "r.io", "a/b") == CredentialsPlace(
        kind="file", file=file, key="https://r.io/v1/"
    )
    assert where_credentials(options, "own.io") == CredentialsPlace(
        kind="helper", file=file, key="own.io", helper="own"
    )
    assert where_credentials(options, "x.io").kind == "none"
    assert where_credentials(RegistryOptions(anonymous=True), "r.io").kind == "anonymous"
    given = RegistryOptions(credentials=Credentials(username="u"))
    assert where_credentials(given, "r.io").kind == "option"


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="is a directory"):
        find(RegistryOptions(auth_files=(str(tmp_path),)), "r.io")
    with pytest.raises(InvalidInput, match="name of a file"):
        find(RegistryOptions(auth_files=("a\0b",)), "r.io")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.just("\ud800"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
FIELDS = st.sampled_from(["auth", "username", "password", "identitytoken", "registrytoken"])


@given(
    st.dictionaries(st.sampled_from(["r.io", "r.io/ns", "https://r.io/v1/"]),
                    st.dictionaries(FIELDS, JSON | st.sampled_from(["dTpw", "Og==", "/w=="]))
                    | JSON),
    JSON, JSON,
)  # fmt: skip
def test_any_file_is_survived(auths: object, helpers: object, store: object) -> None:
    """What comes of it can be sent, or the file is told to be wrong."""
    value = {"auths": auths, "credHelpers": helpers, "credsStore": store}
    try:
        file = parse_auth_file(json.dumps(value).encode(), "auth.json")
        found = lookup(file, "r.io", "ns/repo", ask=lambda helper, registry: None)
    except InvalidInput:
        return
    if found is not None:
        basic(found.credentials)
        found.credentials.identity_token.encode()


# What a helper does


def test_docker_hub_has_two_names_at_a_helper(make_helper: MakeHelper) -> None:
    script = f'read -r s; test "$s" = {{}} || {{{{ {NOTHING}; }}}}; ' + user("hub").replace(
        "{", "{{"
    ).replace("}", "}}")
    for name in ("https://index.docker.io/v1/", "docker.io"):
        make_helper("hub", script.format(name))
        found = helper_get("hub", "docker.io")
        assert found is not None
        assert found.username == "hub"


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        (user("u"), Credentials(username="u", password="s")),
        ("""echo '{"ServerURL":"https://else","Username":"u","Secret":"s"}'""",
         Credentials(username="u", password="s")),
        ("""echo '{"Username":"<token>","Secret":"t"}'""", Credentials(identity_token="t")),
        ("""echo '{"Username":"","Secret":"s"}'""", Credentials(password="s")),
        ("""echo '{"Username":"","Secret":""}'""", None),
        ("""echo '{"Username":"<token>","Secret":""}'""", None),
        (NOTHING, None),
        ("exec 0<&-; " + user("u"), Credentials(username="u", password="s")),
    ],
)  # fmt: skip
def test_answers_of_a_helper(
    make_helper: MakeHelper, script: str, expected: Credentials | None
) -> None:
    make_helper("h", script)
    assert helper_get("h", "r.io") == expected


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("exit 3", r"failed \(status 3\)$"),
        ("echo 'no such user' >&2; exit 1", r"failed \(status 1\): no such user$"),
        ("printf '\\033[31mred\\nline'; exit 1", r"failed \(status 1\): \[31mred line$"),
        ("""echo '{"Username":"u","Secret":"hidden"}'; exit 1""", r"failed \(status 1\)$"),
        ("echo hidden", "is not what it should be"),
        ("""echo '{"Username":"hidden"}'""", "no Username or Secret"),
        ("""echo '{"Username":"u","Secret":["hidden"]}'""", "no Username or Secret"),
        ("yes hidden", "has no end"),
        (r"""printf '{"Username":"u","Secret":"%s"}' '\ud800'""", "half a character"),
        ("head -c 200000 /dev/zero >&2; exit 1", r"failed \(status 1\)$"),
        ("kill -9 $$", r"failed \(status -9\)$"),
    ],
)
def test_what_a_helper_does_wrong(make_helper: MakeHelper, script: str, words: str) -> None:
    make_helper("h", script)
    with pytest.raises(HelperFailed, match=words) as caught:
        helper_get("h", "r.io")
    assert "hidden" not in caught.value.message


@pytest.mark.parametrize("script", ["exec sleep 60", "exec >&- 2>&-; exec sleep 60", "sleep 5 &"])
def test_a_helper_that_does_not_end(
    make_helper: MakeHelper, script: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(credential_helpers, "_SECONDS", 0.2)
    make_helper("h", script)
    with pytest.raises(HelperFailed, match=r"does not (answer|end)"):
        helper_get("h", "r.io")


def test_a_helper_is_not_waited_for_after_cancelling(
    make_helper: MakeHelper, tmp_path: Path
) -> None:
    """Whoever waits for the one who asks the helper does not ask it again."""
    calls = tmp_path / "calls"
    make_helper("h", f"echo $$ >> {calls}; exec sleep 60")
    auth_file = write(tmp_path / "auth.json", {"credsStore": "h"})
    with FakeRegistry(lambda r: say(401, WWW_Authenticate='Basic realm="r"')) as registry:
        session = open_session(registry.host, auth_files=(auth_file,))
        caught: list[BaseException] = []

        def work() -> None:
            try:
                session.request("GET", "/v2/", repository="a/b", scopes=()).close()
            except Cancelled as e:
                caught.append(e)

        threads = [threading.Thread(target=work) for _ in range(2)]
        for thread in threads:
            thread.start()
        while not (calls.exists() and calls.read_text().endswith("\n")):
            time.sleep(0.01)
        session.abort()
        for thread in threads:
            thread.join()
        session.close()
    assert len(caught) == 2
    (pid,) = calls.read_text().split()
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid), 0)


@pytest.mark.parametrize("name", ["", "../x", "a/b", "a\0b", "a\nb"])
def test_names_that_are_no_helper(name: str) -> None:
    with pytest.raises(InvalidInput, match="not the end of a program's name"):
        helper_get(name, "r.io")


def test_a_helper_that_may_not_be_run(tmp_path: Path, make_helper: MakeHelper) -> None:
    make_helper("h", "")
    (tmp_path / "bin" / "docker-credential-h").write_bytes(b"\x7fELF nonsense")
    with pytest.raises(HelperFailed, match="does not start"):
        helper_get("h", "r.io")


def test_no_shell_sees_what_a_helper_is_given(tmp_path: Path, make_helper: MakeHelper) -> None:
    make_helper("h", f'cat > {tmp_path}/stdin; echo "$@" > {tmp_path}/arguments')
    secret = "$(touch x) `id` ;"
    helper_store("h", "docker.io", Credentials(username="u", password=secret))
    assert json.loads((tmp_path / "stdin").read_text()) == {
        "ServerURL": "https://index.docker.io/v1/", "Username": "u", "Secret": secret,
    }  # fmt: skip
    assert (tmp_path / "arguments").read_text() == "store\n"
    helper_store("h", "r.io", Credentials(identity_token="t"))
    assert json.loads((tmp_path / "stdin").read_text())["Username"] == "<token>"


def test_a_helper_that_keeps_nothing_says_no_secret(make_helper: MakeHelper) -> None:
    make_helper("h", "cat; exit 1")
    with pytest.raises(HelperFailed) as caught:
        helper_store("h", "r.io", Credentials(username="u", password="hidden"))
    assert "hidden" not in caught.value.message
    with pytest.raises(InvalidInput, match="not UTF-8"):
        helper_store("h", "r.io", Credentials(username="u", password="\udcff"))
    with pytest.raises(InvalidInput, match="too long"):
        helper_store("h", "r.io", Credentials(username="u", password="x" * 100_000))


def test_erase_and_list(tmp_path: Path, make_helper: MakeHelper) -> None:
    make_helper(
        "h",
        f'read -r s; echo "$1 $s" >> {tmp_path}/calls\n'
        f"""case "$1" in list) echo '{{"r.io":"u","s.io":"v"}}' ;; get) {user("u")} ;; esac""",
    )
    assert helper_list("h") == ("r.io", "s.io")
    assert helper_erase("h", "r.io") is True
    assert (tmp_path / "calls").read_text().splitlines()[1:] == ["get r.io", "erase r.io"]
    make_helper("none", NOTHING)
    assert helper_erase("none", "r.io") is False
    with pytest.raises(HelperFailed):
        helper_list("none")


# The environment


@pytest.mark.parametrize(
    ("env", "files", "written", "docker"),
    [
        ({"HOME": "/h"},
         ["/run/containers/7/auth.json", "/h/.config/containers/auth.json",
          "/h/.docker/config.json", "/h/.dockercfg"],
         "/run/containers/7/auth.json", False),
        ({"HOME": "/h", "XDG_RUNTIME_DIR": "/r", "XDG_CONFIG_HOME": "/c", "DOCKER_CONFIG": "/d"},
         ["/r/containers/auth.json", "/c/containers/auth.json", "/d/config.json", "/h/.dockercfg"],
         "/d/config.json", True),
        ({"HOME": "/h", "REGISTRY_AUTH_FILE": "/a", "DOCKER_CONFIG": "/d"}, ["/a"], "/a", False),
        ({}, ["/run/containers/7/auth.json"], "/run/containers/7/auth.json", False),
    ],
)  # fmt: skip
def test_files_that_the_environment_names(
    env: dict[str, str], files: list[str], written: str, docker: bool
) -> None:
    settings = Settings.from_environment(env, uid=7)
    assert list(settings.auth_files) == files
    assert (settings.login_file, settings.login_docker) == (written, docker)
    assert settings.login_file_given is (written not in ("/run/containers/7/auth.json",))

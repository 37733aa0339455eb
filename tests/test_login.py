"""login and logout: side by side with skopeo, and what happens to the files they change."""

from __future__ import annotations

import base64
import json
import os
import pty
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from imgtools.errors import Conflict, InvalidInput, InvalidReference, StorageError
from imgtools.transport.options import Credentials
from imgtools.transport.registry.access import credential_files
from imgtools.transport.registry.access.credential_files import (
    Target,
    remove_all_credentials,
    remove_credentials,
    store_credentials,
)
from imgtools.transport.registry.access.login import parse_account
from tests.rig import RegistryServer, RunCli
from tests.test_credential_search import NOTHING, make_helper  # noqa: F401  (a fixture)

MakeHelper = Callable[[str, str], None]
USER = Credentials(username="u", password="p:w")
ENTRY = {"auth": base64.b64encode(b"u:p:w").decode()}
RunSkopeo = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run_skopeo(run_cli: RunCli) -> RunSkopeo:
    """skopeo in the same home as run_cli."""

    def run(*arguments: str, input: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["skopeo", *arguments],
            env=run_cli.env,
            cwd=run_cli.work,
            input=input,
            capture_output=True,
            encoding="utf-8",
            check=False,
        )

    return run


# What differs on purpose: newer skopeo's words, and what a terminal is needed for.
STEPS: list[tuple[str, str]] = [
    ("login --get-login {host}", ""),
    ("login -u {user} -p wrong {host}", ""),
    ("login -u {user} -p {password} {host}", ""),
    ("login {host}", ""),
    ("login --get-login {host}", ""),
    ("login --get-login {host}/some/where", ""),
    ("login -v -u {user} -p {password} {host}/ns", ""),
    ("login -u {user} --password-stdin {host}/ns/repo", "{password}\n"),
    ("login -u {user} --password-stdin https://{host}/v1/", "{password}\r\n"),
    ("login -p {password} {host}", "{user}\n"),
    ("login -p {password} {host}", "\n"),
    ("login -p {password} {host}", ""),
    ("logout {host}/ns", ""),
    ("login --get-login {host}", ""),
    ("logout {host}", ""),
    ("logout {host}", ""),
    ("logout --all", ""),
    ("logout --all {host}", ""),
    ("login", ""),
    ("login a b", ""),
    ("logout a b", ""),
    ("login -u {user} -p {password} --password-stdin {host}", ""),
    ("login --password-stdin {host}", ""),
    ("login -u {user} -p {password} {host}/ns:tag", ""),
    ("login -u {user} -p {password} {host}/UPPER", ""),
]


@pytest.mark.parametrize("kind", ["htpasswd", "token"])
def test_as_skopeo(
    kind: str,
    request: pytest.FixtureRequest,
    run_cli: RunCli,
    run_skopeo: RunSkopeo,
) -> None:
    """The same output, status and file after each step."""
    registry: RegistryServer = request.getfixturevalue(f"registry_{kind}")
    values = {"host": registry.host, "user": registry.username, "password": registry.password}
    file = run_cli.work / "auth.json"
    both: dict[str, list[object]] = {"imgtools": [], "skopeo": []}
    for who in both:
        file.unlink(missing_ok=True)
        for command, answers in STEPS:
            verb, *rest = (word.format(**values) for word in command.split())
            if verb == "logout" and not file.exists():
                continue
            run = run_cli if who == "imgtools" else run_skopeo
            done = run(
                verb,
                "--authfile=auth.json",
                "--tls-verify=false",
                *rest,
                input=answers.format(**values),
            )
            kept = file.read_text() if file.exists() else ""
            both[who].append((command, done.returncode, done.stdout, kept))
            assert registry.password not in done.stdout + done.stderr
    for ours, theirs in zip(both["imgtools"], both["skopeo"], strict=True):
        assert ours == theirs


def test_a_namespace_that_uses_its_registrys_credentials(
    registry_htpasswd: RegistryServer, run_cli: RunCli
) -> None:
    """It is not logged in; skopeo takes the other entry for one that docker made."""
    registry = registry_htpasswd
    secret = ("-u", registry.username, "-p", registry.password)
    run_cli("login", "--tls-verify=false", *secret, registry.host, check=True)
    done = run_cli("logout", "--tls-verify=false", f"{registry.host}/ns")
    assert (done.returncode, done.stdout) == (1, "")
    assert f"not logged into {registry.host}/ns (it uses the credentials for" in done.stderr
    run_cli("login", "--get-login", registry.host, check=True)


def test_messages_of_failures(registry_htpasswd: RegistryServer, run_cli: RunCli) -> None:
    host = registry_htpasswd.host
    cases = {
        ("login", "-u", "u", "-p", "x", host): f'logging into "{host}": invalid username/password',
        ("login", "--get-login", host): f"not logged into {host}",
        ("login",): "please provide a registry to log in to",
        ("login", "a", "b"): "login accepts only one registry to log in to",
        ("logout", "a", "b"): "logout accepts only one registry to log out from",
        ("logout", host): f"not logged into {host}",
        ("logout", "-a", host): "--all takes no arguments",
        ("login", "-u", "u", "-p", "x", "127.0.0.1:1"): 'authenticating creds for "127.0.0.1:1": ',
        ("login", "-u", "u", host): "standard input is not a terminal",
        ("login", "-u", "a:b", "-p", "x", host): "a user name cannot have a colon",
        ("login", "--password-stdin", "-u", "u", host): "larger than the limit",
    }
    for command, words in cases.items():
        text = "x" * 70_000 if "--password-stdin" in command else ""
        done = run_cli(command[0], "--tls-verify=false", *command[1:], input=text)
        assert (done.returncode, done.stdout) == (1, "")
        assert words in done.stderr
        assert done.stderr.count("\n") == 1
    assert not (run_cli.runtime / "containers").exists()


def test_each_reads_what_the_other_wrote(
    registry_htpasswd: RegistryServer,
    run_cli: RunCli,
    run_skopeo: RunSkopeo,
    preload: Callable[[RegistryServer, str, str], str],
    repository: str,
) -> None:
    registry = registry_htpasswd
    preload(registry, "oci", f"{repository}:1")
    trust = f"--cert-dir={registry.cert_dir}"
    secret = ("-u", registry.username, "-p", registry.password)
    for writer, reader in ((run_cli, run_skopeo), (run_skopeo, run_cli)):
        key = f"{registry.host}/{repository}"
        done = writer("login", trust, *secret, key)
        assert (done.returncode, done.stdout) == (0, "Login Succeeded!\n")
        assert reader("login", "--get-login", key).stdout == f"{registry.username}\n"
        seen = reader("inspect", trust, "--raw", f"docker://{key}:1")
        assert seen.returncode == 0, seen.stderr
        assert reader("login", "--get-login", registry.host).returncode == 1
        assert reader("logout", key).stdout == f"Removed login credentials for {key}\n"
        assert writer("inspect", trust, "--raw", f"docker://{key}:1").returncode == 1


@pytest.mark.parametrize(
    ("env", "arguments", "path"),
    [
        ({}, [], "runtime/containers/auth.json"),
        ({"REGISTRY_AUTH_FILE": "{root}/a/b.json"}, [], "a/b.json"),
        ({"DOCKER_CONFIG": "{root}/d"}, [], "d/config.json"),
        ({"REGISTRY_AUTH_FILE": "{root}/no"}, ["--authfile", "{root}/x.json"], "x.json"),
        ({}, ["--compat-auth-file", "{root}/c/config.json"], "c/config.json"),
    ],
)
def test_the_file_that_is_changed(
    env: dict[str, str],
    arguments: list[str],
    path: str,
    registry_htpasswd: RegistryServer,
    run_cli: RunCli,
) -> None:
    root = run_cli.home.parent
    registry = registry_htpasswd
    env = {name: value.format(root=root) for name, value in env.items()}
    flags = ["--tls-verify=false", *(a.format(root=root) for a in arguments)]
    secret = ["-u", registry.username, "-p", registry.password]
    run_cli("login", *flags, *secret, registry.host, env=env, check=True)
    file = root / path
    assert list(json.loads(file.read_text())["auths"]) == [registry.host]
    assert file.stat().st_mode & 0o777 == 0o600
    done = run_cli("login", *flags, registry.host, env=env, check=True)
    assert done.stdout.endswith(f"Already logged in to {registry.host}\n")
    run_cli("logout", *flags, registry.host, env=env, check=True)
    assert json.loads(file.read_text()) == {"auths": {}}


def test_existing_credentials_that_are_wrong(
    registry_token: RegistryServer, run_cli: RunCli
) -> None:
    host = registry_token.host
    file = run_cli.runtime / "containers" / "auth.json"
    file.parent.mkdir()
    file.write_text(json.dumps({"auths": {host: ENTRY}}))
    for _ in range(2):
        done = run_cli("login", "--tls-verify=false", host, input="")
        assert done.returncode == 1
        assert done.stdout == (
            f"Authenticating with existing credentials for {host}\n"
            "Existing credentials are invalid, please enter valid username and password\n"
            "Username (u): "
        )
    file.write_text(json.dumps({"auths": {host: {"identitytoken": "t"}}}))
    done = run_cli("login", "--tls-verify=false", host)
    assert "auth file contains an Identity token" in done.stderr
    file.write_text("{")
    secret = ("-u", registry_token.username, "-p", registry_token.password)
    done = run_cli("login", "--tls-verify=false", *secret, host)
    assert "not valid JSON" in done.stderr
    assert file.read_text() == "{"


def test_credentials_of_docker_are_left_to_docker(
    registry_htpasswd: RegistryServer, run_cli: RunCli
) -> None:
    registry = registry_htpasswd
    pair = f"{registry.username}:{registry.password}".encode()
    file = run_cli.home / ".docker" / "config.json"
    file.parent.mkdir()
    content = json.dumps({"auths": {registry.host: {"auth": base64.b64encode(pair).decode()}}})
    file.write_text(content)
    done = run_cli("logout", "--tls-verify=false", registry.host, check=True)
    assert done.stdout.startswith(f"Not logged into {registry.host} with current tool. Existing")
    assert file.read_text() == content


def test_the_user_is_asked_on_a_terminal(
    registry_htpasswd: RegistryServer, run_cli: RunCli
) -> None:
    registry = registry_htpasswd
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        run_cli.command("login", "--tls-verify=false", registry.host),
        env=run_cli.env,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=lambda: os.close(os.open(os.ttyname(0), os.O_RDWR)),
    )
    os.close(theirs)
    shown = b""

    def until(words: bytes) -> None:
        nonlocal shown
        while words not in shown:
            shown += os.read(ours, 1000)

    try:
        until(b"Username: ")
        os.write(ours, f"{registry.username}\n".encode())
        until(b"Password: ")
        os.write(ours, f"{registry.password}\n".encode())
        until(b"Login Succeeded!")
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    assert registry.password.encode() not in shown


def test_no_secret_is_shown(
    registry_htpasswd: RegistryServer,
    registry_token: RegistryServer,
    run_cli: RunCli,
    make_helper: MakeHelper,  # noqa: F811
    tmp_path: Path,
) -> None:
    """Neither passwords, nor their base64, nor tokens, with --debug and on failure."""
    make_helper("keep", f"cat > {tmp_path}/kept; cat {tmp_path}/kept >&2")
    config = run_cli.work / "helper.json"
    for registry in (registry_htpasswd, registry_token):
        for password in (registry.password, "other-secret"):
            pair = f"{registry.username}:{password}".encode()
            secrets = [password, base64.b64encode(pair).decode(), "eyJ"]
            auth = run_cli.work / "auth.json"
            auth.write_text(json.dumps({"auths": {f"{registry.host}/a": {"auth": secrets[1]}}}))
            config.write_text(json.dumps({"credHelpers": {registry.host: "keep"}}))
            reach = ("--debug", "--tls-verify=false")
            commands = [
                ("login", *reach, "-u", registry.username, "-p", password, registry.host),
                ("login", *reach, "--authfile=auth.json", f"{registry.host}/a"),
                ("login", *reach, "-v", "--authfile=helper.json", "-u", registry.username, "-p",
                 password, registry.host),
                ("login", *reach, "-u", registry.username, "--password-stdin", registry.host),
                ("logout", *reach, registry.host),
                ("list-tags", *reach, "--authfile=auth.json", f"docker://{registry.host}/a"),
            ]  # fmt: skip
            for command in commands:
                path = {"PATH": os.environ["PATH"]}
                done = run_cli(*command, input=password, env=path)
                shown = done.stdout + done.stderr
                assert command[0] == "logout" or "DEBUG" in shown
                assert not [secret for secret in secrets if secret in shown], command


# What is done to files


def keep(path: Path, registry: str = "r.io", namespace: str = "", **more: object) -> str:
    """Store USER in `path`."""
    return store_credentials(Target(path=str(path), **more), registry, namespace, USER)  # type: ignore[arg-type]


def test_what_is_not_understood_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    before = {
        "HttpHeaders": {"User-Agent": "x"},
        "auths": {
            "z.io": {"auth": "eDp5", "email": "a@b", "new": [1, 2.5, None]},
            "r.io": {"x": 1},
        },
        "credHelpers": {"h.io": "x"},
        "psFormat": "table {{.ID}}\t<&>",
    }
    path.write_text(json.dumps(before))
    path.chmod(0o644)
    assert keep(path) == str(path)
    after = json.loads(path.read_text())
    assert after == {**before, "auths": {**before["auths"], "r.io": ENTRY}}  # type: ignore[dict-item]
    assert path.stat().st_mode & 0o777 == 0o600
    assert remove_credentials(Target(path=str(path)), "r.io", "")
    assert json.loads(path.read_text())["auths"] == {"z.io": before["auths"]["z.io"]}  # type: ignore[index]
    assert sorted(os.listdir(tmp_path)) == ["config.json"]


def test_docker_hub_and_namespaces_in_either_form(tmp_path: Path) -> None:
    mine, docker = tmp_path / "auth.json", tmp_path / "config.json"
    keep(mine, "docker.io")
    keep(mine, "docker.io", "me/private")
    assert sorted(json.loads(mine.read_text())["auths"]) == ["docker.io", "docker.io/me/private"]
    keep(docker, "docker.io", docker=True)
    assert list(json.loads(docker.read_text())["auths"]) == ["https://index.docker.io/v1/"]
    with pytest.raises(InvalidInput, match="no credentials of a namespace"):
        keep(docker, "r.io", "ns", docker=True)
    assert remove_credentials(Target(path=str(docker)), "docker.io", "")
    assert not remove_credentials(Target(path=str(docker)), "docker.io", "")
    assert remove_credentials(Target(path=str(mine)), "docker.io", "")
    assert list(json.loads(mine.read_text())["auths"]) == ["docker.io/me/private"]


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"auths":[]}', '{"credHelpers":1}', '{"a":1,"a":2}', "\xff"]
)
def test_what_cannot_be_read_is_not_overwritten(tmp_path: Path, content: str) -> None:
    path = tmp_path / "auth.json"
    path.write_text(content, encoding="latin-1")
    for action in (
        lambda: keep(path),
        lambda: remove_all_credentials(Target(path=str(path))),
        lambda: remove_credentials(Target(path=str(path)), "r.io", ""),
    ):
        with pytest.raises(InvalidInput, match=r"auth\.json"):
            action()
    assert path.read_text(encoding="latin-1") == content


def test_more_that_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="old dockers"):
        keep(tmp_path / ".dockercfg")
    huge = tmp_path / "huge"
    huge.write_text('{"x":1e999}')
    with pytest.raises(InvalidInput, match="cannot be written back"):
        keep(huge)
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        keep(tmp_path / "directory-is-missing" / ".." / ".." / tmp_path.name)
    path = tmp_path / "nul"
    with pytest.raises(InvalidInput, match="NUL"):
        store_credentials(
            Target(path=str(path)), "r.io", "", Credentials(username="u", password="p\0")
        )
    assert not path.exists()


def test_links_and_directories(tmp_path: Path) -> None:
    real = tmp_path / "real" / "auth.json"
    real.parent.mkdir()
    link = tmp_path / "link.json"
    link.symlink_to("real/auth.json")
    keep(link)
    assert link.is_symlink()
    assert json.loads(real.read_text()) == {"auths": {"r.io": ENTRY}}
    deep = tmp_path / "one" / "two" / "auth.json"
    keep(deep)
    assert [d.stat().st_mode & 0o777 for d in (deep.parent, deep.parent.parent)] == [0o700] * 2
    loop = tmp_path / "loop"
    loop.symlink_to("loop")
    with pytest.raises(StorageError):
        keep(loop)


def test_two_at_once_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "auth.json"
    start = threading.Barrier(8)

    def work(number: int) -> None:
        start.wait()
        for part in range(3):
            keep(path, f"r{number}.io", f"ns{part}")

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(json.loads(path.read_text())["auths"]) == 24


def test_a_lock_that_nobody_gives_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(credential_files, "_LOCK_SECONDS", 0.05)
    with (
        credential_files._locked(str(tmp_path), "x"),
        pytest.raises(Conflict, match=r"keeps .* locked"),
    ):
        keep(tmp_path / "auth.json")


def test_a_failed_write_leaves_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "auth.json"
    keep(path, "old.io")
    before = path.read_bytes()

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("imgtools.blob.files.os.fsync", full)
    with pytest.raises(StorageError, match="no space"):
        keep(path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["auth.json"]


# Helpers


@pytest.fixture
def keychain(make_helper: MakeHelper, tmp_path: Path) -> Path:  # noqa: F811
    """A helper "chain" that keeps each server in a file of the directory that this is."""
    directory = tmp_path / "chain"
    directory.mkdir()
    make_helper(
        "chain",
        f"cd {directory}\n"
        "case $1 in\n"
        "store) cat > new\n"
        """mv new "$(sed 's/.*"ServerURL":"\\([^"]*\\)".*/\\1/;s,/,_,g' new)" ;;\n"""
        "list) printf '{'; s=; for f in *; do test -e \"$f\" || continue;"
        """ printf '%s"%s":"u"' "$s" "$(echo "$f" | sed 's,_,/,g')"; s=,; done; echo '}' ;;\n"""
        """*) read -r server; f=$(echo "$server" | sed 's,/,_,g')\n"""
        f'test -e "$f" || {{ {NOTHING}; }}\n'
        'if test $1 = get; then cat "$f"; else rm "$f"; fi ;;\n'
        "esac",
    )
    return directory


def test_a_helper_keeps_what_a_file_sends_it(tmp_path: Path, keychain: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(
        json.dumps(
            {
                "auths": {"h.io": {"auth": "eDp5"}},
                "credHelpers": {"h.io": "chain", "docker.io": "chain"},
                "credsStore": "chain",
            }
        )
    )
    assert keep(path, "h.io") == "credential helper: chain"
    assert keep(path, "docker.io", docker=True) == "credential helper: chain"
    assert keep(path, "s.io") == "credential helper: chain"
    assert sorted(os.listdir(keychain)) == ["h.io", "https:__index.docker.io_v1_", "s.io"]
    auths = json.loads(path.read_text())["auths"]
    assert auths == {"h.io": {}, "https://index.docker.io/v1/": {}, "s.io": {}}
    for registry in ("h.io", "s.io"):
        with pytest.raises(InvalidInput, match="namespaced key is not supported"):
            keep(path, registry, "ns")
    assert remove_credentials(Target(path=str(path)), "s.io", "")
    assert sorted(os.listdir(keychain)) == ["h.io", "https:__index.docker.io_v1_"]
    remove_all_credentials(Target(path=str(path)))
    assert os.listdir(keychain) == []
    after = json.loads(path.read_text())
    assert after["auths"] == {}
    assert after["credsStore"] == "chain"


def test_helpers_of_registries_conf_come_in_order(tmp_path: Path, keychain: Path) -> None:
    path = tmp_path / "auth.json"
    order = ("not-there", "chain", "containers-auth.json")
    assert keep(path, helpers=order) == "credential helper: chain"
    assert keep(path, "r.io", "ns", helpers=order) == str(path)
    assert keep(path, "d.io", docker=True, helpers=order) == str(path)
    assert os.listdir(keychain) == ["r.io"]
    with pytest.raises(InvalidInput, match="not installed"):
        keep(path, helpers=("not-there",))
    chain = Target(path=str(path), helpers=order[1:])
    assert remove_credentials(chain, "r.io", "")
    assert os.listdir(keychain) == []
    keep(path, helpers=order)
    remove_all_credentials(Target(path=str(path), helpers=order))
    assert os.listdir(keychain) == []
    assert json.loads(path.read_text()) == {"auths": {}}


def test_login_through_a_helper(
    registry_htpasswd: RegistryServer, run_cli: RunCli, keychain: Path
) -> None:
    registry = registry_htpasswd
    conf = run_cli.work / "registries.conf"
    conf.write_text('credential-helpers = ["chain"]\n')
    flags = ("--registries-conf", conf, "--tls-verify=false")
    path = {"PATH": os.environ["PATH"]}
    secret = ("-u", registry.username, "-p", registry.password)
    done = run_cli("login", *flags, "-v", *secret, registry.host, env=path, check=True)
    assert done.stdout == "Used:  credential helper: chain\nLogin Succeeded!\n"
    assert os.listdir(keychain) == [registry.host]
    done = run_cli("login", *flags, "--get-login", registry.host, env=path, check=True)
    assert done.stdout == f"{registry.username}\n"
    run_cli("logout", *flags, registry.host, env=path, check=True)
    assert os.listdir(keychain) == []
    assert not (run_cli.runtime / "containers").exists()


# Names


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("r.io", "r.io"),
        ("R.IO:5000", "r.io:5000"),
        ("localhost/a", "localhost/a"),
        ("host/a/b", "host/a/b"),
        ("[::1]:5000/a", "[::1]:5000/a"),
        ("https://r.io:5000/v2/x", "r.io:5000"),
        ("http://r.io", "r.io"),
        ("index.docker.io", "docker.io"),
        ("https://index.docker.io/v1/", "docker.io"),
        ("docker.io/me", "docker.io/me"),
    ],
)
def test_what_to_log_in_to(text: str, expected: str) -> None:
    assert str(parse_account(text)) == expected


@pytest.mark.parametrize(
    "text",
    ["", "/x", "a b", "u:p@r.io", "r.io:port", "r.io/", "r.io//a", "r.io/A", "[x/y", "r.io?x"],
)
def test_what_nobody_logs_in_to(text: str) -> None:
    with pytest.raises(InvalidReference):
        parse_account(text)


@pytest.mark.parametrize("text", ["r.io/a:tag", "r.io/a@sha256:" + "0" * 64])
def test_tags_and_digests_have_no_credentials(text: str) -> None:
    with pytest.raises(InvalidInput, match="contains tag or digest"):
        parse_account(text)


def test_registry_is_named_without_a_transport(run_cli: RunCli) -> None:
    done = run_cli("login", "-u", "a", "-p", "b", "docker://quay.io")
    assert done.returncode == 1
    assert "leave out docker://" in done.stderr

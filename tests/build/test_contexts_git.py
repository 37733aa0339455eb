"""Repositories as contexts and in ADD, over every protocol that git has here."""

from __future__ import annotations

import base64
import os
import stat
import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import pytest

from imgtools.build import trees
from imgtools.build.contexts.context import ContextKind, open_context
from imgtools.build.contexts.fetch import fetch_git, remote_state
from imgtools.build.contexts.git_fetch import Pinned, choose
from imgtools.build.contexts.git_run import Git, GitFailed
from imgtools.build.contexts.git_source import GitSource, parse_git
from imgtools.build.contexts.options import ContextOptions, FetchOptions, GitOptions
from imgtools.errors import (
    Cancelled,
    DigestMismatch,
    Error,
    InvalidInput,
    NotFound,
    Unsupported,
)
from imgtools.task import Task
from tests.build.git_rig import EPOCH, Repository, dumb_http, git_daemon, smart_http

COMMIT = "0123456789" * 4
LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 1\n"
PROTOCOLS = ("http", "https", "git", "ssh", "file")

SOURCES: list[tuple[str, GitSource]] = [
    ("https://h/x.git", GitSource(remote="https://h/x.git")),
    ("https://h/x.git#", GitSource(remote="https://h/x.git")),
    ("https://h/x.git#v1", GitSource(remote="https://h/x.git", ref="v1")),
    ("https://h/x.git#:a/b/", GitSource(remote="https://h/x.git", subdir="a/b")),
    ("https://h/x.git#a/b:../../c", GitSource(remote="https://h/x.git", ref="a/b", subdir="c")),
    ("HTTPS://h/x.git#v%231", GitSource(remote="https://h/x.git", ref="v#1")),
    ("git@h:a/x.git#v1:s", GitSource(remote="git@h:a/x.git", ref="v1", subdir="s")),
    ("git@h:x?ref=v1&subdir=s", GitSource(remote="git@h:x", ref="v1", subdir="s")),
    ("ssh://git@h:22/x#v1", GitSource(remote="ssh://git@h:22/x", ref="v1")),
    ("git://h/x", GitSource(remote="git://h/x")),
    ("github.com/a/b#v1", GitSource(remote="https://github.com/a/b", ref="v1")),
    (
        f"https://h/x.git?branch=m&checksum={COMMIT[:7].upper()}",
        GitSource(remote="https://h/x.git", ref="refs/heads/m", checksum=COMMIT[:7]),
    ),
    ("https://h/x.git?tag=v1", GitSource(remote="https://h/x.git", ref="refs/tags/v1")),
    (f"https://h/x.git?commit={COMMIT}", GitSource(remote="https://h/x.git", checksum=COMMIT)),
    (
        "https://h/x.git?submodules=0&keep-git-dir&mtime=commit#v1",
        GitSource(
            remote="https://h/x.git", ref="v1", submodules=False, keep_git_dir=True,
            commit_time=True,
        ),
    ),
    (
        f"https://h/x.git?fetch-by-commit&checksum={COMMIT}#v1",
        GitSource(remote="https://h/x.git", ref="v1", checksum=COMMIT, by_commit=True),
    ),
    ("https://h/x.git?fetch-by-commit=false", GitSource(remote="https://h/x.git")),
    (
        "https://us%40er:p%3Aw@h:8/x.git",
        GitSource(
            remote="https://h:8/x.git",
            authorization="Basic " + base64.b64encode(b"us@er:p:w").decode(),
        ),
    ),
]  # fmt: skip


@pytest.mark.parametrize(("url", "source"), SOURCES)
def test_e60_forms_of_repositories(url: str, source: GitSource) -> None:
    """Fragments, queries, ssh's own form; passwords are taken out."""
    assert parse_git(url) == source


@pytest.mark.parametrize(
    "url",
    [
        "https://h/x.git?nothing=1",
        "https://h/x.git?ref=a&ref=b",
        "https://h/x.git?ref=",
        "https://h/x.git?ref=a#b",
        "https://h/x.git?tag=a&branch=a",
        "https://h/x.git?submodules=maybe",
        "https://h/x.git?mtime=now",
        "https://h/x.git?checksum=xyz",
        "https://h/x.git?fetch-by-commit=maybe",
        "https://h/x.git?fetch-by-commit&checksum=0123456",
        "https://h/x.git#--upload-pack=evil",
        "https://h/x.git#a..b",
        "https://h/x.git#a%20b",
        "https://h/x.git#a%0Ab",
        "https://h/x.git#a*",
        "https://h/x.git#a^",
        "ssh://-oProxyCommand=evil/x",
        "ssh://-oProxyCommand=evil@h/x",
        "git@h:-evil",
        "git@h:",
        "git://h",
        "https://[h/x.git",
    ],
)
def test_e60_repositories_that_are_refused(url: str) -> None:
    """Contradictions, what git would read as an option, and what is no name."""
    with pytest.raises(InvalidInput):
        parse_git(url)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ("HEAD", Pinned(commit="0", ref="HEAD")),
        ("main", Pinned(commit="1", ref="refs/heads/main")),
        ("both", Pinned(commit="2", ref="refs/heads/both")),
        ("v1", Pinned(commit="5", ref="refs/tags/v1", tag="4")),
        ("refs/tags/both", Pinned(commit="3", ref="refs/tags/both")),
        ("tags/v1", Pinned(commit="5", ref="refs/tags/v1", tag="4")),
        ("refs/pull/1/head", Pinned(commit="6", ref="refs/pull/1/head")),
        ("none", None),
    ],
)
def test_e60_what_a_ref_means(wanted: str, expected: Pinned | None) -> None:
    """A branch before a tag, and a tag is the commit that it is of."""
    lines = ["0\tHEAD", "1\trefs/heads/main", "2\trefs/heads/both", "3\trefs/tags/both",
             "4\trefs/tags/v1", "5\trefs/tags/v1^{}", "6\trefs/pull/1/head",
             "7\trefs/heads/a/main"]  # fmt: skip
    assert choose(lines, wanted) == expected


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the repository app.git, its submodule lib.git, and more."""
    base = tmp_path_factory.mktemp("repositories")
    lib = Repository(base / "lib.git")
    lib.commit({"lib.c": "old"})
    used = lib.git("rev-parse", "HEAD")
    lib.commit({"lib.c": "new"})
    app = Repository(base / "app.git")
    app.commit({"Dockerfile": "FROM scratch", "sub/dir/f": "first", "run*": "#!/bin/sh"})
    app.git("tag", "light")
    app.git("tag", "--annotate", "v1", "-m", "one")
    app.commit({"sub/dir/f": "second", "data.bin": LFS, ".gitattributes": "*.bin filter=lfs"})
    (app.work / "out").symlink_to("/etc")
    (app.work / "sub/up").symlink_to("../..")
    app.commit({})
    app.git("branch", "feature/x")
    app.git("submodule", "--quiet", "add", str(lib.path), "vendor/lib")
    app.git("config", "--file=.gitmodules", "submodule.vendor/lib.url", "../lib.git")
    (app.work / "vendor/lib").rename(app.work / "gone")
    app.git("update-index", "--cacheinfo", f"160000,{used},vendor/lib")
    app.git("add", ".gitmodules")
    app.git("commit", "--quiet", "-m", "submodule")
    app.git("update-server-info")
    hostile = Repository(base / "hostile.git")
    hostile.commit({".gitmodules": '[submodule "x"]\npath = x\nurl = file:///etc/x.git\n'})
    hostile.git("update-index", "--add", "--cacheinfo", f"160000,{used},x")
    hostile.git("commit", "--quiet", "-m", "submodule")
    hostile.git("update-server-info")
    empty = Repository(base / "empty.git")
    empty.git("update-server-info")
    return base


def revision(served: Path, name: str) -> str:
    """The commit that a ref of app.git is."""
    repository = Repository.__new__(Repository)
    repository.path, repository.work = served / "app.git", served / "app.work"
    return repository.git("rev-parse", name + "^{commit}")


def fetching(secrets: Mapping[str, bytes] | None = None, **changes: object) -> FetchOptions:
    """Options that also allow repositories of this machine."""
    git = GitOptions(environment={"PATH": os.environ["PATH"]}, protocols=PROTOCOLS)
    return FetchOptions(
        git=replace(git, **changes),  # type: ignore[arg-type]
        secret=(secrets or {}).get,
    )


def files(url: str, scratch: Path, **arguments: object) -> dict[bytes, bytes | None]:
    """What ADD of a repository gives, without directories."""
    arguments.setdefault("options", fetching())
    arguments.setdefault("task", Task())
    with fetch_git(url, str(scratch), **arguments) as tree:  # type: ignore[arg-type]
        found = {}
        for path, node in trees.walk(tree):
            assert (node.uid, node.gid) == (0, 0)
            if node.is_file:
                assert stat.S_IMODE(node.mode) == (0o755 if path == b"run" else 0o644)
                found[path] = trees.read_small(tree, path, 1000)
            elif node.is_link:
                found[path] = b"-> " + trees.readlink(tree, path)
            else:
                assert stat.S_IMODE(node.mode) == 0o755
        return found


FIRST = {b"Dockerfile": b"FROM scratch", b"sub/dir/f": b"first", b"run": b"#!/bin/sh"}
SECOND = FIRST | {
    b"sub/dir/f": b"second",
    b"data.bin": LFS.encode(),
    b".gitattributes": b"*.bin filter=lfs",
    b"out": b"-> /etc",
    b"sub/up": b"-> ../..",
}
MODULES = b'[submodule "vendor/lib"]\n\tpath = vendor/lib\n\turl = ../lib.git\n'

Server = Callable[[Path], AbstractContextManager[str]]
SERVERS: dict[str, Server] = {"smart": smart_http, "dumb": dumb_http, "daemon": git_daemon}


@pytest.mark.parametrize("server", SERVERS)
def test_e60_every_protocol(served: Path, tmp_path: Path, server: str) -> None:
    """A shallow fetch where the server can, everything where it is only files: branch, tag,
    annotated tag, commit that no ref points at, and submodules of relative URLs."""
    first, second = revision(served, "v1"), revision(served, "feature/x~1")
    with SERVERS[server](served) as base:
        url = f"{base}/app.git"
        head = files(url, tmp_path)
        assert head == SECOND | {b".gitmodules": MODULES, b"vendor/lib/lib.c": b"old"}
        assert files(url + "#feature/x", tmp_path) == SECOND
        assert files(url + "#light", tmp_path) == FIRST
        assert files(url + "#v1", tmp_path) == FIRST
        assert files(f"{url}#{first}", tmp_path) == FIRST
        assert set(files(f"{url}?checksum={second}", tmp_path)) < set(SECOND)
        assert files(url + "?submodules=false", tmp_path) == SECOND | {b".gitmodules": MODULES}
    assert os.listdir(tmp_path) == []


def test_e60_repository_of_this_machine(served: Path, tmp_path: Path) -> None:
    """Only where that is allowed; a Containerfile may not read our files by ADD."""
    url = f"file://{served}/app.git#v1"
    assert files(url, tmp_path) == FIRST
    with pytest.raises(Unsupported, match="not fetched by file"):
        files(url, tmp_path, options=FetchOptions())


def test_e60_subdirectories(served: Path, tmp_path: Path) -> None:
    """Of the repository, and never of the machine."""
    url = f"file://{served}/app.git"
    assert files(url + "#v1:sub", tmp_path) == {b"dir/f": b"first"}
    assert files(url + "?ref=v1&subdir=/sub/../sub/dir", tmp_path) == {b"f": b"first"}
    assert files(url + "#feature/x:sub/up", tmp_path) == SECOND
    for subdir in ("none", "Dockerfile", "out"):
        with pytest.raises(NotFound, match=f"there is no directory '{subdir}'"):
            files(f"{url}#feature/x:{subdir}", tmp_path)


def test_e60_git_directory_is_kept_on_demand(served: Path, tmp_path: Path) -> None:
    """By flag, by the URL, or by option; hooks and passwords are not in it."""
    url = f"file://{served}/app.git#v1"
    for found in (
        files_with_git(url, tmp_path, keep_git_dir=True),
        files_with_git(url.replace("#v1", "?keep-git-dir=1&ref=v1"), tmp_path),
        files_with_git(url, tmp_path, options=fetching(keep_git_dir=True)),
    ):
        assert found[b".git/HEAD"].decode().strip() == revision(served, "v1")
        assert b"Dockerfile" in found
        assert not any(path.startswith(b".git/hooks/") for path in found)
    assert b".git/HEAD" not in files_with_git(
        url, tmp_path, keep_git_dir=False, options=fetching(keep_git_dir=True)
    )


def files_with_git(url: str, scratch: Path, **arguments: object) -> dict[bytes, bytes]:
    """Files of whatever mode."""
    arguments.setdefault("options", fetching())
    with fetch_git(url, str(scratch), task=Task(), **arguments) as tree:  # type: ignore[arg-type]
        walk = trees.walk(tree)
        return {
            path: trees.read_small(tree, path, 1 << 20) or b""
            for path, node in walk
            if node.is_file
        }


def test_e60_checksums(served: Path, tmp_path: Path) -> None:
    """Of the commit or of its tag's own object, from seven digits on."""
    url, commit = f"file://{served}/app.git#v1", revision(served, "v1")
    assert files(url, tmp_path, checksum=commit) == FIRST
    assert files(url, tmp_path, checksum=commit[:7].upper()) == FIRST
    assert files(url.replace("#", f"?checksum={commit}#"), tmp_path) == FIRST
    with pytest.raises(DigestMismatch, match=f"expected 0123456.*got {commit}"):
        files(url, tmp_path, checksum="0123456")
    with pytest.raises(InvalidInput, match="two checksums"):
        files(url.replace("#", f"?checksum={commit}#"), tmp_path, checksum="0123456")
    with pytest.raises(InvalidInput, match="is no commit"):
        files(url, tmp_path, checksum="sha256:" + "0" * 64)
    with pytest.raises(DigestMismatch):
        files(f"file://{served}/app.git#{commit}", tmp_path, checksum="0123456")
    moved = f"file://{served}/app.git?checksum={commit}"
    with pytest.raises(DigestMismatch):
        files(moved + "#main", tmp_path)
    assert files(moved + "&fetch-by-commit#main", tmp_path) == FIRST


@pytest.mark.parametrize(
    ("name", "error", "text"),
    [
        ("app.git#none", NotFound, "there is no branch or tag 'none'"),
        ("app.git#0123456", NotFound, "there is no branch or tag '0123456'"),
        (f"app.git#{COMMIT}", NotFound, f"there is no commit {COMMIT}"),
        ("empty.git", NotFound, "the repository is empty"),
        ("none.git", GitFailed, "git ls-remote: "),
        ("hostile.git", GitFailed, "git submodule: .*transport 'file' not allowed"),
    ],
)
@pytest.mark.parametrize("server", ["smart", "dumb"])
def test_e60_what_a_repository_does_not_have(
    served: Path, tmp_path: Path, server: str, name: str, error: type[Error], text: str
) -> None:
    """Is said in one line; a submodule cannot make us read our own files."""
    options = fetching(protocols=("http",))
    with SERVERS[server](served) as base, pytest.raises(error, match=text) as caught:
        files(f"{base}/{name}", tmp_path, options=options)
    assert "\n" not in caught.value.message
    assert os.listdir(tmp_path) == []


def test_e60_state_of_a_repository(served: Path, tmp_path: Path) -> None:
    """Is the commit, without fetching it; named in full it is not even asked for."""
    commit = revision(served, "v1")
    with smart_http(served) as base:
        states = [
            remote_state(f"{base}/app.git{wanted}", str(tmp_path), options=fetching(), task=Task())
            for wanted in ("#v1", f"#{commit}", "?tag=v1", "#v1:sub", "#main")
        ]
    assert states[0] == states[1] == states[2]
    assert states[0].startswith(commit)
    assert len({*states[2:]}) == 3
    gone = f"{base}/app.git"
    offline = remote_state(f"{gone}#{commit}", str(tmp_path), options=fetching(), task=Task())
    assert offline == states[0]
    with pytest.raises(GitFailed, match="git ls-remote: "):
        remote_state(gone, str(tmp_path), options=fetching(), task=Task())
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("server", ["smart", "dumb"])
def test_e60_what_is_fetched_is_what_was_spoken_of(
    served: Path, tmp_path: Path, server: str
) -> None:
    """Also where the branch has moved since: a key of one commit is not for another's files."""
    before = revision(served, "v1")
    with SERVERS[server](served) as base:
        assert files(f"{base}/app.git#main", tmp_path, commit=before) == FIRST


def test_e60_times_of_the_commit(served: Path, tmp_path: Path) -> None:
    """On demand, of links and directories too."""
    url = f"file://{served}/app.git?ref=feature/x&mtime=commit"
    with fetch_git(url, str(tmp_path), options=fetching(), task=Task()) as tree:
        times = {node.mtime_ns for _, node in trees.walk(tree)}
    assert times == {EPOCH * 10**9}


@pytest.mark.parametrize(
    ("secret", "value", "expected"),
    [
        ("GIT_AUTH_TOKEN", b"t\n", "basic " + base64.b64encode(b"x-access-token:t").decode()),
        ("GIT_AUTH_HEADER", b"Bearer t", "Bearer t"),
        ("GIT_AUTH_TOKEN.{host}", b"t", "basic " + base64.b64encode(b"x-access-token:t").decode()),
        ("", b"u:p", "Basic " + base64.b64encode(b"u:p").decode()),
    ],
)
def test_e60_credentials(
    served: Path, tmp_path: Path, secret: str, value: bytes, expected: str
) -> None:
    """Go to the repository's origin, and stand in no file that is kept."""
    seen: list[Mapping[str, str]] = []
    with smart_http(served, seen) as base:
        host = base.partition("//")[2]
        url = f"{base}/app.git#v1"
        secrets = {secret.format(host=host): value} if secret else {}
        if not secret:
            url = url.replace("//", f"//{value.decode()}@")
        found = files_with_git(url, tmp_path, keep_git_dir=True, options=fetching(secrets))
    assert {headers.get("Authorization") for headers in seen} == {expected}
    everything = b"".join(found.values())
    assert expected.encode() not in everything
    assert b"u:p" not in everything


def test_secrets_for_other_hosts_stay_here(served: Path, tmp_path: Path) -> None:
    """Also where a submodule is somewhere else."""
    seen: list[Mapping[str, str]] = []
    options = fetching({"GIT_AUTH_TOKEN.example.com": b"secret"})
    with smart_http(served, seen) as base:
        files(f"{base}/app.git", tmp_path, options=options)
    assert not any("Authorization" in headers for headers in seen)
    with pytest.raises(InvalidInput, match="control character"):
        files("http://127.0.0.1:1/x.git", tmp_path,
              options=fetching({"GIT_AUTH_HEADER": b"a\nb"}))  # fmt: skip


def test_configuration_of_the_user_has_no_say(
    served: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither files nor variables: a filter, a hook or a rewritten URL would be run."""
    home = tmp_path / "home"
    home.mkdir()
    evil = tmp_path / "evil"
    (home / ".gitconfig").write_text(
        f'[core]\n\tfsmonitor = "touch {evil}"\n\thooksPath = {home}\n'
        f'[filter "lfs"]\n\tsmudge = touch {evil}\n\trequired = true\n'
        f'[url "file:///none/"]\n\tinsteadOf = file://{served}/\n'
    )
    hook = home / "post-checkout"
    hook.write_text(f"#!/bin/sh\ntouch {evil}\n")
    hook.chmod(0o755)
    for name, value in {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "core.hooksPath",
        "GIT_CONFIG_VALUE_0": str(home),
        "GIT_DIR": str(home),
        "GIT_TEMPLATE_DIR": str(home),
        "HOME": str(home),
    }.items():
        monkeypatch.setenv(name, value)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "GIT_DIR": "/none"}
    options = fetching(environment=environment)
    assert files(f"file://{served}/app.git#feature/x", scratch, options=options) == SECOND
    assert not evil.exists()


def test_e54_umask_does_not_matter_to_a_checkout(served: Path, tmp_path: Path) -> None:
    """Modes are 0644 and 0755 under any."""
    before = os.umask(0o077)
    try:
        assert files(f"file://{served}/app.git#v1", tmp_path) == FIRST
    finally:
        os.umask(before)


def test_without_git_there_is_a_remedy(served: Path, tmp_path: Path) -> None:
    """It is needed for repositories only."""
    options = fetching(environment={"PATH": "/nonexistent"})
    with pytest.raises(Unsupported, match="the program git is needed") as caught:
        files(f"file://{served}/app.git", tmp_path, options=options)
    assert "install git" in (caught.value.hint or "")


def test_cancelling_ends_git(tmp_path: Path) -> None:
    """And what it started."""
    task = Task()
    source = GitSource(remote="file:///none")
    git = Git(source, fetching(), str(tmp_path), task=task)
    timer = threading.Timer(0.1, task.cancel.cancel)
    timer.start()
    with pytest.raises(Cancelled):
        git.run("-c", "alias.wait=!sleep 60", "wait", directory=str(tmp_path))
    timer.join()


def test_e60_ssh(served: Path, tmp_path: Path) -> None:
    """The agent's socket and the user's command for ssh get through; nobody is asked."""
    log = tmp_path / "log"
    ssh = tmp_path / "ssh"
    ssh.write_text(
        f'#!/bin/sh\necho "$SSH_AUTH_SOCK $*" >> {log}\n'
        f'while [ "$1" = -o ]; do shift 2; done\n'
        f"cd {served}\nGIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory "
        f"GIT_CONFIG_VALUE_0='*' exec sh -c \"$2\"\n"
    )
    ssh.chmod(0o755)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    environment = {"PATH": os.environ["PATH"], "GIT_SSH_COMMAND": str(ssh)}
    options = fetching(environment=environment, submodules=False)
    found = files("git@example.com:app.git#v1", scratch, ssh_socket="/agent", options=options)
    assert found == FIRST
    said = log.read_text()
    assert said.startswith("/agent ")
    assert "git@example.com git-upload-pack 'app.git'" in said


def test_e62_repository_as_context(served: Path, tmp_path: Path) -> None:
    """With `#:sub`, the commit that was found, and its time."""
    options = ContextOptions(scratch=str(tmp_path), fetch=fetching())
    with smart_http(served) as base:
        for value, names in (("#v1", {b"Dockerfile", b"sub", b"run"}), ("#:sub/dir", {b"f"})):
            with open_context(f"{base}/app.git{value}", options, task=Task()) as context:
                assert set(trees.list_names(context.tree, b"")) == names
                assert (context.kind, context.remote) == (ContextKind.GIT, True)
                assert context.revision == revision(served, "v1" if value == "#v1" else "main")
                assert context.epoch == EPOCH
                assert set(map(os.fsencode, os.listdir(context.directory))) == names
    assert os.listdir(tmp_path) == []

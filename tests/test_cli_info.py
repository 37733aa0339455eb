"""`imgtools info` and `imgtools unshare`, run by root and in the environments of jail.py."""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from imgtools.cli.engine_host import id_options, locate_store, probe_options, search_path
from imgtools.cli.settings import Settings
from imgtools.errors import InvalidInput
from tests.engine import jail
from tests.rig import REPOSITORY, RunCli

FIRST, COUNT, USER = 700000, 65536, 23456
JAILED = """
import os, sys
from imgtools.cli import main
from imgtools.cli.verbs import info, unshare
import engine.ids.session, engine.network.plan, engine.network.survey, engine.probe.survey
import engine.storage.location, imgtools.inspect.text, imgtools.cli.hints, imgtools.cli.gotemplate
from tests.engine import jail
jail.enter(sys.argv[1])
os.environ.update(USER="", SHELL="/bin/sh")
main.main(sys.argv[2:])
"""


@pytest.fixture
def home() -> Iterator[str]:
    """A directory that every user may use."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o777)
        yield name


def jailed(rung: str, home: str, *words: str) -> subprocess.CompletedProcess[str]:
    """The command line as a process of a rung of jail.py."""
    runtime = os.path.join(home, f"run-{rung}")
    if not os.path.isdir(runtime):
        os.mkdir(runtime, 0o700)
        if rung[0] not in "AD":
            os.chown(runtime, jail.USER, jail.USER)
    return subprocess.run(
        [sys.executable, "-c", JAILED, rung, *words],
        cwd=REPOSITORY,
        env={
            "HOME": home,
            "XDG_RUNTIME_DIR": runtime,
            "PATH": "/usr/bin:/bin",
            "LC_ALL": "C.UTF-8",
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )


def document(done: subprocess.CompletedProcess[str]) -> Any:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_json_names_everything(run_cli: RunCli) -> None:
    """Facts, choice, storage, network and every probe."""
    del run_cli.env["CONTAINERS_STORAGE_CONF"]
    value = document(run_cli("info", "--format", "json", check=True))
    assert set(value) >= {
        "version", "host", "process", "ids", "limits", "cgroups", "helpers", "isolation",
        "storage", "network", "probes", "remembered",
    }  # fmt: skip
    assert value["isolation"]["kind"] == "root"
    assert value["storage"]["graphRoot"] == "/var/lib/containers/storage"
    assert value["host"]["machine"] == os.uname().machine
    assert value["process"]["uid"] == "0"
    assert value["probes"]["isolation-root"]["works"] is True
    assert value["cgroups"]["mode"] in ("v1", "v2", "hybrid", "none")


def test_text_and_templates(run_cli: RunCli) -> None:
    """For people, and for scripts."""
    text = run_cli("info", check=True).stdout
    assert "isolation: root (rung A): this process is root" in text
    assert "\n  yes  isolation-root" in text
    assert run_cli("info", "-f", "{{.isolation.rung}}", check=True).stdout == "A\n"
    assert run_cli("info", "-f", "{{.isolation", check=False).returncode == 1


def test_results_are_remembered_until_asked_again(run_cli: RunCli) -> None:
    """In the run-time directory, where nobody else may look."""
    show = functools.partial(run_cli, "info", "-f", "{{.remembered}}", check=True)
    assert [show().stdout for _ in range(2)] == ["false\n", "true\n"]
    assert run_cli("info", "--refresh", "-f", "{{.remembered}}", check=True).stdout == "false\n"
    (kept,) = (run_cli.runtime / "imgtools").iterdir()
    assert kept.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("rung", "kind", "said"),
    [
        ("B", "ranges", "not root: this is uid 23456"),
        ("C", "single", "for better: as root: usermod --add-subuids"),
        ("D", "chroot", "not ranges: unshare(CLONE_NEWUSER): EPERM: a seccomp filter denies it"),
        ("D-crio", "ranges", "not root: this is uid 0 without CAP_SYS_ADMIN"),
        ("E", "none", "for better: a seccomp profile that admits unshare"),
        ("E-crio", "single", "not ranges: no_new_privs is set"),
    ],
)
def test_what_is_chosen_in_each_environment(rung: str, kind: str, said: str, home: str) -> None:
    """With the reasons and what one would have to change."""
    done = jailed(rung, home, "info")
    assert done.returncode == 0, done.stderr
    assert f"isolation: {kind} (" in done.stdout
    assert said in done.stdout


@pytest.mark.parametrize(
    ("isolation", "code", "message"),
    [
        ("chroot", 0, ""),
        ("userns", 1, "isolation userns: unshare(CLONE_NEWUSER): EPERM"),
        ("oci", 1, "unknown isolation 'oci'"),
    ],
)
def test_isolation_that_is_asked_for(isolation: str, code: int, message: str, home: str) -> None:
    """Works or not, with the remedy."""
    done = jailed("D", home, "info", "--isolation", isolation, "-f", "{{.isolation.kind}}")
    assert done.returncode == code
    assert message in done.stderr
    assert done.stdout == ("chroot\n" if not code else "")


def test_d2_unshare_shows_the_ranges_of_subuid(home: str) -> None:
    """As `buildah unshare cat /proc/self/uid_map`."""
    done = jailed("B", home, "unshare", "cat", "/proc/self/uid_map")
    assert done.returncode == 0, done.stderr
    rows = [[int(word) for word in line.split()] for line in done.stdout.splitlines()]
    assert rows == [[0, USER, 1], [1, FIRST, COUNT]]


def test_d4_files_of_other_ids_can_be_removed_inside(home: str) -> None:
    """Which their user cannot do outside."""
    target = os.path.join(home, "of-another")
    made = jailed(
        "B", home, "unshare", "sh", "-c", f"mkdir -m 700 {target} && chown 33:33 {target}"
    )
    assert made.returncode == 0, made.stderr
    assert os.stat(target).st_uid == FIRST + 32
    removed = jailed("B", home, "unshare", "rm", "-r", target)
    assert removed.returncode == 0, removed.stderr
    assert not os.path.exists(target)


@pytest.mark.parametrize("rung", ["A", "B", "C", "D-crio", "E-crio"])
def test_unshare_is_root_with_mounts_of_its_own(rung: str, home: str) -> None:
    """In every environment that has user namespaces."""
    script = "id -u && mount -t tmpfs none /mnt && test ! -e /mnt/x && touch /mnt/x"
    done = jailed(rung, home, "unshare", "/bin/sh", "-c", script)
    assert (done.returncode, done.stdout) == (0, "0\n"), done.stderr
    assert not os.path.exists("/mnt/x")


def test_unshare_tells_others_whose_store_it_is(home: str) -> None:
    """podman, buildah, and this program run inside."""
    done = jailed("B", home, "unshare", "env")
    env = dict(line.split("=", 1) for line in done.stdout.splitlines())
    assert env["_CONTAINERS_USERNS_CONFIGURED"] == "done"
    assert env["_CONTAINERS_ROOTLESS_UID"] == env["_CONTAINERS_ROOTLESS_GID"] == str(USER)
    assert env["CONTAINERS_GRAPHROOT"] == f"{home}/.local/share/containers/storage"
    assert env["CONTAINERS_RUNROOT"] == f"{home}/run-B/containers"
    inside = {k: v for k, v in env.items() if k.startswith("_") or k in ("HOME", "XDG_RUNTIME_DIR")}
    # Inside, where this would be asked, the directory is that of the root that asks.
    os.chown(inside["XDG_RUNTIME_DIR"], os.getuid(), -1)
    assert locate_store(inside).location.root == env["CONTAINERS_GRAPHROOT"]
    assert "_CONTAINERS_ROOTLESS_UID" not in jailed("A", home, "unshare", "env").stdout


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("sh", "-c", "exit 42"), 42),
        (("--", "sh", "-c", "exit 3"), 3),
        (("sh", "-c", "kill -9 $$"), -9),
        (("no-such-command-here",), 127),
        (("/etc/passwd",), 126),
        (("/etc/passwd/x",), 127),
        ((), 0),
    ],
)
def test_exit_code_of_the_command_is_passed_on(
    words: tuple[str, ...], code: int, run_cli: RunCli
) -> None:
    """127 for what is not there, 126 for what cannot be run; a shell without a command."""
    done = run_cli("unshare", *words, env={"SHELL": "/bin/sh"})
    assert done.returncode == code
    assert ("imgtools: " in done.stderr) == (code in (126, 127))


def test_options_of_the_command_are_its_own(run_cli: RunCli) -> None:
    """Not ours, even if they look like it."""
    done = run_cli("unshare", "echo", "--debug", "-h", "--", "--version", "-xyz", check=True)
    assert done.stdout == "--debug -h -- --version -xyz\n"
    debug = run_cli("--debug", "unshare", "--debug", "true", check=True)
    assert "already root" in debug.stderr
    assert "Run COMMAND" in run_cli("unshare", "--help", check=True).stdout


def test_y1_signals_that_python_ignores_are_not_ignored_inside(run_cli: RunCli) -> None:
    """`yes | head` would print "Broken pipe"."""
    done = run_cli("unshare", "cat", "/proc/self/status", check=True)
    ignored = next(line for line in done.stdout.splitlines() if line.startswith("SigIgn"))
    bits = int(ignored.split()[1], 16)
    assert [n for n in (signal.SIGPIPE, signal.SIGXFSZ) if bits >> (n - 1) & 1] == []


def test_unshare_where_there_is_no_user_namespace(home: str) -> None:
    """One line with the system call, the errno and the remedy."""
    done = jailed("E", home, "unshare", "true")
    assert done.returncode == 1
    assert done.stderr.startswith("imgtools: unshare(CLONE_NEWUSER): EPERM: a seccomp filter")
    assert done.stderr.count("\n") == 1


def test_options_from_the_environment(tmp_path: Path) -> None:
    """PATH without relative directories, ids only if they are numbers."""
    assert search_path({"PATH": "bin::/opt/x:/usr/bin"})[:2] == ("/opt/x", "/usr/bin")
    assert "/usr/sbin" in search_path({})
    found = id_options({"USER": "u", "HOME": "/h", "_CONTAINERS_ROOTLESS_UID": "12"})
    assert (found.user_name, found.home, found.outer_uid, found.outer_gid) == ("u", "/h", 12, None)
    assert id_options({"LOGNAME": "l"}).user_name == "l"
    for text in ("", "-1", "1x", "\u0661", "9" * 30):
        assert id_options({"_CONTAINERS_ROOTLESS_UID": text}).outer_uid is None
    settings = Settings(runtime_dir="/run/user/5", cache_dir="/c")
    assert probe_options(settings, {}, "/s").cache_dir == "/run/user/5/imgtools"
    assert probe_options(Settings(cache_dir="/c"), {}, "/s").cache_dir == "/c"
    conf = tmp_path / "storage.conf"
    env = {"CONTAINERS_STORAGE_CONF": str(conf), "HOME": "/h"}
    conf.write_text('[storage]\ngraphroot = "/elsewhere"\n')
    assert locate_store(env).location.root == "/elsewhere"
    conf.write_text("[storage")
    with pytest.raises(InvalidInput, match=r"storage\.conf"):
        locate_store(env)

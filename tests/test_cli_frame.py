"""The frame of the command line: cobra's argument rules, exit codes, one-line errors."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest

from imgtools.cli.command import Duration, go_bool, normalise_args, verb
from imgtools.cli.settings import Settings
from imgtools.cli.state import Cli
from tests.rig import REPOSITORY, RunCli


@verb("sample")
@click.option("-f", "--format", "form")
@go_bool("-a", "--all", help="all")
@go_bool("-q", "--quiet", help="quiet")
@go_bool("--tls-verify", default=None, help="tls")
@click.argument("names", nargs=-1)
def sample(**_: object) -> None:
    """A verb for the tests."""


@pytest.mark.parametrize(
    ("given", "normal"),
    [
        (["--all", "x"], ["--all=true", "x"]),
        (["--all=false", "x"], ["--all=false", "x"]),
        (["--tls-verify", "docker://x"], ["--tls-verify=true", "docker://x"]),
        (["-a", "x"], ["--all=true", "x"]),
        (["-aq", "x"], ["--all=true", "--quiet=true", "x"]),
        (["-aq=false"], ["--all=true", "--quiet=false"]),
        (["-af", "oci", "x"], ["--all=true", "-f", "oci", "x"]),
        (["-afoci"], ["--all=true", "-foci"]),
        (["-f=oci"], ["-foci"]),
        (["--format", "--all", "x"], ["--format", "--all", "x"]),
        (["--format=--all"], ["--format=--all"]),
        (["x", "--all"], ["x", "--all=true"]),
        (["--", "--all"], ["--", "--all"]),
        (["-"], ["-"]),
        (["-z"], ["-z"]),
        (["--nosuch"], ["--nosuch"]),
    ],
)
def test_arguments_are_parsed_as_cobra_does(given: list[str], normal: list[str]) -> None:
    assert normalise_args(sample.params, given) == normal


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30), ("1m30s", 90), ("1.5h", 5400), ("250ms", 0.25), ("0", 0), ("2us", 2e-6)],
)
def test_durations(text: str, seconds: float) -> None:
    assert Duration().convert(text, None, None) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "30", "s", "1x", "1m x", "-1s"])
def test_bad_durations(text: str) -> None:
    with pytest.raises(click.BadParameter):
        Duration().convert(text, None, None)


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ([], "missing command"),
        (["nosuch"], "unknown command 'nosuch'"),
        (["insepct"], "did you mean 'inspect'"),
        (["inspect", "--nosuch", "x"], "--nosuch"),
        (["--nosuch"], "--nosuch"),
        (["--command-timeout", "5", "inspect", "x"], "duration"),
        (["inspect", "busybox"], "it has no transport"),
        (["inspect", "quay.io/a:b"], "did you mean docker://quay.io/a:b?"),
        (["inspect", "nosuch:x"], "unknown transport 'nosuch'"),
        (["inspect", "localhost:5000/a:b"], "did you mean docker://localhost:5000/a:b?"),
        (["verify-attestation", "x"], "try 'imgtools verify --attestation TYPE'"),
        (["tree", "x"], "try 'imgtools inspect --referrers'"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_1(
    run_cli: RunCli, arguments: list[str], part: str
) -> None:
    done = run_cli(*arguments)
    assert done.returncode == 1
    assert done.stdout == ""
    assert part in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("imgtools: ")


def test_version_and_help(run_cli: RunCli) -> None:
    import imgtools

    for flag in ("--version", "-v"):
        assert run_cli(flag, check=True).stdout == f"imgtools version {imgtools.__version__}\n"
    for arguments in (["--help"], ["-h"]):
        text = run_cli(*arguments, check=True).stdout
        assert "inspect" in text
        assert "copy" in text


@pytest.mark.parametrize(
    "name", ["copy", "diff", "inspect", "list-tags", "manifest-digest", "serve"]
)
def test_every_verb_has_help(run_cli: RunCli, name: str) -> None:
    assert f"Usage: imgtools {name}" in run_cli(name, "--help", check=True).stdout


def test_control_characters_do_not_reach_the_terminal(run_cli: RunCli) -> None:
    done = run_cli("inspect", "dir:/no\x1b[31mwhere")
    assert done.returncode != 0
    assert "\x1b" not in done.stderr


def test_global_options_before_or_after_the_verb(run_cli: RunCli, tmp_path: Path) -> None:
    (tmp_path / "policy.json").write_text("{")
    for arguments in (
        ["--policy", tmp_path / "policy.json", "copy", f"dir:{tmp_path}", "oci:x:y"],
        ["copy", "--policy", tmp_path / "policy.json", f"dir:{tmp_path}", "oci:x:y"],
    ):
        done = run_cli(*arguments)
        assert done.returncode == 1
        assert "policy.json" in done.stderr


def test_command_timeout_ends_a_hanging_command(run_cli: RunCli) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        done = run_cli(
            "inspect", "--command-timeout=1s", "--tls-verify=false", f"docker://127.0.0.1:{port}/a"
        )
    assert done.returncode == 1
    assert "longer than 1 seconds" in done.stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_end_cleanly(run_cli: RunCli, number: int, code: int) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(30)
        port = silent.getsockname()[1]
        name = f"docker://127.0.0.1:{port}/a"
        with run_cli.start("inspect", "--tls-verify=false", name) as process:
            try:
                connection, _ = silent.accept()
                with connection:
                    # Something was sent, so the command is waiting for the answer.
                    assert connection.recv(1)
                    process.send_signal(number)
                    out, err = process.communicate(timeout=30)
            finally:
                process.kill()
    assert process.returncode == code
    assert b"Traceback" not in err
    assert out == b""


def test_a_signal_in_an_import_waits_for_its_end(tmp_path: Path) -> None:
    """An import that is cut short may keep the lock that all imports take."""
    (tmp_path / "slow.py").write_text(
        "import os, signal\nos.kill(os.getpid(), signal.SIGTERM)\nfor n in range(999): pass\n"
        "done = True\n"
    )
    script = (
        "import sys, time\n"
        f"sys.path.insert(0, {str(tmp_path)!r})\n"
        "from imgtools.cli import main\n"
        "from imgtools.cli.settings import Settings\n"
        "from imgtools.cli.state import Cli\n"
        "def invoke(context):\n"
        "    import slow\n"
        "    print('imported', slow.done, flush=True)\n"
        "    time.sleep(30)\n"
        "main.app.invoke = invoke\n"
        "cli = Cli(settings=Settings.from_environment({}))\n"
        "sys.exit(main.run(['inspect', 'dir:x'], cli))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60,
        cwd=REPOSITORY,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (143, "imported True\n"), done.stderr


@pytest.mark.parametrize("ending", ["raise Cancelled('stopped')", "raise KeyboardInterrupt"])
def test_a_signal_while_the_end_is_told_is_no_traceback(ending: str) -> None:
    """The second of two, or one that had to wait for an import."""
    script = (
        "import os, signal, sys\n"
        "from imgtools.cli import main\n"
        "from imgtools.cli.settings import Settings\n"
        "from imgtools.cli.state import Cli\n"
        "from imgtools.errors import Cancelled\n"
        f"def invoke(context):\n    {ending}\n"
        "def complain(text):\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    for n in range(999): pass\n"
        "main.app.invoke, main._complain = invoke, complain\n"
        "cli = Cli(settings=Settings.from_environment({}))\n"
        "code = main.run(['inspect', 'dir:x'], cli)\n"
        "os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.exit(code)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60,
        cwd=REPOSITORY,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_a_closed_pipe_is_no_error_of_ours(run_cli: RunCli) -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "imgtools", "--help"],
        stdout=write, stderr=subprocess.PIPE, env=run_cli.env, check=False, timeout=60,
    )  # fmt: skip
    os.close(write)
    assert done.stderr == b""


@pytest.mark.parametrize(
    ("env", "files"),
    [
        ({"REGISTRY_AUTH_FILE": "/f", "HOME": "/h"}, ["/f"]),
        (
            {"HOME": "/h", "XDG_RUNTIME_DIR": "/run/user/7"},
            ["/run/user/7/containers/auth.json", "/h/.config/containers/auth.json",
             "/h/.docker/config.json", "/h/.dockercfg"],
        ),
        (
            {"HOME": "/h", "XDG_CONFIG_HOME": "/c", "DOCKER_CONFIG": "/d"},
            ["/run/containers/7/auth.json", "/c/containers/auth.json", "/d/config.json",
             "/h/.dockercfg"],
        ),
        ({}, ["/run/containers/7/auth.json"]),
    ],
)  # fmt: skip
def test_search_order_of_credentials(env: dict[str, str], files: list[str]) -> None:
    assert list(Settings.from_environment(env, uid=7).auth_files) == files


def test_temporary_directory_follows_the_environment() -> None:
    assert Settings.from_environment({"TMPDIR": "/x"}).tmpdir == "/x"
    assert Settings.from_environment({}).tmpdir == "/var/tmp"


def test_platform_overrides() -> None:
    settings = Settings.from_environment({})
    cli = Cli(settings=settings)
    assert cli.platform() == settings.host
    assert str(cli.with_globals({"override_arch": "arm"}).platform()).endswith("/arm/v7")
    chosen = {"override_os": "windows", "override_arch": "arm64", "override_variant": "v9"}
    assert str(cli.with_globals(chosen).platform()) == "windows/arm64/v9"


def test_proxies_are_read_from_the_environment() -> None:
    env = {"HTTPS_PROXY": "http://u:p@proxy:1", "http_proxy": "http://x:2", "NO_PROXY": "a, .b,"}
    proxies = Settings.from_environment(env).proxies
    assert (proxies.https, proxies.http) == ("http://u:p@proxy:1", "http://x:2")
    assert proxies.no_proxy == ("a", ".b")
    assert "u:p" not in repr(proxies)
    cgi = Settings.from_environment({"HTTP_PROXY": "http://x", "REQUEST_METHOD": "GET"})
    assert cgi.proxies.http == ""


def test_a_full_disk_behind_stdout_is_one_line(run_cli: RunCli) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "imgtools", "--help"],
            stdout=full, stderr=subprocess.PIPE, env=run_cli.env, check=False, timeout=60,
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == b"imgtools: standard output: no space left on device\n"

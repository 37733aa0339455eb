"""Network namespaces connected for real, and the helpers' end with whatever they belong to."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.engine.network_child import helpers
from tests.rig import REPOSITORY

IN_A_USER_NAMESPACE = ("unshare", "--user", "--map-root-user", "--mount", "--kill-child")


def command(mode: str, end: str, directory: Path, *before: str) -> list[str]:
    program = [sys.executable, "-m", "tests.engine.network_child"]
    return [*before, *program, mode, end, str(directory)]


def run(mode: str, end: str, directory: Path, *before: str) -> list[Any]:
    """The lines that the driver printed."""
    done = subprocess.run(
        command(mode, end, directory, *before),
        cwd=REPOSITORY,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode("utf-8", "replace")
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("before", [(), IN_A_USER_NAMESPACE], ids=["root", "userns"])
@pytest.mark.parametrize("mode", ["pasta", "slirp4netns"])
def test_helper_connects_and_ends_with_the_handle(
    mode: str, before: tuple[str, ...], tmp_path: Path
) -> None:
    """An address and the loopback; afterwards no process, file or descriptor."""
    connected, closed = run(mode, "close", tmp_path, *before)
    assert len(connected["links"]) == 2
    assert connected["loopback"]
    wanted = {"pasta": connected["own"], "slirp4netns": "10.0.2.100"}[mode]
    assert wanted in connected["addresses"]
    assert connected["helpers"] == 1
    assert closed == {"left": [], "files": 0, "helpers": 0}


def test_helper_ends_with_the_container(tmp_path: Path) -> None:
    """Although it holds the network namespace open."""
    assert run("pasta", "container", tmp_path)[1]["helpers"] == 0


def test_helper_ends_with_an_engine_that_is_killed(tmp_path: Path) -> None:
    """kill -9 leaves nobody to clean up; the pipe's end tells."""
    with subprocess.Popen(
        command("pasta", "wait", tmp_path),
        cwd=REPOSITORY,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["helpers"] == 1
        process.kill()
        process.wait()
    deadline = time.monotonic() + 10
    while helpers(str(tmp_path)) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert helpers(str(tmp_path)) == []


@pytest.mark.parametrize("before", [(), IN_A_USER_NAMESPACE], ids=["root", "userns"])
def test_n6_without_a_network_the_loopback_is_up(before: tuple[str, ...], tmp_path: Path) -> None:
    """A new network namespace has it down."""
    connected, closed = run("none", "close", tmp_path, *before)
    assert (connected["links"], connected["loopback"]) == (["lo"], True)
    assert closed["files"] == 0


def test_loopback_that_init_has_raised_needs_no_setns(tmp_path: Path) -> None:
    """podman's and CRI-O's seccomp profile refuses it."""
    assert run("none", "raised", tmp_path)[1]["files"] == 0


def test_host_network_touches_nothing(tmp_path: Path) -> None:
    """Whatever namespace the process is in."""
    assert run("host", "close", tmp_path)[0]["loopback"] is False


@pytest.mark.parametrize(
    ("end", "message"),
    [
        ("broken", "network pasta: the helper did not come up"),
        ("missing", "network pasta: /nonexistent/helper: no such file or directory"),
        ("silent", "network pasta: the helper did not come up"),
    ],
)
def test_helper_that_does_not_come_up(end: str, message: str, tmp_path: Path) -> None:
    """An error, and nothing left behind."""
    (failed,) = run("pasta", end, tmp_path)
    assert failed["error"] == message
    assert "--network host" in failed["hint"]
    assert (failed["left"], failed["files"]) == ([], 0)


def test_directory_that_is_not_there(tmp_path: Path) -> None:
    """Named, and nothing started."""
    missing = tmp_path / "missing"
    (failed,) = run("pasta", "close", missing)
    assert failed["error"] == f"{missing}: no such file or directory"
    assert failed["files"] == 0

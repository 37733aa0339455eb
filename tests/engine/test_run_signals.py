"""Signals to `imgtools run`, and kill -9 of each of its processes, at different moments: nothing
may be left, at once or after the next run."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.run_rig import (
    IMAGE,
    Runs,
    cgroups_of,
    children,
    finish,
    line_of,
    mounts,
    processes_with,
    wait_until,
)

UP = "trap '' INT; echo up; exec sleep 64"
TRAP = 'trap "echo got; exit 7" TERM INT HUP; echo up; while :; do sleep 0.02; done'


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    """The image in a store."""
    found = Runs(tmp_path_factory.mktemp("signals"))
    yield found
    found.stop()


@pytest.fixture(autouse=True)
def clean(runs: Runs) -> Iterator[None]:
    """No mounts and processes are left."""
    yield
    runs.stop()
    assert mounts(runs.root.parent) == []
    assert processes_with(str(runs.root)) == []


def up(runs: Runs, script: str, *flags: str, network: str = "none") -> subprocess.Popen[bytes]:
    """A container whose program runs."""
    process = runs.start(*flags, IMAGE, "sh", "-c", script, network=network)
    assert line_of(process) == b"up\n", process.communicate()
    return process


def container_id(runs: Runs) -> str:
    (name,) = os.listdir(runs.runroot / "imgtools/containers")
    return name


def of_the_container(identity: str) -> list[int]:
    """Processes in the cgroup of a container."""
    found = []
    for name in os.listdir("/proc"):
        try:
            if name.isdigit() and identity in Path(f"/proc/{name}/cgroup").read_text():
                found.append(int(name))
        except OSError:
            continue
    return found


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_are_the_containers(runs: Runs, number: int) -> None:
    process = up(runs, TRAP)
    process.send_signal(number)
    assert finish(process)[:2] == (7, b"got\n")
    assert runs.left() == []


def test_r1_the_second_signal_kills_who_ignores_the_first(runs: Runs) -> None:
    """PID 1 has no default handlers: sleep hears nothing."""
    process = up(runs, UP)
    process.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.3)
    process.send_signal(signal.SIGINT)
    assert finish(process)[0] == 137
    assert runs.left() == []


def test_ignored_hangups_stay_ignored(runs: Runs) -> None:
    """As under nohup."""
    process = subprocess.Popen(
        ["sh", "-c", 'trap "" HUP; exec "$@"', "sh", *runs.arguments(IMAGE, "sh", "-c", TRAP)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=runs.cli.env,
    )
    assert line_of(process) == b"up\n"
    process.send_signal(signal.SIGHUP)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.3)
    process.send_signal(signal.SIGTERM)
    assert finish(process)[:2] == (7, b"got\n")


@pytest.mark.parametrize("moment", range(8))
def test_r8_interrupted_at_any_moment(runs: Runs, moment: int) -> None:
    """While it starts, looks for the image, mounts, connects: everything is undone."""
    process = runs.start(IMAGE, "sleep", "64")
    time.sleep(0.02 + 0.025 * moment)
    # If its container runs by now, that gets the first and does not mind; signals that come
    # close together are one.
    while process.poll() is None:
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.5)
    code, out, _ = finish(process)
    # -15: before the command had a handler at all.
    assert code in (143, 137, -15)
    assert out == b""
    assert runs.left() == []


def test_interrupted_while_the_network_is_connected(runs: Runs, tmp_path: Path) -> None:
    """A helper that never gets ready; everything it was made for goes again."""
    helper = tmp_path / "pasta"
    helper.write_text(f"#!/bin/sh\necho > {tmp_path}/started\nexec sleep 65\n")
    helper.chmod(0o755)
    runs.cli.env["PATH"] = f"{tmp_path}:{os.environ['PATH']}"
    process = runs.start(IMAGE, "true", network="pasta")
    wait_until((tmp_path / "started").exists, "the helper does not start")
    process.send_signal(signal.SIGINT)
    code, _, err = finish(process)
    runs.cli.env["PATH"] = os.environ["PATH"]
    assert (code, err) == (130, b"imgtools: interrupted\n")
    assert runs.left() == []
    wait_until(lambda: not processes_with(str(tmp_path)), "the helper goes on")


def test_killed_clients_leave_no_process_and_are_swept(runs: Runs) -> None:
    process = up(runs, UP, "--memory=64m")
    identity = container_id(runs)
    assert of_the_container(identity)
    process.kill()
    process.communicate()
    wait_until(lambda: not of_the_container(identity), "the container goes on")
    wait_until(lambda: not cgroups_of(identity), "its cgroup stays")
    assert runs.left() != []
    assert runs(IMAGE, "true").returncode == 0
    assert runs.left() == []


def test_killed_launchers(runs: Runs) -> None:
    """The container's monitor goes on without the launcher, and cleans up."""
    process = up(runs, TRAP)
    (launcher,) = children(process.pid)
    os.kill(launcher, signal.SIGKILL)
    process.send_signal(signal.SIGTERM)
    assert finish(process)[:2] == (7, b"got\n")
    assert runs.left() == []


def test_killed_monitors(runs: Runs) -> None:
    """The container dies with its monitor, the launcher cleans up, the client says so."""
    process = up(runs, UP)
    identity = container_id(runs)
    (launcher,) = children(process.pid)
    (monitor,) = children(launcher)
    os.kill(monitor, signal.SIGKILL)
    code, _, err = finish(process)
    assert code == 125
    assert b"ended without a word" in err
    assert not of_the_container(identity)
    assert not cgroups_of(identity)
    assert runs.left() == []


def test_killed_inits(runs: Runs) -> None:
    process = up(runs, UP)
    (launcher,) = children(process.pid)
    (monitor,) = children(launcher)
    (init,) = children(monitor)
    os.kill(init, signal.SIGKILL)
    assert finish(process)[0] == 137
    assert runs.left() == []


def test_everything_killed_at_once(runs: Runs) -> None:
    """What nobody is left to remove, the next run removes: state, cgroup, snapshot, files."""
    process = up(runs, UP, "--pids-limit=20")
    identity = container_id(runs)
    (launcher,) = children(process.pid)
    (monitor,) = children(launcher)
    for pid in (process.pid, launcher, monitor):
        os.kill(pid, signal.SIGSTOP)
    for pid in (process.pid, launcher, monitor):
        os.kill(pid, signal.SIGKILL)
    process.communicate()
    wait_until(lambda: not of_the_container(identity), "the container goes on")
    assert runs(IMAGE, "true").returncode == 0
    assert runs.left() == []
    assert not cgroups_of(identity)


def test_prune_sweeps_as_well(runs: Runs) -> None:
    process = up(runs, UP)
    process.kill()
    process.communicate()
    at = ("--root", str(runs.root), "--runroot", str(runs.runroot))
    runs.cli("prune", "--force", *at, check=True)
    assert runs.left() == []


def test_what_others_are_about_is_not_swept(runs: Runs) -> None:
    """Also by the command line of another store with the same directory for running things."""
    process = up(runs, TRAP)
    other = Runs(runs.root.parent / "other")
    other.runroot = runs.runroot
    assert runs(IMAGE, "true").returncode == 0
    assert other(IMAGE, "true").returncode == 0
    assert len(runs.left()) == 4
    process.send_signal(signal.SIGTERM)
    assert finish(process)[:2] == (7, b"got\n")
    assert runs.left() == []


def test_killed_network_guards(runs: Runs, tmp_path: Path) -> None:
    """The helper goes with its guard; the container runs on without a network."""
    helper = tmp_path / "pasta"
    helper.write_text(
        '#!/bin/sh\nwhile [ "$1" != --pid ]; do shift; done\necho $$ > "$2"\nexec sleep 66\n'
    )
    helper.chmod(0o755)
    runs.cli.env["PATH"] = f"{tmp_path}:{os.environ['PATH']}"
    process = up(runs, TRAP, network="pasta")
    runs.cli.env["PATH"] = os.environ["PATH"]
    before = set(children(process.pid))
    helpers = processes_with("sleep\x0066")
    assert len(helpers) == 1
    guards = [pid for pid in before if not _is_launcher(pid)]
    assert len(guards) == 1
    os.kill(guards[0], signal.SIGKILL)
    wait_until(lambda: not processes_with("sleep\x0066"), "the helper goes on")
    process.send_signal(signal.SIGTERM)
    assert finish(process)[:2] == (7, b"got\n")
    assert runs.left() == []


def _is_launcher(pid: int) -> bool:
    return b"launcher.py" in Path(f"/proc/{pid}/cmdline").read_bytes()

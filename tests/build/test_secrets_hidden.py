"""Secrets stay hidden where output comes in pieces, and agents end with the build."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from imgtools.build.events import StepOutput
from imgtools.build.execute.errors import CommandFailed
from imgtools.build.execute.ssh import agent_socket
from imgtools.build.options import SecretSource, SshSource
from imgtools.build.protocols import Output, RunSpec
from imgtools.task import Task
from tests.build.build_rig import BuildRig, ExecutorDouble
from tests.engine.run_rig import wait_until

SECRET = b"hunter2-hunter2"


class InPieces(ExecutorDouble):
    """Writes the secret in two pieces of a line without an end, and fails."""

    def _run(self, root: Path, spec: RunSpec, output: Output, task: Task) -> int:
        output(1, b"x" * 100 + SECRET[:7])
        output(2, b"aside\n")
        output(1, SECRET[7:] + b"y")
        return 3


def test_e69_a_secret_across_two_pieces_of_output(tmp_path: Path) -> None:
    rig = BuildRig(tmp_path, executor=InPieces())
    with pytest.raises(CommandFailed) as failed:
        rig.build("FROM scratch\nRUN x\n", secrets=(SecretSource(id="s", value=SECRET),))
    told = [event for event in rig.events if isinstance(event, StepOutput)]
    whole = b"".join(event.data for event in told if event.stream == 1)
    assert whole == b"x" * 100 + b"***y"
    assert b"".join(line for line in failed.value.tail if line != b"aside\n") == whole


AGENT = """
import sys, time
from imgtools.build.execute.ssh import agent_socket
from imgtools.build.options import SshSource
from imgtools.task import Task
with agent_socket(SshSource(id="x", keys=(sys.argv[1],)), sys.argv[2], task=Task()) as path:
    print(path, flush=True)
    time.sleep(600)
"""


@pytest.fixture(name="key")
def _key(tmp_path: Path) -> str:
    path = tmp_path / "key"
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return str(path)


def _processes(word: str) -> list[int]:
    """Those that have `word` in their arguments or environment."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            parts = [Path("/proc", name, each).read_bytes() for each in ("cmdline", "environ")]
        except OSError:
            continue
        if any(word.encode() in part for part in parts):
            found.append(int(name))
    return found


def test_e70_an_agent_for_keys_ends_with_a_build_that_is_killed(tmp_path: Path, key: str) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    with subprocess.Popen(
        [sys.executable, "-c", AGENT, key, str(scratch)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        socket = process.stdout.readline().strip()
        assert socket.startswith(str(scratch))
        assert len(_processes(str(scratch))) > 1
        process.send_signal(signal.SIGKILL)
    wait_until(lambda: not _processes(str(scratch)), "an agent is left")


def test_e70_an_agent_for_keys_knows_nothing_but_them(
    tmp_path: Path, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN", "hunter2-hunter2")
    source = SshSource(id="x", keys=(key,))
    with agent_socket(source, str(tmp_path), task=Task()) as path:
        others = set(_processes(path)) - {os.getpid()}
        assert others
        assert not others & set(_processes("hunter2-hunter2"))
        env = {"SSH_AUTH_SOCK": path, "PATH": os.environ["PATH"]}
        listed = subprocess.run(["ssh-add", "-l"], env=env, capture_output=True, check=True)
        assert listed.stdout.count(b"\n") == 1
    assert not _processes(path)

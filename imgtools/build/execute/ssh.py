"""Agents for --mount=type=ssh: one that runs, or one started for the keys that were given."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from imgtools.blob.files import storage_errors
from imgtools.build.options import SshSource
from imgtools.errors import InvalidInput, Unsupported
from imgtools.task import Task

PATIENCE = 10.0
"""Seconds that an agent has to open its socket, to take a key, and to end."""
SHELL = "/bin/sh"
WATCHED = 'exec 3<&0 </dev/null; { read -r end; kill $$; } <&3 & exec "$0" -D -a "$1" 3<&-'
"""An agent that ends with its shell's standard input: also when the build is killed, for it has
keys. The kernel's own means is of no use for a program that is set-group-id."""


@contextmanager
def agent_socket(source: SshSource, scratch: str, *, task: Task) -> Iterator[str]:
    """The socket of an agent, for the block. Keys with a passphrase are refused: there is
    nobody to ask. Raises InvalidInput, Unsupported (keys were given, no ssh-agent is there)."""
    if source.socket:
        yield source.socket
        return
    programs = {name: shutil.which(name) for name in ("ssh-agent", "ssh-add")}
    missing = [name for name, path in programs.items() if path is None]
    if missing:
        raise Unsupported(
            f"keys for --ssh without {missing[0]}", hint="install it, or name an agent's socket"
        )
    with storage_errors(scratch):
        temporary = tempfile.TemporaryDirectory(dir=scratch)
    with temporary as directory:
        socket = os.path.join(directory, "agent")
        command = [SHELL, "-c", WATCHED, str(programs["ssh-agent"]), socket]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env={"PATH": os.defpath}, start_new_session=True,
        ) as agent:  # fmt: skip
            try:
                _await_socket(socket, agent, task)
                for key in source.keys:
                    _add(str(programs["ssh-add"]), socket, key)
                yield socket
            finally:
                # Its standard input first, so that nobody is left to end what has this pid then.
                assert agent.stdin is not None
                agent.stdin.close()
                with suppress(subprocess.TimeoutExpired):
                    agent.wait(PATIENCE)
                agent.kill()


def _await_socket(socket: str, agent: subprocess.Popen[bytes], task: Task) -> None:
    deadline = time.monotonic() + PATIENCE
    while not os.path.exists(socket):
        if agent.poll() is not None or time.monotonic() > deadline:
            raise InvalidInput("ssh-agent did not start")
        task.cancel.wait(0.01)


def _add(program: str, socket: str, key: str) -> None:
    env = {"SSH_AUTH_SOCK": socket, "PATH": os.defpath}
    try:
        done = subprocess.run(
            [program, "-q", key], env=env, stdin=subprocess.DEVNULL, capture_output=True,
            timeout=PATIENCE, check=False, start_new_session=True,
        )  # fmt: skip
    except subprocess.TimeoutExpired as e:
        raise InvalidInput(f"ssh key {key}: ssh-add did not end") from e
    if done.returncode:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
        reason = lines[-1] if lines else "it was refused"
        raise InvalidInput(f"ssh key {key}: {reason}", hint="keys may not have a passphrase here")

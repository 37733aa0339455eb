"""What containerd's shim asks of a runtime, call by call, and bundles that umoci unpacked.

The calls are those of go-runc, which containerd runs runtimes with: everything by options, state
and errors as JSON.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.runtime.spec.defaults import default_config
from tests.engine.peers import launcher, tree
from tests.engine.screen import LIMIT


class Shim:
    """A runtime as a shim calls it, with one container `c`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.log = directory / "log.json"
        self.pid_file = directory / "init.pid"
        self.bundle = directory / "bundle"
        tree(self.bundle / "rootfs")
        for name in ("proc", "dev", "sys", "tmp"):
            (self.bundle / "rootfs" / name).mkdir()
        self.program = launcher(directory)
        self.stdout = directory / "stdout"

    def configure(self, *args: str, terminal: bool = False) -> None:
        config: dict[str, Any] = default_config(rootless=False)
        config["linux"]["cgroupsPath"] = f"/imgtools-test-{os.urandom(6).hex()}/c"
        config["process"] |= {"args": args, "terminal": terminal, "rlimits": []}
        (self.bundle / "config.json").write_text(json.dumps(config))

    def __call__(self, *words: str, code: int = 0, stdin: bytes = b"") -> str:
        """Run a command with the global options of go-runc; what it prints."""
        with self.stdout.open("wb") as out:
            done = subprocess.run(
                [self.program, "--root", str(self.directory / "root"), "--log", str(self.log),
                 "--log-format", "json", *words],
                cwd="/", input=stdin, stdout=out, stderr=out, timeout=LIMIT, check=False,
            )  # fmt: skip
        text = self.stdout.read_text()
        assert done.returncode == code, (words, done.returncode, text)
        return text

    def error(self) -> str:
        """The last error in the log, where go-runc looks for it."""
        lines = [json.loads(line) for line in self.log.read_text().splitlines()]
        found: str = next(line["msg"] for line in reversed(lines) if line["level"] == "error")
        return found

    def create(self, *options: str) -> int:
        self("create", "--bundle", str(self.bundle), "--pid-file", str(self.pid_file), *options,
             "c")  # fmt: skip
        return int(self.pid_file.read_text())

    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self("state", "c"))
        return found

    def await_stopped(self) -> None:
        end = time.monotonic() + LIMIT
        while self.state()["status"] != "stopped":
            assert time.monotonic() < end
            time.sleep(0.02)


@pytest.fixture
def shim(tmp_path: Path) -> Iterator[Shim]:
    made = Shim(tmp_path)
    yield made
    made("delete", "--force", "c")


def test_a_task_from_create_to_delete(shim: Shim, tmp_path: Path) -> None:
    shim.configure("sh", "-c", "trap 'exit 5' TERM; while :; do sleep 0.05; done")
    assert "version" in shim("--version").splitlines()[0]
    pid = shim.create()
    state = shim.state()
    assert (state["status"], state["pid"], state["bundle"]) == ("created", pid, str(shim.bundle))
    shim("start", "c")
    assert shim.state()["status"] == "running"
    assert pid in json.loads(shim("ps", "--format", "json", "c"))
    process = json.loads((shim.bundle / "config.json").read_text())["process"]
    process |= {"args": ["sh", "-c", "echo $0 > /proc/1/root/tmp/by-exec"]}
    (tmp_path / "process.json").write_text(json.dumps(process))
    exec_pid = tmp_path / "exec.pid"
    shim("exec", "--process", str(tmp_path / "process.json"), "--pid-file", str(exec_pid),
         "--detach", "c")  # fmt: skip
    assert int(exec_pid.read_text()) not in (0, pid)
    shim("update", "--resources", "-", "c", stdin=b"{}")
    assert [one["id"] for one in json.loads(shim("list", "--format=json"))] == ["c"]
    shim("kill", "c", str(signal.SIGTERM.value))
    shim.await_stopped()
    shim("kill", "--all", "c", "9")
    shim("delete", "c")
    shim("state", "c", code=1)
    assert "does not exist" in shim.error()


def test_a_terminal_goes_to_the_console_socket(shim: Shim, tmp_path: Path) -> None:
    shim.configure("sh", "-c", "tty; echo done", terminal=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "console"))
        listener.listen()
        shim.create("--console-socket", str(tmp_path / "console"))
        end, _ = listener.accept()
        with end:
            _, (master,), _, _ = socket.recv_fds(end, 4096, 1)
    shim("start", "c")
    said = b""
    while b"done" not in said:
        said += os.read(master, 4096)
    os.close(master)
    assert said.startswith(b"/dev/pts/0")


def test_errors_are_told_as_a_shim_reads_them(shim: Shim) -> None:
    shim.configure("nosuch")
    shim("create", "--bundle", str(shim.bundle), "c", code=1)
    assert 'exec: "nosuch": executable file not found in $PATH' in shim.error()
    for words, text in (
        (("start", "c"), "does not exist"),
        (("kill", "c", "9"), "does not exist"),
        (("events", "--stats", "c"), "no such command"),
        (("checkpoint", "c"), "no such command"),
        (("restore", "c"), "no such command"),
        (("create", "--bundle", "/nowhere", "c"), "/nowhere"),
    ):
        shim(*words, code=1)
        assert text in shim.error(), words
    shim("delete", "--force", "c")


def test_a_bundle_that_umoci_unpacked(shim: Shim, tmp_path: Path) -> None:
    layout, bundle = tmp_path / "layout", tmp_path / "unpacked"
    for words in (
        ("init", "--layout", str(layout)),
        ("new", "--image", f"{layout}:x"),
        ("config", "--image", f"{layout}:x", "--config.cmd=sh", "--config.cmd=-c",
         "--config.cmd=echo $WHO; id -u", "--config.env=WHO=umoci", "--config.env=PATH=/bin",
         "--config.user=7"),
        ("insert", "--image", f"{layout}:x", str(shim.bundle / "rootfs"), "/"),
        ("unpack", "--image", f"{layout}:x", str(bundle)),
    ):  # fmt: skip
        subprocess.run(["umoci", *words], check=True, capture_output=True, timeout=LIMIT)
    config = json.loads((bundle / "config.json").read_text())
    # umoci's has a terminal; and limits that not everybody may set.
    config["process"] |= {"terminal": False, "rlimits": []}
    (bundle / "config.json").write_text(json.dumps(config))
    assert shim("run", "--bundle", str(bundle), "c") == "umoci\n7\n"
    shutil.rmtree(bundle)

"""The commands do to real containers what runc's do, and say what podman understands."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.runtime.spec.defaults import default_config
from tests.engine.screen import LIMIT, Screen
from tests.rig import REPOSITORY

APPLETS = ("cat", "echo", "false", "id", "kill", "ls", "sh", "sleep", "stty", "true", "tty")
# podman's expressions for what becomes exit code 127 and 126 (its errors of OCI runtimes).
NOT_FOUND = r"(?i).*executable file not found in.*|.*no such file or directory.*"
NOT_PERMITTED = r"(?i).*permission denied.*|.*operation not permitted.*"


class Runtime:
    """imgtools-runtime, or a peer, with state and a bundle of the test's own."""

    def __init__(self, directory: Path, *command: str) -> None:
        self.command = command
        self.root = directory / "state"
        self.bundle = directory / "bundle"
        binaries = self.bundle / "rootfs/bin"
        binaries.mkdir(parents=True)
        for name in ("proc", "dev", "sys", "tmp"):
            (self.bundle / "rootfs" / name).mkdir()
        busybox = shutil.which("busybox")
        assert busybox is not None, "busybox (static) is needed"
        shutil.copy(busybox, binaries / "busybox")
        for name in APPLETS:
            (binaries / name).symlink_to("busybox")
        (binaries / "text").write_text("no program\n")
        self.configure("true")

    def configure(self, *args: str, terminal: bool = False, **process: object) -> None:
        """Write a config.json that runs `args`, in a cgroup that no other test has."""
        config: dict[str, Any] = default_config(rootless=False)
        config["ociVersion"] = "1.0.2"
        config["linux"]["cgroupsPath"] = f"/imgtools-test-{os.urandom(6).hex()}"
        config["process"] |= {"args": args, "terminal": terminal, "rlimits": [], **process}
        (self.bundle / "config.json").write_text(json.dumps(config))

    def words(self, *words: str) -> list[str]:
        """A whole command line."""
        return [*self.command, "--root", str(self.root), *words]

    def __call__(self, *words: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a command in the bundle."""
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), **options.pop("env", {})}
        options = {"stdin": subprocess.DEVNULL, "start_new_session": True, **options}
        return subprocess.run(
            self.words(*words),
            cwd=self.bundle,
            env=environment,
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
            **options,
        )

    def ok(self, *words: str, **options: Any) -> str:
        """The output of a command that has to succeed."""
        done = self(*words, **options)
        assert done.returncode == 0, done.stderr
        assert isinstance(done.stdout, str)
        return done.stdout

    def spawned(self, *words: str) -> str:
        """The output of a command whose container goes on, with our streams as its own.

        They are a file: a pipe would not end before the container does.
        """
        with open(self.bundle / "output", "w+") as file:
            done = subprocess.run(
                self.words(*words),
                cwd=self.bundle,
                env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                timeout=LIMIT,
                check=False,
            )
            file.seek(0)
            said = file.read()
        assert done.returncode == 0, said
        return said

    def state(self, name: str) -> dict[str, Any]:
        """What `state` prints."""
        found: dict[str, Any] = json.loads(self.ok("state", name))
        return found

    def await_status(self, name: str, status: str) -> dict[str, Any]:
        """The state once it is that."""
        end = time.monotonic() + LIMIT
        while (state := self.state(name))["status"] != status:
            assert time.monotonic() < end, state
            time.sleep(0.02)
        return state


def ours(directory: Path) -> Runtime:
    """The command under test."""
    return Runtime(directory, sys.executable, "-m", "engine.cli")


def peers(directory: Path) -> list[Runtime]:
    """Other runtimes that are installed and work on this machine."""
    found = []
    for name in ("runc", "crun"):
        if shutil.which(name):
            runtime = Runtime(directory / name, name)
            if runtime("run", "trial").returncode == 0:
                found.append(runtime)
    return found


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[Runtime]:
    """Ours; what a test leaves behind is deleted."""
    made = ours(tmp_path / "ours")
    yield made
    for one in json.loads(made("list", "--format", "json").stdout or "[]"):
        made("delete", "--force", one["id"])


def test_life_of_a_container(runtime: Runtime) -> None:
    """create, start, kill, delete, each with its status; what comes too late is an error."""
    runtime.configure("sleep", "60")
    pid_file = runtime.bundle / "pid"
    runtime.spawned("create", "--pid-file", "pid", "c")
    state = runtime.state("c")
    assert (state["status"], state["pid"]) == ("created", int(pid_file.read_text()))
    assert state["bundle"] == str(runtime.bundle)
    runtime.ok("start", "c")
    assert runtime.state("c")["status"] == "running"
    again = runtime("start", "c")
    assert again.returncode == 1
    assert "cannot start" in again.stderr
    refused = runtime("delete", "c")
    assert "cannot delete container c that is not stopped: running" in refused.stderr
    runtime.ok("kill", "c", "KILL")
    assert runtime.await_status("c", "stopped")["pid"] == 0
    assert runtime("kill", "c", "TERM").returncode == 1
    runtime.ok("delete", "c")
    assert runtime("state", "c").returncode == 1
    assert runtime("delete", "c").returncode == 1
    runtime.ok("delete", "--force", "c")
    assert list(runtime.root.iterdir()) == []


def test_list_and_ps(runtime: Runtime) -> None:
    """Tables and JSON."""
    assert runtime.ok("list", "-q") == ""
    for name in ("b", "a"):
        runtime.configure("sleep", "60")
        runtime.spawned("run", "--detach", name)
    assert runtime.ok("list", "-q") == "a\nb\n"
    title, first, _ = runtime.ok("list").splitlines()
    assert title.split() == ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]
    pid = runtime.state("a")["pid"]
    assert first.split()[:4] == ["a", str(pid), "running", str(runtime.bundle)]
    listed = json.loads(runtime.ok("list", "-f=json"))
    assert [one["id"] for one in listed] == ["a", "b"]
    assert json.loads(runtime.ok("ps", "-f", "json", "a")) == [pid]
    assert f" {pid} " in f" {' '.join(runtime.ok('ps', 'a').split())} "
    assert runtime("list", "--format", "xml").returncode == 1


def test_several_by_regular_expression(runtime: Runtime) -> None:
    """crun's option of `kill` and `delete`."""
    for name in ("test-1", "test-2", "other"):
        runtime.configure("sleep", "60")
        runtime.spawned("run", "-d", name)
    runtime.ok("kill", "--regex", "^test-[0-9]$", "9")
    for name in ("test-1", "test-2"):
        runtime.await_status(name, "stopped")
    assert runtime.state("other")["status"] == "running"
    runtime.ok("delete", "-r", "test")
    assert runtime.ok("list", "-q") == "other\n"
    assert runtime("kill", "-r", "(").returncode == 1
    runtime.ok("delete", "--force", "--regex", ".")
    assert runtime.ok("list", "-q") == ""


def test_pause_update_resume(runtime: Runtime) -> None:
    """What the cgroup is for; limits by options and from standard input."""
    runtime.configure("sleep", "60")
    runtime.spawned("run", "-d", "c")
    runtime.ok("pause", "c")
    assert runtime.state("c")["status"] == "paused"
    assert runtime("pause", "c").returncode == 1
    runtime.ok("resume", "c")
    assert runtime.state("c")["status"] == "running"
    runtime.ok("update", "c")
    wrong = runtime("update", "--resources", "-", "c", stdin=None, input='{"cpu": {"shares": -1}}')
    assert wrong.returncode == 1
    assert "resources.cpu.shares: expected an unsigned" in wrong.stderr
    assert "size" not in runtime("update", "--memory", "1x", "c").stdout


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (("nosuch",), 127, NOT_FOUND),
        (("/bin/nosuch",), 127, NOT_FOUND),
        (("/proc",), 126, NOT_PERMITTED),
        (("/bin/text",), 126, None),
    ],
)
def test_programs_that_cannot_run(
    runtime: Runtime, args: tuple[str, ...], code: int, said: str | None, tmp_path: Path
) -> None:
    """Exit codes like a shell's; podman recognises the message, as it does that of peers."""
    runtime.configure(*args)
    log = tmp_path / "log"
    done = runtime("--log", str(log), "--log-format", "json", "run", "c")
    document = json.loads(log.read_text())
    assert (done.returncode, document["level"]) == (code, "error")
    if said is not None:
        assert re.search(said, document["msg"])
        for peer in peers(tmp_path):
            peer.configure(*args)
            assert re.search(said, peer("run", "c").stderr)
    assert runtime.ok("list", "-q") == ""


@pytest.mark.parametrize(("script", "code"), [("exit 0", 0), ("exit 3", 3), ("exit 255", 255)])
def test_r9_run_ends_with_the_programs_code(runtime: Runtime, script: str, code: int) -> None:
    """And nothing is left; with --keep the state is."""
    runtime.configure("sh", "-c", f"echo out; echo err >&2; {script}")
    done = runtime("run", "c")
    assert (done.returncode, done.stdout, done.stderr) == (code, "out\n", "err\n")
    assert runtime.ok("list", "-q") == ""
    assert runtime("run", "--keep", "c").returncode == code
    assert runtime.state("c")["status"] == "stopped"


def test_run_passes_signals_on(runtime: Runtime) -> None:
    """Like the shell that a person presses Ctrl-C in."""
    runtime.configure(
        "sh", "-c", "trap 'echo got; exit 5' TERM; echo go; while :; do sleep .1; done"
    )
    command = runtime.words("run", "c")
    with subprocess.Popen(
        command,
        cwd=runtime.bundle,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "go\n"
        process.terminate()
        assert process.stdout.read() == "got\n"
        assert process.wait(LIMIT) == 5


def test_run_in_a_terminal(runtime: Runtime) -> None:
    """Both ends have one size, and the outer is restored."""
    runtime.configure("sh", "-c", "tty; stty size; exit 6", terminal=True)
    screen = Screen()
    before = screen.mode()
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    with screen.start(runtime.words("run", "c"), cwd=runtime.bundle, env=environment) as process:
        assert screen.expect(b"24 80\r\n") == b"/dev/pts/0\r\n24 80\r\n"
        assert process.wait(LIMIT) == 6
    assert screen.mode() == before
    screen.close()


def test_terminal_needs_somebody(runtime: Runtime) -> None:
    """A socket if detached, none if there is no terminal."""
    runtime.configure("true", terminal=True)
    for words in (("create", "c"), ("run", "--detach", "c")):
        done = runtime(*words)
        assert done.returncode == 1
        assert "cannot allocate tty" in done.stderr
    assert "open /dev/tty" in runtime("run", "c").stderr
    runtime.configure("true")
    assert "cannot use console socket" in runtime("run", "--console-socket", "x", "c").stderr


def test_console_socket(runtime: Runtime, tmp_path: Path) -> None:
    """The master arrives as a descriptor."""
    runtime.configure("echo", "seen", terminal=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        runtime.spawned("create", "--console-socket", str(tmp_path / "s"), "c")
        end, _ = listener.accept()
        with end:
            _, (master,), _, _ = socket.recv_fds(end, 4096, 1)
    runtime.ok("start", "c")
    assert os.read(master, 4096).strip() == b"seen"
    os.close(master)


def test_errors_name_what_is_wrong(runtime: Runtime) -> None:
    """With exit code 1, and nothing made."""
    for words, said in (
        (("create",), '"create" requires exactly 1 argument'),
        (("create", "a/b"), "invalid character '/' in the container ID 'a/b'"),
        (("create", ".."), "invalid container ID '..'"),
        (("create", "--config", "nosuch.json", "c"), "nosuch.json not found"),
        (("create", "--bundle", "nosuch", "c"), "bundle nosuch: no such file"),
        (("create", "--preserve-fds", "x", "c"), "option --preserve-fds: expected a number"),
        (("state", "c"), "does not exist"),
        (("start", "c"), "does not exist"),
        (("kill", "c", "NOSUCH"), "unknown signal 'NOSUCH'"),
        (("checkpoint", "c"), "checkpoint: this runtime has no such command"),
        (("nosuch",), "unknown command 'nosuch'"),
        (("--systemd-cgroup", "list"), "--cgroup-manager=cgroupfs"),
        (("--cgroup-manager=systemd", "list"), "systemd"),
        (("--rootless=maybe", "list"), "--rootless: expected true, false or auto"),
        (("--root=/", "list"), "--root: expected a directory of its own"),
        (("--log-format=xml", "list"), "--log-format"),
    ):
        done = runtime(*words)
        assert (done.returncode, done.stdout) == (1, ""), words
        assert done.stderr.startswith("imgtools-runtime: ")
        assert said in done.stderr
    assert not runtime.root.exists() or list(runtime.root.iterdir()) == []


def test_error_in_config_is_named(runtime: Runtime) -> None:
    """By the path of the property, before anything is made."""
    path = runtime.bundle / "config.json"
    config = json.loads(path.read_text())
    config["linux"]["namespaces"].append({"type": "net"})
    path.write_text(json.dumps(config))
    said = runtime("create", "c").stderr
    assert "linux.namespaces[6].type: expected a namespace" in said
    path.write_text("{")
    assert "config.json: " in runtime("create", "c").stderr
    path.write_text(json.dumps(config | {"ociVersion": "2.0.0"}))
    assert "ociVersion: expected a version" in runtime("create", "c").stderr


def test_config_by_another_name(runtime: Runtime, tmp_path: Path) -> None:
    """crun's option, relative to where the command runs; a newer version is noted."""
    config = json.loads((runtime.bundle / "config.json").read_text())
    config["process"]["args"] = ["echo", "other"]
    config["ociVersion"] = "1.9.0"
    (runtime.bundle / "other.json").write_text(json.dumps(config))
    done = runtime("run", "--config", "other.json", "--bundle", str(runtime.bundle), "c")
    assert done.stdout == "other\n"
    assert "ociVersion: 1.9.0 is newer" in done.stderr


def test_activation_sockets_are_passed(runtime: Runtime) -> None:
    """LISTEN_FDS is for the process whose id it names, and not for its children."""
    script = (
        "import os, sys; os.environ['LISTEN_PID'] = str(os.getpid());"
        "os.dup2(int(os.environ['FD']), 3); os.execv(sys.argv[1], sys.argv[1:])"
    )
    runtime.configure("sh", "-c", "echo $LISTEN_FDS $LISTEN_PID; cat <&3")
    runtime.command = (sys.executable, "-c", script, *runtime.command)
    read, write = os.pipe()
    os.write(write, b"sent\n")
    os.close(write)
    out = runtime.ok("run", "c", pass_fds=(read,), env={"LISTEN_FDS": "1", "FD": str(read)})
    os.close(read)
    assert out == "1 1\nsent\n"


def test_exec(runtime: Runtime, tmp_path: Path) -> None:
    """By options and by a process.json; codes as `run` has them, 255 for what is our failure."""
    runtime.configure("sleep", "60", env=["PATH=/bin", "A=1"])
    runtime.spawned("run", "-d", "c")
    assert runtime.ok("exec", "-e", "B=2", "c", "sh", "-c", "echo $A $B") == "1 2\n"
    assert runtime.ok("exec", "--user", "7:8", "c", "id", "-u") == "7\n"
    assert runtime.ok("exec", "--cwd", "/tmp", "c", "sh", "-c", "pwd") == "/tmp\n"
    assert runtime("exec", "c", "sh", "-c", "exit 9").returncode == 9
    assert runtime("exec", "c", "sh", "-c", "kill -9 $$").returncode == 137
    process = tmp_path / "process.json"
    document = {"args": ["echo", "json"], "cwd": "/", "env": ["PATH=/bin"]}
    process.write_text(json.dumps(document))
    assert runtime.ok("exec", "--process", str(process), "c") == "json\n"
    process.write_text(json.dumps(document | {"args": []}))
    for words, code, said in (
        (("c", "nosuch"), 127, NOT_FOUND),
        (("c", "/bin/text"), 126, ""),
        (("c", "/proc"), 126, NOT_PERMITTED),
        (("c",), 255, "exec: no command"),
        (("--user", "0x0", "c", "true"), 255, "option --user"),
        (("--cwd", "/nosuch", "c", "true"), 255, "(?i)no such file or directory"),
        (("--process", str(process), "c"), 255, "process.args: expected at least one"),
        (("--process", "nosuch", "c"), 255, "read nosuch: no such file"),
        (("nosuch", "true"), 255, "does not exist"),
        (("-t", "c", "true"), 255, "open /dev/tty"),
        (("-d", "-t", "c", "true"), 255, "cannot allocate tty"),
        (("--cgroup", "cpu:/x", "c", "true"), 255, "option --cgroup"),
        (("--cgroup", "../x", "c", "true"), 255, "option --cgroup"),
        (("--cap", "CAP_NOSUCH", "c", "true"), 255, "unknown capability"),
    ):
        done = runtime("exec", *words)
        assert (done.returncode, done.stdout) == (code, ""), (words, done.stderr)
        assert re.search(said, done.stderr), (words, done.stderr)


def test_closed_streams_are_nothing_s(runtime: Runtime) -> None:
    """What is opened first would be the program's standard input or output."""
    link = "busybox readlink /proc/self/fd"
    runtime.configure("sh", "-c", f"{link}/0 && {link}/2 && echo x >&2")
    command = shlex.join(runtime.words("run", "c"))
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        ["sh", "-c", f"exec {command} <&- 2>&-"],
        cwd=runtime.bundle,
        env=environment,
        stdout=subprocess.PIPE,
        timeout=LIMIT,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, b"/dev/null\n/dev/null\n")


def test_exec_detached(runtime: Runtime) -> None:
    """It goes on, and its id is written."""
    runtime.configure("sleep", "60")
    runtime.spawned("run", "-d", "c")
    runtime.spawned("exec", "-d", "--pid-file", "pid", "c", "sleep", "50")
    pids = json.loads(runtime.ok("ps", "-f", "json", "c"))
    assert int((runtime.bundle / "pid").read_text()) in pids
    assert len(pids) == 2


def test_exec_in_a_terminal(runtime: Runtime) -> None:
    """A second one, beside what the container has."""
    runtime.configure("sleep", "60")
    runtime.spawned("run", "-d", "c")
    screen = Screen()
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    command = runtime.words("exec", "-t", "c", "sh", "-c", "stty size; exit 8")
    with screen.start(command, cwd=runtime.bundle, env=environment) as process:
        assert screen.expect(b"24 80\r\n") == b"24 80\r\n"
        assert process.wait(LIMIT) == 8
    screen.close()


def test_spec_is_written_once(runtime: Runtime, tmp_path: Path) -> None:
    """A config.json that is there stays as it is; nothing else is left."""
    out = tmp_path / "out"
    out.mkdir()
    runtime.ok("spec", "--bundle", str(out))
    assert json.loads((out / "config.json").read_text()) == default_config(rootless=False)
    done = runtime("spec", "-b", str(out))
    assert done.returncode == 1
    assert "exists already" in done.stderr
    runtime.ok("spec", "--rootless", "--file", str(out / "two.json"))
    assert sorted(path.name for path in out.iterdir()) == ["config.json", "two.json"]


def test_state_and_list_have_the_shape_of_peers(runtime: Runtime, tmp_path: Path) -> None:
    """The same names with the same types."""
    runtime.configure("sleep", "60")
    runtime.spawned("run", "-d", "c")
    expected = runtime.state("c")
    listed = json.loads(runtime.ok("list", "-f", "json"))
    for peer in peers(tmp_path):
        peer.configure("sleep", "60")
        peer.spawned("run", "-d", "c")
        for theirs, mine in (
            (peer.state("c"), expected),
            (json.loads(peer.ok("list", "-f", "json"))[0], listed[0]),
        ):
            # A name that is ours alone is an error too, so both ways.
            assert {k: type(v) for k, v in mine.items()} == {k: type(v) for k, v in theirs.items()}
        peer("delete", "-f", "c")

"""RUN --mount of caches, secrets, scripts, memory and agents, with both drivers: who sees them,
for how long, and that no layer has anything of them."""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from imgtools.build.protocols import CommitOptions, MountSource, StepMount
from imgtools.errors import Cancelled, Error, InvalidInput, NotFound
from imgtools.task import CancelToken, Task
from tests.engine.builds_mounts import bind, cache, make_context, running
from tests.engine.builds_rig import Build, build_of, members
from tests.engine.layer_tools import DRIVERS, working_directory
from tests.engine.run_rig import wait_until

TASK = Task()
SECRET = b"correct horse battery staple\n"
LONG = "touch /c/mine; echo up; sleep 600"


@pytest.fixture(name="build", params=DRIVERS, scope="module")
def _build(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Build]:
    with (
        working_directory(tmp_path_factory.mktemp("caches")) as path,
        build_of(path, request.param) as build,
    ):
        yield build


@pytest.fixture(name="context")
def _context(tmp_path: Path) -> Path:
    return make_context(tmp_path)


def test_e71_caches_stay(build: Build) -> None:
    """After steps that fail too; by name alone; with the owner and mode of the first."""
    first = build.step("echo 1 >/c/f; stat -c '%u:%g %a' /c", cache(mode=0o711, uid=3, gid=4))
    assert (first.text, first.paths) == ("3:4 711\n", [])
    working = build.store.prepare(build.base, task=TASK)
    ran = build.run(working, "sh", "-c", "echo 2 >>/x/f; exit 3", mounts=(cache("/x", mode=0),))
    build.store.discard(working)
    assert ran.code == 3
    assert build.step("cat /c/f", cache()).text == "1\n2\n"
    assert build.step("ls -A /c", cache(cache="other")).text == ""
    read_only = cache(read_only=True)
    assert build.step("! touch /c/g 2>/dev/null; cat /c/f", read_only).text == "1\n2\n"


def test_caches_begin_with_a_source(build: Build, context: Path) -> None:
    source = MountSource(directory=str(context), path="sub", ignored="sub/secret".__eq__)
    filled = cache(cache="filled", source=source)
    assert build.step("ls /c; rm /c/file", filled).text == "deep\nfile\n"
    assert build.step("ls /c", filled).text == "deep\n"
    assert (context / "sub/file").exists()
    missing = MountSource(directory=str(context), path="nothing")
    with pytest.raises(NotFound):
        build.step("true", cache(cache="none", source=missing))
    assert build.step("ls -A /c", cache(cache="none")).text == ""


def test_f4_names_of_caches_are_no_paths(build: Build) -> None:
    """CVE-2024-9675."""
    marker = build.directory / "marker"
    for name in (f"../../..{build.directory}", "/etc", "..", "", "a/b", "x" * 5000, "\n"):
        done = build.step("ls -A /c; echo >/c/marker", cache(cache=name))
        assert done.text == "", name
    assert not marker.exists()
    assert not Path("/etc/marker").exists()
    store = build.directory / "store/imgtools/cachemounts"
    assert all(len(path.name) == 64 for path in store.iterdir())


def test_e71_locked_caches_are_waited_for(build: Build) -> None:
    mount = cache(cache="locked", sharing="locked")
    with running(build, mount, "echo up; sleep 0.3; touch /c/done"):
        assert build.step("ls /c", mount).text == "done\n"
    token = CancelToken()
    with running(build, mount, LONG):
        threading.Timer(0.1, token.cancel).start()
        working = build.store.prepare(build.base, task=TASK)
        with pytest.raises(Cancelled):
            build.run(working, "true", mounts=(mount,), task=Task(cancel=token))
        build.store.discard(working)
    twice = build.step("touch /c/a; ls /d/a", mount, cache("/d", cache="locked", sharing="locked"))
    assert twice.text == "/d/a\n"


def test_e71_private_and_shared_caches(build: Build) -> None:
    private = cache(cache="private", sharing="private")
    with running(build, private, LONG):
        assert build.step("ls -A /c", private).text == ""
    assert build.step("ls -A /c", private).text == "mine\n"
    shared = cache(cache="both")
    with running(build, shared, LONG):
        assert build.step("ls -A /c", shared).text == "mine\n"
    with pytest.raises(InvalidInput, match="sometimes"):
        build.step("true", cache(sharing="sometimes"))


def test_memory(build: Build) -> None:
    tmpfs = StepMount(kind="tmpfs", target="/t", size=1 << 20)
    script = "! head -c 2000000 /dev/zero 2>/dev/null >/t/x; grep -c ' /t tmpfs' /proc/mounts"
    done = build.step(script, tmpfs)
    assert (done.code, done.text.splitlines()[-1], done.paths) == (0, "1", [])


def secret(**more: Any) -> StepMount:
    """A secret."""
    given = {"target": "/run/secrets/s", "content": SECRET, "read_only": True, **more}
    return StepMount(kind="secret", **given)


def test_e69_secrets_are_files_in_memory(build: Build) -> None:
    show = "cat /run/secrets/s; stat -c '%u:%g %a %s' /run/secrets/s"
    done = build.step(show, secret())
    assert done.text == SECRET.decode() + f"0:0 400 {len(SECRET)}\n"
    others = build.step(show, secret(uid=1000, gid=10, mode=0o440), user="joe").text
    assert others.endswith(f"1000:10 440 {len(SECRET)}\n")
    one = secret(target="/etc/one", content=b"1\n")
    two = build.step("cat /etc/one /run/secrets/s", one, secret())
    assert two.text == "1\n" + SECRET.decode()
    assert [done.paths, two.paths] == [[], []]
    assert build.step("ls /run/secrets 2>/dev/null || echo none").text == "none\n"


def on_disk(directory: Path) -> list[str]:
    """Files that have the secret in them."""
    found = []
    for top, _, files in os.walk(directory):
        for name in files:
            path = Path(top, name)
            if path.is_file() and SECRET.strip() in path.read_bytes():
                found.append(str(path))
    return found


def test_s1_secrets_are_nowhere_on_disk(build: Build) -> None:
    """Not while the step runs, not in its layer, nor in an error, nor afterwards."""
    mount = secret(target="/c/secret")
    with running(build, mount, "grep -q horse /c/secret && echo up; sleep 600"):
        assert on_disk(build.directory) == []
    done = build.step("grep -c horse /c/secret; ! echo 2>/dev/null >/c/secret", mount)
    assert (done.text.splitlines()[0], done.paths) == ("1", [])
    with pytest.raises(Error) as caught:
        build.step("true", mount, workdir="/c/secret/below")
    assert "horse" not in str(caught.value)
    assert on_disk(build.directory) == []


def test_scripts(build: Build) -> None:
    script = StepMount(kind="file", target="/dev/pipes/EOF", content=b"#!/bin/sh\necho $0 $1\n")
    assert build.step("/dev/pipes/EOF x", script).text == "/dev/pipes/EOF x\n"
    plain = StepMount(kind="file", target="/x", content=b"exit 3", mode=0o644)
    working = build.store.prepare(build.base, task=TASK)
    assert build.run(working, "sh", "/x", mounts=(plain,)).code == 3
    build.store.discard(working)


class Agent:
    """An SSH agent that answers with the number after that of the message."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.asked: list[int] = []
        self._listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listening.bind(str(path))
        self._listening.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            with connection:
                while len(head := connection.recv(4, socket.MSG_WAITALL)) == 4:
                    message = connection.recv(*struct.unpack(">I", head), socket.MSG_WAITALL)
                    self.asked.append(message[0])
                    connection.sendall(struct.pack(">IB", 6, message[0] + 1) + b"agent")

    def close(self) -> None:
        """End it."""
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join(10)


@pytest.fixture(name="agent")
def _agent(tmp_path: Path) -> Iterator[Agent]:
    agent = Agent(tmp_path / "agent")
    yield agent
    agent.close()


MESSAGES = (11, 13, 17, 18, 19, 22, 25, 27)


def answers(path: Path) -> list[tuple[int, int]]:
    """The kinds of answers to messages of each kind; a message that is too long ends it."""
    found = []
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        client.settimeout(20)
        for number in MESSAGES:
            whole = struct.pack(">IB", 2, number) + b"x"
            for part in (whole[:2], whole[2:5], whole[5:]):
                client.sendall(part)
            size, kind = struct.unpack(">IB", client.recv(5, socket.MSG_WAITALL))
            if size > 1:
                client.recv(size - 1, socket.MSG_WAITALL)
            found.append((number, kind))
        client.sendall(struct.pack(">I", 1 << 30))
        assert client.recv(1) == b""
    return found


def root_of(command: bytes) -> str:
    """The root of the process with that command line, as this one sees it, once it runs."""
    wait_until(lambda: found_root(command), "the step does not run")
    return found_root(command)


def found_root(command: bytes) -> str:
    """The same, "" if it does not run yet."""
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            same = Path(f"/proc/{name}/cmdline").read_bytes() == command
        except OSError:
            continue
        if same and os.path.exists(f"/proc/{name}/root/run/agent"):
            return f"/proc/{name}/root"
    return ""


def test_s2_an_agent_lists_and_signs_and_no_more(build: Build, agent: Agent) -> None:
    """No key is added, removed or locked through it, and no other message reaches it."""
    mount = StepMount(kind="ssh", target="/run/agent", socket=str(agent.path), uid=1000)
    done = build.step("stat -c '%F %u %a' /run/agent", mount, user="joe")
    assert (done.text, done.paths) == ("socket 1000 600\n", [])
    with running(build, mount, "echo up; exec sleep 6000"):
        found = answers(Path(root_of(b"sleep\x006000\x00"), "run/agent"))
    refused = [(number, 5) for number in MESSAGES[2:]]
    assert found == [(11, 12), (13, 14), *refused]
    assert agent.asked == [11, 13]


def test_an_agent_that_is_gone(build: Build, tmp_path: Path) -> None:
    """The connection ends; the step goes on."""
    mount = StepMount(kind="ssh", target="/run/agent", socket=str(tmp_path / "none"))
    with (
        running(build, mount, "echo up; exec sleep 6001"),
        socket.socket(socket.AF_UNIX) as client,
    ):
        client.connect(root_of(b"sleep\x006001\x00") + "/run/agent")
        client.sendall(struct.pack(">IB", 1, 11))
        assert client.recv(1) == b""


def test_nothing_of_mounts_is_in_layers(build: Build, context: Path) -> None:
    working = build.store.prepare(build.base, task=TASK)
    mounts = (bind(context), cache(), secret(), StepMount(kind="tmpfs", target="/t"))
    build.run(working, "sh", "-c", "echo >/c/x; echo >/t/y; echo >/z", mounts=mounts)
    made = build.store.commit(working, CommitOptions(), task=TASK)
    assert list(members(build.tar(made.chain_id))) == ["z"]

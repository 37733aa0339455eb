"""RUN in the containers of a build, with both drivers: its environment, what it leaves, what it
must not leave, and how it ends."""

from __future__ import annotations

import os
import resource
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.builds.executor import BuildExecutor
from engine.builds.settings import step_options
from engine.containers.engine import Engine
from engine.probe.model import Choice, Rejection
from imgtools.blob.tar import EntryType
from imgtools.build.protocols import HostSettings, RunSpec, Working
from imgtools.errors import Cancelled, Error, InvalidInput, Unsupported
from imgtools.task import CancelToken, Task
from tests.engine.builds_rig import PATH, Build, build_of, left_over
from tests.engine.layer_tools import (
    DRIVERS,
    PROJECT,
    directory,
    entries,
    file,
    python,
    symlink,
    whiteout,
    working_directory,
)
from tests.engine.run_rig import wait_until

TASK = Task()
ALIEN = 164
"""EM_HEXAGON, of which there is no Linux userland that a test's host could emulate."""


@pytest.fixture(name="build", params=DRIVERS, scope="module")
def _build(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Build]:
    with (
        working_directory(tmp_path_factory.mktemp("run")) as path,
        build_of(path, request.param) as build,
    ):
        yield build


def test_e63_a_missing_working_directory_is_made(build: Build) -> None:
    done = build.step("pwd", workdir="/not/there")
    assert (done.text, done.paths) == ("/not/there\n", ["not/", "not/there/"])


def test_e64_users_are_those_of_the_image(build: Build) -> None:
    for user, expected in (
        ("joe", "uid=1000(joe) gid=1000(joe) groups=10(wheel),1000(joe)"),
        ("joe:audio", "uid=1000(joe) gid=29(audio)"),
        ("4242", "uid=4242 gid=0(root)"),
        ("4242:17", "uid=4242 gid=17"),
    ):
        text = build.step("id", user=user).text.strip()
        assert expected in text, user
    with pytest.raises(Error, match="nobody-knows"):
        build.step("true", user="nobody-knows")
    linked = build.layer(whiteout("etc/passwd"), symlink("etc/passwd", "../../../etc/hostname"))
    with pytest.raises(Error, match="joe"):
        build.step("true", user="joe", on=linked)


def test_e65_the_environment(build: Build) -> None:
    found = set(build.step("env", user="joe", env=("A=1", "PATH=/bin:/x")).text.splitlines())
    assert found >= {
        "A=1", "PATH=/bin:/x", "HOME=/home/joe", "TERM=xterm", "HOSTNAME=build", "container=oci",
    }  # fmt: skip
    bare = build.step("env; hostname", env=()).text
    assert "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n" in bare
    assert bare.endswith("\nbuild\n")
    own = build.step("env", env=(PATH, "HOME=/h", "TERM=dumb", "HOSTNAME=x")).text
    assert {"HOME=/h", "TERM=dumb", "HOSTNAME=x"} <= set(own.splitlines())


def test_e66_exit_codes_and_signals(build: Build) -> None:
    working = build.store.prepare(build.base, task=TASK)
    for script, code in (("exit 7", 7), ("kill -TERM $$", 143), ("kill -9 $$", 137)):
        assert build.run(working, "sh", "-c", f"sh -c '{script}'; exit $?").code == code
    build.store.discard(working)
    working = build.store.prepare(build.base, task=TASK)
    for name, code in (("nothing", 127), ("/etc/passwd", 126)):
        with pytest.raises(Error) as caught:
            build.run(working, name)
        assert getattr(caught.value, "code", None) == code
    build.store.discard(working)


def test_e67_what_runs_in_the_background_ends(build: Build) -> None:
    began = time.monotonic()
    done = build.step("sleep 600 & (sleep 600 &) ; sleep 0 & echo $!")
    assert time.monotonic() - began < 60
    assert done.code == 0


def test_e68_nothing_is_on_standard_input(build: Build) -> None:
    assert build.step("cat; readlink /proc/self/fd/0; stty").text.startswith("/dev/null\n")


SHOWS = "for f in resolv.conf hosts hostname; do test -s /etc/$f && echo $f; done"
LINKED = (
    symlink("etc/resolv.conf", "/run/systemd/resolve/stub-resolv.conf"),
    symlink("etc/hosts", "../elsewhere/hosts"),
    file("etc/hostname", b""),
)


def test_e73_files_of_the_network_are_in_no_layer(build: Build) -> None:
    """They are links that lead nowhere, there is no /etc, they are edited."""
    cases = (
        (build.base, ["hosts", "hostname"]),
        (build.layer(*LINKED), ["hosts", "hostname"]),
        (build.layer(file("etc/resolv.conf", b"# mine\n")), ["hosts", "hostname"]),
    )
    for base, shown in cases:
        done = build.step(f"{SHOWS}; echo edited >>/etc/hosts", on=base)
        assert [name for name in done.text.split() if name != "resolv.conf"] == shown
        assert done.paths == []
    without = build.layer(whiteout("etc"))
    assert build.step("ls /etc", on=without, env=(PATH,)).paths == []


def test_e73_hosts_as_they_are_asked_for(build: Build) -> None:
    settings = HostSettings(
        add_hosts=("db:192.0.2.7",), dns=("192.0.2.53",), dns_search=("example.org",),
        dns_options=("ndots:3",), hostname="maker",
    )  # fmt: skip
    text = build.step("cat /etc/hosts /etc/resolv.conf; hostname", settings=settings).text
    for line in ("192.0.2.7\tdb", "nameserver 192.0.2.53", "search example.org", "options ndots:3"):
        assert line in text
    assert text.endswith("maker\n")
    mine = build.layer(file("etc/hosts", b"mine\n"), file("etc/hostname", b"own\n"))
    kept = HostSettings(no_hosts=True, no_hostname=True)
    done = build.step("cat /etc/hosts /etc/hostname", settings=kept, on=mine)
    assert (done.text, done.paths) == ("mine\nown\n", [])


def test_e74_the_root_is_taken_apart(build: Build) -> None:
    script = (
        "rm -rf /tmp /home; cp /bin/busybox /bin/new 2>/dev/null || cat /bin/busybox >/bin/new;"
        "chmod 755 /bin/new; mv /bin/new /bin/busybox; rmdir /proc /dev /sys 2>/dev/null;"
        "mkdir -p /var/run/x; rm -rf /var/run/*; rm /bin/sh; ln -s busybox /bin/sh; echo fine"
    )
    done = build.step(f"set +e; {script}")
    assert done.text == "fine\n"
    assert {".wh.tmp", ".wh.home", "bin/busybox", "var/run/"} <= set(done.paths)
    assert not {"proc/", "dev/", "sys/"} & set(done.paths)
    assert build.step("echo again", on=done.layer.chain_id).text == "again\n"


def test_e76_a_step_that_changes_nothing(build: Build) -> None:
    done = build.step("cat /etc/passwd >/dev/null; touch /x; rm /x")
    assert (done.layer.empty, done.layer.size, done.paths) == (True, 1024, [])


def test_e78_kinds_that_change(build: Build) -> None:
    base = build.layer(
        directory("d"), file("d/a"), file("d/b"), file("f"), symlink("l", "d"), directory("e")
    )
    done = build.step(
        "rm -r /d; echo >/d; rm /f; mkdir /f; rm /l; mkdir /l; echo >/l/x; mv /e /g", on=base
    )
    found = entries(done.tar)
    assert [found[n].type for n in ("d", "f/", "l/")] == [
        EntryType.FILE, EntryType.DIR, EntryType.DIR,
    ]  # fmt: skip
    assert {".wh.e", "g/", "l/x"} <= set(found)


def test_e80_steps_on_many_layers(build: Build) -> None:
    top = build.base
    for number in range(130):
        top = build.layer(file(f"n/{number}"), on=top)
    done = build.step("ls /n | wc -l; rm /n/0", on=top)
    assert (done.text.strip(), done.paths) == ("130", ["n/", "n/.wh.0"])


def test_e96_a_cancelled_step_leaves_nothing(build: Build) -> None:
    token = CancelToken()
    task = Task(cancel=token)
    working = build.store.prepare(build.base, task=TASK)
    threading.Timer(0.2, token.cancel, ("enough",)).start()
    with pytest.raises(Cancelled, match="enough"):
        build.run(working, "sleep", "600", task=task)
    build.store.discard(working)
    assert left_over(build.directory) == []


def test_limits_are_those_that_can_be_had(build: Build) -> None:
    """buildah asks for a million descriptors and fails where the hard limit is lower."""
    before = resource.getrlimit(resource.RLIMIT_CORE)
    settings = HostSettings(
        ulimits=(("RLIMIT_NOFILE", 1 << 30, 1 << 30), ("RLIMIT_CORE", 7, 9)),
        shm_size=1 << 20,
        memory=1 << 30,
        cpu_period=100000,
        cpu_quota=50000,
    )
    done = build.step("ulimit -c; df -k /dev/shm 2>/dev/null; true", settings=settings)
    assert done.code == 0
    assert resource.getrlimit(resource.RLIMIT_CORE) == before


def test_volumes_and_devices_of_the_command_line(build: Build) -> None:
    (build.directory / "volume").mkdir(exist_ok=True)
    settings = HostSettings(
        volumes=(f"{build.directory}/volume:/v",), devices=("/dev/null:/dev/nothing",),
        group_add=("audio", "77"), cap_drop=("CHOWN",),
    )  # fmt: skip
    done = build.step("echo x >/v/file; test -c /dev/nothing; id -G; ! chown 1 /v/file 2>/dev/null",
                      settings=settings)  # fmt: skip
    assert done.code == 0
    assert {"29", "77"} <= set(done.text.split())
    assert (build.directory / "volume/file").read_text() == "x\n"
    assert done.paths == []


def test_insecure_steps_have_all_capabilities(build: Build) -> None:
    show = "grep CapEff /proc/self/status"
    assert build.step(show).text != build.step(show, insecure=True).text
    chroot = Choice(kind="chroot", rung="D", why="chroot(2) works", hostname=False)
    with pytest.raises(Unsupported, match="insecure"):
        step_options(RunSpec(args=("x",), env=(), insecure=True), chroot)


def test_networks(build: Build) -> None:
    assert build.step("ls /sys/class/net", network="none").text == "lo\n"
    host = "\n".join(sorted(os.listdir("/sys/class/net"))) + "\n"
    assert build.step("ls /sys/class/net", network="host").text == host
    default = HostSettings(network="none")
    assert build.step("ls /sys/class/net", network="default", settings=default).text == "lo\n"
    with pytest.raises(Error, match="bridge0"):
        build.step("true", network="bridge0")


def never() -> Engine:
    """Fails where an engine was to be started."""
    raise AssertionError("an engine was started")


def test_nothing_can_be_run(build: Build) -> None:
    """Said before anything is started, with what would have to change."""
    why = "unshare(CLONE_NEWUSER): EPERM"
    choice = Choice(
        kind="none", rung="none", why="nothing works here",
        rejected=(Rejection(kind="ranges", why=why, remedy="allow user namespaces"),),
        improve=("allow user namespaces",),
    )  # fmt: skip
    executor = BuildExecutor(choice, never)
    isolation = executor.isolation
    assert not isolation.runs
    assert why in isolation.reason
    assert "allow user namespaces" in isolation.reason
    working = build.store.prepare(build.base, task=TASK)
    with pytest.raises(Unsupported, match="EPERM"):
        executor.run(working, RunSpec(args=("x",), env=()), output=print, task=TASK)
    build.store.discard(working)


def test_isolation_says_why(build: Build) -> None:
    isolation = build.executor.isolation
    assert (isolation.kind, isolation.runs) == ("root", True)
    assert isolation.reason
    with pytest.raises(InvalidInput):
        build.executor.run(
            Working(id="x", chain_id=None), RunSpec(args=("x",), env=()), output=print, task=TASK
        )


KILLED = """
import sys
from pathlib import Path
from imgtools.task import Task
from tests.engine.builds_rig import build_of
with build_of(Path(sys.argv[1]), sys.argv[2]) as build:
    working = build.store.prepare(build.base, task=Task())
    from imgtools.build.protocols import RunSpec
    spec = RunSpec(args=("sh", "-c", "echo up >/made; echo up; exec sleep 600"), env=("PATH=/bin",),
                   network="none")
    build.executor.run(working, spec, output=lambda n, line: print("up", flush=True), task=Task())
"""


@pytest.mark.parametrize("driver", DRIVERS)
def test_e96_killed_in_the_middle_of_a_step(tmp_path: Path, driver: str) -> None:
    """The step ends with its build; the next build removes the tree and remembers nothing."""
    with working_directory(tmp_path) as path:
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(path), driver],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(PROJECT)},
            cwd=PROJECT,
        )
        with process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"up\n"
            process.send_signal(signal.SIGKILL)
        states = path / "run/imgtools/runtime"
        wait_until(lambda: not any(states.iterdir()), "the container goes on")
        with build_of(path, driver) as build:
            assert build.step("test ! -e /made; echo fine").text == "fine\n"
            assert not os.path.exists(path / "store/imgtools/builds")


FULL = """
import sys
from pathlib import Path
from engine.runtime.kernel import mounting
from imgtools.build.protocols import CacheRecord, CommitOptions
from imgtools.errors import StorageError
from imgtools.task import Task
from tests.engine.builds_rig import build_of
from tests.engine.layer_tools import file
top = Path(sys.argv[1])
mounting.mount(b"tmpfs", str(top).encode(), b"tmpfs", 0, b"size=24m,mode=755")
with build_of(top, sys.argv[2]) as build:
    fill = "head -c 100000000 /dev/zero 2>/dev/null >/big"
    done = build.step(fill + " || echo full; rm /big; echo x >/x")
    assert done.text == "full\\n" and done.paths == ["x"], done
    working = build.store.prepare(build.base, task=Task())
    build.run(working, "sh", "-c", fill + "; true")
    try:
        build.layer(file("more", bytes(4 << 20)))
        raise AssertionError("it fitted")
    except StorageError:
        build.store.discard(working)
    assert build.step("test ! -e /big; echo fine").text == "fine\\n"
print("whole")
"""


@pytest.mark.parametrize("driver", DRIVERS)
def test_e96_a_full_disk(tmp_path: Path, driver: str) -> None:
    """A step that fills it fails by itself; a layer that does not fit leaves nothing."""
    isolated = ("unshare", "-m", "--propagation", "private")
    assert python(FULL, str(tmp_path), driver, unshare=isolated) == "whole\n"


def test_e93_a_program_of_another_architecture_is_refused_by_name(build: Build) -> None:
    header = struct.pack("<HHIQQQIHHHHHH", 2, ALIEN, 1, 0x400078, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, 0x400000, 0x400000, 136, 136, 0x1000)
    program = b"\x7fELF\x02\x01\x01" + bytes(9) + header + segment + bytes(16)
    layer = build.layer(file("bin/foreign", program, mode=0o755))
    working = build.store.prepare(layer, task=TASK)
    try:
        with pytest.raises(Error, match=r"foreign.*exec format error") as caught:
            build.run(working, "foreign", "argument")
    finally:
        build.store.discard(working)
    assert getattr(caught.value, "code", None) == 126
    assert "another architecture" in (caught.value.hint or "")

"""Limits that run out, where wishes come from, and what of the kernel can be called."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import stat
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from engine.containers.options import ImageDefaults
from engine.runtime.container.channel import MAX_MESSAGE, pair
from engine.runtime.container.create import write_pid_file
from engine.runtime.errors import Damaged, Failure
from engine.runtime.kernel.calls import named
from imgtools.cli.engine_host import require_private
from imgtools.errors import InvalidInput
from imgtools.spec.config import Config
from tests.engine.pitfalls.kit import (
    LIMIT,
    Box,
    Images,
    Victim,
    cgroups_with,
    processes_with,
    prologue,
)
from tests.engine.screen import Screen
from tests.rig import REPOSITORY

HOST_PYTHON = os.path.realpath(sys.executable)


def test_g1_cgroup_paths_that_lead_out(box: Box) -> None:
    """From config.json, annotations and exec."""
    config = box.config
    for path in ("/../../x", "../x", "/a/../../../x", "a\0b", "/..", "/"):
        config["linux"]["cgroupsPath"] = path
        box.config = config
        done = box.run("true")
        assert done.returncode == 1, path
        assert "cgroupsPath" in done.stderr
    del config["linux"]["cgroupsPath"]
    config["annotations"] = {"run.oci.delegate-cgroup": "../../x", "run.oci.handler": "../x"}
    box.config = config
    box.start("sleep", "60")
    for path in ("..", "../x", "/../../x", "a/../../x"):
        done = box("exec", "--cgroup", path, box.id, "true")
        assert done.returncode == 255
    assert cgroups_with(box.id)


SESSION = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
serial = libc.syscall(ctypes.c_long(NUMBER), 0, -3, 0)
print([line.split()[8] for line in open("/proc/keys") if int(line.split()[0], 16) == serial])
"""


def test_g3_a_keyring_of_its_own_for_each_container(box: Box) -> None:
    """Not the caller's session keyring, with what the caller has put there; one that `exec`
    joins, and whose name no other container of the same user learns."""
    config = box.config
    config["linux"]["maskedPaths"] = []
    config["mounts"] += host_files()
    box.config = config
    join = (
        "from engine.runtime.kernel.processes import join_session_keyring\n"
        "join_session_keyring(b'keyring-of-the-caller')\n"
    )
    box.command = tuple(prologue(join))
    code = [HOST_PYTHON, "-I", "-S", "-c", SESSION.replace("NUMBER", str(named("keyctl")))]
    own = f"['_ses.{box.id}:']\n"
    assert box.says(*code) == own
    box.start("sleep", "60")
    assert box.exec(*code).stdout == own
    assert box.id not in Path("/proc/keys").read_text()


def host_files() -> list[dict[str, object]]:
    """Mounts by which a container can run the host's Python."""
    places = [path for path in ("/usr", "/lib", "/lib64") if os.path.isdir(path)]
    if not sys.base_prefix.startswith("/usr"):
        places.append(sys.base_prefix)
    return [
        {"destination": path, "type": "bind", "source": path, "options": ["rbind", "ro"]}
        for path in places
    ]


@pytest.mark.parametrize("descriptors", [5, 6, 7, 8, 12, 20, 28, 34, 36, 40, 64])
def test_g4_few_descriptors(box: Box, descriptors: int) -> None:
    """It runs, or says that it could not; and nothing is left in either case."""
    box.configure("echo", "ran")
    limited = ["prlimit", f"--nofile={descriptors}:{descriptors}", *box.words("run", box.id)]
    done = subprocess.run(
        limited, cwd=box.bundle, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=LIMIT, check=False,
    )  # fmt: skip
    if done.returncode == 0:
        assert done.stdout == "ran\n"
    elif "Too many open files" in done.stderr:
        # Python itself could not start.
        assert descriptors < 7
    else:
        assert done.stderr.startswith("imgtools-runtime: ")
        assert "too many open files" in done.stderr
    assert processes_with(box.id) == []
    assert cgroups_with(box.id) == []
    assert not box.root.exists() or list(box.root.iterdir()) == []


@pytest.mark.parametrize(
    ("where", "options"),
    [("rootfs", "nr_inodes=4"), ("rootfs", "nr_inodes=8"), ("rootfs", "ro"),
     ("state", "nr_inodes=1"), ("state", "nr_inodes=3"), ("state", "size=4k"), ("state", "ro")],
)  # fmt: skip
def test_g4_no_space_at_any_step(box: Box, where: str, options: str) -> None:
    """In the root, where mount points are to be made, and where the state is."""
    box.mount(*({"destination": f"/new/{n}", "type": "tmpfs", "source": "t"} for n in range(9)))
    box.root.mkdir(exist_ok=True)
    target = box.rootfs if where == "rootfs" else box.root
    script = (
        'mount -t tmpfs -o "$2" t "$1"; shift 2; "$@"; code=$?; find "$STATE" -mindepth 1;'
        "grep -c /new /proc/self/mountinfo; exit $code"
    )
    if where == "rootfs":
        script = script.replace(
            "shift 2", 'mount -o remount,rw "$1"; for d in bin proc dev sys tmp; do mkdir "$1/$d" '
            '2>/dev/null; done; mount -o "remount,$2" "$1"; shift 2',
        )  # fmt: skip
    box.configure("true")
    done = subprocess.run(
        ["unshare", "-m", "--propagation", "private", "sh", "-c", script, "sh", str(target),
         options, *box.words("run", box.id)],
        cwd=box.bundle, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        env={**os.environ, "STATE": str(box.root)}, timeout=LIMIT, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert "imgtools-runtime: " in done.stderr
    assert done.stdout == "0\n"
    assert processes_with(box.id) == []
    assert cgroups_with(box.id) == []


def test_s3_the_callers_environment_stays_outside(images: Images) -> None:
    """But for what is asked for by name."""
    environment = {"SECRET": "1", "HTTP_PROXY": "x", "AWS_TOKEN": "y", "ASKED": "for", "LANG": "C"}
    (images.tree / "bin/env").symlink_to("busybox")
    try:
        said = images.says("-e", "ASKED", "IMAGE", "env", env=environment)
    finally:
        (images.tree / "bin/env").unlink()
    names = {line.partition("=")[0] for line in said.splitlines()}
    assert names == {"PATH", "TERM", "container", "HOSTNAME", "HOME", "ASKED"}


def test_s3_the_runtimes_environment_is_no_containers(box: Box) -> None:
    path = box.rootfs / "bin/env"
    path.symlink_to("busybox")
    said = box.says("env", env=["A=1", "PATH=/bin"], options={"env": {"SECRET": "host"}})
    assert "SECRET" not in said
    box.start("sleep", "60")
    assert "SECRET" not in box.exec("env", env={"SECRET": "host"}).stdout


def test_s4_no_hooks_devices_or_profiles_from_elsewhere(images: Images, tmp_path: Path) -> None:
    """Directories in which others look for them say nothing here."""
    marker = tmp_path / "marker"
    hook = tmp_path / "hook"
    hook.write_text(f"#!/bin/sh\ntouch {marker}\n")
    hook.chmod(0o755)
    hooks = tmp_path / "config/containers/oci/hooks.d"
    hooks.mkdir(parents=True)
    document = {"version": "1.0.0", "hook": {"path": str(hook)}, "when": {"always": True},
                "stages": ["prestart", "createRuntime", "poststop"]}  # fmt: skip
    (hooks / "hook.json").write_text(json.dumps(document))
    (hooks.parent.parent / "seccomp.json").write_text('{"defaultAction": "SCMP_ACT_ALLOW"}')
    containers = tmp_path / "config/containers/containers.conf"
    containers.write_text(f'[engine]\nhooks_dir = ["{hooks}"]\n')
    environment = {
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
        "CONTAINERS_CONF": str(containers),
        "HOME": str(tmp_path),
    }
    said = images.says("IMAGE", "grep", "Seccomp:", "/proc/self/status", env=environment)
    assert said.split() == ["Seccomp:", "2"]
    assert not marker.exists()


SWITCHES = {
    "run.oci.handler": "krun",
    "run.oci.seccomp_fail_unknown_syscall": "1",
    "run.oci.seccomp_bpf_data": "AAAA",
    "run.oci.mount_context_type": "rootcontext",
    "run.oci.hooks.stdout": "/tmp/pitfall-hooks",
    "run.oci.hooks.stderr": "/tmp/pitfall-hooks",
    "run.oci.keep_original_groups": "1",
    "run.oci.pidfd_receiver": "/tmp/pitfall-pidfd",
    "run.oci.systemd.subgroup": "../../..",
    "io.podman.annotations.privileged": "TRUE",
    "io.kubernetes.cri.untrusted-workload": "true",
    "org.opencontainers.runtime.seccomp": "unconfined",
}


def test_s5_annotations_switch_nothing(box: Box) -> None:
    """They are passed on as text, to hooks and to `state`."""
    config = box.config
    box.config = {**config, "annotations": SWITCHES}
    options = {"preexec_fn": lambda: os.setgroups([4242])}
    said = box.says("cat", "/proc/self/status", options=options)
    assert "Groups:\t4242" not in said
    assert not Path("/tmp/pitfall-hooks").exists()
    box.spawned("create", box.id)
    assert box.state(box.id)["annotations"] == SWITCHES


def test_s5_labels_of_an_image_reach_nothing() -> None:
    """Of an image's configuration only what podman takes is taken at all."""
    config = {"Labels": SWITCHES, "Hooks": {"prestart": []}, "Privileged": True, "Annotations": {}}
    with_labels = ImageDefaults.from_config(Config.parse(document({"config": config})))
    without = ImageDefaults.from_config(Config.parse(document({"config": {}})))
    assert replace(with_labels, labels={}) == replace(without, labels={})


def document(values: dict[str, object]) -> bytes:
    """An image's configuration."""
    base = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}}
    return json.dumps({**base, **values}).encode()


def test_s6_state_and_stores_are_closed_to_others(box: Box, images: Images) -> None:
    box.configure("sleep", "60")
    box.spawned("create", box.id)
    for path in (box.root, box.root / box.id):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0
    for name in os.listdir(box.root / box.id):
        path = box.root / box.id / name
        assert stat.S_ISSOCK(path.stat().st_mode) or path.stat().st_mode & 0o077 == 0
    with subprocess.Popen(
        [sys.executable, "-m", "imgtools", *images.words("IMAGE", "sleep", "30")],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, stdin=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        runtime = images.path / "run/imgtools/runtime"
        end = time.monotonic() + LIMIT
        while not (runtime.exists() and list(runtime.glob("*/state.jsonl"))):
            assert time.monotonic() < end
            time.sleep(0.02)
        reachable = reachable_files(images.path)
        process.terminate()
        process.terminate()
        process.kill()
    # What images there are is no secret; what is in them is.
    allowed = ("documents", "index.sqlite", "resolv.conf", "hosts", "hostname", ".containerenv")
    assert [path for path in reachable if not any(word in path for word in allowed)] == []


def reachable_files(top: Path) -> list[str]:
    """Files below `top` that any user may read or write, by directories that any may enter."""
    found = []
    for directory, names, files in os.walk(top):
        closed = [n for n in names if not os.stat(os.path.join(directory, n)).st_mode & 0o001]
        names[:] = [name for name in names if name not in closed]
        for name in files:
            path = os.path.join(directory, name)
            if os.lstat(path).st_mode & 0o006:
                found.append(path)
    return found


def test_s6_pid_files_do_not_follow_links(box: Box, victim: Victim, tmp_path: Path) -> None:
    """In a directory where others may write, like /tmp."""
    shared = tmp_path / "shared"
    shared.mkdir()
    path = shared / "pid"
    (shared / f"pid.{os.getpid()}").symlink_to(victim.path / "file")
    path.symlink_to(victim.path / "dir/file")
    write_pid_file(str(path), 42)
    assert path.read_text() == "42"
    assert not path.is_symlink()


@pytest.mark.parametrize("way", ["other owner", "writable", "link", "file", "shared", "fine"])
def test_s6_the_directory_of_a_user_is_that_users(tmp_path: Path, way: str) -> None:
    """Somebody else may have made it where names can be known before, as below /tmp."""
    path = tmp_path / "storage-run-4242"
    path.mkdir(mode=0o700)
    os.chown(path, 4242, 4242)
    if way == "other owner":
        os.chown(path, 4243, 4243)
    elif way in ("writable", "shared"):
        path.chmod(0o707 if way == "writable" else 0o770)
    elif way in ("link", "file"):
        path.rename(tmp_path / "real")
        if way == "link":
            path.symlink_to(tmp_path / "real")
        else:
            path.touch()
    if way == "fine":
        require_private(str(path), 4242)
        return
    with pytest.raises(InvalidInput, match="is not a directory of user 4242 that only this user"):
        require_private(str(path), 4242)


def test_s6_who_knocks_and_says_nothing_holds_nobody_up(box: Box) -> None:
    """Or something else than "start", or with descriptors: the container can be started."""
    box.configure("echo", "started")
    box.spawned("create", box.id)
    with contextlib.ExitStack() as open_ends:
        directory = os.open(f"{box.root}/{box.id}", os.O_RDONLY | os.O_DIRECTORY)
        open_ends.callback(os.close, directory)
        knocking = [
            open_ends.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
            for _ in range(4)
        ]
        for end in knocking:
            # A socket's name is limited to 107 bytes, a directory's is not.
            end.connect(f"/proc/self/fd/{directory}/start.sock")
        knocking[1].send(b"[" * 1000)
        knocking[2].send(b'{"type": "stop"}')
        socket.send_fds(knocking[3], [b"{}"], [0] * 100)
        assert box.state(box.id)["status"] == "created"
        box.ok("start", box.id)
        box.await_status(box.id, "stopped")
        assert (box.bundle / "output").read_text() == "started\n"


HOSTILE = (
    b"[" * 100000,
    b'{"type":' * 5000,
    b"\xff\xfe\0",
    b"{}",
    b"[]",
    b"nul",
    b'{"type": 1e999999}',
    b'{"type": "ready", "pid": ' + b"9" * 5000 + b"}",
    b'{"type": "failed", "message": ["\\u001b[2J"], "errno": "x", "hint": {}}',
    b'{"type": "failed", "error": "Exception"}',
    b'"' + b"x" * (MAX_MESSAGE + 10) + b'"',
    b"",
)


@pytest.mark.parametrize("content", HOSTILE, ids=range(len(HOSTILE)))
def test_s6_messages_of_strangers(content: bytes) -> None:
    """Whatever arrives where a process of a container could have got in between, it is an
    error in words, and descriptors that came along are closed."""
    ours, theirs = pair()
    before = len(os.listdir("/proc/self/fd"))
    end = socket.socket(fileno=os.dup(theirs.fileno()))
    null = os.open("/dev/null", os.O_RDONLY)
    try:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        socket.send_fds(end, [content], [null] * 8)
    finally:
        os.close(null)
        end.close()
    with pytest.raises(Failure):
        ours.expect("cloned")
    assert len(os.listdir("/proc/self/fd")) == before
    ours.close()
    theirs.close()


def test_s6_a_message_with_too_many_descriptors() -> None:
    """More than are expected anywhere: cut, refused, and none stays open."""
    ours, theirs = pair()
    end = socket.socket(fileno=os.dup(theirs.fileno()))
    before = len(os.listdir("/proc/self/fd"))
    socket.send_fds(end, [b'{"type": "cloned"}'], [0] * 200)
    with pytest.raises(Damaged, match="cut"):
        ours.expect("cloned")
    assert len(os.listdir("/proc/self/fd")) == before
    for one in (ours, theirs, end):
        one.close()


CALLS = """
import ctypes, json
libc = ctypes.CDLL(None, use_errno=True)
def call(number, *args):
    result = libc.syscall(*(ctypes.c_long(a) for a in (number, *args)))
    return ctypes.get_errno() if result < 0 else 0
print(json.dumps({
    "io_uring_setup": call(425, 0, 0), "bpf": call(321, 0, 0, 0), "userfaultfd": call(323, 0),
    "keyctl": call(250, 0, -3, 0), "add_key": call(248, 0, 0, 0, 0, 0),
    "perf_event_open": call(298, 0, 0, 0, 0, 0), "kexec_load": call(246, 0, 0, 0, 0),
    "open_by_handle_at": call(304, 0, 0, 0), "unshare user": call(272, 0x10000000),
    "mount": call(165, 0, 0, 0, 0, 0), "setns": call(308, -1, 0), "ptrace": 0,
    "init_module": call(175, 0, 0, 0), "iopl": call(172, 3), "swapon": call(167, 0, 0),
    "AF_ALG": call(41, 38, 5, 0), "AF_VSOCK": call(41, 40, 1, 0), "AF_UNIX": call(41, 1, 1, 0),
    "TIOCSTI": call(16, 0, 0x5412, 0), "TIOCLINUX": call(16, 0, 0x541c, 0),
    "unknown": call(1000), "clone3": call(435, 0, 0), "getpid": call(39),
}))
"""


def in_python(images: Images, code: str, *flags: str) -> str:
    """What a container of the host's Python prints."""
    places = [str(mount["source"]) for mount in host_files()]
    volumes = [word for place in places for word in ("-v", f"{place}:{place}:ro")]
    return images.says(*volumes, *flags, "IMAGE", HOST_PYTHON, "-I", "-S", "-c", code)


def test_k1_k2_k4_the_default_profile_at_work(images: Images) -> None:
    """Of `imgtools run`, called by a program with its usual privileges."""
    if os.uname().machine != "x86_64":
        return
    found = json.loads(in_python(images, CALLS))
    assert [found[name] for name in ("AF_UNIX", "getpid")] == [0, 0]
    assert (found["unknown"], found["AF_ALG"]) == (38, 38)
    # Keys, mounts and namespaces are allowed by the containers' profile, for builds inside.
    free = {"AF_UNIX", "getpid", "unknown", "AF_ALG", "ptrace", "clone3", "keyctl", "mount",
            "setns", "unshare user", "TIOCSTI", "TIOCLINUX"}  # fmt: skip
    refused = set(found) - free
    assert len(refused) > 8
    assert {name: found[name] for name in refused if found[name] not in (1, 38)} == {}


def test_k1_the_profile_is_on_by_default_and_only_off_by_name(images: Images) -> None:
    words = ("IMAGE", "grep", "Seccomp:", "/proc/self/status")
    assert images.says(*words).split()[1] == "2"
    assert images.says("--cap-add", "ALL", *words).split()[1] == "2"
    off = images.says("--security-opt", "seccomp=unconfined", *words)
    ours = Path("/proc/self/status").read_text().partition("Seccomp:")[2].split()
    assert off.split()[1] == ours[0]


STUFF = """
import fcntl, os, sys, termios
for fd in (0, 1, 2):
    for request in (termios.TIOCSTI, 0x541c):
        try:
            fcntl.ioctl(fd, request, b"X")
            print("pushed", fd)
        except OSError as e:
            pass
try:
    os.open("/dev/tty", os.O_RDWR)
    print("has a terminal")
except OSError:
    pass
print("done")
"""


@pytest.mark.parametrize("way", ["run", "runtime"])
def test_k3_nothing_is_pushed_into_the_callers_terminal(images: Images, box: Box, way: str) -> None:
    """Who calls from a terminal and gives the container none, or its own streams."""
    screen = Screen()
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    if way == "run":
        code = f"exec('''{STUFF}''')"
        places = [str(mount["source"]) for mount in host_files()]
        volumes = [word for place in places for word in ("-v", f"{place}:{place}:ro")]
        words = images.words(*volumes, "IMAGE", HOST_PYTHON, "-I", "-S", "-c", code)
        command = [sys.executable, "-m", "imgtools", *words]
    else:
        config = box.config
        config["mounts"] += host_files()
        config["process"]["args"] = [HOST_PYTHON, "-I", "-S", "-c", STUFF]
        box.config = config
        command = box.words("run", box.id)
    with screen.start(command, cwd=box.bundle, env=environment) as process:
        shown = screen.expect(b"done\r\n")
        assert process.wait(LIMIT) == 0
    assert shown == b"done\r\n"
    screen.close()


def test_k1_a_program_cannot_get_out_by_file_handles(box: Box) -> None:
    """Even where a profile is not asked for, the capability for it is not there."""
    said = box.says("cat", "/proc/self/status")
    bounding = int(said.partition("CapBnd:")[2].split()[0], 16)
    assert not bounding >> 2 & 1
    assert not bounding >> 21 & 1

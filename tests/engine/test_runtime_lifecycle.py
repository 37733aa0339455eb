"""Whole containers: hooks in their order and places, the gate, namespaces that are joined, and
what a program finds around it."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from engine.runtime.container.state import start_time
from tests.engine.screen import LIMIT
from tests.engine.test_cli_containers import Runtime, runtime

__all__ = ["runtime"]

KINDS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")
BEFORE_START = KINDS[:3]
IDS = [{"containerID": 0, "hostID": 100000, "size": 65536}]


def change(runtime: Runtime, **linux: Any) -> dict[str, Any]:
    """config.json with other values in `linux`; the rest may be changed before `write`."""
    config: dict[str, Any] = json.loads((runtime.bundle / "config.json").read_text())
    config["linux"] |= linux
    return config


def write(runtime: Runtime, config: dict[str, Any]) -> None:
    (runtime.bundle / "config.json").write_text(json.dumps(config))


def namespaces(config: dict[str, Any], **paths: str) -> None:
    """Have the container join the namespaces at `paths`; types it does not have are added."""
    kept = [n for n in config["linux"]["namespaces"] if n["type"] not in paths]
    config["linux"]["namespaces"] = [
        *kept,
        *({"type": kind, **({"path": path} if path else {})} for kind, path in paths.items()),
    ]


def hook(script: str, **more: Any) -> dict[str, Any]:
    return {"path": "/bin/sh", "args": ["sh", "-c", script], **more}


def record_hooks(runtime: Runtime, log: Path, **failing: str) -> None:
    """Let each hook note its kind, its directory and the state it is given."""
    config = change(runtime)
    config["hooks"] = {
        kind: [hook(f"echo {kind} $(pwd) $(cat) >> {log}; {failing.get(kind, 'true')}")]
        for kind in KINDS
    }
    # The container has the log where the host has it.
    (runtime.bundle / f"rootfs{log.parent}").mkdir(parents=True)
    config["mounts"].append(
        {"destination": str(log.parent), "source": str(log.parent), "options": ["bind"]}
    )
    config["root"]["readonly"] = False
    write(runtime, config)


def recorded(log: Path) -> list[tuple[str, str, dict[str, Any]]]:
    lines = [line.split(" ", 2) for line in log.read_text().splitlines()]
    return [(kind, directory, json.loads(state)) for kind, directory, state in lines]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "log/hooks"
    path.parent.mkdir()
    return path


def test_hooks_run_in_order_with_the_state_of_the_moment(runtime: Runtime, log: Path) -> None:
    """runtime.md "Lifecycle"; config.md "POSIX-platform Hooks"."""
    runtime.configure("sh", "-c", f"echo program / '{{}}' >> {log}")
    record_hooks(runtime, log)
    runtime.spawned("create", "c")
    assert [kind for kind, _, _ in recorded(log)] == list(BEFORE_START)
    pid = runtime.state("c")["pid"]
    runtime.ok("start", "c")
    runtime.await_status("c", "stopped")
    runtime.ok("delete", "c")
    found = recorded(log)
    names = [kind for kind, _, _ in found]
    # The program runs beside the poststart hook.
    assert sorted(names) == sorted((*KINDS, "program"))
    assert [n for n in names if n != "program"] == list(KINDS)
    assert names.index("startContainer") < names.index("program") < names.index("poststop")
    by_kind = {kind: (directory, state) for kind, directory, state in found}
    for kind in KINDS:
        directory, state = by_kind[kind]
        assert (state["id"], state["bundle"]) == ("c", str(runtime.bundle))
        assert directory == ("/" if kind == "startContainer" else str(runtime.bundle))
    statuses = {kind: by_kind[kind][1]["status"] for kind in KINDS}
    assert statuses == {
        "prestart": "creating",
        "createRuntime": "creating",
        "createContainer": "creating",
        "startContainer": "created",
        "poststart": "running",
        "poststop": "stopped",
    }
    for kind in ("prestart", "createRuntime", "poststart"):
        assert by_kind[kind][1]["pid"] == pid, "as the host counts"


@pytest.mark.parametrize("kind", KINDS)
def test_a_hook_that_fails(runtime: Runtime, log: Path, kind: str) -> None:
    """The container is destroyed, but for poststop, which is only warned of."""
    runtime.configure("sleep", "60")
    record_hooks(runtime, log, **{kind: "exit 3"})
    file = runtime.bundle / "said"
    with file.open("w") as said:
        done = subprocess.run(
            runtime.words("create", "c"), cwd=runtime.bundle, stdout=said, stderr=said,
            stdin=subprocess.DEVNULL, timeout=LIMIT, check=False,
            env={**os.environ, "PYTHONPATH": os.getcwd()},
        )  # fmt: skip
    if kind in BEFORE_START:
        assert done.returncode == 1
        text = file.read_text()
    else:
        assert done.returncode == 0, file.read_text()
        started = runtime("start", "c")
        assert started.returncode == (0 if kind == "poststop" else 1)
        text = started.stderr
    if kind == "poststop":
        runtime.ok("kill", "c", "KILL")
        runtime.await_status("c", "stopped")
        deleted = runtime("delete", "c")
        assert deleted.returncode == 0
        text = deleted.stderr
        assert "warning" in text
    assert f"error running {kind} hook #0" in text
    assert "exit status 3" in text
    if kind == "startContainer":
        runtime.ok("delete", "--force", "c")
    assert runtime("state", "c").returncode == 1
    assert not (runtime.root / "c").exists()


def test_hooks_before_the_new_root_find_it_at_its_path(runtime: Runtime, tmp_path: Path) -> None:
    """With its mounts, in the container's mount namespace: how devices are added by hooks."""
    config = change(runtime)
    config["process"]["args"] = ["sh", "-c", "cat /added/file"]
    (runtime.bundle / "rootfs/added").mkdir()
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_text("by a hook\n")
    enter = "nsenter --target $(sed 's/.*\"pid\": \\([0-9]*\\).*/\\1/') --mount"
    config["hooks"] = {
        "prestart": [
            hook(f"test ! -e rootfs/proc/self && {enter} mount --bind {source} {runtime.bundle}"
                 "/rootfs/added", env=["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]),
        ],
        "createContainer": [hook("test -e rootfs/proc/self && test -e rootfs/added/file")],
    }  # fmt: skip
    write(runtime, config)
    assert runtime.ok("run", "c") == "by a hook\n"
    assert not (runtime.bundle / "rootfs/proc/self").exists()
    assert not (runtime.bundle / "rootfs/added/file").exists()


@pytest.mark.parametrize(("env", "expected"), [(None, "outside"), ([], ""), (["A=b"], "b")])
def test_hooks_get_their_environment_or_the_runtimes(
    runtime: Runtime, tmp_path: Path, env: list[str] | None, expected: str
) -> None:
    config = change(runtime)
    config["hooks"] = {
        kind: [hook(f"echo $A > {tmp_path}/{kind}", **({} if env is None else {"env": env}))]
        for kind in ("createRuntime", "poststop")
    }
    write(runtime, config)
    runtime.ok("run", "c", env={"A": "outside"})
    for kind in config["hooks"]:
        assert (tmp_path / kind).read_text() == f"{expected}\n"


def test_only_start_opens_the_gate(runtime: Runtime) -> None:
    """Looking whether a container waits does not start it; it is started once."""
    runtime.configure("sleep", "60")
    runtime.spawned("create", "c")
    for _ in range(3):
        assert runtime.state("c")["status"] == "created"
    changed = change(runtime)
    changed["process"]["args"] = ["false"]
    write(runtime, changed)
    runtime.ok("start", "c")
    assert runtime.state("c")["status"] == "running", "by the config.json of its creation"
    again = runtime("start", "c")
    assert (again.returncode, "running" in again.stderr) == (1, True)


def test_a_created_container_can_be_deleted_killed_and_is_freed(runtime: Runtime) -> None:
    runtime.configure("sleep", "60")
    runtime.spawned("create", "c")
    pid = runtime.state("c")["pid"]
    runtime.ok("delete", "c")
    assert start_time(pid) == 0
    runtime.spawned("create", "c")
    runtime.ok("kill", "c", "KILL")
    runtime.await_status("c", "stopped")
    assert runtime("start", "c").returncode == 1
    runtime.ok("delete", "c")


def test_state_waits_for_a_container_that_is_being_made(runtime: Runtime, tmp_path: Path) -> None:
    """And says so after a while; a hook can ask without holding itself up."""
    ready = tmp_path / "go"
    os.mkfifo(ready)
    config = change(runtime)
    config["hooks"] = {"createRuntime": [hook(f"cat {ready}")]}
    write(runtime, config)
    with subprocess.Popen(
        runtime.words("run", "c"), cwd=runtime.bundle, stdin=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    ) as process:  # fmt: skip
        end = time.monotonic() + LIMIT
        while (done := runtime("state", "c")).returncode:
            assert time.monotonic() < end
        assert json.loads(done.stdout)["status"] == "creating"
        refused = runtime("delete", "c")
        assert (refused.returncode, "being created" in refused.stderr) == (1, True)
        ready.write_text("")
        assert process.wait(LIMIT) == 0


@contextmanager
def holder(*flags: str) -> Iterator[int]:
    """The pid of a process in new namespaces."""
    with subprocess.Popen(
        ["unshare", *flags, "sh", "-c", "echo; exec sleep 60"], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        try:
            yield int(children[0]) if children else process.pid
        finally:
            for child in children:
                os.kill(int(child), 9)
            process.kill()


def of(pid: int | str, kind: str) -> str:
    return os.readlink(f"/proc/{pid}/ns/{kind}")


def test_namespaces_are_joined(runtime: Runtime) -> None:
    """The init is in them from the beginning, with the other ones still new."""
    runtime.configure("sh", "-c", "echo $$; sleep 60 & wait")
    with holder("--uts", "--ipc", "--net", "--pid", "--fork", "--mount-proc") as pid:
        config = change(runtime)
        paths = {"uts": "uts", "ipc": "ipc", "network": "net", "pid": "pid"}
        namespaces(config, **{kind: f"/proc/{pid}/ns/{name}" for kind, name in paths.items()})
        config.pop("hostname", None)
        write(runtime, config)
        runtime.spawned("run", "--detach", "c")
        init = runtime.state("c")["pid"]
        for name in paths.values():
            assert of(init, name) == of(pid, name), name
        assert of(init, "mnt") not in (of(pid, "mnt"), of("self", "mnt"))
        assert [of(line, "pid") for line in runtime.ok("ps", "--format", "json", "c").strip()
                .strip("[]").replace(",", " ").split()]  # fmt: skip
        runtime.ok("delete", "--force", "c")
        assert start_time(init) == 0
        assert start_time(pid), "who was joined lives on"


def test_a_container_joins_another_one(runtime: Runtime) -> None:
    """As in a pod: all namespaces but that of mounts."""
    runtime.configure("sleep", "60")
    runtime.spawned("run", "--detach", "first")
    pid = runtime.state("first")["pid"]
    runtime.configure("sh", "-c", "ls -d /proc/[0-9]*")
    config = change(runtime)
    kinds = {"pid": "pid", "network": "net", "ipc": "ipc", "uts": "uts"}
    namespaces(config, **{kind: f"/proc/{pid}/ns/{name}" for kind, name in kinds.items()})
    config.pop("hostname", None)
    write(runtime, config)
    assert "/proc/1\n" in runtime.ok("run", "second")
    assert runtime.state("first")["status"] == "running"


@pytest.mark.parametrize("user", [False, True])
def test_clocks_have_offsets_before_the_first_process(runtime: Runtime, user: bool) -> None:
    runtime.configure("cat", "/proc/uptime", "/proc/self/timens_offsets")
    config = change(runtime, timeOffsets={"boottime": {"secs": 1000000, "nanosecs": 5}})
    namespaces(config, time="")
    if user:
        namespaces(config, user="")
        config["linux"] |= {"uidMappings": IDS, "gidMappings": IDS}
    write(runtime, config)
    shutil.chown(runtime.bundle / "rootfs", 100000 if user else 0)
    for directory in (runtime.bundle, *runtime.bundle.parents):
        if str(directory) != "/":
            os.chmod(directory, os.stat(directory).st_mode | 0o055)
    uptime, *offsets = runtime.ok("run", "c").splitlines()
    assert float(uptime.split()[0]) > 1000000
    assert [line.split() for line in offsets] == [
        ["monotonic", "0", "0"],
        ["boottime", "1000000", "5"],
    ]


def test_home_comes_from_the_containers_passwd(runtime: Runtime) -> None:
    runtime.configure("sh", "-c", "echo $HOME")
    (runtime.bundle / "rootfs/etc").mkdir()
    passwd = runtime.bundle / "rootfs/etc/passwd"
    passwd.write_text("root:x:0:0::/root:/bin/sh\nuser:x:5:5::/home/user:/bin/sh\n")
    assert runtime.ok("run", "c") == "/root\n"
    for uid, env, home in ((5, [], "/home/user"), (6, [], "/"), (5, ["HOME=/x"], "/x")):
        runtime.configure("sh", "-c", "echo $HOME", user={"uid": uid, "gid": 5},
                          env=["PATH=/bin", *env])  # fmt: skip
        assert runtime.ok("run", "c") == f"{home}\n"
    passwd.unlink()
    os.mkfifo(passwd)
    runtime.configure("sh", "-c", "echo $HOME")
    assert runtime.ok("run", "c") == "/\n", "nobody waits for what is no file"


def test_home_and_variables_of_exec(runtime: Runtime) -> None:
    """The last of several values counts, as with runc: getenv(3) would find the first."""
    (runtime.bundle / "rootfs/etc").mkdir()
    (runtime.bundle / "rootfs/etc/passwd").write_text("user:x:5:5::/home/user:/bin/sh\n")
    runtime.configure("sleep", "60", env=["PATH=/bin", "A=1"])
    runtime.spawned("run", "--detach", "c")
    show = ("sh", "-c", "echo $HOME $A $PATH")
    assert runtime.ok("exec", "--user", "5:5", "c", *show) == "/home/user 1 /bin\n"
    assert runtime.ok("exec", "-e", "A=2", "-e", "HOME=/h", "c", *show) == "/h 2 /bin\n"
    environment = runtime.ok("exec", "-e", "A=2", "c", "cat", "/proc/self/environ")
    assert environment.count("A=") == 1


def test_devices_of_a_user_namespace_are_made_for_it(runtime: Runtime) -> None:
    """By root outside, with owner and mode; nosuid and noexec like the bound ones."""
    runtime.configure("sh", "-c", "ls -ln /dev/own /dev/null; cat /proc/self/mountinfo")
    config = change(
        runtime,
        uidMappings=IDS,
        gidMappings=IDS,
        devices=[
            {
                "path": "/dev/own",
                "type": "c",
                "major": 1,
                "minor": 3,
                "fileMode": 0o640,
                "uid": 7,
                "gid": 8,
            }
        ],
    )
    namespaces(config, user="")
    write(runtime, config)
    shutil.chown(runtime.bundle / "rootfs", 100000)
    for directory in (runtime.bundle, *runtime.bundle.parents):
        if str(directory) != "/":
            os.chmod(directory, os.stat(directory).st_mode | 0o055)
    lines = runtime.ok("run", "c").splitlines()
    own = next(line for line in lines if line.endswith(" /dev/own")).split()
    assert (own[0], own[2], own[3]) == ("crw-r-----", "7", "8")
    mounts = {line.split()[4]: line.split()[5].split(",") for line in lines if " - " in line}
    for path in ("/dev/own", "/dev/null"):
        assert {"nosuid", "noexec"} <= set(mounts[path])
        assert "nodev" not in mounts[path]


def test_pipes_are_the_users_and_what_is_the_hosts_is_not(runtime: Runtime) -> None:
    runtime.configure("sh", "-c", "ls -lnL /proc/self/fd/0 /proc/self/fd/1",
                      user={"uid": 1234, "gid": 5678})  # fmt: skip
    null, pipe = (line.split() for line in runtime.ok("run", "c").splitlines())
    assert (null[2], null[3]) == ("0", "0")
    assert (pipe[2], pipe[3]) == ("1234", "5678")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    assert os.stat("/dev/null").st_uid == 0


def test_a_new_network_has_a_loopback_that_is_up(runtime: Runtime) -> None:
    runtime.configure("cat", "/sys/class/net/lo/operstate")
    assert runtime.ok("run", "c").strip() in ("unknown", "up")


NETWORK = """
ip link set lo up
ip link add name host0 type veth peer name other
ip addr add 10.1.2.3/24 brd 10.1.2.254 dev host0
ip addr add fd00::5/64 dev host0 nodad
ip link set host0 up mtu 1400
"$@"
code=$?
ip -o link
exit $code
"""


@pytest.mark.parametrize("name", ["", "inside0"])
def test_a_network_device_moves_with_its_addresses(runtime: Runtime, name: str) -> None:
    """config-linux.md "Network Devices": addresses of global scope and the MTU stay, and it is
    set up."""
    show = "cd /sys/class/net; for i in *; do echo $i $(cat $i/mtu $i/flags); done"
    runtime.configure("sh", "-c", f"cat /proc/net/fib_trie /proc/net/if_inet6; {show}")
    write(runtime, change(runtime, netDevices={"host0": {"name": name} if name else {}}))
    done = subprocess.run(
        ["unshare", "--net", "sh", "-c", NETWORK, "sh", *runtime.words("run", "c")],
        cwd=runtime.bundle, capture_output=True, text=True, timeout=LIMIT, check=False,
        stdin=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": os.getcwd()},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    inside = name or "host0"
    lines = done.stdout.splitlines()
    (device,) = [line.split() for line in lines if line.startswith(f"{inside} ")]
    assert device[1] == "1400"
    assert int(device[2], 16) & 1, "it is up"
    assert any("10.1.2.3" in line for line in lines)
    assert any(line.startswith("fd000000000000000000000000000005") for line in lines)
    assert not any("host0@" in line for line in lines), "it is gone outside"


def test_a_network_device_that_is_not_there(runtime: Runtime) -> None:
    write(runtime, change(runtime, netDevices={"nosuch0": {}}))
    done = runtime("run", "c")
    assert done.returncode == 1
    assert "linux.netDevices 'nosuch0': no such device" in done.stderr
    assert not (runtime.root / "c").exists()

"""What a container sees of the kernel: procfs, sysfs, cgroups, its ids, its namespaces."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.pitfalls.kit import LIMIT, Box, Images, prologue, without
from tests.rig import REPOSITORY

UNSHARE = ("unshare", "-m", "--propagation")


def status(text: str) -> dict[str, str]:
    """The fields of /proc/self/status."""
    return {k: v.strip() for k, _, v in (line.partition(":") for line in text.splitlines())}


@pytest.mark.parametrize("target", ["/proc/sys/kernel/hostname", "/etc/passwd", "/dev/zero"])
def test_p1_a_null_device_of_the_image_covers_nothing(box: Box, target: str) -> None:
    """The image brings /dev, and in it a link where masks would look for the null device."""
    (box.rootfs / "dev/null").symlink_to(target)
    config = box.config
    config["mounts"] = [m for m in config["mounts"] if m["destination"] == "/proc"]
    config["linux"]["maskedPaths"] = ["/proc/kcore", "/proc/keys"]
    box.config = config
    done = box.run("stat", "-c", "%t:%T", "/proc/kcore", "/proc/keys")
    if done.returncode:
        assert "device /dev/null: a file that is not c 1:3 is there" in done.stderr
    else:
        assert done.stdout.split() == ["1:3", "1:3"]


def test_p2_the_console_of_a_container_with_planted_links(box: Box, tmp_path: Path) -> None:
    """Neither the directory nor the name is followed out of the root."""
    victim = tmp_path / "console"
    victim.write_text("precious\n")
    (box.rootfs / "dev").rmdir()
    (box.rootfs / "dev").symlink_to(tmp_path)
    box.configure("true", terminal=True)
    box("run", box.id)
    assert victim.read_text() == "precious\n"
    assert sorted(os.listdir(tmp_path)) == ["box", "console"]


def test_p3_kernel_parameters_of_an_image_with_its_own_proc(box: Box) -> None:
    """What is written is the kernel's, and not what the image shows in its place."""
    fake = box.rootfs / "proc/sys/net/ipv4/ip_forward"
    fake.parent.mkdir(parents=True)
    fake.write_text("0\n")
    config = box.config
    config["linux"]["sysctl"] = {"net.ipv4.ip_forward": "1"}
    config["mounts"] = [m for m in config["mounts"] if m["destination"] not in ("/proc", "/sys")]
    config["linux"]["maskedPaths"] = config["linux"]["readonlyPaths"] = []
    box.config = config
    box.run("true")
    assert fake.read_text() == "0\n"
    host = Path("/proc/sys/net/ipv4/ip_forward").read_text()
    config["linux"]["namespaces"] = [
        n for n in config["linux"]["namespaces"] if n["type"] != "network"
    ]
    box.config = config
    assert "network namespace" in box.run("true").stderr
    assert Path("/proc/sys/net/ipv4/ip_forward").read_text() == host


def test_p4_read_only_paths_of_any_kind(box: Box) -> None:
    config = box.config
    twice = ["/proc/sys", "/proc/sys", "/not/there", "/proc/uptime/below", "/ro"]
    config["linux"]["readonlyPaths"] = twice
    config["mounts"][0]["options"] = ["nosuid", "noexec", "nodev"]
    assert config["mounts"][0]["destination"] == "/proc"
    (box.rootfs / "ro").mkdir()
    box.config = config
    said = box.says("cat", "/proc/self/mountinfo")
    flags = {line.split()[4]: line.split()[5] for line in said.splitlines()}
    assert set(flags["/proc/sys"].split(",")) >= {"ro", "nosuid", "nodev", "noexec"}
    assert "ro" in flags["/ro"].split(",")


READ = (
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/timer_list",
)
WRITE = ("/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/proc/irq/default_smp_affinity")


def test_p5_what_tells_about_the_host_says_nothing(images: Images) -> None:
    """To root of a container with the default options."""
    script = f"cat {' '.join(READ)} 2>/dev/null; ls /sys/firmware /proc/acpi /proc/scsi 2>/dev/null"
    script += "; cat /sys/devices/system/cpu/cpu*/thermal_throttle/* 2>/dev/null"
    script += f"; for f in {' '.join(WRITE)}; do (echo h > $f) 2>/dev/null && echo wrote $f; done"
    said = images.says("IMAGE", "sh", "-c", f"{script}; true")
    titles = {"/sys/firmware:", "/proc/acpi:", "/proc/scsi:"}
    assert [line for line in said.splitlines() if line and line not in titles] == []


def test_p5_throttling_is_covered_where_the_machine_tells_it() -> None:
    """For each processor that has such a directory."""
    from engine.containers.security import side_channels

    assert side_channels(str(REPOSITORY / "nowhere")) == ()
    found = side_channels("/sys/devices/system/cpu")
    assert all(path.endswith("/thermal_throttle") and os.path.isdir(path) for path in found)


def test_p5_throttling_directories_are_listed(tmp_path: Path) -> None:
    from engine.containers.security import side_channels

    for name in ("cpu0/thermal_throttle", "cpu11/thermal_throttle", "cpu2", "cpufreq"):
        (tmp_path / name).mkdir(parents=True)
    expected = tuple(f"{tmp_path}/{name}/thermal_throttle" for name in ("cpu0", "cpu11"))
    assert side_channels(str(tmp_path)) == expected


def test_p6_cgroups_cannot_be_written(images: Images) -> None:
    """Neither limits nor the program that version 1 runs on the host."""
    script = (
        "for f in $(find /sys/fs/cgroup -name release_agent -o -name notify_on_release "
        "-o -name cgroup.procs -o -name memory.max -o -name tasks 2>/dev/null); "
        "do (echo 0 > $f) 2>/dev/null && echo wrote $f; done; "
        "mkdir /sys/fs/cgroup/new 2>/dev/null && echo made; "
        "mount -o remount,rw /sys/fs/cgroup 2>/dev/null && echo remounted; true"
    )
    (images.tree / "bin/find").symlink_to("busybox")
    try:
        assert images.says("IMAGE", "sh", "-c", script) == ""
    finally:
        (images.tree / "bin/find").unlink()


def test_c1_nothing_is_inheritable_in_run_and_exec(box: Box, images: Images) -> None:
    """Also where the caller's own set is not empty."""
    raise_all = (
        "from engine.runtime.kernel.processes import capget, capset\n"
        "capset(capget()[0], capget()[1], capget()[1])\n"
    )
    box.command = tuple(prologue(raise_all))
    for user in ({"uid": 0, "gid": 0}, {"uid": 1000, "gid": 1000}):
        told = status(box.says("cat", "/proc/self/status", user=user))
        assert int(told["CapInh"], 16) == 0
        assert int(told["CapAmb"], 16) == 0
        assert (int(told["CapEff"], 16) == 0) == (user["uid"] != 0)
    box.start("sleep", "60")
    for words in ((), ("--cap", "CAP_CHOWN"), ("--user", "1000:1000")):
        done = box("exec", *words, box.id, "cat", "/proc/self/status")
        assert int(status(done.stdout)["CapInh"], 16) == 0, done.stderr
    told = status(images.says("IMAGE", "cat", "/proc/self/status"))
    assert int(told["CapInh"], 16) == int(told["CapAmb"], 16) == 0


def with_groups() -> None:
    """In a child: the groups of a careless caller."""
    os.setgroups([0, 4, 27, 4242])


def test_c2_the_groups_of_the_caller_stay_outside(box: Box, images: Images) -> None:
    """For run, exec and `imgtools run`."""
    user = {"uid": 1000, "gid": 1000, "additionalGids": [77]}
    options = {"preexec_fn": with_groups}
    assert box.says("id", "-G", user=user, options=options).split() == ["1000", "77"]
    box.start("sleep", "60")
    said = box("exec", "--user", "1000:1000", box.id, "id", "-G", **options)
    assert said.stdout.split() == ["1000"], said.stderr
    assert images.says("-u", "1000", "IMAGE", "id", "-G", **options).split() == ["1000"]


def test_c5_volumes_carry_no_privileges(images: Images, tmp_path: Path) -> None:
    """What a container leaves in a directory of the host does nothing for it in another, and a
    store is closed to other users of the host."""
    tmp_path.chmod(0o755)
    script = "cat /bin/busybox > /v/busybox; chmod 4755 /v/busybox"
    (images.tree / "bin/chmod").symlink_to("busybox")
    try:
        images.says("-v", f"{tmp_path}:/v", "IMAGE", "sh", "-c", script)
        said = images.says(
            "-v", f"{tmp_path}:/v", "-u", "1000", "IMAGE", "sh", "-c",
            "/v/busybox id -u; grep /v /proc/self/mountinfo",
        )  # fmt: skip
    finally:
        (images.tree / "bin/chmod").unlink()
    assert said.split()[0] == "1000"
    assert "nosuid" in said
    assert "nodev" in said
    for path in images.path.glob("store/imgtools/*"):
        if path.name in ("layers", "snapshots"):
            assert stat.S_IMODE(path.stat().st_mode) == 0o700


RISE = """
import os, subprocess, sys
sys.path.insert(0, sys.argv[1])
from engine.runtime.kernel.processes import CLONE_NEWNS, CLONE_NEWUSER, clone3
os.chdir(sys.argv[2])
script = "mount -t tmpfs t . && cd . && mkdir low up work all && cp /bin/true low/suid"
subprocess.run(["sh", "-ec", script], check=True)
os.chdir(sys.argv[2])
os.chmod("low/suid", 0o4755)
for name in ("up", "work", "all"):
    os.chown(name, 100000, 100000)
ready, go = os.pipe()
pid, _ = clone3(CLONE_NEWUSER | CLONE_NEWNS)
if pid == 0:
    os.read(ready, 1)
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    options = "lowerdir=low,upperdir=up,workdir=work,userxattr"
    if os.system(f"mount -t overlay o -o {options} all 2>/dev/null") == 0:
        os.system("touch all/suid 2>/dev/null; chmod 4755 all/suid 2>/dev/null")
        print("mounted", flush=True)
    os._exit(0)
for name in ("gid_map", "uid_map"):
    with open(f"/proc/{pid}/{name}", "w") as file:
        file.write("0 100000 1000")
os.write(go, b".")
os.waitpid(pid, 0)
print(*[oct(os.lstat(f"up/{name}").st_mode) for name in os.listdir("up")])
"""


def test_c6_set_id_files_do_not_rise_with_overlay(tmp_path: Path) -> None:
    """In a user namespace that lacks their owner; a kernel that lets them rise is broken."""
    tmp_path.chmod(0o755)
    command = ["unshare", "-m", "--propagation", "private", sys.executable, "-I", "-S", "-c", RISE]
    said = subprocess.run(
        [*command, str(REPOSITORY), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=True,
    )
    assert said.stdout.replace("mounted\n", "") == "\n", said.stderr


def test_n2_the_host_sees_no_mount_even_where_it_shares_them(box: Box, tmp_path: Path) -> None:
    """With all mounts of the host shared, as systemd makes them; and a mount that the host
    gives up does not stay busy."""
    box.mount({"destination": "/shared", "type": "bind", "source": str(tmp_path),
               "options": ["rbind", "rprivate"]})  # fmt: skip
    config = box.config
    config["process"]["capabilities"] = {
        kind: ["CAP_SYS_ADMIN"] for kind in ("bounding", "effective", "permitted")
    }
    config["process"]["args"] = ["sh", "-c", "mount -t tmpfs inside /shared && echo mounted"]
    box.config = config
    script = (
        'mount --bind "$1" "$1"; cat /proc/self/mountinfo > "$1/before"; shift 1; "$@"; '
        "cat /proc/self/mountinfo"
    )
    done = subprocess.run(
        [*UNSHARE, "shared", "sh", "-c", script, "sh", str(tmp_path), *box.words("run", box.id)],
        cwd=box.bundle, capture_output=True, text=True, timeout=LIMIT, check=False,
    )  # fmt: skip
    said, _, after = done.stdout.partition("\n")
    assert said == "mounted", done
    assert after == (tmp_path / "before").read_text()


@pytest.fixture
def dead() -> Iterator[tuple[int, str]]:
    """A PID namespace whose first process has ended, and the path of a descriptor of it."""
    script = "import os, sys; sys.stdout.write('x'); sys.stdout.flush(); sys.stdin.read()"
    process = subprocess.Popen(
        ["unshare", "--pid", "--fork", "--kill-child", sys.executable, "-S", "-c", script],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    process.stdout.read(1)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    fd = os.open(f"/proc/{children[0]}/ns/pid", os.O_RDONLY)
    process.communicate()
    yield fd, f"/proc/{os.getpid()}/fd/{fd}"
    os.close(fd)


def test_n4_a_dead_namespace_is_told_in_words(box: Box, dead: tuple[int, str]) -> None:
    config = box.config
    for namespace in config["linux"]["namespaces"]:
        if namespace["type"] == "pid":
            namespace["path"] = dead[1]
    box.config = config
    done = box.run("true")
    assert done.returncode == 1
    assert "whose first process has ended" in done.stderr


@pytest.mark.parametrize("kind", ["pid", "ipc", "mount", "user"])
def test_n4_namespaces_of_another_kind_are_refused(box: Box, kind: str) -> None:
    config = box.config
    kept = [n for n in config["linux"]["namespaces"] if n["type"] != kind]
    other = "/proc/self/ns/net"
    config["linux"]["namespaces"] = [*kept, {"type": kind, "path": other}]
    box.config = config
    done = box.run("true")
    assert done.returncode == 1
    assert f"is a network namespace, expected {kind}" in done.stderr


def test_n5_no_user_namespaces_left(box: Box) -> None:
    """user.max_user_namespaces is 0 for the one that asks."""
    ids = [{"containerID": 0, "hostID": 0, "size": 1}]
    config = box.config
    config["linux"]["namespaces"].append({"type": "user"})
    config["linux"] |= {"uidMappings": ids, "gidMappings": ids}
    box.config = config
    script = 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$@"'
    done = subprocess.run(
        ["unshare", "-Urmpf", "--mount-proc", "sh", "-c", script, "sh", *box.words("run", box.id)],
        cwd=box.bundle, capture_output=True, text=True, timeout=LIMIT, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done
    assert "clone the container's init: no space left on device" in done.stderr
    assert len(done.stderr.splitlines()) <= 2


def test_n7_a_single_thread_makes_all_namespaces() -> None:
    """Nothing that the runtime imports starts a thread."""
    lines = (
        f"import sys, os; sys.path.insert(0, {str(REPOSITORY)!r})\n"
        "import engine.cli.commands.create, engine.cli.commands.execute\n"
        "import engine.runtime.zygote.server\n"
        "print(len(os.listdir('/proc/self/task')), 'threading' in sys.modules)"
    )
    said = subprocess.check_output([sys.executable, "-I", "-S", "-c", lines], text=True)
    assert said.split() == ["1", "False"]


def test_k5_without_openat2_nothing_is_resolved(box: Box) -> None:
    """An old kernel is refused in words, not served unsafely."""
    box.command = tuple(prologue(without("openat2")))
    done = box.run("true")
    assert done.returncode == 1
    assert "openat2 is not there" in done.stderr


@pytest.mark.parametrize(
    "names", [("mount_setattr",), ("close_range",), ("faccessat2",), ("statx", "memfd_create")]
)
def test_k5_other_calls_can_be_missing(box: Box, names: tuple[str, ...]) -> None:
    """Kernels from 5.6 on run containers, with the same promises about descriptors."""
    box.command = tuple(prologue(without(*names)))
    leaked = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
    options = {"pass_fds": (leaked,)}
    try:
        assert box.says("ls", "/proc/self/fd", options=options).split() == ["0", "1", "2", "3"]
    finally:
        os.close(leaked)


def test_n1_a_covered_proc_is_told_in_words(box: Box) -> None:
    """Where the caller's own is masked, as in a container, and there is no other."""
    script = (
        "grep -e '- proc ' /proc/self/mountinfo | cut -d' ' -f5 | grep -vx /proc |"
        ' xargs -r umount -l; mount -t tmpfs t /proc/bus && exec unshare -Urm "$@"'
    )
    words = box.words("--rootless=true", "--cgroup-manager=disabled", "run", box.id)
    done = subprocess.run(
        [*UNSHARE, "private", "sh", "-c", script, "sh", *words],
        cwd=box.bundle, capture_output=True, text=True, timeout=LIMIT, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "/proc" in done.stderr
    assert "Traceback" not in done.stderr


def test_n6_a_container_without_network_has_a_loopback(images: Images) -> None:
    """And nothing else; sysfs shows that as well."""
    said = images.says("IMAGE", "sh", "-c", "ls /sys/class/net; cat /proc/net/dev")
    names = [line.partition(":")[0].strip() for line in said.splitlines() if ":" in line]
    assert set(names) - {"lo"} == set()
    assert said.split()[0] == "lo"

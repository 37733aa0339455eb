"""Devices, the console, masked and read-only paths, kernel parameters and names of a
container, as root in new namespaces."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
from pathlib import Path
from typing import Any

import pytest

from engine.runtime.cgroups.survey import survey
from engine.runtime.cgroups.view import CgroupMount, CgroupMounts, container_view
from engine.runtime.errors import InvalidConfig, KernelRefused
from engine.runtime.kernel import mounting as m
from engine.runtime.kernel import processes
from engine.runtime.kernel.paths import open_in_root
from engine.runtime.rootfs.execute import Rootfs
from engine.runtime.spec.model import Device, Linux, Process, Root
from tests.engine.rootfs_driver import (
    DEFAULT_MOUNTS,
    DEV,
    PROC,
    contained,
    container,
    entry,
    facts,
    mounted,
)

pytestmark = pytest.mark.usefixtures("host_mounts_stay")
CAP_MKNOD = 27
TIOCGPTPEER, TIOCSPTLCK = 0x5441, 0x40045431
NULL = os.makedev(1, 3)


def dev_listing(_: Rootfs) -> Any:
    found: dict[str, Any] = {}
    for name in sorted(os.listdir("/dev")):
        info = os.lstat(f"/dev/{name}")
        if stat.S_ISLNK(info.st_mode):
            found[name] = os.readlink(f"/dev/{name}")
        elif not stat.S_ISDIR(info.st_mode):
            found[name] = [oct(info.st_mode), info.st_rdev, info.st_uid, info.st_gid]
    return found


def drop_mknod() -> None:
    effective, permitted, inheritable = processes.capget()
    keep = ~(1 << CAP_MKNOD)
    processes.capset(effective & keep, permitted & keep, inheritable & keep)


@pytest.mark.parametrize("with_tmpfs", [True, False])
def test_default_devices_and_links(bundle: Path, with_tmpfs: bool) -> None:
    mounts = (PROC, DEV) if with_tmpfs else (PROC,)
    seen = contained(container(mounts), facts(bundle), dev_listing)
    seen.pop("core", None)
    node = oct(stat.S_IFCHR | 0o666)
    assert seen == {
        "null": [node, NULL, 0, 0],
        "zero": [node, os.makedev(1, 5), 0, 0],
        "full": [node, os.makedev(1, 7), 0, 0],
        "random": [node, os.makedev(1, 8), 0, 0],
        "urandom": [node, os.makedev(1, 9), 0, 0],
        "tty": [node, os.makedev(5, 0), 0, 0],
        "fd": "/proc/self/fd",
        "stdin": "/proc/self/fd/0",
        "stdout": "/proc/self/fd/1",
        "stderr": "/proc/self/fd/2",
        "ptmx": "pts/ptmx",
    }


def test_devices_of_the_config(bundle: Path) -> None:
    devices = (
        Device(type="c", path="/dev/net/tun", major=10, minor=200, file_mode=0o640, uid=3, gid=4),
        Device(type="b", path="/disk", major=7, minor=99, file_mode=0o600),
        Device(type="p", path="/run/deep/pipe", file_mode=0o622, uid=9),
        Device(type="u", path="/dev/zero", major=1, minor=5, file_mode=0o444),
    )

    def look(_: Rootfs) -> Any:
        out = []
        for device in devices:
            info = os.stat(device.path)
            out.append([oct(info.st_mode), info.st_rdev, info.st_uid, info.st_gid])
        return out

    config = container((PROC, DEV), linux=Linux(devices=devices))
    assert contained(config, facts(bundle), look) == [
        [oct(stat.S_IFCHR | 0o640), os.makedev(10, 200), 3, 4],
        [oct(stat.S_IFBLK | 0o600), os.makedev(7, 99), 0, 0],
        [oct(stat.S_IFIFO | 0o622), 0, 9, 0],
        [oct(stat.S_IFCHR | 0o444), os.makedev(1, 5), 0, 0],
    ]


@pytest.mark.parametrize("there", ["same", "other", "file", "dir", "link"])
def test_a_device_whose_name_is_taken(bundle: Path, there: str) -> None:
    spot = bundle / "rootfs/spot"
    if there == "same":
        os.mknod(spot, 0o600 | stat.S_IFCHR, NULL)
    elif there == "other":
        os.mknod(spot, 0o600 | stat.S_IFCHR, os.makedev(1, 5))
    elif there == "file":
        spot.write_text("")
    elif there == "dir":
        spot.mkdir()
    else:
        spot.symlink_to("/dev/null")
    device = Device(type="c", path="/spot", major=1, minor=3, file_mode=0o620, uid=1, gid=2)
    config = container((PROC, DEV), linux=Linux(devices=(device,)))

    def look(_: Rootfs) -> Any:
        info = os.lstat("/spot")
        return [oct(info.st_mode), info.st_rdev, info.st_uid, info.st_gid]

    if there == "same":
        assert contained(config, facts(bundle), look) == [oct(stat.S_IFCHR | 0o620), NULL, 1, 2]
    else:
        with pytest.raises(InvalidConfig, match="device /spot: a file that is not c 1:3"):
            contained(config, facts(bundle), look)


def test_root_without_the_right_to_make_nodes_binds_them(bundle: Path) -> None:
    seen = contained(container((PROC, DEV)), facts(bundle), dev_listing, before=drop_mknod)
    assert seen["null"][1] == NULL
    assert seen["tty"][1] == os.makedev(5, 0)


def test_a_node_that_the_host_does_not_have(bundle: Path) -> None:
    device = Device(type="c", path="/dev/null", major=1, minor=5)
    config = container((PROC, DEV), linux=Linux(devices=(device,)))
    with pytest.raises(Exception, match="the host's node is not c 1:5"):
        contained(config, facts(bundle), dev_listing, before=drop_mknod)


def test_the_image_s_ptmx_gives_way(bundle: Path) -> None:
    (bundle / "rootfs/dev").mkdir()
    os.mknod(bundle / "rootfs/dev/ptmx", 0o666 | stat.S_IFCHR, os.makedev(5, 2))
    (bundle / "rootfs/dev/fd").symlink_to("/kept")
    seen = contained(container((PROC,)), facts(bundle), dev_listing)
    assert (seen["ptmx"], seen["fd"]) == ("pts/ptmx", "/kept")


def open_terminal(rootfs: Rootfs) -> int:
    master = open_in_root(rootfs.root_fd, b"/dev/pts/ptmx", os.O_RDWR | os.O_NOCTTY)
    fcntl.ioctl(master, TIOCSPTLCK, struct.pack("i", 0))
    return fcntl.ioctl(master, TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY)


@pytest.mark.parametrize("late", [False, True])
def test_p2_the_console_is_the_pty_of_a_descriptor(bundle: Path, late: bool) -> None:
    slave: list[int] = []

    def prepare(rootfs: Rootfs) -> None:
        slave.append(open_terminal(rootfs))
        if not late:
            rootfs.bind_console(slave[0])

    config = container(
        DEFAULT_MOUNTS,
        process=Process(terminal=True),
        root=Root(path="rootfs", readonly=True),
    )

    def look(_: Rootfs) -> Any:
        info, own = os.stat("/dev/console"), os.fstat(slave[0])
        return [info.st_rdev == own.st_rdev, mounted("/dev/console")["type"]]

    before_finish = (lambda rootfs: rootfs.bind_console(slave[0])) if late else None
    seen = contained(config, facts(bundle), look, prepare=prepare, entered=before_finish)
    assert seen == [True, ["devpts"]]


@pytest.mark.parametrize("path", ["/dev/null", "/etc/passwd"])
def test_p2_nothing_else_becomes_the_console(bundle: Path, path: str) -> None:
    def prepare(rootfs: Rootfs) -> None:
        fd = os.open(path, os.O_RDONLY)
        try:
            rootfs.bind_console(fd)
        finally:
            os.close(fd)

    config = container(DEFAULT_MOUNTS, process=Process(terminal=True))
    with pytest.raises(InvalidConfig, match="not a pty"):
        contained(config, facts(bundle), lambda _: 0, prepare=prepare)


@pytest.mark.parametrize("modern", [True, False])
def test_p5_paths_are_covered_and_made_read_only(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, modern: bool
) -> None:
    monkeypatch.setattr(m, "has_mount_setattr", lambda: modern)
    rootfs = bundle / "rootfs"
    for name in ("secret/below", "second", "ro/below"):
        (rootfs / name).mkdir(parents=True)
    (rootfs / "secret/file").write_text("x")
    (rootfs / "key").write_text("x")
    (rootfs / "file").write_text("x")
    (rootfs / "link").symlink_to("secret")
    linux = Linux(
        masked_paths=("/secret", "/key", "/second", "/missing", "/file/below", "/proc/keys"),
        readonly_paths=("/ro", "/file", "/proc/sys", "/missing", "/ro"),
    )

    def look(_: Rootfs) -> Any:
        refusals = []
        for name in ("/secret/new", "/ro/new", "/ro/below/new", "/proc/sys/kernel/hostname"):
            try:
                open(name, "w").close()
            except OSError as e:
                refusals.append(e.errno)
        return {
            "empty": [os.listdir(d) for d in ("/secret", "/link", "/second")],
            "texts": [Path(f).read_text() for f in ("/key", "/proc/keys", "/file")],
            "refusals": refusals,
            "file": mounted("/file")["flags"],
            "proc": mounted("/proc/sys")["flags"],
        }

    mounts = (entry("/proc", "proc", "proc", "nosuid", "noexec", "nodev"), DEV)
    seen = contained(container(mounts, linux=linux), facts(bundle), look)
    assert seen["empty"] == [[], [], []]
    assert seen["texts"] == ["", "", "x"]
    assert seen["refusals"] == [errno.EROFS] * 4
    assert "ro" in seen["file"]
    # p4: what was inherited is still there.
    assert set(seen["proc"]) == {"ro", "nosuid", "noexec", "nodev", "relatime"}


def test_p3_kernel_parameters_are_those_of_the_namespaces(bundle: Path) -> None:
    sysctl = (
        ("net.ipv4.ip_forward", "1"),
        ("kernel.shmmax", "12345678"),
        ("fs.mqueue.msg_max", "17"),
        ("kernel.domainname", "inside"),
    )
    host = [Path("/proc/sys", *name.split(".")).read_text() for name, _ in sysctl]
    linux = Linux(sysctl=sysctl, readonly_paths=("/proc/sys",))
    seen = contained(
        container((PROC,), linux=linux),
        facts(bundle),
        lambda _: [Path("/proc/sys", *name.split(".")).read_text().strip() for name, _ in sysctl],
    )
    assert seen == [value for _, value in sysctl]
    assert [Path("/proc/sys", *name.split(".")).read_text() for name, _ in sysctl] == host


def test_p3_a_fake_proc_gets_nothing_written(bundle: Path) -> None:
    """Without a /proc of its own the image's directory of that name is there."""
    fake = bundle / "rootfs/proc/sys/net/ipv4"
    fake.mkdir(parents=True)
    (fake / "ip_forward").write_text("untouched")
    config = container((), linux=Linux(sysctl=(("net.ipv4.ip_forward", "1"),)))
    look = lambda _: Path("/proc/sys/net/ipv4/ip_forward").read_text()  # noqa: E731
    assert contained(config, facts(bundle), look) == "untouched"


@pytest.mark.parametrize(
    ("name", "value", "number"),
    [
        ("net.no.such", "1", errno.ENOENT),
        ("kernel.shmmax", "banana", errno.EINVAL),
    ],
)
def test_a_parameter_that_cannot_be_set(bundle: Path, name: str, value: str, number: int) -> None:
    config = container((PROC,), linux=Linux(sysctl=((name, value),)))
    with pytest.raises(KernelRefused, match="set the kernel parameter") as caught:
        contained(config, facts(bundle), lambda _: 0)
    assert caught.value.errno == number


def test_host_and_domain_name(bundle: Path) -> None:
    config = container((PROC,), hostname="inside.example", domainname="domain")
    look = lambda _: [os.uname().nodename, Path("/proc/sys/kernel/domainname").read_text()]  # noqa: E731
    before = os.uname().nodename
    assert contained(config, facts(bundle), look) == ["inside.example", "domain\n"]
    assert os.uname().nodename == before


def test_p6_the_cgroups_of_this_machine(bundle: Path) -> None:
    view = container_view(survey(), None, False)
    mounts = (*DEFAULT_MOUNTS, entry("/sys/fs/cgroup", "cgroup", "cgroup", "ro"))

    def look(_: Rootfs) -> Any:
        points = {}
        with open("/proc/self/mountinfo") as file:
            for line in file:
                if line.split()[4].startswith("/sys/fs/cgroup"):
                    points[line.split()[4]] = line.split()[5].split(",")
        return points

    seen = contained(container(mounts), facts(bundle, cgroup=view), look)
    wanted = [s.target for s in view.steps if s.kind != "symlink"]
    assert len(seen) == len(wanted)
    assert all({"ro", "nosuid", "nodev", "noexec"} <= set(flags) for flags in seen.values())


def test_a_cgroup_view_is_made_step_by_step(bundle: Path) -> None:
    (bundle / "host/group").mkdir(parents=True)
    (bundle / "host/group/limit").write_text("7")
    steps = (
        CgroupMount(kind="tmpfs", data="mode=755,size=1m"),
        CgroupMount(kind="bind", target="cpu,cpuacct", source=f"{bundle}/host/group"),
        # The kernel knows no such controller, so that the host's directory stands in.
        CgroupMount(kind="cgroup", target="x", source=f"{bundle}/host/group", data="nonsense"),
        CgroupMount(kind="symlink", target="cpu", source="cpu,cpuacct"),
    )
    mounts = (PROC, entry("/cg", "cgroup", "cgroup"))

    def look(_: Rootfs) -> Any:
        return [
            Path("/cg/cpu/limit").read_text(),
            Path("/cg/x/limit").read_text(),
            mounted("/cg")["flags"][0],
            mounted("/cg/x")["flags"][0],
        ]

    view = CgroupMounts(steps=steps)
    assert contained(container(mounts), facts(bundle, cgroup=view), look) == ["7", "7", "ro", "ro"]


def test_a_host_without_cgroups_shows_none(bundle: Path) -> None:
    mounts = (*DEFAULT_MOUNTS, entry("/sys/fs/cgroup", "cgroup"))
    look = lambda _: os.listdir("/sys/fs/cgroup")  # noqa: E731
    assert contained(container(mounts), facts(bundle), look) == []

"""Images that want out: links, devices and strange files wherever something is mounted or
made, and a neighbour who exchanges them. The host's directory stays as it is, always."""

from __future__ import annotations

import os
import signal
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.runtime.errors import Failure, InvalidConfig, KernelRefused
from engine.runtime.kernel import mounting as m
from engine.runtime.rootfs.execute import Rootfs
from engine.runtime.spec.model import Linux, Mount
from tests.engine.rootfs_driver import (
    DEFAULT_MOUNTS,
    DEV,
    PROC,
    contained,
    container,
    entry,
    facts,
    fork,
    mounted,
)
from tests.engine.test_rootfs_paths import exchange_forever, tree


@pytest.fixture
def victim(bundle: Path) -> Iterator[Path]:
    """A directory of the host that must not change, nor be seen."""
    path = bundle / "victim"
    for name in ("dev", "proc", "sys", "pts", "shm", "etc"):
        (path / name).mkdir(parents=True)
    (path / "hosts").write_text("the host's")
    before = (tree(path), Path("/proc/self/mountinfo").read_bytes())
    yield path
    assert (tree(path), Path("/proc/self/mountinfo").read_bytes()) == before
    assert (path / "hosts").read_text() == "the host's"


def mount_points(_: Rootfs) -> list[str]:
    with open("/proc/self/mountinfo") as file:
        return sorted({line.split()[4] for line in file})


def links_to(victim: Path, deep: str) -> list[str]:
    """Ways to say in a link where the victim is."""
    up = "../" * 12
    return [str(victim), up + str(victim)[1:], f"/proc/self/root{victim}", "/proc/1/cwd" + deep]


@pytest.mark.parametrize("name", ["dev", "proc", "sys"])
@pytest.mark.parametrize("way", range(4))
def test_f1_dev_proc_or_sys_is_a_symlink(bundle: Path, victim: Path, name: str, way: int) -> None:
    (bundle / "rootfs" / name).symlink_to(links_to(victim, "/etc")[way])
    with pytest.raises(InvalidConfig, match=f"mount /{name}: .*symbolic link"):
        contained(container(DEFAULT_MOUNTS), facts(bundle), mount_points)


def test_f1_nodes_are_made_inside_where_dev_is_a_symlink(bundle: Path, victim: Path) -> None:
    (bundle / "rootfs/dev").symlink_to(victim / "dev")
    (bundle / "rootfs/proc").mkdir()
    with pytest.raises(Failure):
        contained(container((PROC,)), facts(bundle), mount_points)
    assert os.listdir(victim / "dev") == []


# Each component of each place where something is mounted, as a link out of the root.
@pytest.mark.parametrize("component", ["etc", "etc/hosts", "run", "run/a", "run/a/b", "var"])
@pytest.mark.parametrize("way", range(4))
def test_f2_each_component_of_a_target_is_a_link(
    bundle: Path, victim: Path, component: str, way: int
) -> None:
    (bundle / "mine").write_text("the bundle's")
    place = bundle / "rootfs" / component
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(links_to(victim, "/" + component)[way] + "/" + place.name)
    mounts = (
        *DEFAULT_MOUNTS,
        entry("/etc/hosts", "bind", "mine", "bind"),
        entry("/run/a/b/c", "tmpfs"),
        entry("/var/x", "bind", str(bundle / "mine"), "bind"),
    )
    if way >= 2:
        # Through a magic link of /proc.
        with pytest.raises(KernelRefused, match="too many levels of symbolic links"):
            contained(container(mounts), facts(bundle), mount_points)
        return
    points = contained(container(mounts), facts(bundle), mount_points)
    assert {"/", "/proc", "/dev", "/sys"} <= set(points)
    assert len(points) == 10


@pytest.mark.parametrize(
    "target", ["/etc/hosts", "/dev/null", "/dev/console", "/proc/x", "/dev/pts", "/dev/ptmx"]
)
def test_p1_a_link_at_a_name_of_dev_leads_nowhere(bundle: Path, victim: Path, target: str) -> None:
    """Without a fresh /dev: the image decides what is there already."""
    place = bundle / "rootfs" / target[1:]
    place.parent.mkdir(parents=True)
    place.symlink_to(victim / "hosts")
    config = container((PROC,), linux=Linux(masked_paths=("/proc/keys", "/proc/timer_list")))

    def look(_: Rootfs) -> Any:
        return [os.lstat("/dev/null").st_rdev, os.stat("/proc/timer_list").st_rdev]

    if target == "/dev/null":
        with pytest.raises(InvalidConfig, match="a file that is not c 1:3 is there"):
            contained(config, facts(bundle), look)
    else:
        assert contained(config, facts(bundle), look) == [os.makedev(1, 3)] * 2


@pytest.mark.parametrize("kind", ["regular", "fifo", "zero", "dangling"])
def test_p1_masks_do_not_trust_the_container_s_null(bundle: Path, kind: str) -> None:
    fake = bundle / "rootfs/dev/null"
    fake.parent.mkdir()
    if kind == "regular":
        fake.write_text("readable")
    elif kind == "fifo":
        os.mkfifo(fake)
    elif kind == "zero":
        os.mknod(fake, 0o666 | stat.S_IFCHR, os.makedev(1, 5))
    else:
        fake.symlink_to("/proc/sys/kernel/core_pattern")
    # A bound /dev is not touched, so that the image's stays in place.
    mounts = (PROC, entry("/dev", "bind", "rootfs/dev", "bind"))
    config = container(mounts, linux=Linux(masked_paths=("/proc/timer_list", "/proc/acpi")))
    seen = contained(
        config,
        facts(bundle),
        lambda _: [os.stat("/proc/timer_list").st_rdev, os.listdir("/proc/acpi")],
    )
    assert seen == [os.makedev(1, 3), []]


@pytest.mark.parametrize(
    "destination",
    ["//a/./b//", "a/b", "../../a/b", "/x/../a/b", "/link/b", "/dangling/../../../a/b", "/up/a/b"],
)
@pytest.mark.parametrize("kind", ["tmpfs", "bind"])
def test_f13_a_destination_in_any_form(
    bundle: Path, victim: Path, destination: str, kind: str
) -> None:
    rootfs = bundle / "rootfs"
    (rootfs / "a").mkdir()
    (rootfs / "link").symlink_to("/a")
    (rootfs / "dangling").symlink_to("made/by/us")
    (rootfs / "up").symlink_to("../../../..")
    (bundle / "source").mkdir()
    mounts = (PROC, entry(destination, kind, "source"))
    assert "/a/b" in contained(container(mounts), facts(bundle), mount_points)


@pytest.mark.parametrize("destination", ["/self", "/a/up", "/self/."])
def test_f13_a_link_to_the_root_is_no_destination(bundle: Path, destination: str) -> None:
    (bundle / "rootfs/a").mkdir()
    (bundle / "rootfs/self").symlink_to("/")
    (bundle / "rootfs/a/up").symlink_to("../..")
    with pytest.raises(InvalidConfig, match="leads to the root itself"):
        contained(container((PROC, entry(destination, "tmpfs"))), facts(bundle), mount_points)


def make_fifo(path: Path) -> None:
    os.mkfifo(path)


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as end:
        end.bind(str(path))


def make_node(path: Path) -> None:
    os.mknod(path, 0o666 | stat.S_IFBLK, os.makedev(7, 200))


@pytest.mark.parametrize("make", [make_fifo, make_socket, make_node])
def test_f13_nothing_is_opened_at_a_target(bundle: Path, make: Callable[[Path], None]) -> None:
    (bundle / "mine").write_text("the bundle's")
    make(bundle / "rootfs/spot")
    mounts = (PROC, entry("/spot", "bind", "mine", "bind"))
    look = lambda _: Path("/spot").read_text()  # noqa: E731
    assert contained(container(mounts), facts(bundle), look) == "the bundle's"
    with pytest.raises(KernelRefused, match="make the mount point /spot: not a directory"):
        contained(container((PROC, entry("/spot", "tmpfs"))), facts(bundle), look)


@pytest.mark.parametrize(
    "destination",
    [
        "/proc/sys",
        "/proc/sys/kernel",
        "/proc/self/attr",
        "/proc/1/attr/exec",
        "/proc/sysrq-trigger",
        "/proc/self",
        "/alias/sys/kernel",
        "/proc/../proc/sys",
        "/sys/devices",
        "/sys/class",
        "/sys/fs",
        "/sys/kernel",
        "/sys/power/state",
    ],
)
@pytest.mark.parametrize("kind", ["file", "dir"])
def test_f14_nothing_is_mounted_below_proc_and_sys(
    bundle: Path, destination: str, kind: str
) -> None:
    (bundle / "rootfs/alias").symlink_to("proc")
    (bundle / "dir").mkdir()
    (bundle / "file").write_text("")
    mounts = (*DEFAULT_MOUNTS, entry(destination, "bind", kind, "bind"))
    with pytest.raises(Failure) as caught:
        contained(container(mounts), facts(bundle), mount_points)
    assert caught.value.message.startswith(f"mount {destination}: ")


@pytest.mark.parametrize(
    ("destination", "kind"),
    [
        ("/proc/uptime", "file"),
        ("/proc/meminfo", "file"),
        ("/alias/stat", "file"),
        ("/sys/fs/cgroup", "dir"),
        ("/sys/kernel/debug", "dir"),
        ("/sys/devices/system/cpu/online", "file"),
    ],
)
def test_f14_but_on_what_tools_replace(bundle: Path, destination: str, kind: str) -> None:
    (bundle / "rootfs/alias").symlink_to("proc")
    (bundle / "dir").mkdir()
    (bundle / "dir/mark").write_text("")
    (bundle / "file").write_text("ours")
    mounts = (*DEFAULT_MOUNTS, entry(destination, "bind", kind, "bind"))

    def look(_: Rootfs) -> Any:
        if kind == "dir":
            return os.listdir(destination)
        return [Path(destination).read_text()]

    assert contained(container(mounts), facts(bundle), look) in (["mark"], ["ours"])


@pytest.mark.parametrize(
    "mounts",
    [
        (entry("/proc", "tmpfs"),),
        (entry("/proc", "bind", "dir", "bind"),),
        (PROC, entry("/proc", "tmpfs")),
        (entry("/alias", "tmpfs"),),
        (PROC, entry("/alias", "bind", "dir", "rbind")),
    ],
)
def test_f14_proc_is_a_procfs_or_nothing(bundle: Path, mounts: tuple[Mount, ...]) -> None:
    (bundle / "dir/self/attr").mkdir(parents=True)
    (bundle / "rootfs/proc").mkdir()
    (bundle / "rootfs/alias").symlink_to("proc")
    with pytest.raises(InvalidConfig, match="only a procfs may be mounted on /proc"):
        contained(container(mounts), facts(bundle), mount_points)


def test_proc_may_be_mounted_twice(bundle: Path) -> None:
    mounts = (entry("/proc", "bind", "/proc", "rbind"), PROC, entry("/p", "proc"))
    look = lambda _: [mounted("/proc")["type"], os.readlink("/p/self")]  # noqa: E731
    assert contained(container(mounts), facts(bundle), look) == [["proc"], "1"]


@pytest.mark.parametrize(
    "name",
    ["new\nline", "a,b=c:d\\e", "sp ace\ttab", "\udcff\udcfe", "x" * 255, "é", "-rf", "'\"$(id)"],
)
def test_f16_names_of_any_bytes(bundle: Path, name: str) -> None:
    source = os.fsencode(bundle) + b"/" + os.fsencode(name)
    os.mkdir(source)
    with open(source + b"/mark", "wb"):
        pass
    mounts = (
        PROC,
        entry(f"/to/{name}", "bind", name, "bind"),
        entry(f"/deep{f'/{name}' * 12}", "tmpfs"),
    )
    names = contained(
        container(mounts), facts(bundle), lambda _: os.listdir(b"/to/" + os.fsencode(name)) != []
    )
    assert names is True


def test_f16_a_path_deeper_than_the_kernel_takes(bundle: Path) -> None:
    mounts = (entry("/" + "d/" * 2500, "tmpfs"),)
    with pytest.raises(KernelRefused, match="file name too long"):
        contained(container(mounts), facts(bundle), mount_points)


def test_f16_a_deep_path(bundle: Path) -> None:
    deep = "/" + "/".join(["d"] * 900)
    mounts = (PROC, entry(deep, "tmpfs"))
    assert deep in contained(container(mounts), facts(bundle), mount_points)


def test_f2_a_neighbour_exchanges_components_while_mounts_are_made(
    bundle: Path, victim: Path
) -> None:
    """A volume that another container writes: its directory `a` is now and then a link."""
    volume = bundle / "volume"
    (volume / "a").mkdir(parents=True)
    (volume / "bait").symlink_to(victim)
    (bundle / "rootfs/v").mkdir()
    (bundle / "file").write_text("")
    mounts = [PROC, entry("/v", "bind", "volume", "bind")]
    for number in range(60):
        mounts.append(entry(f"/v/a/{number}", "tmpfs"))
        mounts.append(entry(f"/v/a/f{number}", "bind", "file", "bind"))
    swapper = fork()
    if swapper == 0:
        signal.alarm(60)
        exchange_forever(os.fsencode(volume / "a"), os.fsencode(volume / "bait"))
    allowed = ("/v/a", "/v/bait", str(victim))
    refusals: list[str] = []
    try:
        for _ in range(6):
            try:
                points = contained(container(tuple(mounts)), facts(bundle), mount_points)
            except Failure as failure:
                refusals.append(failure.message)
                continue
            assert all(p in ("/", "/proc", "/v") or p.startswith(allowed) for p in points)
    finally:
        os.kill(swapper, signal.SIGKILL)
        os.waitpid(swapper, 0)
    assert all(text.startswith("mount /v/a/") for text in refusals)


def test_f9_tmpcopyup_of_a_fifo_does_not_wait(bundle: Path) -> None:
    (bundle / "rootfs/data").mkdir()
    os.mkfifo(bundle / "rootfs/data/passwd")
    mounts = (PROC, entry("/data", "tmpfs", "tmpfs", "tmpcopyup"))
    assert contained(container(mounts), facts(bundle), lambda _: os.listdir("/data")) == ["passwd"]


@pytest.mark.parametrize("source", ["/", "slash"])
@pytest.mark.parametrize("wanted", ["", "rslave"])
def test_the_host_s_root_bound_is_the_host_s_root(bundle: Path, source: str, wanted: str) -> None:
    """Asked for, it is there, without the container in it; mounting in it changes nothing."""
    (bundle / "slash").symlink_to("/")
    (bundle / "rootfs/mark").write_text("")
    mounts = (PROC, DEV, entry("/host", "bind", source, "rbind", "rslave"))

    def look(_: Rootfs) -> Any:
        m.mount(b"t", b"/host" + os.fsencode(bundle), b"tmpfs", 0, None)
        return [os.path.exists("/host/mark"), mounted(f"/host{bundle}")["type"]]

    before = Path("/proc/self/mountinfo").read_bytes()
    config = container(mounts, linux=Linux(rootfs_propagation=wanted))
    assert contained(config, facts(bundle), look) == [False, ["tmpfs"]]
    assert Path("/proc/self/mountinfo").read_bytes() == before

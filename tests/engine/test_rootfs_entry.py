"""The way into a container's root: what it shares with the host, what is left of the host once
it is entered, and what happens where the root cannot be exchanged."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.runtime.errors import InvalidConfig, KernelRefused
from engine.runtime.kernel import mounting as m
from engine.runtime.kernel.processes import CLONE_NEWNS, unshare
from engine.runtime.rootfs.execute import Rootfs
from engine.runtime.spec.model import Device, Linux, Root
from tests.engine.rootfs_driver import (
    DEFAULT_MOUNTS,
    DEV,
    PROC,
    contained,
    container,
    entry,
    facts,
    in_child,
    mounted,
)

pytestmark = pytest.mark.usefixtures("host_mounts_stay")


def test_d6_no_descriptor_and_no_way_back_is_left(bundle: Path) -> None:
    def look(rootfs: Rootfs) -> Any:
        os.chdir("../../..")
        try:
            host = os.stat("/host-file").st_ino
        except FileNotFoundError:
            host = None
        with open("/proc/self/mountinfo") as file:
            roots = [line.split()[4] for line in file].count("/")
        umask = os.umask(0)
        return [sorted(os.listdir("/proc/self/fd")), os.getcwd(), host, roots, umask, before]

    before: list[str] = []

    def remember() -> None:
        before.extend(sorted(os.listdir("/proc/self/fd")))
        os.umask(0o027)

    left, cwd, host, roots, umask, known = contained(
        container(DEFAULT_MOUNTS, root=Root(path="rootfs", readonly=True)),
        facts(bundle),
        look,
        before=remember,
    )
    assert (cwd, host, roots, umask) == ("/", None, 1, 0o027)
    assert left == known


@pytest.mark.parametrize("umask", [0o077, 0])
def test_modes_do_not_depend_on_the_umask(bundle: Path, umask: int) -> None:
    """Nor do hooks, which run before the root is entered, get another one than the caller's."""
    seen: list[int] = []

    def before() -> None:
        os.umask(umask)

    def prepare(_: Rootfs) -> None:
        seen.append(os.umask(umask))

    def look(_: Rootfs) -> Any:
        paths = ("/deep", "/deep/er", "/dev/net", "/dev/net/tun", "/dev/null", "/file")
        return [*seen, *(oct(os.stat(path).st_mode & 0o7777) for path in paths)]

    (bundle / "host").write_text("x")
    (bundle / "host").chmod(0o604)
    device = Device(type="c", path="/dev/net/tun", major=10, minor=200)
    mounts = (
        PROC,
        DEV,
        entry("/deep/er/tmp", "tmpfs", "tmpfs", "mode=755"),
        entry("/file", "bind", "host", "bind"),
    )
    config = container(mounts, linux=Linux(devices=(device,)))
    found = contained(config, facts(bundle), look, before=before, prepare=prepare)
    assert found == [umask, "0o755", "0o755", "0o755", "0o666", "0o666", "0o604"]
    assert (bundle / "rootfs/file").stat().st_mode & 0o7777 == 0o644


@pytest.mark.parametrize(
    ("wanted", "tags"),
    [
        ("", []),
        ("private", []),
        ("rslave", []),
        ("shared", ["shared"]),
        ("rshared", ["shared"]),
        ("unbindable", ["unbindable"]),
        ("runbindable", ["unbindable"]),
    ],
)
def test_propagation_of_the_root(bundle: Path, wanted: str, tags: list[str]) -> None:
    config = container(linux=Linux(rootfs_propagation=wanted))
    seen = contained(config, facts(bundle), lambda _: mounted("/"))
    assert seen["propagation"] == tags


def test_n2_a_shared_host_does_not_see_the_container(bundle: Path) -> None:
    """The namespace that plays the host shares its mounts; one of it stays a peer where the
    config asks for that."""

    def share() -> None:
        m.mount(None, b"/", None, m.MS_REC | m.MS_SHARED, None)
        m.mount(b"t", os.fsencode(bundle / "vol"), b"tmpfs", 0, None)

    (bundle / "vol").mkdir()
    volume = entry("/v", "bind", "vol", "rbind")
    for wanted, tags in (("", ["master"]), ("rshared", ["shared"]), ("rprivate", [])):

        def host(wanted: str = wanted) -> Any:
            share()
            before = Path("/proc/self/mountinfo").read_bytes()
            config = container((PROC, volume), linux=Linux(rootfs_propagation=wanted))
            seen = contained(config, facts(bundle), lambda _: mounted("/v")["propagation"])
            return [seen, Path("/proc/self/mountinfo").read_bytes() == before]

        assert outer(host) == [tags, True], wanted


def outer(work: Callable[[], Any]) -> Any:
    """`work` in a mount namespace of its own, which plays the host."""

    def begin() -> Any:
        unshare(CLONE_NEWNS)
        m.mount(None, b"/", None, m.MS_REC | m.MS_PRIVATE, None)
        return work()

    return in_child(begin)


def test_the_root_read_only_keeps_its_other_flags(bundle: Path) -> None:
    def cover() -> None:
        m.mount(None, b"/", None, m.MS_REC | m.MS_PRIVATE, None)
        m.mount(b"t", os.fsencode(bundle / "rootfs"), b"tmpfs", m.MS_NOSUID | m.MS_NODEV, None)

    config = container((PROC,), root=Root(path="rootfs", readonly=True))
    seen = contained(config, facts(bundle), lambda _: mounted("/")["flags"], before=cover)
    assert set(seen) == {"ro", "nosuid", "nodev", "relatime"}


def test_without_pivot_root(bundle: Path) -> None:
    (bundle / "rootfs/mark").write_text("")

    def look(_: Rootfs) -> Any:
        # The classic way out of a chroot: a deeper one, with a current directory above it.
        os.mkdir("/deeper")
        os.chroot("/deeper")
        os.chdir("../../../../..")
        return sorted(os.listdir("."))

    names = contained(container((PROC, DEV)), facts(bundle, no_pivot=True), look)
    assert names == ["deeper", "dev", "mark", "proc"]


def test_without_pivot_root_the_host_s_mounts_go(bundle: Path) -> None:
    host: list[int] = []

    def look(_: Rootfs) -> Any:
        return os.listdir(os.open("proc", os.O_RDONLY, dir_fd=host[0]))

    def remember() -> None:
        host.append(os.open("/", os.O_PATH | os.O_DIRECTORY))

    config = container((PROC,))
    assert contained(config, facts(bundle, no_pivot=True), look, before=remember) == []


def test_a_chroot_is_no_place_for_a_runtime(bundle: Path) -> None:
    """Its "/" is no mount, so that nothing could be cut off from the host or exchanged."""

    def confine() -> None:
        m.mount(None, b"/", None, m.MS_REC | m.MS_PRIVATE, None)
        jail = os.fsencode(bundle / "jail")
        os.mkdir(jail)
        for name in (b"proc", b"b"):
            os.mkdir(jail + b"/" + name)
        m.mount(b"proc", jail + b"/proc", b"proc", 0, None)
        m.mount(os.fsencode(bundle), jail + b"/b", None, m.MS_BIND, None)
        os.chroot(jail)
        os.chdir("/")

    config = container((), root=Root(path="/b/rootfs"))
    for no_pivot in (False, True):
        with pytest.raises(KernelRefused, match="cut the mounts off") as caught:
            contained(config, facts(bundle, no_pivot=no_pivot), lambda _: 0, before=confine)
        assert "chroot" in caught.value.hint
        for name in ("proc", "b", ""):
            (bundle / "jail" / name).rmdir()


def test_a_root_that_is_no_directory(bundle: Path) -> None:
    (bundle / "file").write_text("")
    with pytest.raises(InvalidConfig, match="not a directory"):
        contained(container(root=Root(path="file")), facts(bundle), lambda _: 0)
    with pytest.raises(KernelRefused, match="no such file"):
        contained(container(root=Root(path="missing")), facts(bundle), lambda _: 0)

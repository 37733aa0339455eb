"""Mounts really made, as root in new namespaces: what is where, with which flags, and that the
host notices none of it."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.runtime.errors import Failure, InvalidConfig, KernelRefused
from engine.runtime.kernel import mounting as m
from engine.runtime.rootfs.execute import Rootfs
from engine.runtime.spec.model import IdMapping
from tests.engine.rootfs_driver import (
    DEFAULT_MOUNTS,
    DEV,
    NEW,
    PROC,
    contained,
    container,
    entry,
    facts,
    mounted,
)

pytestmark = pytest.mark.usefixtures("host_mounts_stay")


def test_default_mounts(bundle: Path) -> None:
    def look(_: Rootfs) -> Any:
        return {
            point: mounted(point)
            for point in ("/", "/proc", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue", "/sys")
        }

    seen = contained(container(DEFAULT_MOUNTS), facts(bundle), look)
    assert {point: found["type"][0] for point, found in seen.items() if point != "/"} == {
        "/proc": "proc",
        "/dev": "tmpfs",
        "/dev/pts": "devpts",
        "/dev/shm": "tmpfs",
        "/dev/mqueue": "mqueue",
        "/sys": "sysfs",
    }
    assert seen["/dev"]["flags"] == ["rw", "nosuid"]
    assert "mode=755" in seen["/dev"]["super"]
    assert set(seen["/dev/shm"]["flags"]) == {"rw", "nosuid", "nodev", "noexec", "relatime"}
    assert {"gid=5", "mode=620", "ptmxmode=666"} <= set(seen["/dev/pts"]["super"])
    assert "ro" in seen["/sys"]["flags"]


@pytest.mark.parametrize(
    ("options", "present", "absent"),
    [
        ("", "rw relatime", "ro noatime"),
        ("ro", "ro", "rw"),
        ("ro rw", "rw", "ro"),
        ("nosuid nodev noexec", "nosuid nodev noexec", "ro"),
        ("nosuid suid", "rw", "nosuid"),
        ("noatime", "noatime", "relatime"),
        ("noatime atime", "relatime", "noatime"),
        ("strictatime", "rw", "relatime noatime"),
        ("nodiratime", "nodiratime", ""),
        ("nosymfollow", "nosymfollow", ""),
        ("defaults silent iversion loud noiversion", "rw relatime", "ro"),
    ],
)
@pytest.mark.parametrize("modern", [True, False])
@pytest.mark.parametrize("kind", ["tmpfs", "bind"])
def test_flags_of_a_mount(
    bundle: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    modern: bool,
    options: str,
    present: str,
    absent: str,
) -> None:
    # k5: the second round is what kernels before 5.12 get.
    monkeypatch.setattr(m, "has_mount_setattr", lambda: modern)
    (bundle / "source").mkdir()
    mount = entry("/a/b", kind, "source", *options.split())
    flags = contained(container((PROC, mount)), facts(bundle), lambda _: mounted("/a/b"))["flags"]
    assert set(present.split()) <= set(flags)
    assert not set(absent.split()) & set(flags)


@pytest.mark.parametrize(
    ("options", "present", "absent"),
    [
        ("sync", "sync", ""),
        ("dirsync lazytime", "dirsync lazytime", ""),
        ("sync async", "", "sync"),
        ("size=1m mode=1700 nr_inodes=7", "size=1024k mode=1700 nr_inodes=7", ""),
    ],
)
def test_options_of_a_file_system(bundle: Path, options: str, present: str, absent: str) -> None:
    mount = entry("/t", "tmpfs", "tmpfs", *options.split())
    found = contained(container((PROC, mount)), facts(bundle), lambda _: mounted("/t"))["super"]
    assert set(present.split()) <= set(found)
    assert not set(absent.split()) & set(found)


def nested(bundle: Path) -> Callable[[], None]:
    """A source with a tmpfs below it, in the container's mount namespace only."""
    (bundle / "source" / "below").mkdir(parents=True)

    def make() -> None:
        m.mount(None, b"/", None, m.MS_REC | m.MS_PRIVATE, None)
        m.mount(b"t", os.fsencode(bundle / "source/below"), b"tmpfs", 0, None)

    return make


@pytest.mark.parametrize(
    ("options", "top", "below"),
    [
        ("rbind ro", "ro", "rw"),
        ("rbind rro", "ro", "ro"),
        ("rbind rro rrw", "rw", "rw"),
        ("rbind rnosuid rnodev rnoexec", "nosuid nodev noexec", "nosuid nodev noexec"),
        ("rbind rnoatime", "noatime", "noatime"),
        ("rbind rnosymfollow", "nosymfollow", "nosymfollow"),
        ("rbind nosuid rro", "ro nosuid", "ro"),
    ],
)
def test_recursive_attributes(bundle: Path, options: str, top: str, below: str) -> None:
    mounts = (PROC, entry("/a", "bind", "source", *options.split()))
    seen = contained(
        container(mounts),
        facts(bundle),
        lambda _: [mounted("/a")["flags"], mounted("/a/below")["flags"]],
        before=nested(bundle),
    )
    assert set(top.split()) <= set(seen[0])
    assert set(below.split()) <= set(seen[1])


def test_bind_leaves_what_is_mounted_below_behind(bundle: Path) -> None:
    mounts = (PROC, entry("/a", "bind", "source", "bind"))
    with pytest.raises(AssertionError, match="IndexError"):
        contained(
            container(mounts), facts(bundle), lambda _: mounted("/a/below"), before=nested(bundle)
        )


@pytest.mark.parametrize(
    ("option", "tags"),
    [
        ("shared", ["shared"]),
        ("private", []),
        ("slave", []),
        ("rprivate", []),
        ("unbindable", ["unbindable"]),
        ("runbindable", ["unbindable"]),
        ("rshared", ["shared"]),
        ("rslave", []),
    ],
)
@pytest.mark.parametrize("modern", [True, False])
def test_propagation_of_a_mount(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, option: str, tags: list[str], modern: bool
) -> None:
    monkeypatch.setattr(m, "has_mount_setattr", lambda: modern)
    mounts = (PROC, entry("/t", "tmpfs", "tmpfs", option))
    seen = contained(container(mounts), facts(bundle), lambda _: mounted("/t"))
    assert seen["propagation"] == tags


def test_files_and_directories_are_bound(bundle: Path) -> None:
    (bundle / "dir").mkdir()
    (bundle / "dir" / "file").write_text("from the bundle")
    (bundle / "link").symlink_to("dir/file")
    (bundle / "rootfs/etc").mkdir()
    (bundle / "rootfs/etc/present").write_text("the image's")
    mounts = (
        PROC,
        entry("etc/new", "bind", "dir/file", "bind"),
        entry("/etc/present/", "bind", str(bundle / "dir/file"), "bind", "ro"),
        entry("/etc/linked", "bind", "link", "bind"),
        entry("/d", "bind", "dir", "rbind"),
    )

    def look(rootfs: Rootfs) -> Any:
        names = ("/etc/new", "/etc/present", "/etc/linked", "/d/file")
        return [[Path(name).read_text() for name in names], [s.path.decode() for s in rootfs.stubs]]

    texts, stubs = contained(container(mounts), facts(bundle), look)
    assert texts == ["from the bundle"] * 4
    assert stubs[:5] == ["proc", "etc/new", "etc/linked", "d", "dev"]
    assert (bundle / "rootfs/etc/present").read_text() == "the image's"


@pytest.mark.parametrize(
    ("mount", "text", "number"),
    [
        (entry("/a", "bind", "missing", "bind"), "mount /a: open the source", errno.ENOENT),
        (entry("/file", "bind", "dir", "bind"), "make the mount point /file", errno.ENOTDIR),
        (entry("/dir", "nosuchfs"), "type nosuchfs", errno.ENODEV),
        (entry("/dir", "tmpfs", "t", "size=banana"), "option size=banana", errno.EINVAL),
        (entry("/dir", "tmpfs", "t", "mode=1,size=1"), "option mode=1,size=1", errno.EINVAL),
        (entry("/dir", "tmpfs", "t", "no-such"), "option no-such", errno.EINVAL),
    ],
)
def test_an_error_names_the_mount_and_the_reason(
    bundle: Path, mount: Any, text: str, number: int
) -> None:
    (bundle / "dir").mkdir()
    (bundle / "file").write_text("")
    (bundle / "rootfs/dir").mkdir()
    (bundle / "rootfs/file").write_text("")
    with pytest.raises(KernelRefused, match=text) as caught:
        contained(container((mount,)), facts(bundle), lambda _: None)
    assert caught.value.errno == number
    assert caught.value.message.startswith("mount /")


def test_a_file_is_not_mounted_on_a_directory(bundle: Path) -> None:
    (bundle / "file").write_text("")
    (bundle / "rootfs/dir").mkdir()
    with pytest.raises(InvalidConfig, match="mount /dir: of source and destination one is a dir"):
        contained(container((entry("/dir", "bind", "file"),)), facts(bundle), lambda _: None)


def test_links_as_crun_s_options_treat_them(bundle: Path) -> None:
    (bundle / "file").write_text("x")
    (bundle / "link").symlink_to("nowhere")
    (bundle / "rootfs/spot").symlink_to("elsewhere")
    mounts = (
        PROC,
        entry("/copied", "bind", "link", "bind", "copy-symlink"),
        entry("/plain", "bind", "file", "bind", "copy-symlink"),
        entry("/spot", "bind", "link", "bind", "src-nofollow", "dest-nofollow"),
    )

    def look(_: Rootfs) -> Any:
        return [os.readlink("/copied"), Path("/plain").read_text(), os.readlink("/spot")]

    assert contained(container(mounts), facts(bundle), look) == ["nowhere", "x", "nowhere"]
    assert os.readlink(bundle / "rootfs/spot") == "elsewhere"


def test_tmpcopyup_brings_everything_along(bundle: Path) -> None:
    image = bundle / "rootfs/data"
    (image / "sub").mkdir(parents=True)
    (image / "file").write_bytes(b"x" * 3_000_000)
    (image / "sub" / "bad\nname").write_text("y")
    (image / "link").symlink_to("/etc/shadow")
    os.mkfifo(image / "fifo")
    os.mknod(image / "node", 0o600 | stat.S_IFCHR, os.makedev(1, 3))
    os.chown(image / "file", 5, 6)
    (image / "file").chmod(0o4751)
    os.setxattr(image / "file", "trusted.mark", b"1")
    image.chmod(0o1730)
    os.utime(image / "sub", ns=(1, 2))
    mounts = (
        PROC,
        entry("/data/over", "tmpfs"),
        entry("/data", "tmpfs", "tmpfs", "tmpcopyup", "ro", "mode=700"),
    )

    def look(_: Rootfs) -> Any:
        found = os.stat("/data/file")
        return {
            "names": sorted(os.listdir("/data")),
            "file": [found.st_mode, found.st_uid, found.st_gid, found.st_size],
            "top": stat.S_IMODE(os.stat("/data").st_mode),
            "sub": [os.stat("/data/sub").st_mtime_ns, os.listdir("/data/sub")],
            "link": os.readlink("/data/link"),
            "fifo": stat.S_ISFIFO(os.stat("/data/fifo").st_mode),
            "node": os.stat("/data/node").st_rdev,
            "xattr": os.getxattr("/data/file", "trusted.mark").decode(),
            "flags": mounted("/data")["flags"],
        }

    seen = contained(container(mounts), facts(bundle), look)
    assert seen["names"] == ["fifo", "file", "link", "node", "sub"]
    assert seen["file"] == [stat.S_IFREG | 0o4751, 5, 6, 3_000_000]
    assert seen["top"] == 0o1730
    assert seen["sub"] == [2, ["bad\nname"]]
    assert (seen["link"], seen["fifo"]) == ("/etc/shadow", True)
    assert (seen["node"], seen["xattr"]) == (os.makedev(1, 3), "1")
    assert "ro" in seen["flags"]


def test_remount_changes_only_what_it_names(bundle: Path) -> None:
    mounts = (
        PROC,
        entry("/t", "tmpfs", "tmpfs", "nosuid", "noexec", "size=1m"),
        entry("/t", "", "", "remount", "bind", "ro"),
        entry("/u", "tmpfs", "tmpfs", "nodev", "size=1m"),
        entry("/u", "tmpfs", "tmpfs", "remount", "size=2m", "nosuid"),
        entry("/u", "none", "none", "shared"),
    )
    seen = contained(container(mounts), facts(bundle), lambda _: [mounted("/t"), mounted("/u")])
    assert set(seen[0]["flags"]) == {"ro", "nosuid", "noexec", "relatime"}
    assert "size=1024k" in seen[0]["super"]
    assert set(seen[1]["flags"]) == {"rw", "nodev", "nosuid", "relatime"}
    assert "size=2048k" in seen[1]["super"]
    assert seen[1]["propagation"] == ["shared"]
    with pytest.raises(KernelRefused, match=r"mount /none: .*no such file"):
        contained(container((entry("/none", "", "", "remount"),)), facts(bundle), lambda _: 0)


def test_ids_of_a_mount_are_mapped(bundle: Path) -> None:
    (bundle / "vol").mkdir()
    (bundle / "vol" / "file").write_text("x")
    os.chown(bundle / "vol" / "file", 7, 8)
    ids = (IdMapping(container_id=0, host_id=500, size=100),)
    mount = entry("/v", "bind", "vol", "bind", uid_mappings=ids, gid_mappings=ids)

    def look(_: Rootfs) -> Any:
        found = os.stat("/v/file")
        return [found.st_uid, found.st_gid]

    assert contained(container((PROC, mount)), facts(bundle), look) == [507, 508]


def test_g4_a_full_disk_is_an_error_of_the_step(bundle: Path) -> None:
    def cover() -> None:
        m.mount(None, b"/", None, m.MS_REC | m.MS_PRIVATE, None)
        m.mount(b"t", os.fsencode(bundle / "rootfs"), b"tmpfs", 0, b"nr_inodes=2")

    with pytest.raises(Failure, match="make the mount point /dev") as caught:
        contained(container((PROC, DEV)), facts(bundle), lambda _: 0, before=cover)
    assert caught.value.errno == errno.ENOSPC


def test_namespaces_that_are_shared_need_no_pid_namespace(bundle: Path) -> None:
    seen = contained(
        container((PROC,)),
        facts(bundle, new_namespaces=("mount",)),
        lambda _: [os.getpid(), os.readlink("/proc/self")],
    )
    assert seen[1] == str(seen[0])
    assert NEW[0] == "mount"

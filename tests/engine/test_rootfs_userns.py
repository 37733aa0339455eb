"""The same in a user namespace: made by an unprivileged user, and by root for ids that may not
even reach the bundle. What the kernel refuses there is replaced or explained."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from engine.runtime.errors import KernelRefused
from engine.runtime.kernel import mounting as m
from engine.runtime.kernel.processes import CLONE_NEWNS, unshare
from engine.runtime.rootfs.execute import Rootfs
from engine.runtime.rootfs.model import RootfsFacts
from engine.runtime.spec.model import Device, IdMapping, Linux, Root
from tests.engine.rootfs_driver import (
    DEFAULT_MOUNTS,
    DEV,
    NEW,
    PROC,
    contained,
    container,
    entry,
    facts,
    in_child,
    mounted,
)

pytestmark = pytest.mark.usefixtures("host_mounts_stay")
USER = 1000
RANGE = 100000


@pytest.fixture
def bundle(bundle: Path) -> Path:
    """A bundle whose root file system is the user's."""
    os.chown(bundle / "rootfs", USER, USER)
    return bundle


@pytest.fixture
def remote(bundle: Path) -> Path:
    """A bundle that only root reaches, with a root file system of the ids of the container."""
    os.chown(bundle / "rootfs", RANGE, RANGE)
    bundle.chmod(0o700)
    return bundle


def user_facts(bundle: Path, *less: str, **fields: Any) -> RootfsFacts:
    """Facts of a container in a user namespace of one id, without the namespaces `less`."""
    fields.setdefault("tty_group_mapped", False)
    new = tuple(name for name in (*NEW, "user") if name not in less)
    return facts(bundle, new_namespaces=new, in_user_namespace=True, **fields)


def points(_: Rootfs) -> Any:
    with open("/proc/self/mountinfo") as file:
        return sorted({line.split()[4] for line in file})


def test_an_unprivileged_user_gets_the_same_container(bundle: Path) -> None:
    (bundle / "data").mkdir()
    mounts = (*DEFAULT_MOUNTS, entry("/data", "bind", "data", "rbind", "ro", "rprivate"))
    linux = Linux(
        masked_paths=("/proc/keys", "/proc/acpi", "/sys/firmware"),
        readonly_paths=("/proc/sys", "/proc/irq"),
        sysctl=(("net.ipv4.ip_forward", "1"),),
    )

    def look(_: Rootfs) -> Any:
        with open("/dev/null", "w") as null:
            null.write("x")
        return [
            points(_),
            os.stat("/dev/null").st_rdev == os.makedev(1, 3),
            os.stat("/etc").st_uid,
            mounted("/dev/pts")["super"],
            Path("/proc/sys/net/ipv4/ip_forward").read_text(),
            os.uname().nodename,
        ]

    (bundle / "rootfs/etc").mkdir()
    os.chown(bundle / "rootfs/etc", USER, USER)
    config = container(
        mounts, linux=linux, hostname="user", root=Root(path="rootfs", readonly=True)
    )
    where, null, owner, pts, forward, name = contained(config, user_facts(bundle), look, uid=USER)
    expected = "/ /data /dev /dev/full /dev/mqueue /dev/null /dev/pts /dev/random /dev/shm"
    expected += " /dev/tty /dev/urandom /dev/zero /proc /proc/keys /proc/sys /sys"
    assert set(expected.split()) <= set(where)
    assert (null, owner, forward, name) == (True, 0, "1\n", "user")
    assert not any(option.startswith("gid=") for option in pts)


def test_sources_that_the_init_cannot_reach_are_opened_for_it(remote: Path) -> None:
    (remote / "data").mkdir()
    (remote / "data/file").write_text("reached")
    (remote / "file").write_text("this too")
    mounts = (
        *DEFAULT_MOUNTS,
        entry("/data", "bind", "data", "rbind", "rprivate"),
        entry("/file", "bind", "file", "bind", "ro"),
        entry("/shared", "bind", "data", "rbind", "rshared"),
    )

    def look(_: Rootfs) -> Any:
        texts = [Path(name).read_text() for name in ("/data/file", "/file")]
        tags = [mounted(name)["propagation"] for name in ("/", "/data", "/shared")]
        return [texts, tags, os.stat("/").st_uid, os.stat("/data").st_uid]

    texts, tags, root_owner, data_owner = contained(
        container(mounts), user_facts(remote, parent_opens=True), look, map_to=RANGE
    )
    assert texts == ["reached", "this too"]
    assert tags == [[], [], ["shared"]]
    assert (root_owner, data_owner) == (0, 65534)
    with pytest.raises(KernelRefused, match="permission denied"):
        contained(container(mounts), user_facts(remote), look, map_to=RANGE)


def test_ids_of_a_volume_are_mapped_into_the_namespace(remote: Path) -> None:
    (remote / "data").mkdir()
    (remote / "data/file").write_text("x")
    (remote / "data/file").chmod(0o600)
    ids = (IdMapping(container_id=0, host_id=RANGE, size=1),)
    linux = Linux(uid_mappings=ids, gid_mappings=ids)
    mounts = (PROC, DEV, entry("/data", "bind", "data", "rbind", "idmap"))

    def look(_: Rootfs) -> Any:
        Path("/data/new").write_text("")
        return [os.stat("/data/file").st_uid, Path("/data/file").read_text()]

    seen = contained(
        container(mounts, linux=linux),
        user_facts(remote, parent_opens=True),
        look,
        map_to=RANGE,
    )
    assert seen == [0, "x"]
    assert os.stat(remote / "data/new").st_uid == 0


def test_mapping_ids_takes_rights(bundle: Path) -> None:
    (bundle / "data").mkdir()
    ids = (IdMapping(container_id=0, host_id=USER, size=1),)
    mount = entry("/data", "bind", "data", "bind", uid_mappings=ids, gid_mappings=ids)
    with pytest.raises(KernelRefused, match=r"mount /data: .*not permitted"):
        contained(container((mount,)), user_facts(bundle), points, uid=USER)


def mask_proc() -> None:
    """What a container around us does to its /proc."""
    m.mount(None, b"/", None, m.MS_REC | m.MS_PRIVATE, None)
    m.mount(b"/dev/null", b"/proc/uptime", None, m.MS_BIND, None)


def in_a_masked_container(bundle: Path, *less: str) -> Any:
    """A container made by a user inside of namespaces where /proc is covered in part."""

    def outside() -> Any:
        unshare(CLONE_NEWNS)
        mask_proc()
        return contained(
            container((PROC, DEV)),
            user_facts(bundle, *less),
            lambda _: [mounted("/proc")["type"], points(_)],
            uid=USER,
        )

    return in_child(outside)


def test_n1_a_covered_proc_is_bound_where_processes_are_shared(bundle: Path) -> None:
    kind, where = in_a_masked_container(bundle, "pid")
    assert kind == ["proc"]
    # What was covered is covered still.
    assert "/proc/uptime" in where


def test_n1_a_covered_proc_is_explained_otherwise(bundle: Path) -> None:
    with pytest.raises(KernelRefused, match=r"^mount /proc: ") as caught:
        in_a_masked_container(bundle)
    assert caught.value.errno == errno.EPERM
    assert "unmask" in caught.value.hint


def test_sys_is_the_host_s_where_the_network_is(bundle: Path) -> None:
    seen = contained(
        container(DEFAULT_MOUNTS),
        user_facts(bundle, "network"),
        lambda _: mounted("/sys"),
        uid=USER,
    )
    assert seen["type"] == ["sysfs"]
    assert {"ro", "nosuid", "nodev", "noexec"} <= set(seen["flags"])


def test_queues_are_the_host_s_where_ipc_is_shared(bundle: Path) -> None:
    mounts = (PROC, entry("/dev/mqueue", "mqueue"))
    if not os.path.isdir("/dev/mqueue"):
        with pytest.raises(KernelRefused, match="mount /dev/mqueue: open the source /dev/mqueue"):
            contained(container(mounts), user_facts(bundle, "ipc"), points, uid=USER)
    else:
        assert "/dev/mqueue" in contained(
            container(mounts), user_facts(bundle, "ipc"), points, uid=USER
        )


def test_an_unmapped_group_is_an_error_that_says_so(bundle: Path) -> None:
    # The terminals' group is the exception, whether or not the caller knew.
    seen = contained(
        container(DEFAULT_MOUNTS),
        user_facts(bundle, tty_group_mapped=True),
        lambda _: mounted("/dev/pts")["super"],
        uid=USER,
    )
    assert not any(option.startswith("gid=") for option in seen)
    mounts = (PROC, DEV, entry("/t", "tmpfs", "tmpfs", "gid=77"))
    with pytest.raises(KernelRefused, match="mount /t: option gid=77: invalid argument"):
        contained(container(mounts), user_facts(bundle), points, uid=USER)


def locked(bundle: Path) -> Any:
    """A volume whose flags the namespace of the container inherits, and may not take away."""

    def outside() -> None:
        unshare(CLONE_NEWNS)
        m.mount(None, b"/", None, m.MS_REC | m.MS_PRIVATE, None)
        flags = m.MS_NOSUID | m.MS_NODEV | m.MS_NOEXEC | m.MS_NOATIME
        m.mount(b"t", os.fsencode(bundle / "vol"), b"tmpfs", flags, None)

    return outside


@pytest.mark.parametrize("modern", [True, False])
@pytest.mark.parametrize(
    ("options", "flags"),
    [
        ("rbind", "rw nosuid nodev noexec noatime"),
        ("rbind rw rprivate", "rw nosuid nodev noexec noatime"),
        ("rbind ro", "ro nosuid nodev noexec noatime"),
        ("rbind nosuid nodev", "rw nosuid nodev noexec noatime"),
        ("rbind exec", None),
        ("rbind suid", None),
        ("rbind relatime", None),
    ],
)
def test_n3_inherited_flags_stay(
    bundle: Path,
    monkeypatch: pytest.MonkeyPatch,
    modern: bool,
    options: str,
    flags: str | None,
) -> None:
    monkeypatch.setattr(m, "has_mount_setattr", lambda: modern)
    (bundle / "vol").mkdir()
    mounts = (PROC, entry("/v", "bind", "vol", *options.split()))

    def outside() -> Any:
        locked(bundle)()
        return contained(
            container(mounts), user_facts(bundle), lambda _: mounted("/v")["flags"], uid=USER
        )

    if flags is None:
        with pytest.raises(KernelRefused, match="mount /v: set the mount's flags") as caught:
            in_child(outside)
        assert "more privileged" in caught.value.hint
    else:
        assert set(in_child(outside)) == set(flags.split())


def test_n3_read_only_paths_keep_inherited_flags(bundle: Path) -> None:
    (bundle / "vol").mkdir()
    mounts = (PROC, entry("/v", "bind", "vol", "rbind"))
    config = container(mounts, linux=Linux(readonly_paths=("/v",)))

    def outside() -> Any:
        locked(bundle)()
        return contained(config, user_facts(bundle), lambda _: mounted("/v")["flags"], uid=USER)

    assert set(in_child(outside)) == {"ro", "nosuid", "nodev", "noexec", "noatime"}


def test_a_device_of_the_config_is_the_host_s(bundle: Path) -> None:
    present = Device(type="c", path="/dev/zero", major=1, minor=5)
    seen = contained(
        container((PROC, DEV), linux=Linux(devices=(present,))),
        user_facts(bundle),
        lambda _: os.stat("/dev/zero").st_rdev,
        uid=USER,
    )
    assert seen == os.makedev(1, 5)
    wrong = Device(type="c", path="/dev/zero", major=1, minor=3)
    with pytest.raises(Exception, match="device /dev/zero: the host's node is not c 1:3"):
        contained(
            container((PROC, DEV), linux=Linux(devices=(wrong,))),
            user_facts(bundle),
            points,
            uid=USER,
        )


def test_f1_a_node_of_the_image_in_place_of_a_host_s(bundle: Path) -> None:
    """An image's own empty /dev/null is bound on; a link there is not followed."""
    dev = bundle / "rootfs/dev"
    dev.mkdir()
    (dev / "null").write_text("")
    os.chown(dev, USER, USER)
    os.chown(dev / "null", USER, USER)
    look = lambda _: os.stat("/dev/null").st_rdev  # noqa: E731
    assert contained(container((PROC,)), user_facts(bundle), look, uid=USER) == os.makedev(1, 3)
    (dev / "zero").unlink()
    (dev / "zero").symlink_to("/etc/passwd")
    with pytest.raises(Exception, match="device /dev/zero: a file that is not c 1:5"):
        contained(container((PROC,)), user_facts(bundle), look, uid=USER)


def test_d6_descriptors_of_the_runtime_process_are_used_up(remote: Path) -> None:
    (remote / "data").mkdir()
    mounts = (*DEFAULT_MOUNTS, entry("/data", "bind", "data", "rbind"))

    def count() -> int:
        return len(os.listdir("/proc/self/fd"))

    before: list[int] = []
    left = contained(
        container(mounts),
        user_facts(remote, parent_opens=True),
        lambda _: before[0] - count(),
        map_to=RANGE,
        before=lambda: before.append(count()),
    )
    # The root, the volume and six nodes.
    assert left == 8

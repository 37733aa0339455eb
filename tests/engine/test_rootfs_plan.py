"""What a root file system is made of, decided from config.json and facts: tables, no kernel."""

from __future__ import annotations

from typing import Any

import pytest

from engine.runtime.cgroups.view import CgroupMounts
from engine.runtime.errors import Failure, InvalidConfig, Unsupported
from engine.runtime.kernel import mounting as m
from engine.runtime.rootfs.model import (
    BIND,
    CGROUP,
    FILESYSTEM,
    PROPAGATION,
    REMOUNT,
    MountStep,
    RootfsFacts,
    RootfsPlan,
    RootOverlay,
)
from engine.runtime.rootfs.plan import plan_rootfs
from engine.runtime.spec.model import (
    Config,
    Device,
    Hook,
    Hooks,
    IdMapping,
    Linux,
    Mount,
    Process,
    Root,
)

ALL = ("mount", "pid", "ipc", "uts", "network", "cgroup")
FACTS = RootfsFacts(bundle=b"/bundle", new_namespaces=ALL)
IN_USERNS = FACTS.with_values(
    new_namespaces=(*ALL, "user"), in_user_namespace=True, tty_group_mapped=False
)
ONE = (IdMapping(container_id=0, host_id=1000, size=1),)


def config(**fields: Any) -> Config:
    fields.setdefault("root", Root(path="rootfs"))
    return Config(oci_version="1.2.0", **fields)


def mount(destination: str, kind: str = "", source: str = "", *options: str, **more: Any) -> Mount:
    return Mount(destination=destination, type=kind, source=source, options=options, **more)


def step(entry: Mount, facts: RootfsFacts = FACTS, **fields: Any) -> MountStep:
    plan = plan_rootfs(config(mounts=(entry,), **fields), facts)
    assert len(plan.mounts) == 1
    return plan.mounts[0]


@pytest.mark.parametrize(
    ("entry", "kind"),
    [
        (mount("/a", "bind", "/s"), BIND),
        (mount("/a", "", "/s", "rbind"), BIND),
        (mount("/a", "none", "/s", "bind"), BIND),
        (mount("/a", "tmpfs", "tmpfs"), FILESYSTEM),
        (mount("/a", "cgroup", "cgroup", "ro"), CGROUP),
        (mount("/a", "cgroup2", "cgroup"), FILESYSTEM),
        (mount("/a", "bind", "/s", "remount", "ro"), REMOUNT),
        (mount("/", "", "", "remount", "ro"), REMOUNT),
        (mount("/a", "", "", "rshared"), PROPAGATION),
        (mount("relative/to/root", "tmpfs", "tmpfs"), FILESYSTEM),
    ],
)
def test_a_mount_is_of_the_kind_its_options_say(entry: Mount, kind: str) -> None:
    assert step(entry).kind == kind


def test_cgroup2_is_the_view_where_there_is_one() -> None:
    view = CgroupMounts()
    found = step(mount("/a", "cgroup2", "cgroup"), FACTS.with_values(cgroup=view))
    assert (found.kind, found.cgroup) == (CGROUP, view)


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        (mount("", "tmpfs", "tmpfs"), "the destination is empty"),
        (mount("/", "tmpfs", "tmpfs"), "the root itself"),
        (mount("/a/..", "tmpfs", "tmpfs"), "the root itself"),
        (mount("..//./", "bind", "/s", "bind"), "the root itself"),
        (mount("/a\0b", "tmpfs", "tmpfs"), "NUL"),
        (mount("/" + "a" * 70000, "tmpfs", "tmpfs"), "longer"),
        (mount("/a", "bind", "/s\0", "bind"), "NUL"),
        (mount("/a", "tmp\0fs"), "NUL"),
        (mount("/a", "bind", "", "bind"), "needs a source"),
        (mount("/a"), "neither a type nor the option bind"),
        (mount("/a", "none", "/s"), "neither a type nor the option bind"),
        (mount("/a", "bind", "/s", "tmpcopyup"), "tmpcopyup is for tmpfs"),
        (mount("/a", "proc", "proc", "tmpcopyup"), "tmpcopyup is for tmpfs"),
        (mount("/a", "tmpfs", "tmpfs", "rro"), "recursive attributes are for bind mounts"),
        (mount("/a", "tmpfs", "tmpfs", "idmap"), "only bind mounts can have id mappings"),
        (mount("/a", "bind", "/s", "idmap"), "idmap needs uidMappings"),
        (mount("/a", "bind", "/s", uid_mappings=ONE), "only valid together"),
    ],
)
def test_f13_a_mount_that_means_nothing_is_refused(entry: Mount, text: str) -> None:
    with pytest.raises(Failure, match=text.replace("(", r"\(")):
        step(entry)


def test_an_error_says_which_mount() -> None:
    entries = (mount("/ok", "tmpfs"), mount("/bad\nname", "tmpfs", "x", "=1"))
    with pytest.raises(InvalidConfig, match=r"^mounts\[1\] /bad\\nname: '=1' is not a mount"):
        plan_rootfs(config(mounts=entries), FACTS)


def test_sources_are_relative_to_the_bundle() -> None:
    assert step(mount("/a", "bind", "data/x", "bind")).source == b"/bundle/data/x"
    assert step(mount("/a", "bind", "/data/\udcff", "bind")).source == b"/data/\xff"
    assert plan_rootfs(config(), FACTS).root.path == b"/bundle/rootfs"
    assert plan_rootfs(config(root=Root(path="/r")), FACTS).root.path == b"/r"


def test_ids_are_mapped_as_the_mount_says_or_as_the_container() -> None:
    own = step(mount("/a", "bind", "/s", "bind", uid_mappings=ONE, gid_mappings=ONE))
    assert (own.uid_mappings, own.parent_opens) == (ONE, True)
    linux = Linux(uid_mappings=ONE, gid_mappings=ONE)
    taken = step(mount("/a", "bind", "/s", "rbind", "ridmap"), IN_USERNS, linux=linux)
    assert (taken.uid_mappings, taken.gid_mappings, taken.parent_opens) == (ONE, ONE, True)
    assert taken.options.idmap_recursive


def test_the_runtime_process_opens_what_the_init_may_not_reach() -> None:
    facts = IN_USERNS.with_values(parent_opens=True)
    plan = plan_rootfs(config(mounts=(mount("/a", "bind", "/s"), mount("/t", "tmpfs"))), facts)
    assert plan.root.parent_opens
    assert [step.parent_opens for step in plan.mounts] == [True, False]
    assert all(node.bind and node.parent_opens for node in plan.nodes)


@pytest.mark.parametrize(
    ("facts", "kind", "fallback"),
    [
        (FACTS, "proc", b""),
        (FACTS.with_values(new_namespaces=("mount",)), "proc", b"/proc"),
        (
            FACTS.with_values(new_namespaces=("mount",), joined_namespaces=("pid",)),
            "proc",
            b"",
        ),
        (FACTS, "sysfs", b"/sys"),
        (FACTS, "mqueue", b""),
        (FACTS.with_values(new_namespaces=("mount",)), "mqueue", b"/dev/mqueue"),
        (FACTS, "tmpfs", b""),
    ],
)
def test_n1_what_may_stand_in_for_a_refused_file_system(
    facts: RootfsFacts, kind: str, fallback: bytes
) -> None:
    found = step(mount("/x", kind, kind), facts)
    assert found.fallback == fallback
    assert bool(found.remedy) == (kind == "proc" and not fallback)


def test_group_5_is_left_out_where_it_does_not_exist() -> None:
    entry = mount("/dev/pts", "devpts", "devpts", "newinstance", "gid=5", "mode=0620")
    assert (b"gid", b"5") in step(entry).options.data
    assert step(entry, IN_USERNS).options.data == ((b"newinstance", None), (b"mode", b"0620"))


def test_an_overlay_in_a_user_namespace_keeps_its_marks_as_a_user_can() -> None:
    entry = mount("/o", "overlay", "overlay", "lowerdir=/a", "upperdir=/u", "workdir=/w")
    assert (b"userxattr", None) not in step(entry).options.data
    assert step(entry, IN_USERNS).options.data[-1] == (b"userxattr", None)


def test_dev_is_made_read_only_after_its_nodes() -> None:
    assert step(mount("/dev/", "tmpfs", "tmpfs", "ro")).late_readonly
    assert not step(mount("/dev", "tmpfs", "tmpfs")).late_readonly
    assert not step(mount("/dev/shm", "tmpfs", "tmpfs", "ro")).late_readonly


def paths(plan: RootfsPlan) -> list[bytes]:
    return [node.path for node in plan.nodes]


def test_default_nodes_and_those_of_the_config() -> None:
    devices = (
        Device(type="c", path="/dev/fuse", major=10, minor=229, file_mode=0o20666, uid=1, gid=2),
        Device(type="u", path="/dev//zero", major=1, minor=5, file_mode=0o600),
        Device(type="p", path="/run/pipe"),
        Device(type="c", path="/dev/ptmx", major=5, minor=2),
        Device(type="c", path="/dev/console", major=5, minor=1),
    )
    plan = plan_rootfs(config(linux=Linux(devices=devices), process=Process(terminal=True)), FACTS)
    names = "null /dev//zero full random urandom tty fuse"
    assert paths(plan) == [
        n.encode() if n.startswith("/") else b"/dev/" + n.encode() for n in names.split()
    ] + [b"/run/pipe"]
    by_path = {node.path: node for node in plan.nodes}
    fuse = by_path[b"/dev/fuse"]
    assert (fuse.type, fuse.mode, fuse.uid, fuse.gid, fuse.bind) == ("c", 0o666, 1, 2, False)
    assert (by_path[b"/dev//zero"].type, by_path[b"/dev//zero"].mode) == ("c", 0o600)
    assert plan.console
    assert not by_path[b"/run/pipe"].bind


def test_nodes_for_a_user_namespace_are_made_outside_with_the_owner_s_own_ids() -> None:
    devices = (
        Device(type="c", path="/dev/fuse", major=10, minor=229, uid=3, gid=1),
        Device(type="b", path="/dev/loop9", major=7, minor=9, uid=70000),
    )
    linux = Linux(
        devices=devices,
        uid_mappings=(
            IdMapping(container_id=0, host_id=1000, size=1),
            IdMapping(container_id=1, host_id=5000, size=10),
        ),
        gid_mappings=(IdMapping(container_id=0, host_id=2000, size=2),),
    )
    owners = {
        parent: {
            node.path: node.owner
            for node in plan_rootfs(
                config(linux=linux), IN_USERNS.with_values(parent_opens=parent)
            ).nodes
            if node.path in (b"/dev/fuse", b"/dev/loop9", b"/dev/null")
        }
        for parent in (True, False)
    }
    assert owners[True] == {b"/dev/null": None, b"/dev/fuse": (5002, 2001), b"/dev/loop9": None}
    assert set(owners[False].values()) == {None}


def test_options_without_effect_on_a_bind_are_left_out_with_a_word() -> None:
    entries = (mount("/a", "bind", "/s", "size=1k", "ro", "mode=755"), mount("/b", "bind", "/s"))
    plan = plan_rootfs(config(mounts=entries), FACTS)
    assert plan.mounts[0].options.data == ()
    assert plan.warning == "mounts[0] /a: size, mode has no effect on a bind mount"
    assert plan_rootfs(config(mounts=entries[1:]), FACTS).warning == ""


def test_names_are_set_by_their_properties_not_by_parameters() -> None:
    for sysctls, domain, text in (
        ((("kernel.hostname", "a"),), "", "set hostname instead"),
        ((("kernel/domainname", "a"),), "b", "not what domainname says"),
    ):
        with pytest.raises(InvalidConfig, match=text):
            plan_rootfs(config(linux=Linux(sysctl=sysctls), domainname=domain), FACTS)
    same = config(linux=Linux(sysctl=(("kernel.domainname", "a"),)), domainname="a")
    assert [step.value for step in plan_rootfs(same, FACTS).sysctls] == [b"a"]


def test_the_root_is_where_hooks_look_for_it_unless_it_cannot_be() -> None:
    def in_place(facts: RootfsFacts = FACTS, propagation: str = "", **kinds: Any) -> bool:
        given = config(hooks=Hooks(**kinds), linux=Linux(rootfs_propagation=propagation))
        return plan_rootfs(given, facts).root.in_place

    hook = (Hook(path="/h"),)
    kinds = ("prestart", "create_runtime", "create_container")
    assert all(in_place(FACTS, "", **{kind: hook}) for kind in kinds)
    assert not in_place(start_container=hook, poststart=hook, poststop=hook)
    assert not in_place(prestart=hook, propagation="rshared")
    assert not in_place(FACTS.with_values(no_pivot=True), prestart=hook)


def test_a_bound_dev_is_left_alone() -> None:
    plan = plan_rootfs(config(mounts=(mount("/dev", "bind", "/dev", "rbind"),)), FACTS)
    assert (plan.nodes, plan.links) == ((), ())
    assert plan_rootfs(config(mounts=(mount("/dev", "tmpfs"),)), FACTS).nodes


@pytest.mark.parametrize(
    "device",
    [
        Device(type="x", path="/dev/a"),
        Device(type="c", path="dev/a"),
        Device(type="c", path="/"),
        Device(type="c", path="/dev/a\0"),
    ],
)
def test_a_malformed_device_is_refused(device: Device) -> None:
    with pytest.raises(InvalidConfig, match=r"linux\.devices\[0\]"):
        plan_rootfs(config(linux=Linux(devices=(device,))), FACTS)


@pytest.mark.parametrize(
    ("name", "separate", "path"),
    [
        ("net.ipv4.ip_forward", "network", b"net/ipv4/ip_forward"),
        ("net/ipv4/conf/eth0.1/forwarding", "network", b"net/ipv4/conf/eth0.1/forwarding"),
        ("net.ipv4.conf.eth0/1.forwarding", "network", b"net/ipv4/conf/eth0.1/forwarding"),
        ("kernel.shmmax", "ipc", b"kernel/shmmax"),
        ("kernel.sem", "ipc", b"kernel/sem"),
        ("fs.mqueue.msg_max", "ipc", b"fs/mqueue/msg_max"),
        ("kernel.domainname", "uts", b"kernel/domainname"),
        ("user.max_user_namespaces", "user", b"user/max_user_namespaces"),
    ],
)
def test_a_parameter_is_set_where_its_namespace_is_not_the_host_s(
    name: str, separate: str, path: bytes
) -> None:
    wanted = config(linux=Linux(sysctl=((name, "1"),)))
    for field in ("new_namespaces", "joined_namespaces"):
        namespaces: dict[str, Any] = {"new_namespaces": ("mount",), field: ("mount", separate)}
        plan = plan_rootfs(wanted, RootfsFacts(bundle=b"/b", **namespaces))
        assert [s.path for s in plan.sysctls] == [path]
    with pytest.raises(InvalidConfig, match=f"without a new {separate} namespace"):
        plan_rootfs(wanted, RootfsFacts(bundle=b"/b", new_namespaces=("mount",)))


@pytest.mark.parametrize(
    "name",
    [
        "kernel.panic",
        "vm.swappiness",
        "fs.file-max",
        "fs.mqueue",
        "kernel",
        "",
        "net",
        "net..core",
        "net.ipv4.//.ip_forward",
        "net/../kernel/panic",
        "net/ipv4/./x",
        "net.core.a\0",
        "kernel/shmmax/../panic",
    ],
)
def test_p3_other_parameters_are_the_host_s(name: str) -> None:
    with pytest.raises(InvalidConfig):
        plan_rootfs(config(linux=Linux(sysctl=((name, "1"),))), FACTS)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("", None),
        ("shared", (m.MS_SHARED, False)),
        ("rslave", (m.MS_SLAVE, True)),
        ("private", (m.MS_PRIVATE, False)),
        ("runbindable", (m.MS_UNBINDABLE, True)),
    ],
)
def test_rootfs_propagation(value: str, expected: tuple[int, bool] | None) -> None:
    plan = plan_rootfs(config(linux=Linux(rootfs_propagation=value)), FACTS)
    assert plan.root.propagation == expected


@pytest.mark.parametrize(
    ("fields", "facts", "kind"),
    [
        ({}, FACTS.with_values(new_namespaces=("pid",)), Unsupported),
        ({"hostname": "h"}, FACTS.with_values(new_namespaces=("mount",)), InvalidConfig),
        ({"domainname": "d"}, FACTS.with_values(new_namespaces=("mount",)), InvalidConfig),
        ({"linux": Linux(rootfs_propagation="rxshared")}, FACTS, InvalidConfig),
        ({"linux": Linux(rootfs_propagation="r")}, FACTS, InvalidConfig),
        ({"linux": Linux(mount_label="system_u:object_r:x:s0")}, FACTS, Unsupported),
        ({"linux": Linux(masked_paths=("/",))}, FACTS, InvalidConfig),
        ({"linux": Linux(readonly_paths=("/proc/a/../..",))}, FACTS, InvalidConfig),
        ({"linux": Linux(readonly_paths=("/proc/\0",))}, FACTS, InvalidConfig),
        ({"root": Root(path="")}, FACTS, InvalidConfig),
        ({"root": Root(path="a\0")}, FACTS, InvalidConfig),
        ({"hostname": "a\0b"}, FACTS, InvalidConfig),
    ],
)
def test_what_cannot_be_planned_is_refused(
    fields: dict[str, Any], facts: RootfsFacts, kind: type[Failure]
) -> None:
    with pytest.raises(kind):
        plan_rootfs(config(**fields), facts)


def test_labels_are_for_file_systems_that_take_them() -> None:
    facts = FACTS.with_values(selinux=True)
    linux = Linux(mount_label="u:r:t:s0:c1,c2")
    label = (b"context", b"u:r:t:s0:c1,c2")
    assert label in step(mount("/a", "tmpfs"), facts, linux=linux).options.data
    assert label not in step(mount("/a", "proc"), facts, linux=linux).options.data


def test_p4_paths_are_taken_once_and_in_order() -> None:
    linux = Linux(readonly_paths=("/b", "/a", "/b"), masked_paths=("/c", "/c"))
    plan = plan_rootfs(config(linux=linux), FACTS)
    assert (plan.readonly_paths, plan.masked_paths) == ((b"/b", b"/a"), (b"/c",))


def test_a_plan_can_be_printed_and_compared() -> None:
    overlay = RootOverlay(lower=(b"/l",), upper=b"/u", work=b"/w")
    facts = FACTS.with_values(overlay=overlay, no_pivot=True)
    plan = plan_rootfs(config(mounts=(mount("/a", "tmpfs"),)), facts)
    assert plan == plan_rootfs(config(mounts=(mount("/a", "tmpfs"),)), facts)
    assert "lower=(b'/l',)" in repr(plan)
    assert plan.root.no_pivot

"""Where a container's cgroups go, and what is written to them, on hosts of every layout."""

from __future__ import annotations

import hypothesis
import pytest
from hypothesis import strategies

from engine.runtime.cgroups.model import Cgroup, CgroupDirectory, CgroupHost, CgroupPlan
from engine.runtime.cgroups.paths import components, place
from engine.runtime.cgroups.plan import delegation, plan_cgroups, plan_update
from engine.runtime.errors import Failure, InvalidConfig, Unsupported
from engine.runtime.spec.model import (
    BlockIo,
    Config,
    DeviceRule,
    HugepageLimit,
    IdMapping,
    Linux,
    MemoryLimits,
    Mount,
    Namespace,
    Resources,
    Root,
)
from tests.engine.cgroup_layouts import hybrid_host, v1_host, v2_host, writes

SCOPE = "user.slice/user-1000.slice/user@1000.service/app.slice/run-r1.scope"
GIB = 1 << 30


def places(plan: CgroupPlan) -> set[str]:
    """The cgroups of a plan."""
    return {directory.path for directory in plan.directories}


@pytest.mark.parametrize(
    ("host", "path", "expected"),
    [
        (v1_host(), "", "box"),
        (v1_host("system.slice"), "", "system.slice/box"),
        (v1_host("system.slice"), "a/b", "system.slice/a/b"),
        (v1_host("system.slice"), "/a/b/", "a/b"),
        (v2_host(), "", "box"),
        (v2_host(SCOPE), "", SCOPE.rpartition("/")[0] + "/box"),
        (v2_host("init.scope"), "pod/ctr", "pod/ctr"),
        (v2_host("init.scope"), "/pod//./ctr", "pod/ctr"),
        (v2_host("own", parent_writable=False), "", "own/box"),
        (v2_host("own", parent_writable=False), "/x", "x"),
        (hybrid_host(), "", "box"),
    ],
)
def test_place_of_the_cgroup(host: CgroupHost, path: str, expected: str) -> None:
    """Absolute from the mount, relative from the base, empty the id below the base."""
    assert places(plan_cgroups(host, path, None, "box")) == {expected}


@pytest.mark.parametrize(
    "path",
    [
        "..",
        "/..",
        "../up",
        "/a/../b",
        "a/..",
        "/",
        "//",
        ".",
        "a\nb",
        "a\0b",
        "x" * 256,
        "a/" * 200,
    ],
)
def test_g1_paths_that_are_refused(path: str) -> None:
    """No path leads out of a hierarchy or means the root of it."""
    with pytest.raises(InvalidConfig):
        plan_cgroups(hybrid_host(), path, None, "box")


def test_a_container_id_that_is_a_path_is_refused() -> None:
    """The id is checked elsewhere; here it still cannot climb."""
    with pytest.raises(InvalidConfig):
        plan_cgroups(v2_host(), "", None, "../box")


@hypothesis.given(strategies.text(max_size=30), strategies.sampled_from(["", "own", SCOPE]))
def test_no_path_leads_out(path: str, own: str) -> None:
    """Whatever the text: an error, or a path without .. that is not the root."""
    (hierarchy,) = v2_host(own).hierarchies
    try:
        found = place(hierarchy, path, "box")
    except Failure:
        return
    parts = found.split("/")
    assert parts
    assert not {"", ".", ".."} & set(parts)
    assert not path.startswith("/") or components(path) == parts


@pytest.mark.parametrize("path", ["system.slice:podman:abc", ":runc:abc"])
def test_systemd_paths_are_refused(path: str) -> None:
    """With either manager: one is not offered, and the other would make an odd directory."""
    for manager in ("systemd", "cgroupfs"):
        with pytest.raises(Unsupported, match="systemd"):
            plan_cgroups(v2_host(), path, None, "box", manager=manager)
    assert places(plan_cgroups(v2_host(), "a:b:c", None, "box")) == {"a:b:c"}


def test_g1_hybrid_limits_go_where_the_controllers_are() -> None:
    """Memory under version 1, huge pages under cgroup2, in which the container is born."""
    resources = Resources(
        memory=MemoryLimits(limit=GIB),
        hugepage_limits=(HugepageLimit(page_size="2MB", limit=0),),
    )
    plan = plan_cgroups(hybrid_host(), "", resources, "box")
    assert writes(plan) == [
        f"memory.limit_in_bytes={GIB}",
        "hugetlb.2MB.max=0",
        "[hugetlb.2MB.rsvd.max=0]",
    ]
    assert plan.clone_into
    assert plan.devices is not None
    assert plan.program is None
    unified = plan.directories[-1]
    assert (unified.version, unified.enable) == (2, ("hugetlb",))


def test_hybrid_hands_nothing_down_that_is_not_needed() -> None:
    """The root of the host's cgroup2 is not changed for a container without such limits."""
    plan = plan_cgroups(hybrid_host(), "", Resources(pids_limit=1), "box")
    assert plan.directories[-1].enable == ()


def test_unified_needs_cgroup2() -> None:
    """And its controller there."""
    for host, key in ((v1_host(), "memory.high"), (hybrid_host(), "memory.high")):
        with pytest.raises(Unsupported, match="unified memory"):
            plan_cgroups(host, "", Resources(unified=((key, "1"),)), "box")
    hybrid = plan_cgroups(
        hybrid_host(), "", Resources(unified=(("hugetlb.2MB.max", "0"), ("new.file", "x"))), "b"
    )
    assert writes(hybrid) == ["hugetlb.2MB.max=0", "new.file=x"]


@pytest.mark.parametrize("key", ["../memory.max", "a/b", ".", "..", ""])
def test_unified_keys_that_are_no_files(key: str) -> None:
    """A key is the name of a file in the cgroup, nothing else."""
    with pytest.raises(InvalidConfig):
        plan_cgroups(v2_host(), "", Resources(unified=((key, "1"),)), "box")


NOT_MINE = v2_host("user.slice/session-1.scope", own_writable=False, parent_writable=False)


def test_g1_rootless_without_delegation_runs_without_cgroup() -> None:
    """Nothing asked, nothing made; device rules are not the user's to have."""
    for host in (NOT_MINE, v1_host(writable=False), CgroupHost(mode="none")):
        resources = Resources(devices=(DeviceRule(allow=False),))
        plan = plan_cgroups(host, "", resources, "box", rootless=True)
        assert plan.directories == ()
        assert not plan.clone_into
        assert plan.notes


def test_g1_rootless_limits_without_delegation() -> None:
    """What the user asked for is an error, what is a default a note."""
    for host in (NOT_MINE, v1_host(writable=False), CgroupHost(mode="none")):
        with pytest.raises(Unsupported, match=r"linux\.resources\.memory\.limit"):
            plan_cgroups(host, "", Resources(memory=MemoryLimits(limit=1)), "b", rootless=True)
        plan = plan_cgroups(host, "", Resources(pids_limit=9), "b", rootless=True, forgiving=True)
        assert any("pids" in note for note in plan.notes)


def test_rootless_in_a_delegated_unit() -> None:
    """A user's own systemd instance delegates; the container is born beside us."""
    plan = plan_cgroups(
        v2_host(SCOPE, ("cpu", "memory", "pids")),
        "",
        Resources(pids_limit=5, devices=(DeviceRule(allow=False),)),
        "box",
        rootless=True,
    )
    (directory,) = plan.directories
    assert directory.path == "user.slice/user-1000.slice/user@1000.service/app.slice/box"
    assert directory.enable == ("cpu", "memory", "pids")
    assert not plan.devices_required
    with pytest.raises(Unsupported, match="no io cgroup controller"):
        limits = Resources(block_io=BlockIo(weight=10))
        plan_cgroups(v2_host(SCOPE, ("cpu",)), "", limits, "box", rootless=True)


def test_controllers_that_are_mounted_elsewhere_are_named() -> None:
    """A view with cgroup2 only, on a host that has its controllers under version 1."""
    host = v2_host(controllers=("hugetlb",)).with_values(lost=("memory",))
    with pytest.raises(Unsupported, match="not mounted where"):
        plan_cgroups(host, "", Resources(memory=MemoryLimits(limit=1)), "box")


def test_manager_disabled() -> None:
    """No cgroups, and limits are an error."""
    assert plan_cgroups(v2_host(), "", None, "box", manager="disabled").directories == ()
    with pytest.raises(Unsupported):
        plan_cgroups(v2_host(), "", Resources(pids_limit=1), "box", manager="disabled")
    with pytest.raises(InvalidConfig, match="manager"):
        plan_cgroups(v2_host(), "", None, "box", manager="openrc")


def test_root_without_any_cgroup_cannot_restrict_devices() -> None:
    """Rules that were asked for are not silently dropped."""
    rules = Resources(devices=(DeviceRule(allow=False),))
    with pytest.raises(Unsupported, match="devices"):
        plan_cgroups(CgroupHost(mode="none"), "", rules, "box")
    assert plan_cgroups(CgroupHost(mode="none"), "", rules, "box", forgiving=True).notes
    everything = Resources(devices=(DeviceRule(allow=True),))
    assert plan_cgroups(CgroupHost(mode="none"), "", everything, "box").devices is None


def test_device_rules_that_version_1_cannot_express() -> None:
    """An error; a note where device rules are not the user's to have."""
    hole = (
        DeviceRule(allow=True, type="c", major=1),
        DeviceRule(allow=False, type="c", major=1, minor=11),
    )
    with pytest.raises(Unsupported, match="version 1 cannot express"):
        plan_cgroups(v1_host(), "", Resources(devices=hole), "box")
    plan = plan_cgroups(v1_host(), "", Resources(devices=hole), "box", rootless=True)
    assert plan.devices is None
    assert any("version 1 cannot express" in note for note in plan.notes)
    assert plan_cgroups(v2_host(), "", Resources(devices=hole), "box").program


def test_clone_into_needs_a_kernel_that_has_it() -> None:
    """Linux 5.7."""
    for kernel, expected in (((5, 6), False), ((5, 7), True), ((6, 0), True)):
        host = v2_host().with_values(kernel=kernel)
        assert plan_cgroups(host, "", None, "box").clone_into is expected


def test_update_changes_only_what_it_names() -> None:
    """And keeps the device filter where it says nothing of devices."""
    cgroup = Cgroup(
        directories=(
            CgroupDirectory(version=1, controllers=("memory",), mount="/m", path="box"),
            CgroupDirectory(version=1, controllers=("devices",), mount="/d", path="box"),
            CgroupDirectory(version=2, controllers=("hugetlb",), mount="/u", path="box"),
        )
    )
    plan = plan_update(cgroup, Resources(memory=MemoryLimits(limit=5)))
    assert writes(plan) == ["memory.limit_in_bytes=5"]
    assert (plan.devices, plan.program) == (None, None)
    again = plan_update(cgroup, Resources(devices=(DeviceRule(allow=True),)))
    assert again.devices is not None
    assert again.devices.allow
    with pytest.raises(Unsupported, match=r"pids\.limit"):
        plan_update(cgroup, Resources(pids_limit=5))


def test_update_of_swap_alone_counts_from_the_limit_in_force() -> None:
    """cgroup2 has to know the memory limit."""
    cgroup = Cgroup(
        directories=(CgroupDirectory(version=2, controllers=("memory",), mount="/m", path="b"),)
    )
    asked = Resources(memory=MemoryLimits(swap=300))
    assert "memory.swap.max=200" in writes(plan_update(cgroup, asked, memory_limit=100))
    checked = Resources(memory=MemoryLimits(limit=7, check_before_update=True))
    assert plan_update(cgroup, checked).memory_below == 7


def config_with(
    options: tuple[str, ...] = ("rw",), *, namespaces: tuple[str, ...] = ("cgroup", "user")
) -> Config:
    """A configuration with a cgroup mount."""
    return Config(
        oci_version="1.3.0",
        root=Root(path="rootfs"),
        mounts=(
            Mount(destination="/sys/fs/cgroup", type="cgroup", source="cgroup", options=options),
        ),
        linux=Linux(
            namespaces=tuple(Namespace(type=name) for name in namespaces),
            uid_mappings=(IdMapping(container_id=0, host_id=100000, size=10),),
        ),
    )


def test_cgroup_ownership() -> None:
    """Only under cgroup2, with a cgroup namespace and a writable mount (config-linux.md)."""
    assert delegation(config_with(), v2_host()) == 100000
    assert delegation(config_with(namespaces=("cgroup",)), v2_host()) == 0
    assert delegation(config_with(namespaces=("user",)), v2_host()) is None
    assert delegation(config_with(("nosuid", "ro")), v2_host()) is None
    for host in (v1_host(), hybrid_host()):
        assert delegation(config_with(), host) is None

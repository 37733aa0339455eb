"""What containers see at /sys/fs/cgroup on hosts of every layout."""

from __future__ import annotations

import pytest

from engine.runtime.cgroups.manage import describe
from engine.runtime.cgroups.model import CgroupHost
from engine.runtime.cgroups.plan import plan_cgroups
from engine.runtime.cgroups.view import CgroupMounts, container_view
from tests.engine.cgroup_layouts import hybrid_host, v1_host, v2_host


def view(host: CgroupHost, own_ns: bool, **options: bool) -> CgroupMounts:
    """The view of a container with its planned cgroup."""
    return container_view(host, describe(plan_cgroups(host, "", None, "box")), own_ns, **options)


def test_cgroup2_with_a_namespace_of_its_own() -> None:
    """One mount, whose root is the container's cgroup; a bind of it where that is refused."""
    (step,) = view(v2_host(), True).steps
    assert (step.kind, step.target, step.source) == ("cgroup2", "", "/sys/fs/cgroup/box")
    assert step.read_only


def test_cgroup2_without_a_namespace_shows_only_the_own_cgroup() -> None:
    """Not the host's tree."""
    (step,) = view(v2_host(), False).steps
    assert (step.kind, step.source, step.read_only) == ("bind", "/sys/fs/cgroup/box", True)
    (step,) = container_view(v2_host("a/b"), None, False).steps
    assert step.source == "/sys/fs/cgroup/a/b"


def test_version_1_has_a_directory_per_hierarchy_and_links() -> None:
    """A tmpfs, closed after all is in it."""
    mounts = view(v1_host("own"), True)
    assert [(s.kind, s.target) for s in mounts.steps] == [
        ("tmpfs", ""),
        ("cgroup", "systemd"),
        ("cgroup", "cpu,cpuacct"),
        ("cgroup", "cpuset"),
        ("cgroup", "memory"),
        ("cgroup", "devices"),
        ("cgroup", "freezer"),
        ("cgroup", "blkio"),
        ("cgroup", "pids"),
        ("cgroup", "net_cls,net_prio"),
        ("cgroup", "hugetlb"),
        ("symlink", "cpu"),
        ("symlink", "cpuacct"),
        ("symlink", "net_cls"),
        ("symlink", "net_prio"),
    ]
    by_target = {step.target: step for step in mounts.steps}
    assert by_target["systemd"].data == "none,name=systemd"
    assert by_target["cpu,cpuacct"].data == "cpu,cpuacct"
    assert by_target["memory"].source == "/sys/fs/cgroup/memory/own/box"
    assert by_target["cpuacct"].source == "cpu,cpuacct"


def test_version_1_without_a_namespace_is_bound() -> None:
    """Each hierarchy from the container's cgroup on."""
    kinds = {step.kind for step in view(v1_host(), False).steps}
    assert kinds == {"tmpfs", "bind", "symlink"}


def test_hybrid_has_both() -> None:
    """cgroup2 beside the others."""
    steps = {step.target: step.kind for step in view(hybrid_host(), True).steps}
    assert steps["unified"] == "cgroup2"
    assert steps["memory"] == "cgroup"


def test_no_cgroups_no_mounts() -> None:
    """A note says why."""
    mounts = container_view(CgroupHost(mode="none"), None, True)
    assert mounts.steps == ()
    assert mounts.notes


@pytest.mark.parametrize(
    ("host", "own_ns", "delegated", "writable"),
    [
        (v2_host(), True, False, {""}),
        (v2_host(), False, True, set()),
        (v1_host(), True, False, set()),
        (v1_host(), False, True, set()),
        (hybrid_host(), True, False, {"unified"}),
        (hybrid_host(), False, True, set()),
    ],
)
def test_p6_read_only_unless_in_a_namespace_and_delegated(
    host: CgroupHost, own_ns: bool, delegated: bool, writable: set[str]
) -> None:
    """Not even where the configuration asks for a writable mount; the refusal is noted."""
    mounts = view(host, own_ns, writable=True, delegated=delegated)
    found = {
        s.target for s in mounts.steps if not s.read_only and s.kind not in ("tmpfs", "symlink")
    }
    assert found == writable
    assert bool(mounts.notes) == (host.mode != "v2" or not own_ns)


def test_p6_version_1_is_writable_only_where_it_is_delegated() -> None:
    """For containers that are trusted with everything."""
    mounts = view(v1_host(), True, writable=True, delegated=True)
    assert all(not s.read_only for s in mounts.steps if s.kind == "cgroup")
    assert mounts.steps[0].read_only


def test_p6_nothing_is_writable_that_nobody_asked_for() -> None:
    """The default."""
    for host in (v1_host(), v2_host(), hybrid_host()):
        mounts = view(host, True, delegated=True)
        assert all(s.read_only for s in mounts.steps)

"""Which hierarchies are found on hosts of every layout, from the kernel's tables alone."""

from __future__ import annotations

import os
from pathlib import Path

import hypothesis
import pytest
from hypothesis import strategies

from engine.runtime.cgroups.model import CgroupHost, Hierarchy
from engine.runtime.cgroups.survey import below, survey
from tests.engine.cgroup_layouts import FakeHost

DELEGATED = "user.slice/user-1000.slice/user@1000.service/app.slice/run-r1.scope"


def look(fake: FakeHost) -> CgroupHost:
    """The survey of a fake host."""
    fake.write()
    return survey(str(fake.proc), str(fake.top))


def hierarchy_of(host: CgroupHost, controller: str) -> Hierarchy:
    """The hierarchy of version 1 with a controller."""
    return next(h for h in host.hierarchies if h.version == 1 and controller in h.controllers)


def test_g1_cgroup2_alone(tmp_path: Path) -> None:
    """The unified layout, with our own cgroup and the one above it writable."""
    fake = FakeHost(tmp_path)
    point = fake.mount("", "cgroup2")
    fake.cgroup(point, DELEGATED)
    (point / "cgroup.controllers").write_text("cpu memory pids\n")
    fake.member(0, "", f"/{DELEGATED}")
    host = look(fake)
    assert host.mode == "v2"
    assert host.unified() == Hierarchy(
        version=2,
        controllers=("cpu", "memory", "pids"),
        mount=str(point),
        own=DELEGATED,
        own_writable=True,
        parent_writable=True,
    )


def test_g1_version_1_with_controllers_mounted_together(tmp_path: Path) -> None:
    """The options of the mount name its controllers; the order is that of /proc/self/cgroup."""
    fake = FakeHost(tmp_path)
    together = fake.mount("cpu,cpuacct", "cgroup", "rw,cpu,cpuacct")
    memory = fake.mount("memory", "cgroup", "rw,memory")
    fake.cgroup(together, "")
    fake.cgroup(memory, "a b/c")
    fake.member(4, "cpu,cpuacct", "/")
    fake.member(3, "memory", "/a b/c")
    host = look(fake)
    assert host.mode == "v1"
    assert hierarchy_of(host, "cpuacct").controllers == ("cpu", "cpuacct")
    assert hierarchy_of(host, "memory").own == "a b/c"
    assert host.unified() is None


def test_g1_hybrid_is_not_judged_by_well_known_paths(tmp_path: Path) -> None:
    """Controllers under version 1 and a cgroup2 beside them; podman's rule calls this v1."""
    fake = FakeHost(tmp_path)
    fake.cgroup(fake.mount("pids", "cgroup", "rw,pids"), "")
    unified = fake.mount("unified", "cgroup2")
    fake.cgroup(unified, "")
    (unified / "cgroup.controllers").write_text("hugetlb\n")
    fake.member(8, "pids", "/")
    fake.member(0, "", "/")
    host = look(fake)
    assert host.mode == "hybrid"
    assert [h.version for h in host.hierarchies] == [1, 2]


def test_a_named_hierarchy_alone_makes_no_version_1(tmp_path: Path) -> None:
    """systemd's bookkeeping has no controllers."""
    fake = FakeHost(tmp_path)
    fake.cgroup(fake.mount("systemd", "cgroup", "rw,xattr,name=systemd"), "")
    fake.member(1, "name=systemd", "/")
    assert look(fake).mode == "none"


def test_g1_nothing_mounted(tmp_path: Path) -> None:
    """Controllers that exist but are mounted nowhere are named, for the error that follows."""
    fake = FakeHost(tmp_path)
    fake.member(2, "memory", "/")
    fake.member(0, "", "/")
    host = look(fake)
    assert (host.mode, host.hierarchies, host.lost) == ("none", (), ("memory",))


def test_a_mount_under_another_mount_does_not_count(tmp_path: Path) -> None:
    """What lies at the mount point is another file system."""
    fake = FakeHost(tmp_path)
    fake.mount("memory", "cgroup", "rw,memory", device="0:9999")
    fake.member(2, "memory", "/")
    assert look(fake).hierarchies == ()


def test_own_cgroup_is_seen_from_the_root_of_the_mount(tmp_path: Path) -> None:
    """In a container without a cgroup namespace a bind of our own cgroup is all there is; a
    mount of somebody else's is passed over."""
    fake = FakeHost(tmp_path)
    fake.cgroup(fake.mount("other", "cgroup", "rw,pids", root="/docker/two"), "")
    mine = fake.mount("pids-of-this-container", "cgroup", "rw,pids", root="/docker/one")
    fake.cgroup(mine, "deeper")
    fake.member(2, "pids", "/docker/one/deeper")
    found = hierarchy_of(look(fake), "pids")
    assert (found.mount, found.own) == (str(mine), "deeper")


@pytest.mark.parametrize(
    ("root", "own", "expected"),
    [
        ("/", "/", ""),
        ("/", "/a/b", "a/b"),
        ("/a", "/a/b", "b"),
        ("/a/b", "/a/b", ""),
        ("/a", "/ab", None),
        ("/c", "/a/b", None),
        ("/../..", "/", None),
        ("/", "/../other", None),
        ("/", "/gone (deleted)", None),
        ("/", "/..names", "..names"),
    ],
)
def test_below(root: str, own: str, expected: str | None) -> None:
    """Paths that cannot be known from here are None, never a guess."""
    assert below(root, own) == expected


def test_mount_points_with_spaces_and_backslashes(tmp_path: Path) -> None:
    """mountinfo escapes them."""
    fake = FakeHost(tmp_path)
    point = fake.mount("odd name\\ with\ttab", "cgroup", "rw,pids")
    fake.cgroup(point, "")
    fake.member(2, "pids", "/")
    assert hierarchy_of(look(fake), "pids").mount == str(point)


def test_a_mount_without_permission_is_not_writable(tmp_path: Path) -> None:
    """As for a user to whom nothing is delegated; root is answered by a directory that has no
    cgroup.procs to write."""
    fake = FakeHost(tmp_path)
    point = fake.mount("", "cgroup2")
    (point / "own").mkdir()
    fake.member(0, "", "/own")
    unified = look(fake).unified()
    assert unified is not None
    assert not unified.own_writable
    assert not unified.parent_writable


@hypothesis.given(table=strategies.binary(max_size=300), groups=strategies.binary(max_size=300))
def test_tables_of_any_content_are_survived(
    tmp_path_factory: pytest.TempPathFactory, table: bytes, groups: bytes
) -> None:
    """A table is read, or a line of it left out."""
    proc = tmp_path_factory.mktemp("proc")
    (proc / "self").mkdir()
    (proc / "self/mountinfo").write_bytes(b"1 2 0:3 / " + table + b" - cgroup cgroup rw,\n" + table)
    (proc / "self/cgroup").write_bytes(b"1:memory:/" + groups + b"\n" + groups)
    assert survey(str(proc), "/nowhere").mode in ("none", "v1", "v2", "hybrid")


def test_a_table_that_does_not_end_is_cut(tmp_path: Path) -> None:
    """A FIFO in place of the table does not hang either."""
    (tmp_path / "self").mkdir()
    os.mkfifo(tmp_path / "self/mountinfo")
    (tmp_path / "self/cgroup").symlink_to("/dev/zero")
    assert survey(str(tmp_path), "/nowhere").mode == "none"


def test_this_host_is_what_its_own_tables_say() -> None:
    """Every hierarchy that was found has the file that all cgroups have, at our own cgroup."""
    host = survey()
    assert (host.mode == "none") == (host.hierarchies == ())
    for hierarchy in host.hierarchies:
        if hierarchy.own is not None:
            procs = Path(hierarchy.mount, hierarchy.own, "cgroup.procs").read_text().split()
            assert str(os.getpid()) in procs

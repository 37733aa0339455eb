"""Cgroups on the machine that runs the tests, in every view of it that can be made.

What is asserted adapts to what the kernel has: a limit whose controller is missing has to be
refused, one whose controller is there has to be in force.
"""

from __future__ import annotations

import os
import signal
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine.runtime.cgroups import document, ending, manage
from engine.runtime.cgroups.model import Cgroup, CgroupHost
from engine.runtime.cgroups.plan import plan_cgroups
from engine.runtime.cgroups.survey import survey
from engine.runtime.errors import Failure, KernelRefused, Unsupported, WrongState
from engine.runtime.spec.model import CpuLimits, MemoryLimits, Resources
from tests.engine import cgroup_children
from tests.engine.cgroup_children import VIEWS

MIB = 1 << 20
Make = Callable[..., Cgroup]


@pytest.fixture
def name() -> str:
    """A cgroup's name that nobody has."""
    return f"imgtools-test-{uuid.uuid4().hex}"


@pytest.fixture
def make(name: str) -> Iterator[Make]:
    """Makes cgroups on this host, and ends them after the test."""
    made: list[Cgroup] = []

    def make_one(resources: Resources | None = None, path: str = "") -> Cgroup:
        plan = plan_cgroups(survey(), path, resources, name)
        cgroup = manage.create(plan)
        made.append(cgroup)
        return cgroup

    yield make_one
    for cgroup in made:
        ending.thaw(cgroup)
        ending.kill_all(cgroup)
        ending.remove(cgroup)


def has(host: CgroupHost, controller: str) -> bool:
    """Whether a container can get limits of the controller."""
    return any(controller in h.controllers and h.own_writable for h in host.hierarchies)


def value(cgroup: Cgroup, *files: str) -> str:
    """The content of the first of `files` that one of the cgroup's directories has."""
    for directory in cgroup.directories:
        for file in files:
            path = Path(directory.mount, directory.path, file)
            if path.exists():
                return path.read_text().strip()
    raise AssertionError(f"no {files}")


@pytest.mark.parametrize("view", VIEWS)
def test_g1_a_life_in_every_view_of_the_host(view: str, name: str) -> None:
    """Hybrid, cgroup2 alone, version 1 alone, nothing: what can be made is made, entered, frozen,
    killed and removed, and leaves no descriptor."""
    seen = cgroup_children.run(view, "life", name)
    assert seen["there"] == []
    assert seen["fds"]
    if view == "nothing":
        assert (seen["mode"], seen["directories"]) == ("none", 0)
    if view == "cgroup2":
        assert (seen["mode"], seen["directories"]) == ("v2", 1)
    if seen["directories"]:
        assert seen["member"]
        assert seen["entered"]
        assert seen["frozen"] is True
        assert seen["frozen again"] is False
        assert seen["left"] == []
        assert seen["status"] == signal.SIGKILL


def test_g1_a_user_without_delegation(name: str) -> None:
    """Starts without a cgroup and a note; a limit that was asked for is an error."""
    seen = cgroup_children.run("host", "as_nobody", name)
    assert seen["directories"] == 0
    assert seen["notes"] > 0
    assert seen["error"] == "Unsupported"


def test_limits_are_in_force(make: Make) -> None:
    """Read back from the kernel."""
    host = survey()
    wanted = {
        "pids": Resources(pids_limit=17),
        "memory": Resources(memory=MemoryLimits(limit=64 * MIB)),
        "cpu": Resources(cpu=CpuLimits(quota=20000, period=50000, shares=2048)),
        "cpuset": Resources(cpu=CpuLimits(cpus="0")),
    }
    for controller, resources in wanted.items():
        if not has(host, controller):
            with pytest.raises(Unsupported, match=controller):
                make(resources)
            continue
        cgroup = make(resources)
        match controller:
            case "pids":
                assert value(cgroup, "pids.max") == "17"
            case "memory":
                assert int(value(cgroup, "memory.limit_in_bytes", "memory.max")) == 64 * MIB
            case "cpu":
                found = value(cgroup, "cpu.max", "cpu.cfs_quota_us").split()
                assert found[0] == "20000"
                assert value(cgroup, "cpu.weight", "cpu.shares") in ("174", "2048")
            case "cpuset":
                assert value(cgroup, "cpuset.cpus") == "0"
        ending.remove(cgroup)


@pytest.mark.parametrize(
    "steps",
    [
        [(64, 64), (256, 512), (32, 32), (-1, -1), (128, 128)],
        [(512, 1024), (64, 64), (1024, 1024), (32, 64)],
    ],
)
def test_memory_and_swap_change_in_any_order(make: Make, steps: list[tuple[int, int]]) -> None:
    """The kernel refuses swap below memory on the way as well."""
    if not has(survey(), "memory"):
        with pytest.raises(Unsupported, match="memory"):
            make(Resources(memory=MemoryLimits(limit=MIB)))
        return
    cgroup = make()
    for limit, swap in steps:
        bytes_of = [n if n < 0 else n * MIB for n in (limit, swap)]
        memory = MemoryLimits(limit=bytes_of[0], swap=bytes_of[1])
        assert manage.update(cgroup, Resources(memory=memory)) == ()
        found = value(cgroup, "memory.limit_in_bytes", "memory.max")
        assert found == "max" or int(found) == bytes_of[0] or limit < 0


@pytest.mark.parametrize(
    "steps", [[(50000, 100000), (600000, 900000), (1500, 2000)], [(900000, 1000000), (-1, 5000)]]
)
def test_quota_and_period_change_in_any_order(make: Make, steps: list[tuple[int, int]]) -> None:
    """A period that the old quota forbids comes after the new quota."""
    if not has(survey(), "cpu"):
        with pytest.raises(Unsupported, match="cpu"):
            make(Resources(cpu=CpuLimits(quota=10000)))
        return
    cgroup = make()
    for quota, period in steps:
        manage.update(cgroup, Resources(cpu=CpuLimits(quota=quota, period=period)))
        assert str(quota) in value(cgroup, "cpu.cfs_quota_us", "cpu.max").replace("max", "-1")


def test_a_limit_that_the_kernel_refuses_is_named_and_leaves_nothing(make: Make, name: str) -> None:
    """The field of config.json, the value and the file; no cgroup stays."""
    before = sorted(os.listdir("/proc/self/fd"))
    if has(survey(), "cpuset"):
        with pytest.raises(KernelRefused, match=r"linux\.resources\.cpu\.cpus: write '99999'"):
            make(Resources(cpu=CpuLimits(cpus="99999")))
    else:
        with pytest.raises(Unsupported):
            make(Resources(cpu=CpuLimits(cpus="99999")))
    assert sorted(os.listdir("/proc/self/fd")) == before
    mounts = [h.mount for h in survey().hierarchies]
    assert [str(p) for m in mounts for p in Path(m).rglob(name)] == []


def test_a_cgroup_in_use_is_refused_and_left_alone(
    make: Make, sleep: subprocess.Popen[bytes], name: str
) -> None:
    """It is somebody else's: neither entered nor killed nor removed."""
    cgroup = make()
    if not cgroup.directories:
        assert cgroup.notes
        return
    manage.join(cgroup, sleep.pid)
    with pytest.raises(WrongState, match="processes"):
        make()
    with pytest.raises(WrongState, match="processes"):
        manage.prepare(plan_cgroups(survey(), "", None, name))
    assert sleep.poll() is None
    assert ending.pids(cgroup) == (sleep.pid,)


def test_an_empty_cgroup_that_was_left_over_is_taken(make: Make) -> None:
    """As after a kill of whoever made it."""
    first = make()
    assert make() == first


def test_a_busy_cgroup_is_not_removed(make: Make, sleep: subprocess.Popen[bytes]) -> None:
    """The error comes in bounded time; afterwards it can be done."""
    cgroup = make()
    if not cgroup.directories:
        assert cgroup.notes
        return
    manage.join(cgroup, sleep.pid)
    with pytest.raises(KernelRefused, match="remove the cgroup"):
        ending.remove(cgroup, seconds=0.02)
    assert ending.kill_all(cgroup) == ()
    ending.remove(cgroup)
    assert not any(os.path.exists(f"{d.mount}/{d.path}") for d in cgroup.directories)


def test_directories_above_go_with_the_cgroup_they_were_made_for(make: Make, name: str) -> None:
    """But not those that others use."""
    one = make(path=f"/{name}/a/one")
    two = make(path=f"/{name}/a/two")
    ending.remove(one)
    mounts = [d.mount for d in one.directories]
    assert all(os.path.isdir(f"{m}/{name}/a/two") for m in mounts)
    ending.remove(two)
    assert all(not os.path.exists(f"{m}/{name}/a/two") for m in mounts)
    leftover = Cgroup(
        directories=tuple(d.with_values(path=f"{name}/a", made=2) for d in one.directories)
    )
    ending.remove(leftover)
    assert not any(os.path.exists(f"{m}/{name}") for m in mounts)


def test_cgroups_that_the_container_made_are_removed_however_deep(make: Make) -> None:
    """Deeper than a path can be long, and many beside each other."""
    cgroup = make()
    for directory in cgroup.directories[-2:]:
        fd = os.open(f"{directory.mount}/{directory.path}", os.O_RDONLY | os.O_DIRECTORY)
        for number in range(20):
            os.mkdir(f"beside-{number}", dir_fd=fd)
        for _ in range(24):
            os.mkdir("x" * 250, dir_fd=fd)
            below = os.open("x" * 250, os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
            os.close(fd)
            fd = below
        os.close(fd)
    assert ending.pids(cgroup) == ()
    ending.remove(cgroup)
    assert not any(os.path.exists(f"{d.mount}/{d.path}") for d in cgroup.directories)


def test_processes_of_cgroups_below_are_counted_and_killed(make: Make) -> None:
    """A container's init system makes cgroups of its own."""
    cgroup = make()
    if not cgroup.directories:
        assert cgroup.notes
        return
    with subprocess.Popen(["sleep", "1000"]) as process:
        manage.join(cgroup, process.pid)
        for directory in cgroup.directories:
            below = Path(directory.mount, directory.path, "below")
            below.mkdir()
            for file in ("cpuset.cpus", "cpuset.mems"):
                if (below / file).exists() and directory.version == 1:
                    (below / file).write_text((below.parent / file).read_text())
        manage.join(manage.within(cgroup, "below"), process.pid)
        assert ending.pids(cgroup, recursive=False) == ()
        assert ending.pids(cgroup) == (process.pid,)
        assert ending.kill_all(cgroup) == ()
        assert process.wait() == -signal.SIGKILL


@pytest.mark.parametrize("versions", [[1, 2], [1], [2]])
def test_r6_a_fork_bomb_ends(versions: list[int], name: str) -> None:
    """By cgroup.kill, and where that is not, by freezing and signalling; nothing is left."""
    host = survey()
    there = [v for v in versions if any(h.version == v for h in host.hierarchies)]
    if not there:
        assert not any(h.version in versions for h in host.hierarchies)
        return
    seen = cgroup_children.run("host", "fork_bomb", [name, there])
    assert seen["most"] <= 50
    assert seen["left"] == []
    assert seen["rest"] == []
    assert seen["status"] == signal.SIGKILL


def test_signals_reach_every_process_once(make: Make) -> None:
    """TERM to a group of processes that are frozen for a moment, as `kill --all` does it."""
    cgroup = make()
    if not cgroup.directories:
        assert cgroup.notes
        return
    several = [subprocess.Popen(["sleep", "1000"]) for _ in range(4)]
    for process in several:
        manage.join(cgroup, process.pid)
    assert ending.signal_all(cgroup, signal.SIGTERM) == 4
    assert [process.wait() for process in several] == [-signal.SIGTERM] * 4


def test_a_frozen_container_can_be_killed(make: Make) -> None:
    """Under version 1 it has to be thawed for that."""
    cgroup = make()
    if not cgroup.directories:
        assert cgroup.notes
        return
    for versions in ((1, 2), (1,)):
        part = Cgroup(directories=tuple(d for d in cgroup.directories if d.version in versions))
        if part.of_controller("freezer") is None and 2 not in versions:
            continue
        with subprocess.Popen(["sleep", "1000"]) as process:
            manage.join(cgroup, process.pid)
            ending.freeze(part)
            assert ending.is_frozen(part)
            assert ending.kill_all(part) == ()
            assert process.wait() == -signal.SIGKILL
        ending.thaw(part)


def test_a_frozen_leftover_is_refused(make: Make) -> None:
    """Whatever started in it would hang."""
    cgroup = make()
    if not cgroup.directories:
        assert cgroup.notes
        return
    ending.freeze(cgroup)
    with pytest.raises(WrongState, match="frozen"):
        make()
    ending.thaw(cgroup)
    assert make() == cgroup


@pytest.mark.parametrize("steps", range(0, 96, 6))
def test_killed_while_making_leaves_what_the_state_finds_again(steps: int, name: str) -> None:
    """The description that was kept before is enough to remove everything."""
    path = f"/{name}/above/box"
    plan = plan_cgroups(survey(), path, Resources(pids_limit=9), "box", forgiving=True)
    kept = document.to_document(manage.prepare(plan))
    status = cgroup_children.run_killed("die_making", [path, steps])
    assert status == -signal.SIGKILL or (status == 0 and steps > 8)
    cgroup = document.from_document(kept)
    assert ending.kill_all(cgroup) == ()
    ending.remove(cgroup)
    assert not any(os.path.exists(f"{d.mount}/{name}") for d in cgroup.directories)


@pytest.mark.parametrize("view", ["host", "cgroup2"])
def test_device_rules_are_in_force(view: str, name: str) -> None:
    """By the list of version 1 and by eBPF; an update exchanges them."""
    seen = cgroup_children.run(view, "devices", name)
    assert seen["denied"] == "++--"
    assert seen["allowed"] == "+++-"
    assert seen["denied again"] == "++--"
    assert seen["all"] == "++++"
    if view == "cgroup2":
        assert seen["programs"] == 1


def test_ownership_is_given_for_the_files_that_may_be_delegated(name: str) -> None:
    """The directory and the kernel's list of files, no limit."""
    seen = cgroup_children.run("cgroup2", "owned", name)
    assert seen["directory"] == 1234
    assert {"cgroup.procs", "cgroup.subtree_control"} <= set(seen["files"])
    assert not {"cgroup.freeze", "cgroup.max.depth", "cgroup.kill"} & set(seen["files"])


def test_a_damaged_document_is_refused() -> None:
    """State on disk is not believed blindly: no path leads out of a hierarchy."""
    good = {"cloneInto": True, "notes": [], "directories": []}
    assert document.from_document(good) == Cgroup(clone_into=True)
    directory = {"version": 2, "controllers": [], "mount": "/m", "path": "a/b", "made": 1}
    for wrong in (
        {"path": "../x"},
        {"path": ""},
        {"path": "/x"},
        {"path": "a\0b"},
        {"mount": "relative"},
        {"version": 3},
        {"made": 0},
        {"made": 3},
        {"made": True},
        {"controllers": [1]},
    ):
        with pytest.raises(Failure):
            document.from_document({**good, "directories": [{**directory, **wrong}]})
    broken_ones: tuple[object, ...] = (
        None,
        [],
        {},
        {**good, "directories": [3]},
        {**good, "notes": 1},
    )
    for broken in broken_ones:
        with pytest.raises(Failure):
            document.from_document(broken)

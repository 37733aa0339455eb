"""Rules that only cgroup2 has, on the real one: internal processes, threads, delegation.

The plans are made by hand where the host's own would not lead into the corner.
"""

from __future__ import annotations

import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.runtime.cgroups import ending, manage, tree
from engine.runtime.cgroups.model import (
    Cgroup,
    CgroupDirectory,
    CgroupPlan,
    Hierarchy,
    PlannedDirectory,
    Write,
)
from engine.runtime.cgroups.survey import survey
from engine.runtime.errors import KernelRefused, Unsupported
from tests.engine import cgroup_children

# A domain controller (which a cgroup with processes cannot hand down) and a harmless limit.
LIMITS = {"memory": "memory.low", "hugetlb": "hugetlb.2MB.max"}


@pytest.fixture
def unified() -> Hierarchy:
    """This host's cgroup2; the tests of this file need one, as does every kernel since 4.5."""
    found = survey().unified()
    assert found is not None, "no cgroup2 is mounted"
    return found


@pytest.fixture
def top(unified: Hierarchy) -> Iterator[Path]:
    """A cgroup that is removed after the test with all that is in it."""
    name = f"imgtools-test-{uuid.uuid4().hex}"
    path = Path(unified.mount, name)
    path.mkdir()
    yield path
    directory = CgroupDirectory(version=2, controllers=(), mount=unified.mount, path=name)
    cgroup = Cgroup(directories=(directory,))
    ending.kill_all(cgroup)
    ending.remove(cgroup)


def plan_at(path: Path, mount: str, *, controller: str = "") -> CgroupPlan:
    """A plan for a cgroup2 directory, with a limit of the controller."""
    limit = Write(file=LIMITS.get(controller, ""), value="0", field="the.field")
    directory = PlannedDirectory(
        version=2,
        controllers=(controller,),
        mount=mount,
        path=str(path.relative_to(mount)),
        enable=(controller,) if controller else (),
        writes=(limit,) if controller else (),
    )
    return CgroupPlan(directories=(directory,), clone_into=True)


def controller_of(unified: Hierarchy) -> str:
    """A domain controller that this cgroup2 offers."""
    return next(name for name in LIMITS if name in unified.controllers)


def test_controllers_are_handed_down_to_a_deep_cgroup(unified: Hierarchy, top: Path) -> None:
    """In every directory from the mount to the one above it, and not in the cgroup itself."""
    name = controller_of(unified)
    manage.create(plan_at(top / "a/b/c", unified.mount, controller=name))
    for part in ("a", "a/b"):
        assert name in (top / part / "cgroup.subtree_control").read_text().split()
    assert (top / "a/b/c/cgroup.subtree_control").read_text().strip() == ""
    assert (top / "a/b/c" / LIMITS[name]).read_text() == "0\n"


def test_g1_no_internal_processes(
    unified: Hierarchy, top: Path, sleep: subprocess.Popen[bytes]
) -> None:
    """A cgroup with processes hands nothing down; the error says so, and nothing is left."""
    name = controller_of(unified)
    parent = top / "parent"
    parent.mkdir()
    (parent / "cgroup.procs").write_text(str(sleep.pid))
    with pytest.raises(Unsupported, match=r"the\.field.*has processes of its own"):
        manage.create(plan_at(parent / "box", unified.mount, controller=name))
    assert not (parent / "box").exists()
    forgiving = plan_at(parent / "box", unified.mount, controller=name)
    made = manage.create(forgiving.with_values(forgiving=True))
    assert any("processes of its own" in note for note in made.notes)
    assert len(made.directories) == 1


def test_a_controller_that_is_not_offered(unified: Hierarchy, top: Path) -> None:
    """Named with the reason."""
    plan = plan_at(top / "box", unified.mount, controller="memory")
    (directory,) = plan.directories
    wrong = directory.with_values(
        enable=("nonsense",), writes=(Write(file="nonsense.max", value="1", field="the.field"),)
    )
    with pytest.raises(Unsupported, match=r"nonsense controller .* not handed down"):
        manage.create(plan.with_values(directories=(wrong,)))


def test_below_a_threaded_cgroup_no_process_can_live(unified: Hierarchy, top: Path) -> None:
    """A sibling that is threaded makes ours invalid: an error before anything is started."""
    (top / "threads").mkdir()
    (top / "threads/cgroup.type").write_text("threaded")
    with pytest.raises(Unsupported, match="domain invalid"):
        manage.create(plan_at(top / "box", unified.mount))
    assert not (top / "box").exists()


def test_exec_goes_beside_the_first_process_where_the_container_has_cgroups(
    unified: Hierarchy, top: Path, sleep: subprocess.Popen[bytes]
) -> None:
    """An init system moves itself down and hands controllers on; its cgroup takes no more."""
    name = controller_of(unified)
    cgroup = manage.create(plan_at(top / "box", unified.mount, controller=name))
    (top / "box/init").mkdir()
    (top / "box/init/cgroup.procs").write_text(str(sleep.pid))
    (top / "box/cgroup.subtree_control").write_text(f"+{name}")
    with subprocess.Popen(["sleep", "1000"]) as second:
        with pytest.raises(KernelRefused, match="busy"):
            manage.join(cgroup, second.pid)
        manage.join(cgroup, second.pid, beside=sleep.pid)
        assert str(second.pid) in (top / "box/init/cgroup.procs").read_text().split()
        second.kill()


def test_the_kernel_that_cannot_kill_a_cgroup_is_helped(
    unified: Hierarchy, top: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before 5.14 there is no cgroup.kill: frozen, signalled, thawed."""
    cgroup = manage.create(plan_at(top / "box", unified.mount))
    several = [subprocess.Popen(["sleep", "1000"]) for _ in range(3)]
    for process in several:
        manage.join(cgroup, process.pid)
    write = tree.write_file

    def without_kill(fd: int, name: str, value: str) -> None:
        if name == "cgroup.kill":
            raise FileNotFoundError(2, "no such file")
        write(fd, name, value)

    monkeypatch.setattr(tree, "write_file", without_kill)
    assert ending.kill_all(cgroup) == ()
    assert [process.wait() for process in several] == [-9] * 3


def test_rootless_life_in_a_delegated_cgroup() -> None:
    """Beside our own cgroup, with tracking, freezing and killing, without being root."""
    seen = cgroup_children.run("cgroup2", "delegated", f"imgtools-test-{uuid.uuid4().hex}")
    assert seen["mode"] == "v2"
    assert seen["directories"] == 1
    assert seen["member"]
    assert seen["frozen"] is True
    assert seen["left"] == []
    assert seen["there"] == []


def test_life_in_a_cgroup_namespace() -> None:
    """As in a container: our cgroup is the root of what can be seen, and not empty."""
    seen = cgroup_children.run("cgroup2", "contained", f"imgtools-test-{uuid.uuid4().hex}")
    assert (seen["mode"], seen["directories"]) == ("v2", 1)
    assert seen["member"]
    assert seen["there"] == []

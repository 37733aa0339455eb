"""Hosts that are not this one: cgroup layouts as directories, and the kernel's tables for them."""

from __future__ import annotations

import os
from pathlib import Path

from engine.runtime.cgroups.model import CgroupHost, CgroupPlan, Hierarchy

V1_CONTROLLERS = (
    "cpu,cpuacct",
    "cpuset",
    "memory",
    "devices",
    "freezer",
    "blkio",
    "pids",
    "net_cls,net_prio",
    "hugetlb",
)
V2_CONTROLLERS = ("cpuset", "cpu", "io", "memory", "hugetlb", "pids", "rdma", "misc")


class FakeHost:
    """A procfs with mountinfo and self/cgroup, and directories that stand for hierarchies."""

    def __init__(self, root: Path) -> None:
        self.top = root / "cgroup"
        self.proc = root / "proc"
        (self.proc / "self").mkdir(parents=True)
        self.top.mkdir()
        status = os.stat(root)
        self._device = f"{os.major(status.st_dev)}:{os.minor(status.st_dev)}"
        self._mounts = ["21 1 0:1 / / rw - ext4 /dev/root rw"]
        self._groups: list[str] = []

    def mount(
        self,
        name: str,
        kind: str,
        options: str = "rw",
        *,
        root: str = "/",
        device: str = "",
    ) -> Path:
        """A hierarchy below the top ("" is the top itself); `device` other than the real one is
        a mount that something covers."""
        point = self.top / name if name else self.top
        point.mkdir(exist_ok=True, parents=True)
        escaped = str(point).replace("\\", "\\134").replace(" ", "\\040")
        escaped = escaped.replace("\t", "\\011").replace("\n", "\\012")
        number = 30 + len(self._mounts)
        self._mounts.append(
            f"{number} 21 {device or self._device} {root} {escaped} rw,nosuid shared:9"
            f" - {kind} {kind} {options}"
        )
        return point

    def member(self, number: int, controllers: str, path: str) -> None:
        """A line of /proc/self/cgroup."""
        self._groups.append(f"{number}:{controllers}:{path}")

    def cgroup(self, point: Path, path: str, mode: int = 0o755) -> Path:
        """A cgroup with the files that are looked at."""
        directory = point / path if path else point
        directory.mkdir(parents=True, exist_ok=True)
        for part in (directory, *directory.parents):
            if part == self.top.parent:
                break
            (part / "cgroup.procs").touch()
        directory.chmod(mode)
        return directory

    def write(self) -> None:
        """Put the tables down."""
        (self.proc / "self/mountinfo").write_text("\n".join(self._mounts) + "\n")
        (self.proc / "self/cgroup").write_text("".join(f"{g}\n" for g in self._groups))


def v1_host(own: str = "", *, writable: bool = True) -> CgroupHost:
    """All controllers under version 1, with systemd's named hierarchy."""
    return CgroupHost(
        mode="v1", hierarchies=_version_1(V1_CONTROLLERS, own, writable), kernel=(4, 19)
    )


def v2_host(
    own: str = "",
    controllers: tuple[str, ...] = V2_CONTROLLERS,
    *,
    own_writable: bool = True,
    parent_writable: bool = True,
    mount: str = "/sys/fs/cgroup",
) -> CgroupHost:
    """Only cgroup2."""
    hierarchy = Hierarchy(
        version=2,
        controllers=controllers,
        mount=mount,
        own=own,
        own_writable=own_writable,
        parent_writable=parent_writable and own != "",
    )
    return CgroupHost(mode="v2", hierarchies=(hierarchy,), kernel=(6, 1), systemd=True)


def hybrid_host(own: str = "") -> CgroupHost:
    """Controllers under version 1 but hugetlb, which cgroup2 has."""
    controllers = tuple(c for c in V1_CONTROLLERS if c != "hugetlb")
    (unified,) = v2_host("", ("hugetlb",), mount="/sys/fs/cgroup/unified").hierarchies
    return CgroupHost(
        mode="hybrid",
        hierarchies=(*_version_1(controllers, own, True), unified),
        kernel=(6, 18),
    )


def _version_1(sets: tuple[str, ...], own: str, writable: bool) -> tuple[Hierarchy, ...]:
    return tuple(
        Hierarchy(
            version=1,
            controllers=tuple(controllers.split(",")),
            mount=f"/sys/fs/cgroup/{controllers.removeprefix('name=')}",
            own=own,
            own_writable=writable,
            parent_writable=writable and own != "",
        )
        for controllers in ("name=systemd", *sets)
    )


def writes(plan: CgroupPlan) -> list[str]:
    """Every write of a plan as "file=value", those that need not be there in brackets."""
    return [
        f"[{w.file}={w.value}]" if w.if_present else f"{w.file}={w.value}"
        for directory in plan.directories
        for w in directory.writes
    ]

"""Cgroup code in processes of its own: in private mounts, as another user, cut off by a kill.

    python -m tests.engine.cgroup_children VIEW ACTION [JSON ARGUMENT]

sets up the view of the host, does the action and prints its result as JSON.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine.runtime.cgroups import document, ending, manage, tree
from engine.runtime.cgroups.apply import DELEGATED
from engine.runtime.cgroups.bpf import attached
from engine.runtime.cgroups.model import Cgroup, CgroupPlan
from engine.runtime.cgroups.plan import plan_cgroups
from engine.runtime.cgroups.survey import survey
from engine.runtime.errors import Failure
from engine.runtime.kernel import mounting, processes
from engine.runtime.spec.model import DeviceRule, Resources

REPOSITORY = Path(__file__).parents[2]
TOP = b"/sys/fs/cgroup"
VIEWS = ("host", "cgroup2", "version1", "nothing")
NOBODY = 65534


def run(view: str, action: str, argument: object = None) -> Any:
    """The result of an action in a new process; AssertionError with its words where it fails."""
    command = [sys.executable, "-m", "tests.engine.cgroup_children", view, action]
    done = subprocess.run(
        [*command, json.dumps(argument)], cwd=REPOSITORY, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout.splitlines()[0])


def run_killed(action: str, argument: object) -> int:
    """The exit status of an action that ends itself."""
    command = [sys.executable, "-m", "tests.engine.cgroup_children", "host", action]
    done = subprocess.run([*command, json.dumps(argument)], cwd=REPOSITORY, check=False)
    return done.returncode


def bomb(levels: int = 64) -> None:
    """Fork without end, each child too; where nothing limits it, `levels` do. Never returns."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        try:
            if levels and os.fork() == 0:
                levels -= 1
        except BlockingIOError:
            time.sleep(0.001)
        if not levels:
            time.sleep(1)


def sleeper(cgroup: Cgroup) -> int:
    """A process born in the cgroup that waits to be killed; its pid."""
    entry = manage.open_entry(cgroup)
    pid, pidfd = processes.clone3(0, cgroup_fd=entry.unified)
    if pid == 0:
        try:
            manage.enter(entry)
            while True:
                time.sleep(60)
        finally:
            os._exit(1)
    manage.close_entry(entry)
    os.close(pidfd)
    return pid


def plan_named(name: str, resources: Resources | None = None, **options: Any) -> CgroupPlan:
    """A plan on the host as this process sees it."""
    return plan_cgroups(survey(), "", resources, name, **options)


def await_members(cgroup: Cgroup, number: int) -> None:
    """Wait until so many processes are in every hierarchy of the cgroup."""
    for directory in cgroup.directories:
        fd = tree.open_cgroup(directory.mount, directory.path)
        while len(tree.processes(fd)) < number:
            time.sleep(0.002)
        os.close(fd)


def life(name: str) -> dict[str, Any]:
    """A container's whole life: made, entered, frozen, thawed, killed, removed; what was seen."""
    before = sorted(os.listdir("/proc/self/fd"))
    host = survey()
    plan = plan_cgroups(host, "", None, name)
    cgroup = document.from_document(
        json.loads(json.dumps(document.to_document(manage.create(plan))))
    )
    seen: dict[str, Any] = {"mode": host.mode, "directories": len(cgroup.directories)}
    seen["hierarchies"] = len(host.hierarchies)
    if cgroup.directories:
        pid = sleeper(cgroup)
        await_members(cgroup, 1)
        seen["member"] = ending.pids(cgroup) == (pid,)
        own = [d.path for d in cgroup.directories]
        table = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
        seen["entered"] = sum(line.endswith("/" + name) for line in table) == len(own)
        try:
            ending.freeze(cgroup)
            seen["frozen"] = ending.is_frozen(cgroup)
            ending.thaw(cgroup)
            seen["frozen again"] = ending.is_frozen(cgroup)
        except Failure as e:
            seen["frozen"] = e.message
        seen["left"] = ending.kill_all(cgroup)
        seen["status"] = os.waitpid(pid, 0)[1]
    ending.remove(cgroup)
    ending.remove(cgroup)
    seen["there"] = [d.path for d in cgroup.directories if os.path.exists(f"{d.mount}/{d.path}")]
    seen["fds"] = sorted(os.listdir("/proc/self/fd")) == before
    return seen


def as_nobody(name: str) -> dict[str, Any]:
    """A user to whom nothing is delegated: without limits, and with one."""
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    rules = Resources(devices=(DeviceRule(allow=False),))
    plan = plan_named(name, rules, rootless=True)
    made = manage.create(plan)
    try:
        plan_named(name, Resources(pids_limit=5), rootless=True)
        error = ""
    except Failure as e:
        error = type(e).__name__
    return {"directories": len(made.directories), "notes": len(made.notes), "error": error}


def delegated(name: str) -> dict[str, Any]:
    """A whole life as a user whose unit was delegated to them, as systemd does it: the cgroup
    above ours is the user's, and so are the files by which processes move."""
    unified = survey().unified()
    assert unified is not None
    given = Path(unified.mount, name)
    unit = given / "unit"
    unit.mkdir(parents=True)
    for path in (given, *(given / file for file in DELEGATED)):
        os.chown(path, NOBODY, NOBODY)
    pid = os.fork()
    if pid == 0:
        (unit / "cgroup.procs").write_text("0")
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
        print(json.dumps(life("box")), flush=True)
        os._exit(0)
    os.waitpid(pid, 0)
    left = sorted(path.name for path in given.iterdir() if path.is_dir())
    unit.rmdir()
    given.rmdir()
    return {"left": left}


def contained(name: str) -> dict[str, Any]:
    """A whole life inside a cgroup namespace whose root has processes."""
    unified = survey().unified()
    assert unified is not None
    outer = Path(unified.mount, name)
    outer.mkdir()
    pid = os.fork()
    if pid == 0:
        (outer / "cgroup.procs").write_text("0")
        processes.unshare(processes.CLONE_NEWCGROUP | processes.CLONE_NEWNS)
        mounting.umount(TOP, mounting.MNT_DETACH)
        mounting.mount(b"cgroup2", TOP, b"cgroup2", 0, None)
        print(json.dumps(life("box")), flush=True)
        os._exit(0)
    os.waitpid(pid, 0)
    outer.rmdir()
    return {}


def devices(name: str) -> dict[str, Any]:
    """What opening devices gives under rules, before and after an update: names of errors."""
    mounting.mount(b"tmpfs", b"/mnt", b"tmpfs", 0, b"mode=755")
    for device, minor in (("null", 3), ("kmsg", 11)):
        os.mknod(f"/mnt/{device}", 0o020666, os.makedev(1, minor))
    deny = DeviceRule(allow=False)
    kmsg = DeviceRule(allow=True, type="c", major=1, minor=11, access="r")
    cgroup = manage.create(plan_named(name, Resources(devices=(deny,))))
    try:
        seen: dict[str, Any] = {"denied": _open_devices(cgroup)}
        manage.update(cgroup, Resources(devices=(deny, kmsg)))
        seen["allowed"] = _open_devices(cgroup)
        manage.update(cgroup, Resources(devices=(deny,)))
        seen["denied again"] = _open_devices(cgroup)
        unified = cgroup.unified()
        if unified is not None:
            fd = tree.open_cgroup(unified.mount, unified.path)
            seen["programs"] = len(attached(fd))
            os.close(fd)
        manage.update(cgroup, Resources(devices=(DeviceRule(allow=True),)))
        seen["all"] = _open_devices(cgroup)
    finally:
        ending.remove(cgroup)
    return seen


def _open_devices(cgroup: Cgroup) -> str:
    """For null and kmsg, read and write: "+" or "-" by a process in the cgroup."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        manage.join(cgroup, 0)
        answer = ""
        for device in ("null", "kmsg"):
            for flags in (os.O_RDONLY, os.O_WRONLY):
                try:
                    os.close(os.open(f"/mnt/{device}", flags))
                    answer += "+"
                except PermissionError:
                    answer += "-"
        os.write(writer, answer.encode())
        os._exit(0)
    os.waitpid(pid, 0)
    answer = os.read(reader, 16).decode()
    os.close(reader)
    os.close(writer)
    return answer


def fork_bomb(argument: list[Any]) -> dict[str, Any]:
    """A fork bomb in a PID namespace of its own, ended by `kill_all` through the hierarchies of
    one version or both."""
    name, versions = argument
    host = survey()
    limit = any("pids" in h.controllers for h in host.hierarchies)
    plan = plan_cgroups(host, "", Resources(pids_limit=50) if limit else None, name)
    whole = manage.create(plan)
    cgroup = whole.with_values(
        directories=tuple(d for d in whole.directories if d.version in versions)
    )
    entry = manage.open_entry(whole)
    pid, pidfd = processes.clone3(processes.CLONE_NEWPID, cgroup_fd=entry.unified)
    if pid == 0:
        try:
            manage.enter(entry)
            manage.close_entry(entry)
            bomb(64 if limit else 5)
        finally:
            os._exit(1)
    manage.close_entry(entry)
    os.close(pidfd)
    try:
        while len(ending.pids(whole)) < 30:
            time.sleep(0.005)
        most = len(ending.pids(whole))
        left = ending.kill_all(cgroup)
        status = os.waitpid(pid, 0)[1]
        rest = ending.pids(whole)
    finally:
        ending.kill_all(whole)
        ending.remove(whole)
    return {"most": most, "left": left, "status": status, "rest": rest}


def die_making(argument: list[Any]) -> None:
    """Make a cgroup, and be killed at its nth directory or limit."""
    path, steps = argument
    plan = plan_cgroups(survey(), path, Resources(pids_limit=9), "box", forgiving=True)
    count = 0

    def count_down(*_arguments: object) -> None:
        nonlocal count
        count += 1
        if count > steps:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(
        lambda event, arguments: count_down(arguments) if event in ("os.mkdir", "open") else None
    )
    manage.create(plan)


def owned(name: str) -> dict[str, Any]:
    """Who owns what in a cgroup that was given to a user."""
    cgroup = manage.create(plan_named(name, owner=1234))
    try:
        unified = cgroup.unified()
        assert unified is not None
        directory = Path(unified.mount, unified.path)
        mine = [p.name for p in directory.iterdir() if p.stat().st_uid == 1234]
        return {"directory": directory.stat().st_uid, "files": sorted(mine)}
    finally:
        ending.remove(cgroup)


ACTIONS: dict[str, Callable[[Any], object]] = {
    "life": life,
    "as_nobody": as_nobody,
    "delegated": delegated,
    "contained": contained,
    "devices": devices,
    "fork_bomb": fork_bomb,
    "die_making": die_making,
    "owned": owned,
}


def _set_up(view: str) -> None:
    """Private mounts, and in them the part of the host's hierarchies that the view has."""
    processes.unshare(processes.CLONE_NEWNS)
    private = mounting.MS_REC | mounting.MS_PRIVATE
    mounting.mount(None, b"/", None, private, None)
    host = survey()
    if view == "version1":
        for hierarchy in host.hierarchies:
            if hierarchy.version == 2:
                mounting.umount(os.fsencode(hierarchy.mount), mounting.MNT_DETACH)
    if view in ("cgroup2", "nothing"):
        while survey().mode != "none":
            mounting.umount(TOP, mounting.MNT_DETACH)
    if view == "cgroup2":
        mounting.mount(b"cgroup2", TOP, b"cgroup2", 0, None)


def main(view: str, action: str, argument: str) -> None:
    """The command line."""
    _set_up(view)
    print(json.dumps(ACTIONS[action](json.loads(argument))))


if __name__ == "__main__":
    main(*sys.argv[1:])

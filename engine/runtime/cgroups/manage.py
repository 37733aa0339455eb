"""Makes a container's cgroups as planned, brings processes into them, and changes their limits.

What is made is described by a Cgroup, which can be written down before anything is done
(`describe`), so that whoever comes after a kill finds everything again.
"""

from __future__ import annotations

import errno
import os

from engine.runtime.cgroups import tree
from engine.runtime.cgroups.apply import (
    Applying,
    copy_cpuset,
    delegate,
    hand_down,
    set_devices,
    write_limits,
)
from engine.runtime.cgroups.model import Cgroup, CgroupDirectory, CgroupPlan, PlannedDirectory
from engine.runtime.cgroups.paths import components
from engine.runtime.cgroups.plan import plan_update
from engine.runtime.errors import Failure, KernelRefused, Unsupported, WrongState, refused
from engine.runtime.kernel.files import close_all
from engine.runtime.record import Record
from engine.runtime.spec.model import Resources

_REFUSALS = (errno.EACCES, errno.EPERM, errno.EROFS)


class Entry(Record):
    """Open descriptors by which a process enters the cgroup: `unified` is the directory for
    CLONE_INTO_CGROUP or -1, `tasks` the files of version 1 for `enter`."""

    unified: int = -1
    tasks: tuple[int, ...] = ()


def describe(plan: CgroupPlan) -> Cgroup:
    """The Cgroup that `create` is going to make, for the container's state before it is made.

    It looks which directories are there, so that a kill in between leaves nothing behind that
    `remove` would not find.
    """
    return Cgroup(
        directories=tuple(
            CgroupDirectory(
                version=d.version,
                controllers=d.controllers,
                mount=d.mount,
                path=d.path,
                made=_missing(d.mount, d.path),
            )
            for d in plan.directories
        ),
        clone_into=plan.clone_into,
        notes=plan.notes,
    )


def prepare(plan: CgroupPlan) -> Cgroup:
    """`describe`, after making sure that nobody else uses the planned cgroups: whoever finds the
    description later may kill what is in them. Raises WrongState, as `create` does."""
    for planned in plan.directories:
        try:
            fd = tree.open_cgroup(planned.mount, planned.path)
        except OSError:
            # It is not there, or `create` is going to say what is wrong with it.
            continue
        try:
            _refuse_used(fd, planned)
        finally:
            os.close(fd)
    return describe(plan)


def _missing(mount: str, path: str) -> int:
    """How many components at the end of `path` are not there, the last one always counted."""
    above, count = path.rpartition("/")[0], 1
    while above and not os.path.isdir(f"{mount}/{above}"):
        above, count = above.rpartition("/")[0], count + 1
    return count


def create(plan: CgroupPlan) -> Cgroup:
    """Make the planned cgroups and set their limits; the result lists those that came to be.

    Raises WrongState where a cgroup is there and has processes or is frozen (it is not ours:
    neither kill nor remove it), and InvalidConfig, Unsupported, KernelRefused for what is
    required and cannot be done. What was made is removed again then, so that nothing is left
    to be undone.
    """
    applying = Applying(plan.forgiving, list(plan.notes))
    done: list[CgroupDirectory] = []
    devices_done = False
    try:
        for planned in plan.directories:
            made, is_new = _create_one(planned, plan, applying)
            if made is not None:
                done.append(made)
                devices_done |= _set_devices_of(made, plan, applying, is_new)
        if not devices_done and (plan.program or plan.devices is not None):
            applying.failed("linux.resources.devices: no cgroup was made", plan.devices_required)
    except BaseException:
        _discard(done)
        raise
    version_2 = any(d.version == 2 for d in done)
    return Cgroup(
        directories=tuple(done),
        clone_into=plan.clone_into and version_2,
        notes=tuple(applying.notes),
    )


def _create_one(
    planned: PlannedDirectory, plan: CgroupPlan, applying: Applying
) -> tuple[CgroupDirectory | None, bool]:
    """Make one cgroup and write its limits, None where it cannot be and need not; whether it was
    not there before."""
    missing: dict[str, str] = {}

    def visit(fd: int, above: int | None) -> None:
        if planned.copy_cpuset and above is not None:
            copy_cpuset(above, fd)
        if planned.version == 2 and above is not None and planned.enable:
            hand_down(above, planned.enable, missing)

    try:
        fd, made = tree.make_cgroup(planned.mount, planned.path, visit)
    except OSError as e:
        failure = refused(f"make the cgroup {planned.mount}/{planned.path}", e)
        if planned.required and not (plan.forgiving and e.errno in _REFUSALS):
            raise failure from e
        applying.notes.append(failure.message)
        return None, False
    directory = CgroupDirectory(
        version=planned.version,
        controllers=planned.controllers,
        mount=planned.mount,
        path=planned.path,
        made=max(made, 1),
    )
    try:
        if not made:
            _refuse_used(fd, planned)
        if planned.version == 2 and not _is_domain(fd, planned, applying):
            _discard([directory] if made else [])
            return None, False
        write_limits(fd, planned.writes, missing, applying)
        if planned.version == 2 and plan.owner is not None:
            delegate(fd, plan.owner)
    except BaseException:
        if made:
            _discard([directory])
        raise
    finally:
        os.close(fd)
    return directory, made > 0


def _refuse_used(fd: int, planned: PlannedDirectory) -> None:
    """A cgroup that was there already has to be one that was left over."""
    name = f"{planned.mount}/{planned.path}"
    if tree.processes(fd) or tree.event(fd, "populated") == "1":
        raise WrongState(f"the cgroup {name} has processes in it that are not the container's")
    frozen = tree.event(fd, "frozen") == "1" or tree.read_file(fd, "freezer.state") == "FROZEN\n"
    if frozen:
        raise WrongState(f"the cgroup {name} is frozen: a process started in it would hang")


def _is_domain(fd: int, planned: PlannedDirectory, applying: Applying) -> bool:
    """Whether processes can enter the cgroup2 directory: one below a threaded cgroup, or below
    one with both controllers and processes, takes none."""
    kind = tree.read_file(fd, "cgroup.type").strip()
    if kind in ("", "domain", "domain threaded"):
        return True
    message = f"the cgroup {planned.mount}/{planned.path} would be {kind!r} and take no process"
    if planned.required and not applying.forgiving:
        raise Unsupported(message, hint="set linux.cgroupsPath to a place in another cgroup")
    applying.notes.append(message)
    return False


def _set_devices_of(
    directory: CgroupDirectory, plan: CgroupPlan, applying: Applying, is_new: bool
) -> bool:
    """Set the plan's device rules where `directory` is the place for them; whether it is."""
    if directory.version == 1:
        here = plan.devices is not None and "devices" in directory.controllers
    else:
        # A cgroup that was just made has no filter to remove.
        here = plan.program is not None and not (is_new and not plan.program)
    if not here:
        return False
    fd = _open(directory)
    try:
        set_devices(fd, plan, applying)
    finally:
        os.close(fd)
    return True


def _discard(directories: list[CgroupDirectory]) -> None:
    """Remove empty cgroups on the way out of an error, which is the one to be reported."""
    from engine.runtime.cgroups.ending import remove

    try:
        remove(Cgroup(directories=tuple(directories)), seconds=0.2)
    except Failure:
        return


def _open(directory: CgroupDirectory) -> int:
    try:
        return tree.open_cgroup(directory.mount, directory.path)
    except OSError as e:
        raise refused(f"open the cgroup {directory.mount}/{directory.path}", e) from e


def open_v2(cgroup: Cgroup) -> int:
    """A descriptor of the cgroup2 directory for CLONE_INTO_CGROUP, -1 where that cannot be used.
    Raises KernelRefused."""
    directory = cgroup.unified()
    if directory is None or not cgroup.clone_into:
        return -1
    return _open(directory)


def within(cgroup: Cgroup, below: str) -> Cgroup:
    """The cgroup `below` a container's, for `exec` to enter: never one to remove. Raises
    InvalidConfig for a path that leads out of it."""
    parts = components(below)
    directories = (
        d.with_values(path="/".join([d.path, *parts]), made=1) for d in cgroup.directories
    )
    return cgroup.with_values(directories=tuple(directories))


def open_entry(cgroup: Cgroup) -> Entry:
    """What a child that is about to be cloned needs to enter the cgroup by itself: a descriptor
    for CLONE_INTO_CGROUP and files for `enter`. Raises KernelRefused."""
    unified, tasks = -1, []
    try:
        unified = open_v2(cgroup)
        for directory in cgroup.directories:
            if directory.version == 2 and unified >= 0:
                continue
            name = "tasks" if directory.version == 1 else "cgroup.procs"
            fd = _open(directory)
            try:
                tasks.append(os.open(name, os.O_WRONLY | os.O_CLOEXEC, dir_fd=fd))
            finally:
                os.close(fd)
    except BaseException as e:
        close_entry(Entry(unified=unified, tasks=tuple(tasks)))
        if isinstance(e, OSError):
            raise refused("open the container's cgroup", e) from e
        raise
    return Entry(unified=unified, tasks=tuple(tasks))


def enter(entry: Entry) -> None:
    """Bring this single-threaded process into the cgroup: for the child that was cloned with
    `entry.unified`. Imports nothing. Raises KernelRefused.

    A thread that moves itself through `tasks` needs no lock over all forks of the machine;
    moving another process takes it, and waits some milliseconds for it.
    """
    for fd in entry.tasks:
        try:
            os.write(fd, b"0")
        except OSError as e:
            raise refused("enter the container's cgroup", e) from e


def close_entry(entry: Entry) -> None:
    """Close the descriptors."""
    close_all((entry.unified, *entry.tasks))


def join(cgroup: Cgroup, pid: int, *, beside: int = 0) -> None:
    """Bring the process `pid` (0: this one) with all its threads into the cgroup.

    Where the container manages cgroups of its own, its cgroup takes no process any more; then
    `pid` goes where the container's process `beside` is. Raises KernelRefused.
    """
    for directory in cgroup.directories:
        fd = _open(directory)
        try:
            try:
                tree.write_file(fd, "cgroup.procs", str(pid))
            except OSError as e:
                if e.errno != errno.EBUSY or directory.version != 2 or not beside:
                    raise
                _join_beside(fd, pid, beside)
        except OSError as e:
            raise refused(f"enter the cgroup {directory.mount}/{directory.path}", e) from e
        finally:
            os.close(fd)


def _join_beside(fd: int, pid: int, beside: int) -> None:
    """Bring `pid` into the cgroup below `fd` that has the process `beside`."""
    joined = False

    def enter_one(current: int) -> None:
        nonlocal joined
        if not joined and beside in tree.processes(current):
            tree.write_file(current, "cgroup.procs", str(pid))
            joined = True

    tree.walk(fd, enter_one, lambda parent, name: None)
    if not joined:
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))


def update(
    cgroup: Cgroup, resources: Resources, *, rootless: bool = False, forgiving: bool = False
) -> tuple[str, ...]:
    """Change the limits that `resources` names, and the device rules if it has some; the notes of
    what could not be done. Raises InvalidConfig, Unsupported, KernelRefused."""
    unified = cgroup.unified()
    memory_limit = None
    asked = resources.memory
    if asked is not None and asked.swap and unified is not None and "memory" in unified.controllers:
        fd = _open(unified)
        try:
            now = tree.read_file(fd, "memory.max").strip()
        finally:
            os.close(fd)
        memory_limit = int(now) if now.isdecimal() else -1 if now else None
    plan = plan_update(
        cgroup, resources, rootless=rootless, forgiving=forgiving, memory_limit=memory_limit
    )
    applying = Applying(forgiving, list(plan.notes))
    for planned, directory in zip(plan.directories, cgroup.directories, strict=True):
        _update_one(planned, plan, applying)
        _set_devices_of(directory, plan, applying, False)
    return tuple(applying.notes)


def _update_one(planned: PlannedDirectory, plan: CgroupPlan, applying: Applying) -> None:
    if not planned.writes:
        return
    missing: dict[str, str] = {}
    name = f"{planned.mount}/{planned.path}"

    def enable(fd: int) -> None:
        hand_down(fd, planned.enable, missing)

    try:
        if planned.version == 2 and planned.enable:
            tree.each_above(planned.mount, planned.path, enable)
        fd = tree.open_cgroup(planned.mount, planned.path)
    except OSError as e:
        raise refused(f"open the cgroup {name}", e) from e
    try:
        if plan.memory_below is not None:
            _check_memory(fd, plan.memory_below)
        write_limits(fd, planned.writes, missing, applying)
    finally:
        os.close(fd)


def _check_memory(fd: int, limit: int) -> None:
    """`checkBeforeUpdate`: cgroup2 would kill processes to reach a limit below what is in use."""
    now = tree.read_file(fd, "memory.current").strip()
    if now.isdecimal() and 0 <= limit < int(now):
        raise KernelRefused(
            f"linux.resources.memory.limit: {limit} is less than the {now} bytes in use",
            errno=errno.EBUSY,
        )

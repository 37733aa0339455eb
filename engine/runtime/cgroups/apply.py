"""Sets up a cgroup that is there: controllers, limits, device rules and ownership, and says in
config.json's terms what failed.

The kernel refuses a pair of limits in one order and takes it in the other (memory and swap,
period and quota), depending on what is set already; a refused write is tried again after the
others, which covers every order without reading the old values.
"""

from __future__ import annotations

import errno
import os

from engine.runtime.cgroups import tree
from engine.runtime.cgroups.devices import line
from engine.runtime.cgroups.model import CgroupPlan, DeviceList, Write
from engine.runtime.errors import Unsupported, refused
from engine.runtime.kernel.files import read_if_there

DELEGATE_FILE = "/sys/kernel/cgroup/delegate"
# cgroups(7): what is delegated where the kernel does not say it.
DELEGATED = ("cgroup.procs", "cgroup.subtree_control", "cgroup.threads")
_ORDER = (errno.EINVAL, errno.EBUSY)


class Applying:
    """What to do about failures, and the notes that came of them."""

    def __init__(self, forgiving: bool, notes: list[str]) -> None:
        self.forgiving = forgiving
        self.notes = notes

    def failed(self, problem: str, required: bool, error: OSError | None = None) -> None:
        """Raise for a required step, note any other; KernelRefused with the OSError, else
        Unsupported."""
        if required and not self.forgiving:
            if error is None:
                raise Unsupported(problem)
            raise refused(problem, error) from error
        self.notes.append(problem if error is None else refused(problem, error).message)


def write_limits(
    fd: int, writes: tuple[Write, ...], missing: dict[str, str], applying: Applying
) -> None:
    """Carry out `writes` in the cgroup `fd`; `missing` are the controllers that could not be
    enabled in it and why. Raises KernelRefused, Unsupported."""
    again: list[Write] = []
    for write in writes:
        try:
            _write(fd, write)
        except OSError as e:
            if e.errno in _ORDER:
                again.append(write)
            else:
                _explain(write, e, missing, applying)
    for write in again:
        try:
            _write(fd, write)
        except OSError as e:
            _explain(write, e, missing, applying)


def _write(fd: int, write: Write) -> None:
    try:
        for value in write.value.splitlines() if write.lines else (write.value,):
            tree.write_file(fd, write.file, value)
    except FileNotFoundError:
        if write.instead is not None:
            _write(fd, write.instead)
        elif not write.if_present:
            raise


def _explain(write: Write, error: OSError, missing: dict[str, str], applying: Applying) -> None:
    field = f"linux.resources.{write.field}"
    if error.errno != errno.ENOENT:
        applying.failed(f"{field}: write {write.value!r} to {write.file}", write.required, error)
        return
    controller = write.file.partition(".")[0]
    reason = missing.get(controller)
    if reason is not None:
        problem = f"{field}: the {controller} controller cannot be enabled: {reason}"
    else:
        problem = f"{field}: this kernel has no {write.file}"
    applying.failed(problem, write.required)


def set_devices(fd: int, plan: CgroupPlan, applying: Applying) -> None:
    """Set the plan's device rules in the cgroup `fd`. Raises KernelRefused."""
    try:
        if plan.devices is not None:
            _set_device_list(fd, plan.devices)
        else:
            from engine.runtime.cgroups.bpf import set_device_program

            set_device_program(fd, plan.program or b"")
    except OSError as e:
        applying.failed("linux.resources.devices: set the device rules", plan.devices_required, e)


def _set_device_list(fd: int, wanted: DeviceList) -> None:
    """Bring devices.list of version 1 to `wanted`.

    A list of allowed devices is changed by adding what is new and then removing what is not
    wanted, so that no process is refused in between a device it keeps. Everything else begins
    anew from "all" or "nothing".
    """
    now = set(tree.read_file(fd, "devices.list").splitlines())
    lines = {line(e.type, e.major, e.minor, e.access) for e in wanted.exceptions}
    if not wanted.allow and now and "a *:* rwm" not in now:
        for text in sorted(lines - now):
            tree.write_file(fd, "devices.allow", text)
        for text in _surplus(now, wanted):
            tree.write_file(fd, "devices.deny", text)
        return
    if not (wanted.allow and not lines and now == {"a *:* rwm"}):
        tree.write_file(fd, "devices.allow" if wanted.allow else "devices.deny", "a")
    for text in sorted(lines):
        tree.write_file(fd, "devices.deny" if wanted.allow else "devices.allow", text)


def _surplus(now: set[str], wanted: DeviceList) -> list[str]:
    """What of the lines of devices.list is not wanted, as lines for devices.deny."""
    kept = {line(e.type, e.major, e.minor, ""): e.access for e in wanted.exceptions}
    surplus = []
    for text in sorted(now):
        device, _, access = text.rpartition(" ")
        rest = "".join(c for c in access if c not in kept.get(f"{device} ", ""))
        if rest:
            surplus.append(f"{device} {rest}")
    return surplus


def copy_cpuset(above: int, fd: int) -> None:
    """A new cpuset of version 1 has no cpus and memory nodes, and takes no process so."""
    for name in ("cpuset.cpus", "cpuset.mems"):
        if tree.read_file(fd, name).strip():
            continue
        inherited = tree.read_file(above, name).strip()
        if inherited:
            tree.write_file(fd, name, inherited)


def hand_down(fd: int, wanted: tuple[str, ...], missing: dict[str, str]) -> None:
    """Enable controllers for the cgroups in `fd`; `missing` gets those that cannot be, and why."""
    offered = tree.read_file(fd, "cgroup.controllers").split()
    enabled = tree.read_file(fd, "cgroup.subtree_control").split()
    for name in wanted:
        if name not in offered:
            missing.setdefault(name, "it is not handed down from above")
    lacking = [name for name in wanted if name in offered and name not in enabled]
    if not lacking:
        return
    try:
        tree.write_file(fd, "cgroup.subtree_control", " ".join(f"+{n}" for n in lacking))
    except OSError:
        for name in lacking:
            try:
                tree.write_file(fd, "cgroup.subtree_control", f"+{name}")
            except OSError as e:
                reason = os.strerror(e.errno or 0).lower()
                if e.errno == errno.EBUSY:
                    reason = "the cgroup above has processes of its own"
                missing.setdefault(name, reason)


def delegate(fd: int, uid: int) -> None:
    """Give the cgroup to `uid`, with the files that the kernel says may be delegated."""
    listed = read_if_there(DELEGATE_FILE, tree.MAX_VALUE)
    names = os.fsdecode(listed).split() or DELEGATED
    try:
        os.chown(fd, uid, -1)
        for name in names:
            if "/" not in name and tree.has_file(fd, name):
                os.chown(name, uid, -1, dir_fd=fd, follow_symlinks=False)
    except OSError as e:
        raise refused(f"give the container's cgroup to uid {uid}", e) from e

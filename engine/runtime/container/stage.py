"""The process between the runtime and a container's init, where namespaces are joined.

A process that joins a PID or time namespace stays outside itself, only its children are in; so
this one joins, clones the init as its own sibling, hands over its pid and ends. It is needed
only for containers that join namespaces or set the offsets of clocks.
"""

from __future__ import annotations

import errno
import os

from engine.runtime.container.channel import Channel
from engine.runtime.container.namespaces import FLAGS, NamespacePlan
from engine.runtime.errors import Failure, KernelRefused, refused
from engine.runtime.kernel import processes
from engine.runtime.process import attributes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn


def run_stage(
    plan: NamespacePlan,
    joined: tuple[tuple[str, int], ...],
    cgroup_fd: int,
    channel: Channel,
    init: Callable[[], NoReturn],
) -> NoReturn:
    """Join, clone a sibling that runs `init`, tell its pid on `channel`, end."""
    try:
        flags = plan.new & ~processes.CLONE_NEWCGROUP
        new_user = plan.has_new("user")
        attributes.set_dumpable(False)
        if new_user and os.stat("/proc/self/uid_map").st_uid != os.geteuid():
            # The files to write maps to would be root's, and whoever is to write them is not.
            attributes.set_dumpable(True)
        if cgroup_fd >= 0 and (plan.joined("user") or (plan.has_new("time") and new_user)):
            # In another user namespace there is no right to begin in it; children inherit it.
            _enter_cgroup(cgroup_fd)
            cgroup_fd = -1
        join(joined)
        if plan.has_new("time"):
            flags = _enter_time(plan, channel, flags)
        try:
            pid, pidfd = processes.clone3(flags | processes.CLONE_PARENT, cgroup_fd=cgroup_fd)
        except OSError as e:
            raise refused("clone the container's init", e, hint=clone_hint(e)) from e
        if pid == 0:
            init()
        channel.send({"type": "cloned", "pid": pid}, (pidfd,))
    except Failure as e:
        channel.fail(e)
    except OSError as e:
        channel.fail(refused("prepare namespaces", e))
    os._exit(0)


def _enter_cgroup(cgroup_fd: int) -> None:
    try:
        fd = os.open("cgroup.procs", os.O_WRONLY | os.O_CLOEXEC, dir_fd=cgroup_fd)
        try:
            os.write(fd, b"0")
        finally:
            os.close(fd)
    except OSError as e:
        raise refused("enter the container's cgroup", e) from e


def clone_hint(error: OSError) -> str:
    """What the kernel means by ENOMEM where a PID namespace was joined (pid_namespaces(7))."""
    if error.errno != errno.ENOMEM:
        return ""
    return "a PID namespace whose first process has ended takes no others"


def join(joined: tuple[tuple[str, int], ...]) -> None:
    """Enter each namespace in order; raises KernelRefused."""
    for kind, fd in joined:
        try:
            processes.setns(fd, FLAGS[kind])
        except OSError as e:
            raise refused(f"join the {kind} namespace", e) from e
        if kind == "user":
            become_root()


def become_root() -> None:
    """Take id 0 of the user namespace just entered; ids that it does not map stay."""
    try:
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
    except OSError as e:
        raise refused("become root in the user namespace", e) from e


def _enter_time(plan: NamespacePlan, channel: Channel, flags: int) -> int:
    """Make the time namespace that children get, in the user namespace that is to own it."""
    if plan.has_new("user"):
        _unshare(processes.CLONE_NEWUSER, "user")
        channel.send({"type": "map"})
        channel.expect("mapped")
        become_root()
        flags &= ~processes.CLONE_NEWUSER
    _unshare(processes.CLONE_NEWTIME, "time")
    if plan.time_offsets:
        # Else the file is of the host's root. There is nobody in a new user namespace to trace us.
        attributes.set_dumpable(plan.has_new("user"))
        try:
            fd = os.open("/proc/self/timens_offsets", os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.write(fd, plan.time_offsets)
            finally:
                os.close(fd)
        except OSError as e:
            raise refused("set linux.timeOffsets", e) from e
        attributes.set_dumpable(False)
    return flags & ~processes.CLONE_NEWTIME


def _unshare(flag: int, kind: str) -> None:
    try:
        processes.unshare(flag)
    except OSError as e:
        raise KernelRefused(
            f"make a {kind} namespace: {os.strerror(e.errno or 0).lower()}", errno=e.errno or 0
        ) from e

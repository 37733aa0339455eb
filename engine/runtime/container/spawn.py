"""The birth of a container's init: cloned, mapped, put into its cgroup, and let go.

What is written here runs in the runtime's own process; the child's side is `init`, and
`stage` where a process in between is needed. Until the init has said that it is ready,
it ends when its creator does.
"""

from __future__ import annotations

import os

from engine.runtime.container.channel import Channel, pair
from engine.runtime.container.idmaps import write_maps
from engine.runtime.container.namespaces import NamespacePlan, open_joined
from engine.runtime.container.stage import run_stage
from engine.runtime.errors import Failure, refused
from engine.runtime.kernel import processes
from engine.runtime.record import Record
from engine.runtime.spec.model import IdMapping

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    Init = Callable[[Channel, bool], NoReturn]


class Born(Record):
    """An init that waits for "go": `mapped` says whether its user namespace has its ids."""

    pid: int
    pidfd: int
    channel: Channel


def spawn(
    plan: NamespacePlan,
    uids: tuple[IdMapping, ...],
    gids: tuple[IdMapping, ...],
    cgroup_fd: int,
    init: Init,
) -> Born:
    """Clone the init that runs `init(channel, in_new_user_namespace)` in its namespaces.

    `cgroup_fd` is a cgroup2 directory to begin in, or -1. Raises KernelRefused.
    """
    joined = open_joined(plan)
    ours, theirs = pair()
    new_user = plan.has_new("user")
    try:
        if plan.staged:
            born = _staged(plan, joined, ours, theirs, uids, gids, lambda: init(theirs, new_user))
        else:
            try:
                # A new cgroup namespace is made by the init itself, when it is in its cgroup.
                flags = plan.new & ~processes.CLONE_NEWCGROUP
                pid, pidfd = processes.clone3(flags, cgroup_fd=cgroup_fd)
            except OSError as e:
                raise refused("clone the container's init", e) from e
            if pid == 0:
                ours.close()
                init(theirs, new_user)
            born = Born(pid=pid, pidfd=pidfd, channel=ours)
            if new_user:
                _map_or_kill(born, uids, gids)
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
        for _, fd in joined:
            os.close(fd)
    return born


def _map_or_kill(born: Born, uids: tuple[IdMapping, ...], gids: tuple[IdMapping, ...]) -> None:
    try:
        write_maps(born.pid, uids, gids)
    except Failure:
        end(born)
        raise


def _staged(
    plan: NamespacePlan,
    joined: tuple[tuple[str, int], ...],
    ours: Channel,
    theirs: Channel,
    uids: tuple[IdMapping, ...],
    gids: tuple[IdMapping, ...],
    init: Callable[[], NoReturn],
) -> Born:
    stage, stage_theirs = pair()
    pid = os.fork()
    if pid == 0:
        ours.close()
        stage.close()
        run_stage(plan, joined, stage_theirs, init)
    stage_theirs.close()
    theirs.close()
    mapped = not plan.has_new("user")
    try:
        message, fds = stage.expect("map", "cloned")
        if message["type"] == "map":
            write_maps(pid, uids, gids)
            mapped = True
            stage.send({"type": "mapped"})
            message, fds = stage.expect("cloned")
    except Failure:
        os.kill(pid, processes.SIGKILL)
        raise
    finally:
        stage.close()
        os.waitpid(pid, 0)
    number = message.get("pid")
    if not isinstance(number, int) or len(fds) != 1:
        raise Failure("the process that joins namespaces gave no pid")
    born = Born(pid=number, pidfd=fds[0], channel=ours)
    if not mapped:
        _map_or_kill(born, uids, gids)
    return born


def end(born: Born) -> None:
    """Kill an init that was not let go, and reap it."""
    try:
        processes.signal_pidfd(born.pidfd, processes.SIGKILL)
    except ProcessLookupError:
        pass
    os.waitpid(born.pid, 0)
    os.close(born.pidfd)
    born.channel.close()

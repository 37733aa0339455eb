"""The birth of a container's init: cloned into its namespaces and cgroup, and mapped.

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
    Joined = tuple[tuple[str, int], ...]


class Order(Record):
    """What is to be born: the namespaces, the ids of a new user namespace, and `cgroup_fd`,
    a cgroup2 directory to begin in or -1."""

    namespaces: NamespacePlan
    uids: tuple[IdMapping, ...] = ()
    gids: tuple[IdMapping, ...] = ()
    cgroup_fd: int = -1


class Born(Record):
    """An init that waits to be let go."""

    pid: int
    pidfd: int
    channel: Channel


def spawn(order: Order, init: Init) -> Born:
    """Clone the init that runs `init(channel, in_new_user_namespace)`. Raises KernelRefused."""
    plan = order.namespaces
    joined = open_joined(plan)
    ours, theirs = pair()
    new_user = plan.has_new("user")
    try:
        if plan.staged:
            return _staged(order, joined, ours, theirs, init)
        try:
            # A new cgroup namespace is made by the init itself, when it is in its cgroup.
            flags = plan.new & ~processes.CLONE_NEWCGROUP
            pid, pidfd = processes.clone3(flags, cgroup_fd=order.cgroup_fd)
        except OSError as e:
            raise refused("clone the container's init", e) from e
        if pid == 0:
            ours.close()
            init(theirs, new_user)
        born = Born(pid=pid, pidfd=pidfd, channel=ours)
        if new_user:
            _map_or_end(born, order)
        return born
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
        for _, fd in joined:
            os.close(fd)


def _map_or_end(born: Born, order: Order) -> None:
    try:
        write_maps(born.pid, order.uids, order.gids)
    except Failure:
        end(born)
        raise


def _staged(order: Order, joined: Joined, ours: Channel, theirs: Channel, init: Init) -> Born:
    new_user = order.namespaces.has_new("user")
    stage, stage_theirs = pair()
    pid = os.fork()
    if pid == 0:
        ours.close()
        stage.close()
        run_stage(
            order.namespaces,
            joined,
            order.cgroup_fd,
            stage_theirs,
            lambda: init(theirs, new_user),
        )
    stage_theirs.close()
    theirs.close()
    try:
        message, fds = stage.expect("map", "cloned")
        mapped = message["type"] == "map"
        if mapped:
            write_maps(pid, order.uids, order.gids)
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
    if new_user and not mapped:
        _map_or_end(born, order)
    return born


def end(born: Born) -> None:
    """Kill an init that is not wanted any more, and reap it."""
    try:
        processes.signal_pidfd(born.pidfd, processes.SIGKILL)
    except ProcessLookupError:
        pass
    try:
        os.waitpid(born.pid, 0)
    except ChildProcessError:
        pass
    os.close(born.pidfd)
    born.channel.close()

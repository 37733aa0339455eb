"""The operations of the runtime-spec on containers (runtime.md "Operations"), and runc's others.

Each takes the container's lock, looks at what its status is now, and acts; none believes what
an earlier one noted about processes without looking.
"""

from __future__ import annotations

import os
import time

from engine.runtime.cgroups import ending
from engine.runtime.container.configuration import saved_config, with_environment
from engine.runtime.container.gate import knock
from engine.runtime.container.program import await_program, poststart
from engine.runtime.container.removal import clean, end
from engine.runtime.container.state import State, StateDir, identifiers, is_alive
from engine.runtime.container.status import (
    CREATED,
    CREATING,
    PAUSED,
    RUNNING,
    cgroup_of,
    describe,
    status_of,
)
from engine.runtime.errors import (
    Failure,
    WrongState,
    refused,
)
from engine.runtime.kernel import processes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from engine.runtime.container.options import RuntimeOptions, Warn

CREATION = 0.25
"""Seconds that making a container takes on a busy machine."""


def start(runtime: RuntimeOptions, container_id: str, warn: Warn) -> None:
    """Let a created container's program run; returns when it does."""
    with StateDir.find(runtime.root, container_id) as directory:
        directory.lock()
        state = directory.load()
        status = status_of(directory, state)
        if status != CREATED:
            raise WrongState(f"cannot start a container that is {status}: {container_id}")
        config = with_environment(saved_config(directory), runtime.environment)
        channel = knock(directory)
        if channel is None:
            raise WrongState(f"the init of container {container_id} has ended")
        try:
            channel.send({"type": "start"})
            await_program(channel, config, describe(directory, state, CREATED), 0, None)
        finally:
            channel.close()
        try:
            poststart(config, directory, state)
        except Failure:
            # runtime.md "Lifecycle", step 9: the container is stopped and destroyed.
            end(state)
            clean(directory, state, config, warn)
            raise


def state(runtime: RuntimeOptions, container_id: str) -> dict[str, Any]:
    """The state document of runtime.md. A container that is being made at this moment is given
    the time that takes, but no more: a hook may be what asks."""
    deadline = time.monotonic() + CREATION
    while True:
        with StateDir.find(runtime.root, container_id) as directory:
            document = describe(directory, directory.load())
        if document["status"] != CREATING or time.monotonic() > deadline:
            return document
        time.sleep(CREATION / 50)


def containers(runtime: RuntimeOptions) -> list[dict[str, Any]]:
    """The state documents of all containers; those that vanish meanwhile are left out."""
    found = []
    for container_id in identifiers(runtime.root):
        try:
            found.append(state(runtime, container_id))
        except Failure:
            continue
    return found


def kill(runtime: RuntimeOptions, container_id: str, number: int, all: bool = False) -> None:
    """Send a signal to the container's init, or to all its processes."""
    with StateDir.find(runtime.root, container_id) as directory:
        kept = directory.load()
        status = status_of(directory, kept)
        cgroup = cgroup_of(kept)
        if all and cgroup is not None:
            ending.signal_all(cgroup, number)
            return
        if status not in (CREATED, RUNNING, PAUSED):
            raise WrongState(f"container not running: {container_id} is {status}")
        alone = number == processes.SIGKILL and cgroup is not None and _shares_pids(kept.pid)
        if alone and cgroup is not None:
            # Without a PID namespace nothing but the cgroup holds the processes together.
            ending.kill_all(cgroup)
            return
        _signal(kept, number)
        if number == processes.SIGKILL and status == PAUSED and cgroup is not None:
            ending.thaw(cgroup)


def _shares_pids(pid: int) -> bool:
    try:
        ours, theirs = os.stat("/proc/self/ns/pid"), os.stat(f"/proc/{pid}/ns/pid")
    except OSError:
        return False
    return (ours.st_dev, ours.st_ino) == (theirs.st_dev, theirs.st_ino)


def _signal(state: State, number: int) -> None:
    """By pidfd, and only if it is of the process that was meant."""
    try:
        pidfd = processes.pidfd_open(state.pid)
    except OSError as e:
        raise WrongState(f"container not running: {state.id}") from e
    try:
        if not is_alive(state.pid, state.started):
            raise WrongState(f"container not running: {state.id}")
        processes.signal_pidfd(pidfd, number)
    except OSError as e:
        raise refused(f"signal {number}", e) from e
    finally:
        os.close(pidfd)

"""A container goes: what still runs of it is ended, its cgroup and its state are removed."""

from __future__ import annotations

import os

from engine.runtime.cgroups import ending, manage
from engine.runtime.container.configuration import saved_config, with_environment
from engine.runtime.container.program import wait_for
from engine.runtime.container.state import CONFIG, State, StateDir, is_alive
from engine.runtime.container.status import (
    CREATING,
    PAUSED,
    RUNNING,
    STOPPED,
    cgroup_of,
    describe,
    status_of,
)
from engine.runtime.errors import KernelRefused, NoSuchContainer, WrongState
from engine.runtime.jsontext import encode
from engine.runtime.kernel import processes
from engine.runtime.process.hooks import try_hooks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.runtime.container.options import RuntimeOptions, Warn
    from engine.runtime.spec.model import Config


def delete(runtime: RuntimeOptions, container_id: str, force: bool, warn: Warn) -> None:
    """Remove what is left of a stopped container. Like runc's, one that was only created is
    ended first, with `force` any; a container that does not exist is then no error."""
    try:
        directory = StateDir.find(runtime.root, container_id)
    except NoSuchContainer:
        if force:
            return
        raise
    with directory:
        if not force and status_of(directory, directory.load()) == CREATING:
            # Its creator holds the lock, and may be waiting for a hook that is who asks.
            raise WrongState(f"cannot delete container {container_id} while it is being created")
        directory.lock()
        kept = directory.load()
        status = status_of(directory, kept)
        if status in (RUNNING, PAUSED, CREATING) and not force:
            raise WrongState(
                f"cannot delete container {container_id} that is not stopped: {status}"
            )
        if status != STOPPED:
            end(kept)
        config = None
        if CONFIG in directory.names():
            config = with_environment(saved_config(directory), runtime.environment)
        clean(directory, kept, config, warn)


def end(state: State) -> None:
    """Kill the init and wait until it is gone."""
    if is_alive(state.pid, state.started):
        try:
            pidfd = processes.pidfd_open(state.pid)
        except ProcessLookupError:
            return
        try:
            cgroup = cgroup_of(state)
            if is_alive(state.pid, state.started):
                processes.signal_pidfd(pidfd, processes.SIGKILL)
            if cgroup is not None:
                ending.thaw(cgroup)
            try:
                wait_for(0, pidfd, None, seconds=1.0 if cgroup is not None else 10.0)
            except KernelRefused:
                if cgroup is None:
                    raise
                # Somebody may have brought it into a frozen cgroup that is not ours to thaw.
                manage.join(cgroup, state.pid)
                wait_for(0, pidfd, None, seconds=10.0)
        finally:
            os.close(pidfd)


def clean(
    directory: StateDir,
    state: State,
    config: Config | None,
    warn: Warn,
    ended: Callable[[], object] | None = None,
) -> None:
    """End what still runs in the container's cgroup, remove it and the state; poststop hooks.
    `ended` is called as soon as nothing runs and no hook will."""
    cgroup = cgroup_of(state)
    if cgroup is not None:
        left = ending.kill_all(cgroup)
        if left:
            raise KernelRefused(
                f"processes of container {state.id} do not end: {', '.join(map(str, left))}"
            )
        ending.remove(cgroup)
    hooks = config is not None and config.hooks.poststop
    if ended is not None and not hooks:
        ended()
    directory.remove()
    if config is not None and config.hooks.poststop:
        document = describe(directory, state, STOPPED)
        bundle = os.fsencode(state.bundle) if os.path.isdir(state.bundle) else b"/"
        for warning in try_hooks(
            config.hooks.poststop, encode(document).encode(), "poststop", bundle
        ):
            warn(warning)
    if ended is not None and hooks:
        ended()

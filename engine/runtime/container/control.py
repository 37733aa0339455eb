"""A running container's processes and limits: listed, frozen, thawed, changed."""

from __future__ import annotations

from engine.runtime.cgroups import ending, manage
from engine.runtime.container.state import State, StateDir
from engine.runtime.container.status import CREATED, PAUSED, RUNNING, cgroup_of, status_of
from engine.runtime.errors import Unsupported, WrongState

TYPE_CHECKING = False
if TYPE_CHECKING:
    from engine.runtime.cgroups.model import Cgroup
    from engine.runtime.container.options import RuntimeOptions, Warn
    from engine.runtime.spec.model import Resources


def pids(runtime: RuntimeOptions, container_id: str) -> list[int]:
    """The container's processes, as this PID namespace numbers them."""
    with StateDir.find(runtime.root, container_id) as directory:
        state = directory.load()
        cgroup = cgroup_of(state)
        if cgroup is None:
            status = status_of(directory, state)
            return [state.pid] if status in (CREATED, RUNNING) else []
        return list(ending.pids(cgroup))


def pause(runtime: RuntimeOptions, container_id: str) -> None:
    """Freeze all processes of a running container."""
    with StateDir.find(runtime.root, container_id) as directory:
        directory.lock()
        state = directory.load()
        status = status_of(directory, state)
        if status not in (RUNNING, CREATED):
            raise WrongState(f"container {container_id} cannot be paused: it is {status}")
        ending.freeze(_needed(state))


def resume(runtime: RuntimeOptions, container_id: str) -> None:
    """Let a paused container go on."""
    with StateDir.find(runtime.root, container_id) as directory:
        directory.lock()
        state = directory.load()
        status = status_of(directory, state)
        if status != PAUSED:
            raise WrongState(f"container {container_id} cannot be resumed: it is {status}")
        ending.thaw(_needed(state))


def update(runtime: RuntimeOptions, container_id: str, resources: Resources, warn: Warn) -> None:
    """Change the limits that `resources` names."""
    with StateDir.find(runtime.root, container_id) as directory:
        directory.lock()
        state = directory.load()
        status = status_of(directory, state)
        if status not in (CREATED, RUNNING, PAUSED):
            raise WrongState(f"container {container_id} cannot be updated: it is {status}")
        rootless = bool(runtime.rootless)
        for note in manage.update(_needed(state), resources, rootless=rootless):
            warn(note)


def _needed(state: State) -> Cgroup:
    cgroup = cgroup_of(state)
    if cgroup is None:
        raise Unsupported(f"container {state.id} has no cgroup, which this needs")
    return cgroup

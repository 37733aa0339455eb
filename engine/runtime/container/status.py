"""What a container's status is, derived from what is there rather than from notes about it.

runtime-spec runtime.md "State": creating, created, running, stopped; paused is a permitted
extra.
"""

from __future__ import annotations

import time

from engine.runtime.cgroups import document, ending
from engine.runtime.cgroups.model import Cgroup
from engine.runtime.container import state as states
from engine.runtime.container.gate import is_waiting
from engine.runtime.container.state import State, StateDir

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

CREATING, CREATED, RUNNING, PAUSED, STOPPED = (
    "creating",
    "created",
    "running",
    "paused",
    "stopped",
)


def status_of(directory: StateDir, state: State) -> str:
    """The container's status now."""
    if not state.ready and states.is_alive(state.creator, state.creator_started):
        return CREATING
    if state.creator == 0:
        # There is no state yet; whoever makes the container holds the lock all the time.
        return CREATING if directory.is_changing() else STOPPED
    if not states.is_alive(state.pid, state.started):
        return STOPPED
    cgroup = cgroup_of(state)
    if cgroup is not None and ending.is_frozen(cgroup):
        return PAUSED
    return CREATED if is_waiting(directory) else RUNNING


def cgroup_of(state: State) -> Cgroup | None:
    """The container's cgroup, None if it has none."""
    return document.from_document(state.cgroup) if state.cgroup else None


def describe(directory: StateDir, state: State, status: str = "") -> dict[str, Any]:
    """The state as runtime.md has it, for hooks, `state` and `list`."""
    status = status or status_of(directory, state)
    document: dict[str, Any] = {
        "ociVersion": state.oci_version,
        "id": state.id,
        "status": status,
        "pid": 0 if status == STOPPED else state.pid,
        "bundle": state.bundle,
        "rootfs": state.rootfs,
        "created": timestamp(state.created),
        "owner": "",
    }
    if state.annotations:
        document["annotations"] = dict(state.annotations)
    return document


def timestamp(seconds: float) -> str:
    """RFC 3339 in UTC with nanoseconds, as runc writes it."""
    whole = time.gmtime(int(seconds))
    return (
        f"{whole.tm_year:04}-{whole.tm_mon:02}-{whole.tm_mday:02}T"
        f"{whole.tm_hour:02}:{whole.tm_min:02}:{whole.tm_sec:02}"
        f".{int((seconds % 1) * 1_000_000_000):09}Z"
    )

"""The devices of a container: which it sees, and which its cgroup lets it use.

Root makes nodes and restricts the rest by the cgroup's device controller; in a user namespace
nodes cannot be made, so the host's own are bound, and what may be done with them is a matter
of their owners and modes.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from engine.containers.options import Device
from imgtools.errors import InvalidInput, NotFound, StorageError
from imgtools.frozen import dataclass

DENY_ALL = {"allow": False, "access": "rwm"}
ALLOW_ALL = {"allow": True, "access": "rwm"}
OWN = frozenset(("console", "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm",
                 "stderr", "stdin", "stdout", "tty", "urandom", "zero", "core"))  # fmt: skip
"""What every container has of its own below /dev."""
MAX_DEPTH = 4


Document = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class DevicePlan:
    """What config.json gets: `linux.devices`, `linux.resources.devices` and `mounts`."""

    nodes: tuple[Document, ...] = ()
    rules: tuple[Document, ...] = ()
    mounts: tuple[Document, ...] = ()


NO_DEVICES = DevicePlan()


def plan_devices(devices: Sequence[Device], *, own_nodes: bool, privileged: bool) -> DevicePlan:
    """The devices that were asked for, and for a `privileged` container all that there are.

    `own_nodes` says that this process may make nodes. What every container may use is the
    runtime's own affair, and everything else is denied. A directory stands for all devices
    below it. Raises NotFound, InvalidInput for what is no device, StorageError.
    """
    devices = [each for device in devices for each in _expanded(device)]
    if not own_nodes:
        return DevicePlan(mounts=tuple(_mount(device) for device in devices))
    if privileged:
        nodes = {node["path"]: node for node in map(_node, (*_host_devices(), *devices))}
        return DevicePlan(nodes=tuple(nodes.values()), rules=(ALLOW_ALL,))
    if not devices:
        return NO_DEVICES
    nodes = {device.path: _node(device) for device in devices}
    return DevicePlan(
        nodes=tuple(nodes.values()),
        rules=(DENY_ALL, *(_rule(device, nodes[device.path]) for device in devices)),
    )


def _expanded(device: Device) -> Sequence[Device]:
    """The devices of a directory, in the same places below its path; as podman has it."""
    if not os.path.isdir(device.source):
        return (device,)
    source = device.source.rstrip("/") or "/"
    found = sorted(_below(source, 1), key=lambda each: each.path)
    if not found:
        raise InvalidInput(f"{device.source} is a directory without devices")
    top = device.path.rstrip("/")
    return [replace(each, path=top + each.path[len(source) :], access=device.access)
            for each in found]  # fmt: skip


def _host_devices() -> tuple[Device, ...]:
    """All devices below /dev that a privileged container is shown as well."""
    return tuple(sorted(_below("/dev", 0), key=lambda device: device.path))


def _below(directory: str, depth: int) -> list[Device]:
    found = []
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                if depth == 0 and entry.name in OWN:
                    continue
                if entry.is_dir(follow_symlinks=False):
                    if depth < MAX_DEPTH:
                        found += _below(entry.path, depth + 1)
                elif _is_device(entry.stat(follow_symlinks=False).st_mode):
                    found.append(Device(source=entry.path, path=entry.path))
    except FileNotFoundError:
        return found  # Devices come and go.
    except OSError as e:
        text = (e.strerror or "").lower()
        raise StorageError(f"{directory}: {text}", path=directory) from e
    return found


def _is_device(mode: int) -> bool:
    return stat.S_ISCHR(mode) or stat.S_ISBLK(mode)


def _node(device: Device) -> Document:
    state = _state(device)
    return {
        "path": device.path,
        "type": "b" if stat.S_ISBLK(state.st_mode) else "c",
        "major": os.major(state.st_rdev),
        "minor": os.minor(state.st_rdev),
        "fileMode": stat.S_IMODE(state.st_mode),
        "uid": state.st_uid,
        "gid": state.st_gid,
    }


def _rule(device: Device, node: Document) -> Document:
    numbers = {name: node[name] for name in ("type", "major", "minor")}
    return {"allow": True, "access": device.access, **numbers}


def _mount(device: Device) -> Document:
    _state(device)
    words = ["bind", "rprivate", "nosuid", "noexec", *(() if "w" in device.access else ("ro",))]
    return {
        "destination": device.path,
        "type": "bind",
        "source": device.source,
        "options": words,
    }


def _state(device: Device) -> os.stat_result:
    try:
        state = os.stat(device.source)
    except OSError as e:
        raise NotFound(f"device {device.source}: {(e.strerror or '').lower()}") from e
    if not _is_device(state.st_mode):
        raise InvalidInput(f"{device.source} is not a device")
    return state

"""Resource limits of a container: what config.json says of them, defaults included."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.containers.options import Limits

DEFAULT_OPEN = 1048576
DEFAULT_PIDS = 2048
PERIOD = 100_000


def is_default(limits: Limits) -> bool:
    """Whether nothing was asked for that has to be refused where it cannot be had."""
    return limits == Limits(ulimits=limits.ulimits, shm_size=limits.shm_size)


def resources(limits: Limits) -> dict[str, Any]:
    """`linux.resources`; a number of processes is limited by default."""
    found: dict[str, Any] = {}
    memory: dict[str, int] = {}
    if limits.memory is not None:
        memory["limit"] = limits.memory
        swap = limits.memory_swap
        memory["swap"] = limits.memory * 2 if swap is None else swap
    if memory:
        found["memory"] = memory
    if limits.pids is not None:
        found["pids"] = {"limit": limits.pids}
    elif is_default(limits):
        found["pids"] = {"limit": DEFAULT_PIDS}
    cpu: dict[str, Any] = {}
    if limits.cpus is not None:
        cpu.update(period=PERIOD, quota=int(limits.cpus * PERIOD))
    if limits.cpu_shares is not None:
        cpu["shares"] = limits.cpu_shares
    if limits.cpuset_cpus:
        cpu["cpus"] = limits.cpuset_cpus
    if cpu:
        found["cpu"] = cpu
    return found


def rlimits(limits: Limits, hard: Mapping[str, int]) -> list[dict[str, Any]]:
    """`process.rlimits`: those asked for, and podman's defaults as far as this process may:
    raising a hard limit takes a capability that few have."""
    found = {
        name: {"type": name, "soft": value, "hard": value}
        for name in ("RLIMIT_NOFILE", "RLIMIT_NPROC")
        if (value := min(DEFAULT_OPEN, hard.get(name, DEFAULT_OPEN)))
    }
    for name, soft, limit in limits.ulimits:
        found[name] = {"type": name, "soft": soft, "hard": limit}
    return list(found.values())

"""Resource limits of a container: what config.json says of them, defaults included."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.containers.options import Limits
from imgtools.errors import Unsupported

DEFAULT_OPEN = 1048576
DEFAULT_PIDS = 2048
PERIOD = 100_000
UNLIMITED = (1 << 64) - 1


def is_default(limits: Limits) -> bool:
    """Whether nothing was asked for that has to be refused where it cannot be had."""
    return limits.lenient or limits == Limits(
        ulimits=limits.ulimits, host_ulimits=limits.host_ulimits, shm_size=limits.shm_size
    )


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
        # podman takes 0 for no limit; the runtime-spec leaves open what it is.
        found["pids"] = {"limit": limits.pids or -1}
    elif is_default(limits):
        found["pids"] = {"limit": DEFAULT_PIDS}
    cpu: dict[str, Any] = {}
    if limits.cpus:
        cpu.update(period=PERIOD, quota=int(limits.cpus * PERIOD))
    if limits.cpu_period is not None:
        cpu["period"] = limits.cpu_period
    if limits.cpu_quota is not None:
        cpu["quota"] = limits.cpu_quota
    if limits.cpu_shares is not None:
        cpu["shares"] = limits.cpu_shares
    if limits.cpuset_cpus:
        cpu["cpus"] = limits.cpuset_cpus
    if limits.cpuset_mems:
        cpu["mems"] = limits.cpuset_mems
    if cpu:
        found["cpu"] = cpu
    return found


def rlimits(limits: Limits, hard: Mapping[str, int], *, may_raise: bool) -> list[dict[str, Any]]:
    """`process.rlimits`: those asked for, and podman's defaults as far as this process may:
    `hard` are its hard limits by name, and raising one takes a capability that few have. Raises
    Unsupported for one that was asked for and cannot be had."""
    found = {}
    if not limits.host_ulimits:
        for name in ("RLIMIT_NOFILE", "RLIMIT_NPROC"):
            value = min(DEFAULT_OPEN, hard.get(name, DEFAULT_OPEN))
            found[name] = {"type": name, "soft": value, "hard": value}
    for name, soft, limit in limits.ulimits:
        highest = hard.get(name, UNLIMITED)
        if limit > highest and not may_raise and limits.lenient:
            limit, soft = highest, min(soft, highest)
        elif limit > highest and not may_raise:
            word = name.removeprefix("RLIMIT_").lower()
            raise Unsupported(
                f"--ulimit {word}: the highest that can be set is {highest}",
                hint="raise the limit of this process first",
            )
        found[name] = {"type": name, "soft": soft, "hard": limit}
    return list(found.values())

"""`linux.resources` as writes to the files of cgroup2.

Pure, one function per controller; each returns the writes in order. config.json speaks of
version 1, so values are converted; what cgroup2 cannot do is refused. Source: config-linux.md
"Control groups", the kernel's cgroup-v2.rst, and the formulas that runc and crun share.
"""

from __future__ import annotations

from engine.runtime.cgroups.limits_v1 import MAX_SHARES, MIN_SHARES, throttle_unit, throttles
from engine.runtime.cgroups.model import Write
from engine.runtime.errors import InvalidConfig, Unsupported
from engine.runtime.spec.model import MemoryLimits, Resources

DEFAULT_PERIOD = 100000


def memory(resources: Resources, notes: list[str]) -> list[Write]:
    """The memory controller. Raises InvalidConfig for a swap limit that makes no sense, and
    Unsupported for what only version 1 has."""
    asked = resources.memory
    if asked is None:
        return []
    if asked.disable_oom_killer:
        raise Unsupported("linux.resources.memory.disableOOMKiller: cgroup2 always has it")
    if asked.swappiness is not None:
        raise Unsupported("linux.resources.memory.swappiness: cgroup2 has no such setting")
    if asked.kernel is not None or asked.kernel_tcp is not None:
        notes.append("memory.kernel and memory.kernelTCP are ignored: kernels have dropped them")
    writes = []
    swap = swap_limit(asked)
    if swap is not None:
        # A kernel that does not account swap has no file, and nothing to limit.
        write = Write(file="memory.swap.max", value=_amount(swap), field="memory.swap")
        writes.append(write.with_values(if_present=swap in (-1, 0)))
    if asked.limit:
        writes.append(Write(file="memory.max", value=_amount(asked.limit), field="memory.limit"))
    if asked.reservation:
        value = _amount(asked.reservation)
        writes.append(Write(file="memory.low", value=value, field="memory.reservation"))
    return writes


def swap_limit(asked: MemoryLimits) -> int | None:
    """The bytes of swap alone, where config.json counts memory and swap; -1 is unlimited and None
    "not set" (so is 0 there). Raises InvalidConfig where the sum is below the memory limit or
    there is none."""
    limit, both = asked.limit or 0, asked.swap or 0
    if both == 0:
        return -1 if limit == -1 else None
    if both == -1 or limit == -1:
        return both
    if limit <= 0:
        raise InvalidConfig(
            "linux.resources.memory.swap: cgroup2 needs memory.limit to tell swap from memory"
        )
    if both < limit:
        raise InvalidConfig(
            f"linux.resources.memory.swap: {both} counts memory too and is less than"
            f" memory.limit {limit}"
        )
    return both - limit


def _amount(value: int) -> str:
    return "max" if value < 0 else str(value)


def cpu(resources: Resources, _notes: list[str]) -> list[Write]:
    """The cpu controller. Raises Unsupported for realtime limits.

    The weight comes before cpu.idle, since an idle group refuses one; the executor tries it again
    after cpu.idle.
    """
    asked = resources.cpu
    if asked is None:
        return []
    if asked.realtime_period or asked.realtime_runtime:
        raise Unsupported("linux.resources.cpu: cgroup2 has no realtime limits")
    writes = []
    if asked.shares:
        value = str(weight_of_shares(asked.shares))
        writes.append(Write(file="cpu.weight", value=value, field="cpu.shares"))
    if asked.idle is not None:
        writes.append(Write(file="cpu.idle", value=str(asked.idle), field="cpu.idle"))
    if asked.quota or asked.period:
        quota = str(asked.quota) if asked.quota and asked.quota > 0 else "max"
        value = f"{quota} {asked.period or DEFAULT_PERIOD}"
        field = "cpu.quota" if asked.quota else "cpu.period"
        writes.append(Write(file="cpu.max", value=value, field=field))
    if asked.burst is not None:
        writes.append(Write(file="cpu.max.burst", value=str(asked.burst), field="cpu.burst"))
    return writes


def weight_of_shares(shares: int) -> int:
    """cpu.weight (1..10000, 100 by default) for cpu.shares (2..262144, 1024 by default).

    The curve through these three pairs that runc has since 1.3.2 and crun since 1.23; the line
    between the ends that was used before made 39 of the default.
    """
    if shares <= MIN_SHARES:
        return 1
    if shares >= MAX_SHARES:
        return 10000
    import math

    log = math.log2(shares)
    return math.ceil(10 ** ((log * log + 125 * log) / 612 - 7 / 34))


def block_io(resources: Resources, notes: list[str]) -> list[Write]:
    """The io controller. A weight goes to the BFQ scheduler where it is there, else converted
    from 10..1000 to the 1..10000 of io.weight. Raises Unsupported for leaf weights."""
    asked = resources.block_io
    if asked is None:
        return []
    if asked.leaf_weight or any(device.leaf_weight for device in asked.weight_device):
        raise Unsupported("linux.resources.blockIO: cgroup2 has no leaf weights")
    weights = [("", asked.weight, "weight")]
    weights += [(f"{d.major}:{d.minor} ", d.weight, "weightDevice") for d in asked.weight_device]
    writes = []
    for device, weight, name in weights:
        if weight:
            field = f"blockIO.{name}"
            converted = f"{device or 'default '}{io_weight(weight)}"
            other = Write(file="io.weight", value=converted, field=field)
            value = f"{device}{weight}"
            writes.append(Write(file="io.bfq.weight", value=value, field=field, instead=other))
    for direction, unit, devices in throttles(resources):
        for one in devices:
            value = f"{one.major}:{one.minor} {direction[0]}{unit}={one.rate or 'max'}"
            field = f"blockIO.throttle{direction.capitalize()}{throttle_unit(unit)}Device"
            writes.append(Write(file="io.max", value=value, field=field))
    return writes


def io_weight(weight: int) -> int:
    """io.weight (1..10000) for a blkio weight (10..1000)."""
    return 1 + (max(weight, 10) - 10) * 9999 // 990


def unified(resources: Resources) -> list[tuple[str, Write]]:
    """(controller, write) of `unified`, verbatim; the controller is what the name begins with.
    Raises InvalidConfig for a name that is not one of a file."""
    writes = []
    for key, value in resources.unified:
        if "/" in key or "\0" in key or key in ("", ".", ".."):
            raise InvalidConfig(f"linux.resources.unified: {key!r} is not the name of a file")
        write = Write(file=key, value=value, field=f"unified {key}", lines=True)
        writes.append((key.partition(".")[0], write))
    return writes

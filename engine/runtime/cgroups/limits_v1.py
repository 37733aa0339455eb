"""`linux.resources` as writes to the files of cgroup version 1.

Pure, one function per controller; each returns the writes in order. Values go to the kernel as
they are wherever it understands them. Source: config-linux.md "Control groups" and the kernel's
cgroup-v1 documents.
"""

from __future__ import annotations

from engine.runtime.cgroups.model import Write
from engine.runtime.spec.model import Resources, ThrottleDevice

MEMORY, CPU, BLOCK_IO = "memory", "cpu", "blockIO"
MIN_SHARES, MAX_SHARES = 2, 262144


def memory(resources: Resources, notes: list[str]) -> list[Write]:
    """The memory controller. 0 is "not set", as the other runtimes read it.

    `swap` counts memory and swap together, as the kernel's memsw does; where only the limit is
    lifted, so is that of swap, or the kernel would refuse.
    """
    asked = resources.memory
    if asked is None:
        return []
    writes = []
    if asked.limit:
        writes.append(_number("memory.limit_in_bytes", asked.limit, "memory.limit"))
    if asked.swap:
        writes.append(_number("memory.memsw.limit_in_bytes", asked.swap, "memory.swap"))
    elif asked.limit == -1:
        writes.append(
            Write(
                file="memory.memsw.limit_in_bytes",
                value="-1",
                field="memory.limit",
                if_present=True,
            )
        )
    if asked.kernel is not None or asked.kernel_tcp is not None:
        notes.append("memory.kernel and memory.kernelTCP are ignored: kernels have dropped them")
    if asked.reservation:
        writes.append(
            _number("memory.soft_limit_in_bytes", asked.reservation, "memory.reservation")
        )
    if asked.disable_oom_killer is not None:
        value = int(asked.disable_oom_killer)
        write = _number("memory.oom_control", value, "memory.disableOOMKiller")
        writes.append(write.with_values(if_present=not value))
    if asked.swappiness is not None:
        writes.append(_number("memory.swappiness", asked.swappiness, "memory.swappiness"))
    if asked.use_hierarchy is not None:
        write = _number("memory.use_hierarchy", int(asked.use_hierarchy), "memory.useHierarchy")
        # Kernels since 5.11 are always hierarchical and refuse 0.
        required = asked.use_hierarchy
        writes.insert(0, write.with_values(if_present=True, required=required))
    return writes


def cpu(resources: Resources, notes: list[str]) -> list[Write]:
    """The cpu controller. The period comes before the quota; where the old quota forbids the new
    period, the executor tries it again after the quota."""
    asked = resources.cpu
    if asked is None:
        return []
    writes = []
    if asked.shares:
        shares = min(max(asked.shares, MIN_SHARES), MAX_SHARES)
        if shares != asked.shares:
            notes.append(f"cpu.shares {asked.shares} is taken as {shares}, the nearest possible")
        writes.append(_number("cpu.shares", shares, "cpu.shares"))
    if asked.idle is not None:
        writes.append(_number("cpu.idle", asked.idle, "cpu.idle"))
    if asked.realtime_period:
        writes.append(_number("cpu.rt_period_us", asked.realtime_period, "cpu.realtimePeriod"))
    if asked.realtime_runtime:
        writes.append(_number("cpu.rt_runtime_us", asked.realtime_runtime, "cpu.realtimeRuntime"))
    if asked.period:
        writes.append(_number("cpu.cfs_period_us", asked.period, "cpu.period"))
    if asked.quota:
        writes.append(_number("cpu.cfs_quota_us", asked.quota, "cpu.quota"))
    if asked.burst is not None:
        writes.append(_number("cpu.cfs_burst_us", asked.burst, "cpu.burst"))
    return writes


def cpuset(resources: Resources, _notes: list[str]) -> list[Write]:
    """The cpuset controller, whose two files are named alike in both versions."""
    asked = resources.cpu
    if asked is None:
        return []
    return [
        Write(file=f"cpuset.{name}", value=value, field=f"cpu.{name}")
        for name, value in (("cpus", asked.cpus), ("mems", asked.mems))
        if value
    ]


def pids(resources: Resources, _notes: list[str]) -> list[Write]:
    """The pids controller, whose file is named alike in both versions; -1 is no limit.

    0 is written as 1, as runc does: no process can fork either way, but with 0 the first one
    could not be born in the cgroup.
    """
    limit = resources.pids_limit
    if limit is None:
        return []
    value = "max" if limit < 0 else str(max(limit, 1))
    return [Write(file="pids.max", value=value, field="pids.limit")]


def block_io(resources: Resources, _notes: list[str]) -> list[Write]:
    """The blkio controller; weights go to the BFQ scheduler's files where only they exist."""
    asked = resources.block_io
    if asked is None:
        return []
    writes = []
    if asked.weight:
        writes.append(_either("weight", str(asked.weight), f"{BLOCK_IO}.weight"))
    if asked.leaf_weight:
        writes.append(_number("blkio.leaf_weight", asked.leaf_weight, f"{BLOCK_IO}.leafWeight"))
    for device in asked.weight_device:
        name, field = f"{device.major}:{device.minor}", f"{BLOCK_IO}.weightDevice"
        if device.weight:
            writes.append(_either("weight_device", f"{name} {device.weight}", field))
        if device.leaf_weight:
            value = f"{name} {device.leaf_weight}"
            writes.append(Write(file="blkio.leaf_weight_device", value=value, field=field))
    for direction, unit, devices in throttles(resources):
        for one in devices:
            file = f"blkio.throttle.{direction}_{unit}_device"
            field = f"{BLOCK_IO}.throttle{direction.capitalize()}{throttle_unit(unit)}Device"
            value = f"{one.major}:{one.minor} {one.rate}"
            writes.append(Write(file=file, value=value, field=field))
    return writes


def throttles(
    resources: Resources,
) -> tuple[tuple[str, str, tuple[ThrottleDevice, ...]], ...]:
    """The four throttle lists with (read or write, bps or iops)."""
    asked = resources.block_io
    if asked is None:
        return ()
    return (
        ("read", "bps", asked.throttle_read_bps_device),
        ("write", "bps", asked.throttle_write_bps_device),
        ("read", "iops", asked.throttle_read_iops_device),
        ("write", "iops", asked.throttle_write_iops_device),
    )


def throttle_unit(unit: str) -> str:
    """The unit as config.json spells it."""
    return "Bps" if unit == "bps" else "IOPS"


def hugetlb(resources: Resources, _notes: list[str]) -> list[Write]:
    """The hugetlb controller: pages in use, and pages reserved where the kernel counts them."""
    return _hugetlb(resources, ".limit_in_bytes")


def hugetlb_v2(resources: Resources, _notes: list[str]) -> list[Write]:
    """The same under cgroup2."""
    return _hugetlb(resources, ".max")


def _hugetlb(resources: Resources, suffix: str) -> list[Write]:
    writes = []
    for one in resources.hugepage_limits:
        prefix, field = f"hugetlb.{one.page_size}", f"hugepageLimits {one.page_size}"
        writes.append(_number(prefix + suffix, one.limit, field))
        reserved = _number(f"{prefix}.rsvd{suffix}", one.limit, field)
        writes.append(reserved.with_values(if_present=True))
    return writes


def net_cls(resources: Resources, _notes: list[str]) -> list[Write]:
    """The net_cls controller (0 is "no class", as in the other runtimes)."""
    asked = resources.network
    if asked is None or not asked.class_id:
        return []
    return [_number("net_cls.classid", asked.class_id, "network.classID")]


def net_prio(resources: Resources, _notes: list[str]) -> list[Write]:
    """The net_prio controller."""
    asked = resources.network
    if asked is None:
        return []
    field = "network.priorities"
    return [
        Write(file="net_prio.ifpriomap", value=f"{one.name} {one.priority}", field=field)
        for one in asked.priorities
    ]


def _number(file: str, value: int, field: str) -> Write:
    return Write(file=file, value=str(value), field=field)


def _either(name: str, value: str, field: str) -> Write:
    """A weight, to be set in the scheduler's own file where blkio has none."""
    bfq = Write(file=f"blkio.bfq.{name}", value=value, field=field)
    return Write(file=f"blkio.{name}", value=value, field=field, instead=bfq)

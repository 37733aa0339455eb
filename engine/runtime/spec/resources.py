"""Reads `linux.resources` of config.json, which is also the document of `update --resources`.

config-linux.md "Control groups"; whether a limit can be set on this machine is the cgroups
package's question, not one of validity.
"""

from __future__ import annotations

from engine.runtime.errors import Unsupported
from engine.runtime.spec.model import (
    BlockIo,
    CpuLimits,
    DeviceRule,
    HugepageLimit,
    MemoryLimits,
    NetworkLimits,
    NetworkPriority,
    Resources,
    ThrottleDevice,
    WeightDevice,
)
from engine.runtime.spec.values import INT64, UINT16, UINT32, UINT64, Object, invalid

PAGE_UNITS = ("KB", "MB", "GB")


def read_resources(at: Object) -> Resources:
    """The Resources at a place of a document; raises InvalidConfig, Unsupported."""
    if at.members.get("rdma"):
        raise Unsupported(f"{at.path_of('rdma')}: limits of RDMA devices are not supported")
    pids = at.object("pids")
    return Resources(
        devices=tuple(_read_rule(rule) for rule in at.objects("devices")),
        memory=_read_memory(at),
        cpu=_read_cpu(at),
        pids_limit=None if pids is None else pids.number("limit", INT64),
        block_io=_read_block_io(at),
        hugepage_limits=_read_hugepages(at),
        network=_read_network(at),
        unified=_read_unified(at),
    )


def _read_rule(at: Object) -> DeviceRule:
    allow = at.optional_flag("allow")
    if allow is None:
        raise at.wrong("allow", "true or false")
    access = at.text("access") or "rwm"
    if not set(access) <= set("rwm"):
        raise at.wrong("access", "letters out of rwm")
    return DeviceRule(
        allow=allow,
        type=at.choice("type", ("a", "b", "c"), "a, b or c") or "a",
        major=_device_number(at, "major"),
        minor=_device_number(at, "minor"),
        access=access,
    )


def _device_number(at: Object, name: str) -> int | None:
    """-1 is how many writers say "all", as leaving it out does."""
    number = at.number(name, INT64)
    if number == -1:
        return None
    if number is not None and number < 0:
        raise at.wrong(name, "a device number, or -1 for all")
    return number


def _read_memory(at: Object) -> MemoryLimits | None:
    one = at.object("memory")
    if one is None:
        return None
    return MemoryLimits(
        limit=one.number("limit", INT64),
        reservation=one.number("reservation", INT64),
        swap=one.number("swap", INT64),
        kernel=one.number("kernel", INT64),
        kernel_tcp=one.number("kernelTCP", INT64),
        swappiness=one.number("swappiness", UINT64),
        disable_oom_killer=one.optional_flag("disableOOMKiller"),
        use_hierarchy=one.optional_flag("useHierarchy"),
        check_before_update=one.optional_flag("checkBeforeUpdate"),
    )


def _read_cpu(at: Object) -> CpuLimits | None:
    one = at.object("cpu")
    if one is None:
        return None
    return CpuLimits(
        shares=one.number("shares", UINT64),
        quota=one.number("quota", INT64),
        burst=one.number("burst", UINT64),
        period=one.number("period", UINT64),
        realtime_runtime=one.number("realtimeRuntime", INT64),
        realtime_period=one.number("realtimePeriod", UINT64),
        cpus=one.text("cpus"),
        mems=one.text("mems"),
        idle=one.number("idle", INT64),
    )


def _read_block_io(at: Object) -> BlockIo | None:
    one = at.object("blockIO")
    if one is None:
        return None
    return BlockIo(
        weight=one.number("weight", UINT16),
        leaf_weight=one.number("leafWeight", UINT16),
        weight_device=tuple(
            WeightDevice(
                major=device.required_number("major", INT64),
                minor=device.required_number("minor", INT64),
                weight=device.number("weight", UINT16),
                leaf_weight=device.number("leafWeight", UINT16),
            )
            for device in one.objects("weightDevice")
        ),
        throttle_read_bps_device=_read_throttles(one, "throttleReadBpsDevice"),
        throttle_write_bps_device=_read_throttles(one, "throttleWriteBpsDevice"),
        throttle_read_iops_device=_read_throttles(one, "throttleReadIOPSDevice"),
        throttle_write_iops_device=_read_throttles(one, "throttleWriteIOPSDevice"),
    )


def _read_throttles(at: Object, name: str) -> tuple[ThrottleDevice, ...]:
    return tuple(
        ThrottleDevice(
            major=device.required_number("major", INT64),
            minor=device.required_number("minor", INT64),
            rate=device.number("rate", UINT64) or 0,
        )
        for device in at.objects(name)
    )


def _read_hugepages(at: Object) -> tuple[HugepageLimit, ...]:
    limits = []
    for one in at.objects("hugepageLimits"):
        size = one.required_text("pageSize")
        number, unit = size[:-2], size[-2:]
        if unit not in PAGE_UNITS or not number.isdecimal() or not number.isascii():
            raise one.wrong("pageSize", "a size such as 2MB")
        if number.startswith("0"):
            raise one.wrong("pageSize", "a size such as 2MB")
        limits.append(HugepageLimit(page_size=size, limit=one.required_number("limit", UINT64)))
    return tuple(limits)


def _read_network(at: Object) -> NetworkLimits | None:
    one = at.object("network")
    if one is None:
        return None
    return NetworkLimits(
        class_id=one.number("classID", UINT32),
        priorities=tuple(
            NetworkPriority(
                name=priority.required_text("name"),
                priority=priority.required_number("priority", UINT32),
            )
            for priority in one.objects("priorities")
        ),
    )


def _read_unified(at: Object) -> tuple[tuple[str, str], ...]:
    """The keys are file names of the cgroup, and must not lead out of it."""
    pairs = at.pairs("unified")
    for key, _ in pairs:
        if "/" in key or key in (".", ".."):
            raise invalid(at.path_of("unified"), "names of cgroup files (memory.high)", key)
    return pairs

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

TYPE_CHECKING = False
if TYPE_CHECKING:
    from engine.runtime.spec.values import Range

PAGE_UNITS = ("KB", "MB", "GB")
# Numbers: the field, its name in the document, the range.
_MEMORY = (
    ("limit", "limit", INT64),
    ("reservation", "reservation", INT64),
    ("swap", "swap", INT64),
    ("kernel", "kernel", INT64),
    ("kernel_tcp", "kernelTCP", INT64),
    ("swappiness", "swappiness", UINT64),
)
_CPU = (
    ("shares", "shares", UINT64),
    ("quota", "quota", INT64),
    ("burst", "burst", UINT64),
    ("period", "period", UINT64),
    ("realtime_runtime", "realtimeRuntime", INT64),
    ("realtime_period", "realtimePeriod", UINT64),
    ("idle", "idle", INT64),
)


def read_resources(at: Object) -> Resources:
    """The Resources at a place of a document; raises InvalidConfig, Unsupported."""
    if at.members.get("rdma"):
        raise Unsupported(f"{at.path_of('rdma')}: limits of RDMA devices are not supported")
    return Resources(
        devices=at.each("devices", _read_rule),
        memory=at.read("memory", _read_memory),
        cpu=at.read("cpu", _read_cpu),
        pids_limit=at.read("pids", lambda pids: pids.number("limit", INT64)),
        block_io=at.read("blockIO", _read_block_io),
        hugepage_limits=at.each("hugepageLimits", _read_hugepages),
        network=at.read("network", _read_network),
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


def _read_memory(at: Object) -> MemoryLimits:
    return MemoryLimits(
        **_numbers(at, _MEMORY),
        disable_oom_killer=at.optional_flag("disableOOMKiller"),
        use_hierarchy=at.optional_flag("useHierarchy"),
        check_before_update=at.optional_flag("checkBeforeUpdate"),
    )


def _read_cpu(at: Object) -> CpuLimits:
    return CpuLimits(**_numbers(at, _CPU), cpus=at.text("cpus"), mems=at.text("mems"))


def _numbers(at: Object, table: tuple[tuple[str, str, Range], ...]) -> dict[str, int | None]:
    """The fields of a record that are numbers."""
    return {field: at.number(name, limits) for field, name, limits in table}


def _read_block_io(at: Object) -> BlockIo:
    return BlockIo(
        weight=at.number("weight", UINT16),
        leaf_weight=at.number("leafWeight", UINT16),
        weight_device=at.each("weightDevice", _read_weight),
        throttle_read_bps_device=at.each("throttleReadBpsDevice", _read_throttle),
        throttle_write_bps_device=at.each("throttleWriteBpsDevice", _read_throttle),
        throttle_read_iops_device=at.each("throttleReadIOPSDevice", _read_throttle),
        throttle_write_iops_device=at.each("throttleWriteIOPSDevice", _read_throttle),
    )


def _read_weight(at: Object) -> WeightDevice:
    return WeightDevice(
        major=at.required_number("major", INT64),
        minor=at.required_number("minor", INT64),
        weight=at.number("weight", UINT16),
        leaf_weight=at.number("leafWeight", UINT16),
    )


def _read_throttle(at: Object) -> ThrottleDevice:
    return ThrottleDevice(
        major=at.required_number("major", INT64),
        minor=at.required_number("minor", INT64),
        rate=at.number("rate", UINT64) or 0,
    )


def _read_hugepages(at: Object) -> HugepageLimit:
    size = at.required_text("pageSize")
    number, unit = size[:-2], size[-2:]
    known = unit in PAGE_UNITS and number.isdecimal() and number.isascii()
    if not known or number.startswith("0"):
        raise at.wrong("pageSize", "a size such as 2MB")
    return HugepageLimit(page_size=size, limit=at.required_number("limit", UINT64))


def _read_network(at: Object) -> NetworkLimits:
    return NetworkLimits(
        class_id=at.number("classID", UINT32),
        priorities=at.each(
            "priorities",
            lambda one: NetworkPriority(
                name=one.required_text("name"), priority=one.required_number("priority", UINT32)
            ),
        ),
    )


def _read_unified(at: Object) -> tuple[tuple[str, str], ...]:
    """The keys are file names of the cgroup, and must not lead out of it."""
    pairs = at.pairs("unified")
    for key, _ in pairs:
        if "/" in key or key in (".", ".."):
            raise invalid(at.path_of("unified"), "names of cgroup files (memory.high)", key)
    return pairs

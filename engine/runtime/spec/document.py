"""A Config as the value of a config.json again: the inverse of `parse`.

Properties are named by rule (snake_case to camelCase) and by the exceptions listed here; what
is absent or has its default is left out.
"""

from __future__ import annotations

from engine.runtime.record import Record
from engine.runtime.spec.model import Config, Linux, Process, Resources

NAMES = {
    "block_io": "blockIO",
    "class_id": "classID",
    "container_id": "containerID",
    "disable_oom_killer": "disableOOMKiller",
    "exec_cpu_affinity": "execCPUAffinity",
    "host_id": "hostID",
    "ioprio_class": "class",
    "kernel_tcp": "kernelTCP",
    "throttle_read_iops_device": "throttleReadIOPSDevice",
    "throttle_write_iops_device": "throttleWriteIOPSDevice",
}
MAPS = frozenset(("annotations", "sysctl", "unified"))
# Written although parsing would put the same there: the specification requires them.
REQUIRED = frozenset(("cwd", "major", "minor", "op"))


def to_document(part: Config | Process | Resources) -> dict[str, object]:
    """The value of which `parse_config`, `parse_process` or `parse_resources` makes `part`."""
    return _members(part)


def _members(record: Record) -> dict[str, object]:
    document: dict[str, object] = {}
    for field in record._fields:
        value = getattr(record, field)
        required = field in record._required or (field in REQUIRED and value is not None)
        if not required and value == getattr(type(record), field):
            continue
        name = NAMES.get(field) or _camel_case(field)
        if field in MAPS:
            document[name] = dict(value)
        elif isinstance(record, Process) and field == "console_size":
            document[name] = {"height": value[0], "width": value[1]}
        elif isinstance(record, Resources) and field == "pids_limit":
            document["pids"] = {"limit": value}
        elif isinstance(record, Linux) and field == "time_offsets":
            document[name] = {
                one.clock: {"secs": one.secs, "nanosecs": one.nanosecs} for one in value
            }
        elif isinstance(record, Linux) and field == "net_devices":
            document[name] = {
                one.host_name: {"name": one.name} if one.name else {} for one in value
            }
        else:
            document[name] = _value(value)
    return document


def _value(value: object) -> object:
    if isinstance(value, Record):
        return _members(value)
    if isinstance(value, tuple):
        return [_value(one) for one in value]
    return value


def _camel_case(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(one.capitalize() for one in others)

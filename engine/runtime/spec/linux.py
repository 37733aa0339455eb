"""Reads `linux` of config.json (config-linux.md), seccomp and resources in their own modules.

What Linux here cannot do, such as a kernel without a namespace, is for those who do it.
"""

from __future__ import annotations

from engine.runtime.errors import InvalidConfig, Unsupported
from engine.runtime.spec.model import (
    Device,
    IdMapping,
    Linux,
    MemoryPolicy,
    Namespace,
    NetDevice,
    Personality,
    TimeOffset,
)
from engine.runtime.spec.resources import read_resources
from engine.runtime.spec.seccomp import read_seccomp
from engine.runtime.spec.values import ID, INT64, UINT32, Object, invalid

TYPE_CHECKING = False
if TYPE_CHECKING:
    from engine.runtime.spec.values import Range

NAMESPACES = ("cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts")
DEVICE_TYPES = ("c", "b", "u", "p")
# As the specification has them, and the recursive ones that every runtime takes.
PROPAGATIONS = (
    "private",
    "shared",
    "slave",
    "unbindable",
    "rprivate",
    "rshared",
    "rslave",
    "runbindable",
)
CLOCKS = ("monotonic", "boottime")
MEMORY_POLICY_MODES = (
    "MPOL_DEFAULT",
    "MPOL_BIND",
    "MPOL_INTERLEAVE",
    "MPOL_WEIGHTED_INTERLEAVE",
    "MPOL_PREFERRED",
    "MPOL_PREFERRED_MANY",
    "MPOL_LOCAL",
)
MEMORY_POLICY_FLAGS = ("MPOL_F_NUMA_BALANCING", "MPOL_F_RELATIVE_NODES", "MPOL_F_STATIC_NODES")
MAPPING_SIZE: Range = (1, (1 << 32) - 1, "a number of ids from 1 to 4294967295")
NANOSECONDS: Range = (0, 999_999_999, "nanoseconds from 0 to 999999999")
PERMISSIONS = 0o7777
INTERFACE_NAME_LENGTH = 15


def read_linux(at: Object) -> Linux:
    """The Linux at a place of a document; raises InvalidConfig, Unsupported."""
    if at.members.get("intelRdt"):
        raise Unsupported(f"{at.path_of('intelRdt')}: Intel RDT is not supported")
    return Linux(
        namespaces=_read_namespaces(at),
        uid_mappings=read_mappings(at, "uidMappings"),
        gid_mappings=read_mappings(at, "gidMappings"),
        devices=at.each("devices", _read_device),
        net_devices=_read_net_devices(at),
        cgroups_path=at.text("cgroupsPath"),
        resources=at.read("resources", read_resources),
        sysctl=at.pairs("sysctl"),
        seccomp=at.read("seccomp", read_seccomp),
        rootfs_propagation=at.choice(
            "rootfsPropagation", PROPAGATIONS, "private, shared, slave or unbindable"
        ),
        masked_paths=_read_paths(at, "maskedPaths"),
        readonly_paths=_read_paths(at, "readonlyPaths"),
        mount_label=at.text("mountLabel"),
        personality=at.read("personality", _read_personality),
        time_offsets=_read_time_offsets(at),
        memory_policy=at.read("memoryPolicy", _read_memory_policy),
    )


def _read_namespaces(at: Object) -> tuple[Namespace, ...]:
    found: dict[str, Namespace] = {}
    for one in at.objects("namespaces"):
        expected = f"a namespace ({', '.join(NAMESPACES)})"
        kind = one.required_choice("type", NAMESPACES, expected)
        if kind in found:
            raise InvalidConfig(f"{one.path_of('type')}: the {kind} namespace is named twice")
        found[kind] = Namespace(type=kind, path=one.absolute("path"))
    return tuple(found.values())


def read_mappings(at: Object, name: str) -> tuple[IdMapping, ...]:
    """An array of id mappings."""
    mappings = []
    for one in at.objects(name):
        mapping = IdMapping(
            container_id=one.required_number("containerID", ID),
            host_id=one.required_number("hostID", ID),
            size=one.required_number("size", MAPPING_SIZE),
        )
        if max(mapping.container_id, mapping.host_id) + mapping.size > 1 << 32:
            raise one.wrong("size", "a size that stays below id 4294967296")
        mappings.append(mapping)
    return tuple(mappings)


def _read_device(at: Object) -> Device:
    kind = at.required_choice("type", DEVICE_TYPES, "a type of device (c, b, u or p)")
    major, minor = at.number("major", UINT32), at.number("minor", UINT32)
    if kind != "p" and (major is None or minor is None):
        raise InvalidConfig(f"{at.path}: major and minor are needed for a device of type {kind}")
    mode = at.number("fileMode", UINT32)
    return Device(
        type=kind,
        path=at.required_absolute("path"),
        major=major or 0,
        minor=minor or 0,
        # Some writers put the whole st_mode there, with the bits of the file's type.
        file_mode=None if mode is None else mode & PERMISSIONS,
        uid=at.number("uid", ID),
        gid=at.number("gid", ID),
    )


def _read_net_devices(at: Object) -> tuple[NetDevice, ...]:
    devices = at.object("netDevices")
    if devices is None:
        return ()
    found = []
    for host_name, value in devices.members.items():
        one = Object(value, devices.path_of(host_name))
        name = one.text("name")
        for interface in filter(None, (host_name, name)):
            if not is_interface_name(interface):
                raise invalid(one.path, "names of network interfaces", interface)
        if not host_name:
            raise InvalidConfig(f"{devices.path}: a name is empty")
        found.append(NetDevice(host_name=host_name, name=name))
    renamed = [one.name or one.host_name for one in found]
    if len(set(renamed)) < len(renamed):
        raise InvalidConfig(f"{devices.path}: two devices get the same name")
    return tuple(found)


def is_interface_name(name: str) -> bool:
    """Whether the kernel takes `name` for a network interface (dev_valid_name, Linux)."""
    encoded = name.encode("utf-8", "surrogateescape")
    return (
        0 < len(encoded) <= INTERFACE_NAME_LENGTH
        and name not in (".", "..")
        and not any(c in "/:\0" or c.isspace() for c in name)
    )


def _read_paths(at: Object, name: str) -> tuple[str, ...]:
    paths = at.texts(name)
    for number, path in enumerate(paths):
        if not path.startswith("/"):
            raise invalid(f"{at.path_of(name)}[{number}]", "an absolute path", path)
    return paths


def _read_personality(at: Object) -> Personality:
    domain = at.required_choice("domain", ("LINUX", "LINUX32"), "LINUX or LINUX32")
    if at.texts("flags"):
        raise Unsupported(f"{at.path_of('flags')}: the specification defines no flags")
    return Personality(domain=domain)


def _read_time_offsets(at: Object) -> tuple[TimeOffset, ...]:
    clocks = at.object("timeOffsets")
    if clocks is None:
        return ()
    offsets = []
    for clock in clocks.members:
        if clock not in CLOCKS:
            raise invalid(clocks.path, "monotonic or boottime", clock)
        one = clocks.object(clock)
        if one is not None:
            offsets.append(
                TimeOffset(
                    clock=clock,
                    secs=one.number("secs", INT64) or 0,
                    nanosecs=one.number("nanosecs", NANOSECONDS) or 0,
                )
            )
    return tuple(offsets)


def _read_memory_policy(at: Object) -> MemoryPolicy:
    return MemoryPolicy(
        mode=at.required_choice("mode", MEMORY_POLICY_MODES, "a memory policy (MPOL_DEFAULT, ...)"),
        nodes=at.text("nodes"),
        flags=at.choices("flags", MEMORY_POLICY_FLAGS, "a flag of memory policies (MPOL_F_...)"),
    )

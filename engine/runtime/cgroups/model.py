"""The data that cgroup code passes on: what the host has, the plan, and the cgroup that came of it.

A *hierarchy* is one tree of cgroups: cgroup2 is one, and under version 1 each controller (or set
of controllers mounted together, or `name=systemd`) is one. Paths of cgroups are relative to the
directory where their hierarchy is mounted, without a leading slash; "" is that directory itself.
"""

from __future__ import annotations

from engine.runtime.record import Record


class Hierarchy(Record):
    """One mounted hierarchy.

    `controllers` are those of version 1, or what cgroup2 offers at the mount. `own` is the cgroup
    of this process, None where the mount does not reach it. `own_writable` and `parent_writable`
    tell whether this process may make cgroups in it (in the mount, where it is None) and in the
    directory above it.
    """

    version: int
    controllers: tuple[str, ...]
    mount: str
    own: str | None = ""
    own_writable: bool = False
    parent_writable: bool = False


class CgroupHost(Record):
    """What the host has. `mode` is v1, v2, hybrid or none; `kernel` its (major, minor) release;
    `systemd` whether systemd runs it; `lost` the controllers of version 1 that are in use but not
    mounted where this process sees them."""

    mode: str
    hierarchies: tuple[Hierarchy, ...] = ()
    systemd: bool = False
    kernel: tuple[int, int] = (0, 0)
    lost: tuple[str, ...] = ()

    def unified(self) -> Hierarchy | None:
        """The cgroup2 hierarchy."""
        return next((h for h in self.hierarchies if h.version == 2), None)


class Write(Record):
    """A value for a file of a cgroup.

    `field` is where config.json asks for it; without `required` a failure is a note; with
    `if_present` a kernel without the file is none. Where the file is missing, `instead` is
    written. `lines` writes each line of the value in a write(2) of its own.
    """

    file: str
    value: str
    field: str = ""
    required: bool = True
    if_present: bool = False
    lines: bool = False
    instead: Write | None = None


class DeviceException(Record):
    """What a device list says of one device: `type` b or c, None means every number."""

    type: str
    major: int | None
    minor: int | None
    access: str


class DeviceList(Record):
    """The rules of version 1: everything is allowed but `exceptions`, or denied but them."""

    allow: bool
    exceptions: tuple[DeviceException, ...] = ()


class PlannedDirectory(Record):
    """A cgroup to be made in one hierarchy.

    `enable` are the controllers of cgroup2 to be handed down from the mount to it. `writes` come
    in order. Without `required` a directory that cannot be made is a note. `copy_cpuset` has
    cpuset.cpus and .mems filled from the parent before anything else (version 1).
    """

    version: int
    controllers: tuple[str, ...]
    mount: str
    path: str
    enable: tuple[str, ...] = ()
    writes: tuple[Write, ...] = ()
    required: bool = True
    copy_cpuset: bool = False


class CgroupPlan(Record):
    """What has to be done for one container.

    `program` is the eBPF device filter for cgroup2 (empty: none) and `devices` the list for
    version 1, None where there is nothing to do; without `devices_required` a kernel that refuses
    them is a note. `forgiving` turns every limit that
    cannot be set into a note. `clone_into`: the container's first process can be born in the
    cgroup. `owner` is the uid that gets the cgroup2 directory. `memory_below` is the number of
    bytes the memory in use has to be below for the plan to be carried out.
    """

    directories: tuple[PlannedDirectory, ...] = ()
    devices: DeviceList | None = None
    program: bytes | None = None
    devices_required: bool = True
    forgiving: bool = False
    clone_into: bool = False
    owner: int | None = None
    memory_below: int | None = None
    notes: tuple[str, ...] = ()


class CgroupDirectory(Record):
    """A container's cgroup in one hierarchy; the last `made` components of `path` are its own."""

    version: int
    controllers: tuple[str, ...]
    mount: str
    path: str
    made: int = 1


class Cgroup(Record):
    """A container's cgroup in all hierarchies, as it is kept in the container's state."""

    directories: tuple[CgroupDirectory, ...] = ()
    clone_into: bool = False
    notes: tuple[str, ...] = ()

    def unified(self) -> CgroupDirectory | None:
        """The directory in cgroup2."""
        return next((d for d in self.directories if d.version == 2), None)

    def of_controller(self, name: str) -> CgroupDirectory | None:
        """The directory of the hierarchy of version 1 that has the controller `name`."""
        return next((d for d in self.directories if d.version == 1 and name in d.controllers), None)

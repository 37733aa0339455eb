"""config.json as data: every property of the runtime-spec that this runtime knows, named as
there but in snake_case.

An absent property is None (or empty for lists, maps and texts, where absent means the same as
empty). Paths are texts with surrogateescape, as os.fsdecode makes them.
"""

from __future__ import annotations

from engine.runtime.record import Record

Pairs = tuple[tuple[str, str], ...]


class Root(Record):
    """`root`: the directory of the bundle that becomes `/`."""

    path: str
    readonly: bool = False


class IdMapping(Record):
    """`size` ids from `container_id` inside are those from `host_id` in the parent namespace."""

    container_id: int
    host_id: int
    size: int


class Mount(Record):
    """One of `mounts`, in the order of the file."""

    destination: str
    type: str = ""
    source: str = ""
    options: tuple[str, ...] = ()
    uid_mappings: tuple[IdMapping, ...] = ()
    gid_mappings: tuple[IdMapping, ...] = ()


class User(Record):
    """`process.user`."""

    uid: int = 0
    gid: int = 0
    umask: int | None = None
    additional_gids: tuple[int, ...] = ()


class Capabilities(Record):
    """`process.capabilities`: names such as CAP_CHOWN, as given."""

    bounding: tuple[str, ...] = ()
    effective: tuple[str, ...] = ()
    inheritable: tuple[str, ...] = ()
    permitted: tuple[str, ...] = ()
    ambient: tuple[str, ...] = ()


class Rlimit(Record):
    """One of `process.rlimits`; 2^64-1 is infinity."""

    type: str
    soft: int
    hard: int


class Scheduler(Record):
    """`process.scheduler` (sched_setattr(2)); times in nanoseconds."""

    policy: str
    nice: int = 0
    priority: int = 0
    flags: tuple[str, ...] = ()
    runtime: int = 0
    deadline: int = 0
    period: int = 0


class IoPriority(Record):
    """`process.ioPriority` (ioprio_set(2))."""

    ioprio_class: str
    priority: int = 0


class ExecCpuAffinity(Record):
    """`process.execCPUAffinity`: CPU lists before and after the move into the cgroup."""

    initial: str = ""
    final: str = ""


class Process(Record):
    """`process`."""

    args: tuple[str, ...] = ()
    cwd: str = "/"
    env: tuple[str, ...] = ()
    user: User = User()
    terminal: bool = False
    console_size: tuple[int, int] | None = None  # rows, columns
    capabilities: Capabilities | None = None
    rlimits: tuple[Rlimit, ...] = ()
    no_new_privileges: bool = False
    apparmor_profile: str = ""
    selinux_label: str = ""
    oom_score_adj: int | None = None
    scheduler: Scheduler | None = None
    io_priority: IoPriority | None = None
    exec_cpu_affinity: ExecCpuAffinity | None = None


class Hook(Record):
    """One hook; `timeout` in seconds. `env` is None where the property is absent."""

    path: str
    args: tuple[str, ...] = ()
    env: tuple[str, ...] | None = None
    timeout: int | None = None


class Hooks(Record):
    """`hooks`."""

    prestart: tuple[Hook, ...] = ()
    create_runtime: tuple[Hook, ...] = ()
    create_container: tuple[Hook, ...] = ()
    start_container: tuple[Hook, ...] = ()
    poststart: tuple[Hook, ...] = ()
    poststop: tuple[Hook, ...] = ()


class Namespace(Record):
    """One of `linux.namespaces`: `type` pid, network, mount, ipc, uts, user, cgroup or time;
    a new one, or that of `path`."""

    type: str
    path: str = ""


class Device(Record):
    """One of `linux.devices`; `type` c, b, u or p."""

    type: str
    path: str
    major: int = 0
    minor: int = 0
    file_mode: int | None = None
    uid: int | None = None
    gid: int | None = None


class DeviceRule(Record):
    """One of `linux.resources.devices`: `type` a, c or b; None means all numbers."""

    allow: bool
    type: str = "a"
    major: int | None = None
    minor: int | None = None
    access: str = "rwm"


class MemoryLimits(Record):
    """`linux.resources.memory`, in bytes; -1 is unlimited."""

    limit: int | None = None
    reservation: int | None = None
    swap: int | None = None
    kernel: int | None = None
    kernel_tcp: int | None = None
    swappiness: int | None = None
    disable_oom_killer: bool | None = None
    use_hierarchy: bool | None = None
    check_before_update: bool | None = None


class CpuLimits(Record):
    """`linux.resources.cpu`; times in microseconds."""

    shares: int | None = None
    quota: int | None = None
    burst: int | None = None
    period: int | None = None
    realtime_runtime: int | None = None
    realtime_period: int | None = None
    cpus: str = ""
    mems: str = ""
    idle: int | None = None


class WeightDevice(Record):
    """One of `blockIO.weightDevice`."""

    major: int
    minor: int
    weight: int | None = None
    leaf_weight: int | None = None


class ThrottleDevice(Record):
    """One of the four throttle lists: bytes or operations per second."""

    major: int
    minor: int
    rate: int


class BlockIo(Record):
    """`linux.resources.blockIO`."""

    weight: int | None = None
    leaf_weight: int | None = None
    weight_device: tuple[WeightDevice, ...] = ()
    throttle_read_bps_device: tuple[ThrottleDevice, ...] = ()
    throttle_write_bps_device: tuple[ThrottleDevice, ...] = ()
    throttle_read_iops_device: tuple[ThrottleDevice, ...] = ()
    throttle_write_iops_device: tuple[ThrottleDevice, ...] = ()


class HugepageLimit(Record):
    """One of `linux.resources.hugepageLimits`; `limit` in bytes."""

    page_size: str
    limit: int


class NetworkPriority(Record):
    """One of `linux.resources.network.priorities`."""

    name: str
    priority: int


class NetworkLimits(Record):
    """`linux.resources.network` (cgroup v1)."""

    class_id: int | None = None
    priorities: tuple[NetworkPriority, ...] = ()


class Resources(Record):
    """`linux.resources`; also what `update` changes."""

    devices: tuple[DeviceRule, ...] = ()
    memory: MemoryLimits | None = None
    cpu: CpuLimits | None = None
    pids_limit: int | None = None
    block_io: BlockIo | None = None
    hugepage_limits: tuple[HugepageLimit, ...] = ()
    network: NetworkLimits | None = None
    unified: Pairs = ()


class SeccompArg(Record):
    """A condition on argument `index`; `op` is SCMP_CMP_..."""

    index: int
    value: int
    value_two: int = 0
    op: str = "SCMP_CMP_EQ"


class SeccompSyscall(Record):
    """One of `linux.seccomp.syscalls`: all `args` conditions have to hold."""

    names: tuple[str, ...]
    action: str
    errno_ret: int | None = None
    args: tuple[SeccompArg, ...] = ()


class Seccomp(Record):
    """`linux.seccomp`; actions and architectures as SCMP_... names."""

    default_action: str
    default_errno_ret: int | None = None
    architectures: tuple[str, ...] = ()
    flags: tuple[str, ...] | None = None
    listener_path: str = ""
    listener_metadata: str = ""
    syscalls: tuple[SeccompSyscall, ...] = ()


class Personality(Record):
    """`linux.personality`: LINUX or LINUX32."""

    domain: str
    flags: tuple[str, ...] = ()


class TimeOffset(Record):
    """One of `linux.timeOffsets`: `clock` is monotonic or boottime."""

    clock: str
    secs: int = 0
    nanosecs: int = 0


class NetDevice(Record):
    """One of `linux.netDevices`: a host interface and its new name in the container."""

    host_name: str
    name: str = ""


class MemoryPolicy(Record):
    """`linux.memoryPolicy` (set_mempolicy(2))."""

    mode: str
    nodes: str = ""
    flags: tuple[str, ...] = ()


class Linux(Record):
    """`linux`."""

    namespaces: tuple[Namespace, ...] = ()
    uid_mappings: tuple[IdMapping, ...] = ()
    gid_mappings: tuple[IdMapping, ...] = ()
    devices: tuple[Device, ...] = ()
    net_devices: tuple[NetDevice, ...] = ()
    cgroups_path: str = ""
    resources: Resources | None = None
    sysctl: Pairs = ()
    seccomp: Seccomp | None = None
    rootfs_propagation: str = ""
    masked_paths: tuple[str, ...] = ()
    readonly_paths: tuple[str, ...] = ()
    mount_label: str = ""
    personality: Personality | None = None
    time_offsets: tuple[TimeOffset, ...] = ()
    memory_policy: MemoryPolicy | None = None


class Config(Record):
    """A whole config.json."""

    oci_version: str
    root: Root
    process: Process | None = None
    hostname: str = ""
    domainname: str = ""
    mounts: tuple[Mount, ...] = ()
    hooks: Hooks = Hooks()
    annotations: Pairs = ()
    linux: Linux = Linux()

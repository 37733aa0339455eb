"""Which kernel parameters a container may set: those that belong to a namespace of its own.

Rules of runtime-spec config-linux.md "Sysctl" with namespaces(7): every other parameter would
be the host's.
"""

from __future__ import annotations

from engine.runtime.errors import InvalidConfig
from engine.runtime.rootfs.model import SysctlStep
from engine.runtime.rootfs.names import as_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from engine.runtime.spec.model import Pairs

_IPC_FILES = frozenset(
    (
        b"msgmax",
        b"msgmnb",
        b"msgmni",
        b"msg_next_id",
        b"sem",
        b"sem_next_id",
        b"shm_next_id",
        b"shm_rmid_forced",
        b"shmall",
        b"shmmax",
        b"shmmni",
        b"auto_msgmni",
    )
)


def plan_sysctls(
    sysctls: Pairs, separate: tuple[str, ...], domainname: str = ""
) -> tuple[SysctlStep, ...]:
    """The writes for `sysctls`; `separate` are the namespace types not shared with the runtime,
    `domainname` is the property of that name.

    Raises InvalidConfig for a parameter that is malformed or not of a separate namespace, and
    for what another property says or contradicts.
    """
    steps = tuple(_step(name, value, separate) for name, value in sysctls)
    for step in steps:
        if step.path == b"kernel/hostname":
            raise InvalidConfig("linux.sysctl 'kernel.hostname': set hostname instead")
        same = not domainname or step.value == as_bytes(domainname, "domainname")
        if step.path == b"kernel/domainname" and not same:
            raise InvalidConfig("linux.sysctl 'kernel.domainname' is not what domainname says")
    return steps


def _step(name: str, value: str, separate: tuple[str, ...]) -> SysctlStep:
    field = f"linux.sysctl {name!r}"
    path = _path(as_bytes(name, field))
    parts = path.split(b"/")
    if len(parts) < 2 or any(part in (b"", b".", b"..") for part in parts):
        raise InvalidConfig(f"{field} names no parameter")
    kind = _namespace(parts)
    if not kind:
        raise InvalidConfig(f"{field} belongs to no namespace, it is the host's")
    if kind not in separate:
        raise InvalidConfig(f"{field} is the host's without a new {kind} namespace")
    return SysctlStep(path=path, value=as_bytes(value, field))


def _path(name: bytes) -> bytes:
    """The path below /proc/sys. As in sysctl(8) the first separator decides: with a dot first
    dots separate, and slashes are dots of a name (`net.ipv4.conf.eth0/1.forwarding`)."""
    dot, slash = name.find(b"."), name.find(b"/")
    if dot >= 0 and (slash < 0 or dot < slash):
        return name.translate(bytes.maketrans(b"./", b"/."))
    return name


def _namespace(parts: list[bytes]) -> str:
    """The type of the namespace that a parameter belongs to, "" for none."""
    if parts[0] == b"net":
        return "network"
    if parts[0] == b"user":
        return "user"
    if parts[:2] == [b"fs", b"mqueue"] and len(parts) == 3:
        return "ipc"
    if parts[0] == b"kernel" and len(parts) == 2:
        if parts[1] in _IPC_FILES:
            return "ipc"
        if parts[1] in (b"hostname", b"domainname"):
            return "uts"
    return ""

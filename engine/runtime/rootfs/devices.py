"""Which nodes and links /dev gets: the default ones of runtime-spec config-linux.md ("Default
Devices", "Dev symbolic links") and `linux.devices`, which win over them."""

from __future__ import annotations

from engine.runtime.errors import InvalidConfig
from engine.runtime.rootfs.model import LinkStep, NodeStep
from engine.runtime.rootfs.names import as_bytes, lexical

TYPE_CHECKING = False
if TYPE_CHECKING:
    from engine.runtime.rootfs.model import RootfsFacts
    from engine.runtime.spec.model import Device, IdMapping, Linux

_DEFAULTS = (
    (b"/dev/null", 1, 3),
    (b"/dev/zero", 1, 5),
    (b"/dev/full", 1, 7),
    (b"/dev/random", 1, 8),
    (b"/dev/urandom", 1, 9),
    (b"/dev/tty", 5, 0),
)

LINKS = (
    LinkStep(path=b"/dev/fd", target=b"/proc/self/fd"),
    LinkStep(path=b"/dev/stdin", target=b"/proc/self/fd/0"),
    LinkStep(path=b"/dev/stdout", target=b"/proc/self/fd/1"),
    LinkStep(path=b"/dev/stderr", target=b"/proc/self/fd/2"),
    LinkStep(path=b"/dev/core", target=b"/proc/kcore", needs=b"kcore"),
    LinkStep(path=b"/dev/ptmx", target=b"pts/ptmx", replace=True),
)


def plan_nodes(linux: Linux, facts: RootfsFacts, console: bool) -> tuple[NodeStep, ...]:
    """The nodes to make. /dev/ptmx is always a link, and with `console` /dev/console is the
    terminal. Raises InvalidConfig."""
    nodes: dict[bytes, NodeStep] = {}
    for path, major, minor in _DEFAULTS:
        nodes[lexical(path)] = _node(facts, path, "c", major, minor)
    for number, device in enumerate(linux.devices):
        field = f"linux.devices[{number}]"
        path = as_bytes(device.path, field)
        place = lexical(path)
        if not place or not path.startswith(b"/"):
            raise InvalidConfig(f"{field}: {device.path!r} is not an absolute path of a file")
        if place == b"dev/ptmx" or (console and place == b"dev/console"):
            continue
        if device.type not in ("c", "b", "u", "p"):
            raise InvalidConfig(f"{field}: type {device.type!r} is not one of c, b, u, p")
        node = _node(facts, path, device.type.replace("u", "c"), device.major, device.minor)
        nodes[place] = node.with_values(
            mode=0o666 if device.file_mode is None else device.file_mode & 0o7777,
            uid=device.uid or 0,
            gid=device.gid or 0,
            owner=_owner(device, linux) if node.parent_opens else None,
        )
    return tuple(nodes.values())


def _owner(device: Device, linux: Linux) -> tuple[int, int] | None:
    """The owner and group of a node as the host has them; None if one is not mapped."""
    uid = _outside(device.uid or 0, linux.uid_mappings)
    gid = _outside(device.gid or 0, linux.gid_mappings)
    return None if uid is None or gid is None else (uid, gid)


def _outside(number: int, mappings: tuple[IdMapping, ...]) -> int | None:
    for line in mappings:
        if line.container_id <= number < line.container_id + line.size:
            return line.host_id + number - line.container_id
    return None


def _node(facts: RootfsFacts, path: bytes, kind: str, major: int, minor: int) -> NodeStep:
    bind = facts.in_user_namespace and kind != "p"
    return NodeStep(
        path=path,
        type=kind,
        major=major,
        minor=minor,
        bind=bind,
        parent_opens=bind and facts.parent_opens,
    )

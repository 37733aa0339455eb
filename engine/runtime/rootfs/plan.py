"""The decision what the container's file system is made of, from config.json and facts."""

from __future__ import annotations

from engine.runtime.errors import Failure, InvalidConfig, Unsupported
from engine.runtime.kernel.mounting import (
    MOUNT_ATTR_RDONLY,
    MS_PRIVATE,
    MS_SHARED,
    MS_SLAVE,
    MS_UNBINDABLE,
)
from engine.runtime.rootfs.devices import LINKS, plan_nodes
from engine.runtime.rootfs.model import (
    BIND,
    CGROUP,
    FILESYSTEM,
    PROPAGATION,
    REMOUNT,
    MountStep,
    RootfsPlan,
    RootStep,
)
from engine.runtime.rootfs.names import as_bytes, lexical, shown
from engine.runtime.rootfs.options import parse_options
from engine.runtime.rootfs.sysctls import plan_sysctls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from engine.runtime.rootfs.model import MountOptions, RootfsFacts
    from engine.runtime.spec.model import Config, Linux, Mount

_PROPAGATION = {
    "shared": MS_SHARED,
    "slave": MS_SLAVE,
    "private": MS_PRIVATE,
    "unbindable": MS_UNBINDABLE,
}
# The file systems that SELinux lets be labelled when they are mounted.
_LABELLED = (b"tmpfs", b"devpts", b"mqueue", b"overlay")


def plan_rootfs(config: Config, facts: RootfsFacts) -> RootfsPlan:
    """The plan of `config`; pure. Raises InvalidConfig or Unsupported."""
    linux = config.linux
    separate = (*facts.new_namespaces, *facts.joined_namespaces)
    if "mount" not in separate:
        raise Unsupported(
            "the container has no mount namespace of its own",
            hint="add a namespace of type mount to linux.namespaces",
        )
    if linux.mount_label and not facts.selinux:
        raise Unsupported("linux.mountLabel: SELinux is not enabled on this host")
    if (config.hostname or config.domainname) and "uts" not in separate:
        raise InvalidConfig("hostname and domainname need a uts namespace of the container's own")
    mounts = tuple(
        _mount_step(number, mount, facts, linux) for number, mount in enumerate(config.mounts)
    )
    console = config.process is not None and config.process.terminal
    # A /dev that is bound is the host's: it is complete, and not ours to change.
    own_dev = not any(m.kind == BIND and lexical(m.destination) == b"dev" for m in mounts)
    return RootfsPlan(
        root=_root_step(config, facts),
        mounts=mounts,
        nodes=plan_nodes(linux, facts, console) if own_dev else (),
        links=LINKS if own_dev else (),
        console=console,
        sysctls=plan_sysctls(linux.sysctl, separate, config.domainname),
        hostname=as_bytes(config.hostname, "hostname"),
        domainname=as_bytes(config.domainname, "domainname"),
        readonly_paths=_paths(linux.readonly_paths, "linux.readonlyPaths"),
        masked_paths=_paths(linux.masked_paths, "linux.maskedPaths"),
    )


def _paths(texts: tuple[str, ...], field: str) -> tuple[bytes, ...]:
    """`texts` as bytes, each once."""
    paths = dict.fromkeys(as_bytes(text, f"{field}[{n}]") for n, text in enumerate(texts))
    for path in paths:
        if not lexical(path):
            raise InvalidConfig(f"{field}: {shown(path)!r} is not a path below the root")
    return tuple(paths)


def _root_step(config: Config, facts: RootfsFacts) -> RootStep:
    wanted = config.linux.rootfs_propagation
    name = wanted[1:] if wanted.startswith("r") else wanted
    if wanted and name not in _PROPAGATION:
        raise InvalidConfig(f"linux.rootfsPropagation: {wanted!r} is not a propagation type")
    path = as_bytes(config.root.path, "root.path")
    if not path and facts.overlay is None:
        raise InvalidConfig("root.path is empty")
    hooks = config.hooks
    looked_at = bool(hooks.prestart or hooks.create_runtime or hooks.create_container)
    return RootStep(
        path=_from_bundle(path, facts),
        overlay=facts.overlay,
        propagation=(_PROPAGATION[name], wanted != name) if wanted else None,
        readonly=config.root.readonly,
        parent_opens=facts.parent_opens,
        no_pivot=facts.no_pivot,
        # A shared root is attached where nothing is shared: only the host's "/" is made so.
        in_place=looked_at
        and not facts.no_pivot
        and facts.overlay is None
        and not (wanted and _PROPAGATION[name] == MS_SHARED),
    )


def _from_bundle(path: bytes, facts: RootfsFacts) -> bytes:
    return path if path.startswith(b"/") else facts.bundle.rstrip(b"/") + b"/" + path


def _mount_step(number: int, mount: Mount, facts: RootfsFacts, linux: Linux) -> MountStep:
    """The step for one of `mounts`; errors say which one it is."""
    field = f"mounts[{number}]"
    destination = as_bytes(mount.destination, f"{field}.destination")
    try:
        options = parse_options(mount.options)
        kind = _kind(mount, options, facts)
        if not destination:
            raise InvalidConfig("the destination is empty")
        if not lexical(destination) and kind not in (REMOUNT, PROPAGATION):
            raise InvalidConfig("the destination is the root itself")
        _check_idmap(mount, options, kind, facts)
        if kind == BIND:
            return _bind_step(number, _mapped(mount, options, linux), facts, destination, options)
        step = MountStep(
            number=number,
            kind=kind,
            destination=destination,
            source=as_bytes(mount.source, "the source"),
            fstype=as_bytes(mount.type, "the type"),
            options=options,
        )
        if kind == CGROUP:
            return step.with_values(cgroup=facts.cgroup)
        return _filesystem_step(step, facts, linux.mount_label) if kind == FILESYSTEM else step
    except Failure as e:
        text = f"{field} {shown(destination)}: {e.message}"
        raise type(e)(text, hint=e.hint, errno=e.errno) from e


def _kind(mount: Mount, options: MountOptions, facts: RootfsFacts) -> str:
    """What a mount asks for; options say more than the type, as in mount(8). cgroup2 is only a
    file system where the caller has no view of it to show."""
    if options.remount:
        return REMOUNT
    if options.bind or mount.type == "bind":
        return BIND
    if mount.type == "cgroup" or (mount.type == "cgroup2" and facts.cgroup is not None):
        return CGROUP
    if mount.type in ("", "none"):
        if options.propagation and mount.source in ("", "none", "/"):
            return PROPAGATION
        raise InvalidConfig("neither a type nor the option bind is given")
    return FILESYSTEM


def _check_idmap(mount: Mount, options: MountOptions, kind: str, facts: RootfsFacts) -> None:
    mapped = bool(mount.uid_mappings or mount.gid_mappings)
    if not (mapped or options.idmap):
        return
    if kind != BIND:
        raise Unsupported("only bind mounts can have id mappings")
    if bool(mount.uid_mappings) != bool(mount.gid_mappings):
        raise InvalidConfig("uidMappings and gidMappings are only valid together")
    if not mapped and "user" not in facts.new_namespaces:
        raise InvalidConfig("idmap needs uidMappings, or a new user namespace to take them from")


def _mapped(mount: Mount, options: MountOptions, linux: Linux) -> Mount:
    """`mount` with the mappings of the container where it asks for some without naming them."""
    if mount.uid_mappings or not options.idmap:
        return mount
    return mount.with_values(uid_mappings=linux.uid_mappings, gid_mappings=linux.gid_mappings)


def _bind_step(
    number: int, mount: Mount, facts: RootfsFacts, destination: bytes, options: MountOptions
) -> MountStep:
    source = as_bytes(mount.source, "the source")
    if not source:
        raise InvalidConfig("a bind mount needs a source")
    if options.copy_up:
        raise InvalidConfig("tmpcopyup is for tmpfs")
    return MountStep(
        number=number,
        kind=BIND,
        destination=destination,
        source=_from_bundle(source, facts),
        # The kernel takes options of a file system with a bind, and does nothing with them.
        options=options.with_values(data=()),
        ignored=tuple(key for key, _ in options.data),
        uid_mappings=mount.uid_mappings,
        gid_mappings=mount.gid_mappings,
        # Mapping ids takes rights over the file system of the source, which the init lacks.
        parent_opens=facts.parent_opens or bool(mount.uid_mappings),
    )


def _filesystem_step(step: MountStep, facts: RootfsFacts, label: str) -> MountStep:
    """What is special about file systems: what they are replaced by where the kernel refuses
    them, and the options that it would not accept."""
    options = step.options
    data = options.data
    if options.copy_up and step.fstype != b"tmpfs":
        raise InvalidConfig("tmpcopyup is for tmpfs")
    if options.recursive_set or options.recursive_clear:
        raise InvalidConfig("recursive attributes are for bind mounts")
    fallback, remedy = _fallback(step.fstype, facts)
    if step.fstype == b"devpts" and not facts.tty_group_mapped:
        data = tuple(pair for pair in data if pair != (b"gid", b"5"))
    keys = [key for key, _ in data]
    if step.fstype == b"overlay" and facts.in_user_namespace and b"userxattr" not in keys:
        data = (*data, (b"userxattr", None))
    if label and step.fstype in _LABELLED and b"context" not in keys:
        data = (*data, (b"context", as_bytes(label, "linux.mountLabel")))
    late = options.attr_set & MOUNT_ATTR_RDONLY and lexical(step.destination) == b"dev"
    return step.with_values(
        options=options.with_values(data=data),
        fallback=fallback,
        remedy=remedy,
        late_readonly=bool(late),
    )


def _fallback(fstype: bytes, facts: RootfsFacts) -> tuple[bytes, str]:
    """(the host directory to bind where `fstype` is refused, what to say otherwise)."""
    separate = (*facts.new_namespaces, *facts.joined_namespaces)
    if fstype == b"proc":
        if "pid" not in separate:
            return b"/proc", ""
        return b"", (
            "a new /proc is only allowed where one without covered parts is visible: share the "
            "pid namespace, or unmask /proc of the surrounding container (podman: "
            "--security-opt unmask=ALL)"
        )
    if fstype == b"sysfs":
        return b"/sys", ""
    if fstype == b"mqueue" and "ipc" not in separate:
        return b"/dev/mqueue", ""
    return b"", ""

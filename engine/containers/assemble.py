"""The config.json of a container: a pure function of the image, of what was asked, and of what
the host can do. Defaults are those of podman unless DESIGN says otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from types import MappingProxyType
from typing import Any

from engine.containers.devices import NO_DEVICES, DevicePlan
from engine.containers.limits import resources, rlimits
from engine.containers.options import ImageDefaults, OpenedMount, RunOptions, Volume
from engine.containers.security import SecurityPlan
from engine.emulation.caller import ROOT, Caller
from engine.network.model import NetworkPlan
from engine.runtime.process.users import ResolvedUser
from imgtools.errors import InvalidInput
from imgtools.frozen import dataclass

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
OCI_VERSION = "1.0.2"
OPENED = "opened:"
"""Begins what stands in the place of a source that comes as a descriptor."""
VARIABLES = MappingProxyType({"TERM": "xterm", "container": "oci"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What a container is put into.

    `pid_namespace` says whether it gets PIDs of its own, `own_hostname` whether `hostname` can
    be set, or is the one there is; `single` that there is one id only, and `own_user` that the
    user gets a user namespace for it. `caller` is then who its programs are, `creator` the user
    and group that files made in the container are to be of: those made from `since_ns` on,
    nanoseconds since the epoch.
    `groups` are the ids of further groups, `devices` what it has of the host's devices,
    `network` the plan of its network. `files` are host files to be bound over files of the
    container, by destination. `hard` are this process's hard limits by name, `may_raise`
    whether it can set higher ones. `variables` are those of every container beside PATH,
    HOSTNAME and HOME.
    """

    container_id: str
    hostname: str
    network: NetworkPlan
    user: ResolvedUser
    security: SecurityPlan
    pid_namespace: bool = True
    own_hostname: bool = True
    single: bool = False
    own_user: bool = False
    caller: Caller = ROOT
    creator: tuple[int, int] = (0, 0)
    since_ns: int = 0
    groups: tuple[int, ...] = ()
    devices: DevicePlan = NO_DEVICES
    files: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    hard: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    may_raise: bool = False
    variables: Mapping[str, str] = field(default_factory=lambda: VARIABLES)
    cgroups_path: str = ""


def assemble(image: ImageDefaults, options: RunOptions, setting: Setting) -> dict[str, Any]:
    """The document, but for linux.seccomp, which goes to the launcher compiled. Raises
    InvalidInput where there is no command to run."""
    user = setting.user
    process: dict[str, Any] = {
        "terminal": options.terminal,
        "user": {
            "uid": user.uid,
            "gid": user.gid,
            "umask": 0o022,
            "additionalGids": [] if setting.single else _groups(setting),
        },
        "args": list(command(image, options)),
        "env": list(environment(image, options, setting)),
        "cwd": options.workdir or image.workdir or "/",
        "capabilities": setting.security.capabilities,
        "rlimits": rlimits(options.limits, setting.hard, may_raise=setting.may_raise),
        # With a single id set-id programs gain nothing, and the emulation of others needs it.
        "noNewPrivileges": options.security.no_new_privileges or setting.single,
    }
    if options.console_size is not None:
        rows, columns = options.console_size
        process["consoleSize"] = {"height": rows, "width": columns}
    if options.security.apparmor:
        process["apparmorProfile"] = options.security.apparmor
    if options.security.label:
        process["selinuxLabel"] = options.security.label
    document: dict[str, Any] = {
        "ociVersion": OCI_VERSION,
        "root": {"path": "rootfs", "readonly": options.read_only},
        "process": process,
        "hostname": setting.hostname if setting.own_hostname else "",
        "mounts": _mounts(options, setting),
        "annotations": dict(options.annotations),
        "linux": {
            "namespaces": _namespaces(setting),
            "devices": list(setting.devices.nodes),
            "resources": _resources(options, setting),
            "maskedPaths": list(setting.security.masked_paths),
            "readonlyPaths": list(setting.security.readonly_paths),
            "cgroupsPath": setting.cgroups_path,
        },
    }
    return document


def command(image: ImageDefaults, options: RunOptions) -> tuple[str, ...]:
    """Entrypoint and command: an entrypoint that is given leaves the image's Cmd out."""
    if options.entrypoint is not None:
        words = (*options.entrypoint, *options.command)
    else:
        words = (*image.entrypoint, *(options.command or image.cmd))
    if not words:
        raise InvalidInput("no command: the image has none, and none was given")
    return words


def environment(image: ImageDefaults, options: RunOptions, setting: Setting) -> tuple[str, ...]:
    """Defaults, then the image's variables, then those that were asked for; a name once."""
    found = {"PATH": PATH, **setting.variables, "HOSTNAME": setting.hostname}
    for entry in image.env:
        name, _, value = entry.partition("=")
        found[name] = value
    found.setdefault("HOME", setting.user.home or "/")
    for name in options.unset_env:
        found.pop(name, None)
    for entry in options.env:
        name, _, value = entry.partition("=")
        found[name] = value
    return tuple(f"{name}={value}" for name, value in found.items())


def _groups(setting: Setting) -> list[int]:
    return list(dict.fromkeys((*setting.user.additional_gids, *setting.groups)))


def _namespaces(setting: Setting) -> list[dict[str, str]]:
    kinds = ["mount", "ipc", "uts", "cgroup"]
    if setting.pid_namespace:
        kinds.append("pid")
    namespaces = [{"type": kind} for kind in kinds]
    if setting.network.namespace:
        namespaces.append({"type": "network", "path": setting.network.namespace})
    elif setting.network.private:
        namespaces.append({"type": "network"})
    return namespaces


def _resources(options: RunOptions, setting: Setting) -> dict[str, Any]:
    found = resources(options.limits)
    if setting.devices.rules:
        found["devices"] = list(setting.devices.rules)
    return found


def _mounts(options: RunOptions, setting: Setting) -> list[dict[str, Any]]:
    mounts = _system_mounts(options)
    mounts += _file_mounts(options, setting)
    mounts += map(dict, setting.devices.mounts)
    for tmpfs in options.tmpfs:
        words = ["nosuid", "nodev", "rw", "tmpcopyup", *tmpfs.options]
        if "notmpcopyup" in words:
            words.remove("tmpcopyup")
        mounts.append(_mount(tmpfs.destination, "tmpfs", "tmpfs", words))
    mounts += [_volume_mount(volume) for volume in options.volumes]
    return mounts + [_opened_mount(number, mount) for number, mount in enumerate(options.mounts)]


def _opened_mount(number: int, mount: OpenedMount) -> dict[str, Any]:
    if mount.fd < 0:
        return _mount(mount.destination, "tmpfs", "tmpfs", list(mount.options))
    return _mount(mount.destination, "bind", f"{OPENED}{number}", ["bind", *mount.options])


def _volume_mount(volume: Volume) -> dict[str, Any]:
    words = list(volume.options)
    if "bind" not in words:
        words.insert(0, "rbind")
    if not any(word.endswith(("private", "shared", "slave")) for word in words):
        words.append("rprivate")
    # What is set-uid there belongs to people of the host.
    words += [word for word in ("nosuid", "nodev") if word[2:] not in words]
    return _mount(volume.destination, "bind", volume.source, words)


def _file_mounts(options: RunOptions, setting: Setting) -> list[dict[str, Any]]:
    """The files that are ours, but for those that a volume is put in the place of."""
    taken = {volume.destination for volume in options.volumes}
    taken.update(mount.destination for mount in options.mounts)
    words = ["bind", "rprivate", "nosuid", "nodev", *(["ro"] if options.read_only else [])]
    return [
        _mount(destination, "bind", source, words)
        for destination, source in setting.files.items()
        if destination not in taken
    ]


def _system_mounts(options: RunOptions) -> list[dict[str, Any]]:
    nosuid = ["nosuid", "noexec", "nodev"]
    shm = f"size={options.limits.shm_size}"
    view = "rw" if options.security.privileged else "ro"
    mounts = [
        _mount("/proc", "proc", "proc", [*nosuid, *options.security.proc_options]),
        _mount("/dev", "tmpfs", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
        _mount("/sys", "sysfs", "sysfs", [*nosuid, view]),
        _mount(
            "/dev/pts",
            "devpts",
            "devpts",
            ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        _mount("/dev/mqueue", "mqueue", "mqueue", nosuid),
        _mount("/dev/shm", "tmpfs", "shm", [*nosuid, "mode=1777", shm]),
        _mount("/sys/fs/cgroup", "cgroup", "cgroup", [*nosuid, "relatime", view]),
    ]
    if options.read_only:
        for path in ("/tmp", "/var/tmp", "/run"):
            mounts.append(_mount(path, "tmpfs", "tmpfs", ["rw", "nosuid", "nodev", "tmpcopyup"]))
    return mounts


def _mount(destination: str, kind: str, source: str, options: list[str]) -> dict[str, Any]:
    return {"destination": destination, "type": kind, "source": source, "options": options}

"""The config.json of a container: a pure function of the image, of what was asked, and of what
the host can do. Defaults are those of podman unless DESIGN says otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from engine.containers.limits import resources, rlimits
from engine.containers.options import ImageDefaults, RunOptions
from engine.containers.security import SecurityPlan
from engine.network.model import NetworkPlan
from engine.runtime.process.users import ResolvedUser
from imgtools.errors import InvalidInput

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
OCI_VERSION = "1.0.2"


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What a container is put into.

    `pid_namespace` says whether it gets PIDs of its own, `own_hostname` whether `hostname` can
    be set, or is the one there is; `single` that there is one id only.
    `files` are host files to be bound over files of the container, by destination. `hard` are
    this process's hard limits by name, `network` the plan of its network.
    """

    container_id: str
    hostname: str
    network: NetworkPlan
    user: ResolvedUser
    security: SecurityPlan
    pid_namespace: bool = True
    own_hostname: bool = True
    single: bool = False
    files: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    hard: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
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
            "additionalGids": [] if setting.single else _groups(user, options),
        },
        "args": list(command(image, options)),
        "env": list(environment(image, options, setting)),
        "cwd": options.workdir or image.workdir or "/",
        "capabilities": setting.security.capabilities,
        "rlimits": rlimits(options.limits, setting.hard),
        # With a single id set-id programs gain nothing, and the emulation of others needs it.
        "noNewPrivileges": options.security.no_new_privileges or setting.single,
    }
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
            "resources": resources(options.limits),
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
    found = {"PATH": PATH, "TERM": "xterm", "container": "oci", "HOSTNAME": setting.hostname}
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


def _groups(user: ResolvedUser, options: RunOptions) -> list[int]:
    return list(dict.fromkeys((*user.additional_gids, *options.group_add)))


def _namespaces(setting: Setting) -> list[dict[str, str]]:
    kinds = ["mount", "ipc", "uts", "cgroup"]
    if setting.pid_namespace:
        kinds.append("pid")
    if setting.network.private:
        kinds.append("network")
    return [{"type": kind} for kind in kinds]


def _mounts(options: RunOptions, setting: Setting) -> list[dict[str, Any]]:
    nosuid = ["nosuid", "noexec", "nodev"]
    shm = f"size={options.limits.shm_size}"
    mounts = [
        _mount("/proc", "proc", "proc", nosuid),
        _mount("/dev", "tmpfs", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
        _mount("/sys", "sysfs", "sysfs", [*nosuid, "ro"]),
        _mount(
            "/dev/pts",
            "devpts",
            "devpts",
            ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        _mount("/dev/mqueue", "mqueue", "mqueue", nosuid),
        _mount("/dev/shm", "tmpfs", "shm", [*nosuid, "mode=1777", shm]),
        _mount("/sys/fs/cgroup", "cgroup", "cgroup", [*nosuid, "relatime", "ro"]),
    ]
    if options.read_only:
        for path in ("/tmp", "/var/tmp", "/run"):
            mounts.append(_mount(path, "tmpfs", "tmpfs", ["rw", "nosuid", "nodev", "tmpcopyup"]))
    taken = {volume.destination for volume in options.volumes}
    for destination, source in setting.files.items():
        if destination not in taken:
            readonly = ["ro"] if options.read_only else []
            mounts.append(
                _mount(
                    destination, "bind", source, ["bind", "rprivate", "nosuid", "nodev", *readonly]
                )
            )
    for tmpfs in options.tmpfs:
        words = ["nosuid", "nodev", "rw", "noexec", "mode=1777", *tmpfs.options]
        mounts.append(_mount(tmpfs.destination, "tmpfs", "tmpfs", words))
    for volume in options.volumes:
        words = list(volume.options)
        if "bind" not in words:
            words.insert(0, "rbind")
        if not any(word.endswith(("private", "shared", "slave")) for word in words):
            words.append("rprivate")
        # What is set-uid there belongs to people of the host.
        words += [word for word in ("nosuid", "nodev") if word[2:] not in words]
        mounts.append(_mount(volume.destination, "bind", volume.source, words))
    return mounts


def _mount(destination: str, kind: str, source: str, options: list[str]) -> dict[str, Any]:
    return {"destination": destination, "type": kind, "source": source, "options": options}

"""What `imgtools run` and a build's RUN ask of a container, as frozen data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from types import MappingProxyType
from typing import Any, Literal

from engine.network.model import DnsOptions
from imgtools.errors import InvalidManifest
from imgtools.frozen import dataclass
from imgtools.spec.config import Config
from imgtools.spec.descriptor import optional, string_map


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """A directory or file of the host at `destination`; `options` are mount options."""

    source: str
    destination: str
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Tmpfs:
    """An empty file system in memory at `destination`."""

    destination: str
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedMount:
    """A detached mount, by its descriptor, that is attached at `destination`; or with `fd` -1 an
    empty file system in memory. `options` are mount options."""

    destination: str
    fd: int = -1
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A device of the host, at `path` in the container; `access` is what a process may do with
    it, of r, w and m (make nodes)."""

    source: str
    path: str
    access: str = "rwm"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Resource limits; memory in bytes, None for no limit. `memory_swap` is memory and swap
    together, -1 unlimited. `cpus` is a number of processors, `cpu_quota` the microseconds of
    each `cpu_period` instead. `ulimits` are (RLIMIT_ name, soft, hard); `host_ulimits` leaves all
    others as this process has them. `lenient`: what cannot be had becomes what can, with a
    warning.
    """

    memory: int | None = None
    memory_swap: int | None = None
    pids: int | None = None
    cpus: float | None = None
    cpu_shares: int | None = None
    cpu_period: int | None = None
    cpu_quota: int | None = None
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    ulimits: tuple[tuple[str, int, int], ...] = ()
    host_ulimits: bool = False
    shm_size: int = 64 << 20
    lenient: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Security:
    """--security-opt, --cap-add, --cap-drop and --privileged, parsed.

    `seccomp` is "" for the default profile, "unconfined", or the path of a profile. `mask` are
    paths, `unmask` patterns of them; an unmask of ALL leaves nothing masked. `proc_options` are
    mount options of /proc. Labels and profiles are for hosts that have the security module.
    `cap_usual` are capabilities that root has besides the defaults unless they are dropped.
    """

    cap_usual: tuple[str, ...] = ()
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    seccomp: str = ""
    no_new_privileges: bool = False
    mask: tuple[str, ...] = ()
    unmask: tuple[str, ...] = ()
    proc_options: tuple[str, ...] = ()
    apparmor: str = ""
    label: str = ""
    privileged: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """Everything that can be asked of one container.

    `command` replaces the image's Cmd, `entrypoint` (None: the image's) its Entrypoint; `env`
    are NAME=VALUE. `group_add` are names or numbers. `hostname` "" is made from the container's
    id. `console_size` is (rows, columns) of the terminal. `network` "" is the best that there is.
    `mounts` come last, in their order. `no_hosts` and `no_hostname` leave these files of the
    image as they are.
    `pull` is containers' policy for the image.
    """

    command: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] | None = None
    env: tuple[str, ...] = ()
    unset_env: tuple[str, ...] = ()
    workdir: str = ""
    user: str = ""
    group_add: tuple[str, ...] = ()
    hostname: str = ""
    name: str = ""
    interactive: bool = False
    terminal: bool = False
    console_size: tuple[int, int] | None = None
    volumes: tuple[Volume, ...] = ()
    tmpfs: tuple[Tmpfs, ...] = ()
    mounts: tuple[OpenedMount, ...] = ()
    devices: tuple[Device, ...] = ()
    no_hosts: bool = False
    no_hostname: bool = False
    network: str = ""
    dns: DnsOptions = field(default_factory=DnsOptions)
    add_hosts: tuple[str, ...] = ()
    read_only: bool = False
    limits: Limits = field(default_factory=Limits)
    security: Security = field(default_factory=Security)
    isolation: str | None = None
    pull: Literal["missing", "always", "never", "newer"] = "missing"
    labels: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    annotations: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    init: bool = False
    stop_signal: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageDefaults:
    """What an image's config says about running it (OCI image-spec config.md, "config")."""

    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    user: str = ""
    workdir: str = ""
    volumes: tuple[str, ...] = ()
    stop_signal: str = ""
    labels: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    @classmethod
    def from_config(cls, config: Config) -> ImageDefaults:
        """The defaults of an image; raises InvalidManifest on a wrong type."""
        what = "image config"
        settings: dict[str, Any] = optional(config.document, "config", dict, what) or {}
        volumes = optional(settings, "Volumes", dict, what) or {}
        return cls(
            entrypoint=_words(settings, "Entrypoint"),
            cmd=_words(settings, "Cmd"),
            env=config.env,
            user=optional(settings, "User", str, what) or "",
            workdir=optional(settings, "WorkingDir", str, what) or "",
            volumes=tuple(sorted(volumes)),
            stop_signal=optional(settings, "StopSignal", str, what) or "",
            labels=string_map(settings, "Labels", what),
        )


def _words(settings: Mapping[str, Any], key: str) -> tuple[str, ...]:
    found = optional(settings, key, list, "image config") or []
    if not all(isinstance(item, str) for item in found):
        raise InvalidManifest(f"image config: property {key!r} has an item that is not a string")
    return tuple(found)

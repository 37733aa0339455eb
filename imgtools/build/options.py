"""Everything that can be asked of a build, as frozen data; names are those of `buildah build`.

The command line fills these from flags, a library caller by hand. Nothing here is read from
the environment.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Literal

from imgtools.build.protocols import HostSettings
from imgtools.build.source_policy import SourcePolicy
from imgtools.frozen import dataclass
from imgtools.spec.platform import Platform

PullPolicy = Literal["always", "missing", "newer", "never"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretSource:
    """A secret that steps may ask for by `id`: the content of `file`, or `value` (from an
    environment variable of the caller). Its bytes are never kept, logged or hashed."""

    id: str
    file: str = ""
    value: bytes | None = None

    def __repr__(self) -> str:
        return f"SecretSource(id={self.id!r})"


@dataclass(frozen=True, slots=True, kw_only=True)
class SshSource:
    """An agent for --mount=type=ssh: its socket, or private keys to be offered by one."""

    id: str
    socket: str = ""
    keys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamps:
    """Which times a build writes, in seconds since the epoch.

    `timestamp` (--timestamp): that of the image, its history and all files of new layers.
    `source_date_epoch`: that of image and history; with `rewrite` also of files that are
    newer. None for now.
    """

    timestamp: int | None = None
    source_date_epoch: int | None = None
    rewrite: bool = False

    @property
    def created(self) -> int | None:
        """The time of the image and its history, None for now."""
        return self.timestamp if self.timestamp is not None else self.source_date_epoch


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheOptions:
    """Which results of earlier builds count. `sources` and `targets` are repositories
    (--cache-from, --cache-to); `ttl` in seconds, None for no limit."""

    enabled: bool = True
    sources: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    ttl: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigEdits:
    """What the command line changes in the finished config. Names end up as given;
    `identity_label` None is for images whose time is not fixed."""

    labels: tuple[tuple[str, str], ...] = ()
    annotations: tuple[tuple[str, str], ...] = ()
    env: tuple[str, ...] = ()
    unset_env: tuple[str, ...] = ()
    unset_labels: tuple[str, ...] = ()
    unset_annotations: tuple[str, ...] = ()
    inherit_labels: bool = True
    inherit_annotations: bool = True
    identity_label: bool | None = None
    created_annotation: bool = False
    omit_history: bool = False
    os_version: str = ""
    os_features: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedContext:
    """--build-context NAME=VALUE; `value` is a directory, URL, `docker-image://REF` or
    `oci-layout:`."""

    name: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildOptions:
    """One build.

    `context` is a directory, a URL, `-` for a tar on standard input, or "" for none. `files`
    are Containerfiles (relative to the context, or to the current directory where that has
    one), `-` for standard input; empty: Containerfile, then Dockerfile, in the context.
    `build_args` are names with values (None: ARG's default is kept). `jobs` is how many steps
    run at once, 0 for as many as there are processors, but at least 4. `squash` is "", "new" (all
    new layers into one) or "all". `platforms` empty is the host's. `proxy` are the caller's
    variables of proxies, given to RUN but never kept. `layers` false keeps no layer per step.
    `cpp_flags` are for Containerfiles that end in .in, which cpp reads first. `source_policy`
    decides which images and URLs are used. `save_stages` makes an image of every stage that is
    built, and `stage_labels` says in each which stage it is.
    """

    context: str = ""
    files: tuple[str, ...] = ()
    ignore_file: str = ""
    target: str = ""
    build_args: Mapping[str, str | None] = field(default_factory=dict)
    contexts: tuple[NamedContext, ...] = ()
    from_: str = ""
    platforms: tuple[Platform, ...] = ()
    all_platforms: bool = False
    pull: PullPolicy = "missing"
    jobs: int = 0
    layers: bool = True
    squash: Literal["", "new", "all"] = ""
    skip_unused_stages: bool = True
    cache: CacheOptions = field(default_factory=CacheOptions)
    stamps: Stamps = field(default_factory=Stamps)
    format: Literal["oci", "docker"] = "oci"
    edits: ConfigEdits = field(default_factory=ConfigEdits)
    secrets: tuple[SecretSource, ...] = ()
    ssh: tuple[SshSource, ...] = ()
    host: HostSettings = field(default_factory=HostSettings)
    mounts: tuple[str, ...] = ()
    proxy: Mapping[str, str] = field(default_factory=dict)
    allow_insecure: bool = False
    compat_volumes: bool = False
    cpp_flags: tuple[str, ...] = ()
    source_policy: SourcePolicy | None = None
    save_stages: bool = False
    stage_labels: bool = False

"""The configuration of registries as frozen data, every part with the file it came from.

Names are those of containers-registries.conf(5). A `Layer` is what one file says, where None
is "says nothing"; a `RegistriesConfig` is what all files together mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from types import MappingProxyType
from typing import Literal

from imgtools.frozen import dataclass

PullFromMirror = Literal["all", "digest-only", "tag-only"]
"""Which references a mirror serves; see `pull-from-mirror`."""

ShortNameMode = Literal["permissive", "enforcing", "disabled"]
"""How ambiguous short names are resolved; see `short-name-mode`."""

AUTH_FILES_HELPER = "containers-auth.json"
"""The entry of `credential-helpers` that is no helper but the auth files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mirror:
    """One `[[registry.mirror]]`: `location` replaces the prefix of its registry."""

    location: str
    insecure: bool = False
    pull: PullFromMirror = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class Registry:
    """One `[[registry]]`: what holds for the references that begin with `prefix`.

    `prefix` is never empty; `location` is, when a wildcard prefix leaves references as they
    are. `mirrors` stand in their order of trial. `file` is where all of this was read.
    """

    prefix: str
    location: str
    file: str
    insecure: bool = False
    blocked: bool = False
    mirror_by_digest_only: bool = False
    mirrors: tuple[Mirror, ...] = ()

    @property
    def where(self) -> str:
        """The file and the table, for messages."""
        return f"{self.file}: [[registry]] {self.prefix!r}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Alias:
    """What a short name stands for: `registry/repository`, or "" to stand for nothing."""

    name: str
    target: str
    file: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """What one file says; None where it says nothing, which an empty list is not."""

    file: str
    registries: tuple[Registry, ...] = ()
    search: tuple[str, ...] | None = None
    credential_helpers: tuple[str, ...] | None = None
    short_name_mode: ShortNameMode | None = None
    aliases: tuple[Alias, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistriesConfig:
    """What all files together mean.

    `registries` are sorted by prefix, each prefix once. `search` are the registries that
    unqualified names are looked for in. `credential_helpers` is empty when only auth files
    are asked. The `*_file` fields say which file decided, "" for the default. `files` are
    all that were read, in order.
    """

    registries: tuple[Registry, ...] = ()
    search: tuple[str, ...] = ()
    search_file: str = ""
    credential_helpers: tuple[str, ...] = ()
    credential_helpers_file: str = ""
    short_name_mode: ShortNameMode = "permissive"
    short_name_mode_file: str = ""
    aliases: Mapping[str, Alias] = field(default_factory=lambda: MappingProxyType({}))
    files: tuple[str, ...] = ()

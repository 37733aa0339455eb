"""Merges what several files say into one configuration; pure.

Later files win: per prefix for registries, which are replaced as a whole and never mixed, per
name for aliases, and as a whole for everything else that a file sets.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType

from imgtools.transport.registries.model import (
    AUTH_FILES_HELPER,
    Alias,
    Layer,
    RegistriesConfig,
    Registry,
    ShortNameMode,
)


def merge(layers: Sequence[Layer]) -> RegistriesConfig:
    """The configuration that `layers` mean, the last one being the strongest."""
    registries: dict[str, Registry] = {}
    aliases: dict[str, Alias] = {}
    search: tuple[str, ...] = ()
    helpers: tuple[str, ...] = ()
    mode: ShortNameMode = "permissive"
    search_file = helpers_file = mode_file = ""
    for layer in layers:
        registries.update((registry.prefix, registry) for registry in layer.registries)
        aliases.update((alias.name, alias) for alias in layer.aliases)
        if layer.search is not None:
            search, search_file = layer.search, layer.file
        if layer.credential_helpers is not None:
            helpers, helpers_file = layer.credential_helpers, layer.file
        if layer.short_name_mode is not None:
            mode, mode_file = layer.short_name_mode, layer.file
    return RegistriesConfig(
        registries=tuple(registries[prefix] for prefix in sorted(registries)),
        search=search,
        search_file=search_file,
        credential_helpers=() if helpers == (AUTH_FILES_HELPER,) else helpers,
        credential_helpers_file=helpers_file,
        short_name_mode=mode,
        short_name_mode_file=mode_file,
        aliases=MappingProxyType(aliases),
        files=tuple(layer.file for layer in layers),
    )

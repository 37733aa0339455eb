"""What a verb is given: the settings, the global options, and how to make from them the
frozen options of the layers below."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import field, replace
from typing import TYPE_CHECKING, Any

from imgtools.cli.settings import Settings
from imgtools.frozen import dataclass
from imgtools.spec.platform import Platform
from imgtools.task import CancelToken, Progress, Task, ignore
from imgtools.transport.options import RegistriesFiles, TlsDetails

if TYPE_CHECKING:
    from imgtools.sign.registries_d import RegistriesD


@dataclass(frozen=True, slots=True, kw_only=True)
class Cli:
    """One invocation of the command line; verbs get it as `ctx.obj`."""

    settings: Settings
    values: Mapping[str, Any] = field(default_factory=dict)
    cancel: CancelToken = field(default_factory=CancelToken)

    def with_globals(self, found: Mapping[str, Any]) -> Cli:
        """The same invocation with the global options `found` set too."""
        return replace(self, values={**self.values, **found})

    @property
    def debug(self) -> bool:
        """Whether --debug was given."""
        return bool(self.values.get("debug"))

    @property
    def timeout(self) -> float | None:
        """Seconds of --command-timeout, None without."""
        return self.values.get("command_timeout")

    @property
    def tmpdir(self) -> str:
        """Where temporary files go."""
        return self.values.get("tmpdir") or self.settings.tmpdir

    def platform(self) -> Platform:
        """The platform to choose instances for: the host's, as overridden."""
        host = self.settings.host
        os_name, arch, variant = (
            self.values.get(f"override_{part}") or "" for part in ("os", "arch", "variant")
        )
        if arch and not variant:
            return Platform(os=os_name or host.os, architecture=arch).normalised()
        return Platform(
            os=os_name or host.os,
            architecture=arch or host.architecture,
            variant=variant or ("" if arch else host.variant),
        ).normalised()

    def task(self, progress: Progress = ignore, *, jobs: int | None = None) -> Task:
        """A task that the user's Ctrl-C cancels."""
        wanted = jobs or self.values.get("jobs") or 6
        return Task(jobs=wanted, cancel=self.cancel, progress=progress)

    def registries(self) -> RegistriesFiles:
        """Where registries.conf is: what --registries-conf names instead of the usual files."""
        chosen = self.values.get("registries_conf")
        files = self.settings.registries
        if directory := self.values.get("registries_conf_dir"):
            files = replace(files, drop_ins=(directory,))
        if aliases := self.values.get("short_name_alias_conf"):
            files = replace(files, aliases=aliases)
        return replace(files, main=(chosen,), required=True) if chosen else files

    @property
    def has_signature_places(self) -> bool:
        """Whether there is a directory of registries.d, so that reading it is worth it."""
        chosen = self.values.get("registries_d")
        return bool(chosen) or any(os.path.isdir(path) for path in self.settings.registries_d)

    def signature_places(self) -> RegistriesD:
        """Where signatures are kept, by the files of registries.d, which are read now.

        Raises NotFound for a directory that --registries.d names and that is not there,
        StorageError, InvalidInput, LimitExceeded.
        """
        from imgtools.sign.registries_d import load

        chosen = self.values.get("registries_d")
        directories = (chosen,) if chosen else self.settings.registries_d
        return load(directories, lookaside=self.settings.lookaside, required=bool(chosen))

    def tls_details(self) -> TlsDetails:
        """What --tls-details says; raises NotFound, InvalidInput for a bad file."""
        path = self.values.get("tls_details")
        if not path:
            return TlsDetails()
        from imgtools.cli.tls_details import read_tls_details

        return read_tls_details(path)

    def journal_dir(self) -> str | None:
        """Where interrupted transfers are remembered."""
        directory = self.settings.state_dir
        return f"{directory}/transfers" if directory else None

    def challenge_cache(self) -> str | None:
        """The file that remembers registries' schemes and token realms."""
        directory = self.settings.cache_dir
        return f"{directory}/registries.json" if directory else None

"""From a reference to sessions: the configuration of registries applied to options.

What is configured is read when it is first needed and once. A reference without mirrors
gets one session and nothing around it.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from imgtools.spec.reference import Reference
from imgtools.transport.base import Source
from imgtools.transport.options import RegistriesFiles, RegistryOptions
from imgtools.transport.registries.files import load
from imgtools.transport.registries.match import Endpoint, bare, endpoints
from imgtools.transport.registries.model import RegistriesConfig
from imgtools.transport.registry.pool import SessionPool
from imgtools.transport.registry.session import Session

if TYPE_CHECKING:
    from imgtools.transport.registry.endpoints import Health, Members


class Routes:
    """Where references lead, for as long as a command runs; safe from any thread."""

    def __init__(self, sessions: SessionPool) -> None:
        self._sessions = sessions
        self._lock = threading.Lock()
        self._configs: dict[RegistriesFiles, RegistriesConfig] = {}
        self._health: Health | None = None

    def config(self, files: RegistriesFiles) -> RegistriesConfig:
        """What `files` configure (but for aliases); raises like `files.load`."""
        with self._lock:
            if files not in self._configs:
                self._configs[files] = load(files)
            return self._configs[files]

    def source(self, reference: Reference, options: RegistryOptions) -> Source:
        """A source of `reference` over its endpoints.

        Raises Rejected when it is blocked, InvalidInput, NotFound, StorageError for a wrong
        configuration.
        """
        config = self.config(options.registries)
        found = endpoints(config, reference, write=False, mirrors=options.mirrors)
        if len(found) > 1:
            from imgtools.transport.registry.failover import FailoverSource

            return FailoverSource(reference, self._members(config, reference, found, options))
        from imgtools.transport.registry.source import RegistrySource

        primary = found[0]
        session = self._session(config, primary, options)
        return RegistrySource(session, primary.reference, name=reference)

    def tags(
        self, reference: Reference, options: RegistryOptions, limit: int | None = None
    ) -> list[str]:
        """The tags of the repository of `reference`, from the first endpoint that tells.

        Raises like `source`, and what listing at the primary raises.
        """
        from imgtools.transport.registry.tags import list_tags

        repository = bare(reference)
        config = self.config(options.registries)
        found = endpoints(config, repository, write=False, mirrors=options.mirrors)
        if len(found) == 1:
            session = self._session(config, found[0], options)
            return list_tags(session, found[0].reference.repository, limit)
        return self._members(config, repository, found, options).first(
            "list of tags",
            # A blocked member has no session and is never asked.
            lambda member: (
                list_tags(member.session, member.endpoint.reference.repository, limit)
                if member.session is not None
                else []
            ),
        )

    def writer(self, reference: Reference, options: RegistryOptions) -> Session:
        """The session that changes what `reference` names; raises like `source`."""
        config = self.config(options.registries)
        (endpoint,) = endpoints(config, reference, write=True)
        return self._session(config, endpoint, options)

    def reader(self, reference: Reference, options: RegistryOptions) -> tuple[Session, Reference]:
        """The session of the primary location of `reference`, and its name there; raises
        like `source`."""
        config = self.config(options.registries)
        (endpoint,) = endpoints(config, reference, write=False, mirrors=False)
        return self._session(config, endpoint, options), endpoint.reference

    def _session(
        self, config: RegistriesConfig, endpoint: Endpoint, options: RegistryOptions
    ) -> Session:
        return self._sessions.session(
            endpoint.reference.registry, endpoint_options(config, endpoint, options)
        )

    def _members(
        self,
        config: RegistriesConfig,
        reference: Reference,
        found: tuple[Endpoint, ...],
        options: RegistryOptions,
    ) -> Members:
        from imgtools.transport.registry.endpoints import MIRROR_POLICY, Health, Member, Members

        with self._lock:
            health = self._health = self._health or Health()
        members = []
        for endpoint in found:
            session = None
            if endpoint.blocked is None:
                session = self._sessions.session(
                    endpoint.reference.registry,
                    endpoint_options(config, endpoint, options, named=reference.registry),
                    MIRROR_POLICY if endpoint.kind == "mirror" else None,
                )
            members.append(Member(endpoint=endpoint, session=session))
        return Members(members, health)


def endpoint_options(
    config: RegistriesConfig, endpoint: Endpoint, options: RegistryOptions, *, named: str = ""
) -> RegistryOptions:
    """The options for one endpoint; those given where nothing is configured.

    `insecure` counts unless the user has decided. Credentials that were given by hand are
    for the registry that was `named`: a mirror on another host is not shown them.
    """
    changes: dict[str, object] = {}
    if endpoint.insecure and options.tls_verify and not options.tls_verify_given:
        changes["tls_verify"] = False
    if config.credential_helpers and not options.credential_helpers:
        changes["credential_helpers"] = config.credential_helpers
    is_elsewhere = endpoint.kind == "mirror" and endpoint.reference.registry != named
    if options.credentials is not None and is_elsewhere:
        changes["credentials"] = None
    return _replaced(options, changes)


def _replaced(options: RegistryOptions, changes: Mapping[str, object]) -> RegistryOptions:
    # mypy cannot hold a mapping against the fields; the names above are fields.
    return replace(options, **changes) if changes else options  # type: ignore[arg-type]

"""From a reference to sessions: the configuration of registries applied to options.

What is configured is read when it is first needed and once. A reference without mirrors
gets one session and nothing around it.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest
from imgtools.spec.reference import Reference
from imgtools.transport.base import Source
from imgtools.transport.options import RegistriesFiles, RegistryOptions
from imgtools.transport.registries.files import load_if_any
from imgtools.transport.registry.api import Repository
from imgtools.transport.registry.pool import SessionPool
from imgtools.transport.registry.session import Session

if TYPE_CHECKING:
    from imgtools.transport.registries.match import Endpoint
    from imgtools.transport.registries.model import RegistriesConfig
    from imgtools.transport.registry.endpoints import Health, Members


class Routes:
    """Where references lead, for as long as a command runs; safe from any thread."""

    def __init__(self, sessions: SessionPool) -> None:
        self._sessions = sessions
        self._lock = threading.Lock()
        self._configs: dict[RegistriesFiles, RegistriesConfig | None] = {}
        self._health: Health | None = None

    def config(self, files: RegistriesFiles) -> RegistriesConfig:
        """What `files` configure (but for aliases); raises like `files.load`."""
        from imgtools.transport.registries.model import RegistriesConfig

        return self._config(files) or RegistriesConfig()

    def source(self, reference: Reference, options: RegistryOptions) -> Source:
        """A source of `reference` over its endpoints.

        Raises Rejected when it is blocked, InvalidInput, NotFound, StorageError for a wrong
        configuration.
        """
        config, found = self._endpoints(reference, options, write=False, mirrors=options.mirrors)
        if len(found) > 1:
            from imgtools.transport.registry.pull.failover import FailoverSource

            return FailoverSource(reference, self._members(config, reference, found, options))
        from imgtools.transport.registry.pull.source import RegistrySource

        session, there = self._only(config, reference, found, options)
        return RegistrySource(session, there, name=reference)

    def tags(
        self, reference: Reference, options: RegistryOptions, limit: int | None = None
    ) -> list[str]:
        """The tags of the repository of `reference`, from the first endpoint that tells.

        Raises like `source`, and what listing at the primary raises.
        """
        from imgtools.transport.registry.pull.tags import list_tags

        bare = replace(reference, tag="", digest=None)
        config, found = self._endpoints(bare, options, write=False, mirrors=options.mirrors)
        if len(found) < 2:
            session, there = self._only(config, bare, found, options)
            return list_tags(session, there.repository, limit)
        return self._members(config, bare, found, options).first(
            "list of tags",
            lambda member: list_tags(member.reached, member.endpoint.reference.repository, limit),
        )

    def referrers(
        self,
        reference: Reference,
        options: RegistryOptions,
        digest: Digest,
        *,
        tags: Collection[str] | None = None,
    ) -> Iterator[Descriptor]:
        """What refers to the manifest `digest` in the repository of `reference`, from the
        first endpoint that knows any.

        `tags`, all of the repository, say without a question whether the primary has a
        fallback tag; mirrors are asked anyway. Raises like `source`, and what listing raises.
        """
        from imgtools.transport.registry.referrers import list_referrers

        name = reference.with_digest(digest)
        config, found = self._endpoints(name, options, write=False, mirrors=options.mirrors)
        if len(found) > 1:
            from imgtools.transport.registry.pull.failover import FailoverSource

            source = FailoverSource(name, self._members(config, name, found, options))
            return source.referrers(digest)
        session, there = self._only(config, name, found, options)
        return list_referrers(Repository(session, there.repository), digest, tags=tags)

    def may_list_referrers(
        self, reference: Reference, options: RegistryOptions, digest: Digest
    ) -> bool:
        """Whether `referrers` can find more than fallback tags: there are mirrors, or a
        registry that has not said that it lacks the API. Raises like `source`."""
        name = reference.with_digest(digest)
        config, found = self._endpoints(name, options, write=False, mirrors=options.mirrors)
        if len(found) > 1:
            return True
        session, there = self._only(config, name, found, options)
        return session.features.has_referrers(there.repository)

    def members(self, reference: Reference, options: RegistryOptions) -> Members:
        """The endpoints that `reference` is read from, in order, the primary last: for who
        reads what is kept beside an image. Raises like `source`."""
        config, found = self._endpoints(reference, options, write=False, mirrors=options.mirrors)
        if not found:
            from imgtools.transport.registries.match import Endpoint

            found = (Endpoint(reference=reference, kind="primary"),)
        return self._members(config, reference, found, options)

    def writer(self, reference: Reference, options: RegistryOptions) -> Session:
        """The session that changes what `reference` names; raises like `source`."""
        config, found = self._endpoints(reference, options, write=True, mirrors=False)
        return self._only(config, reference, found, options)[0]

    def reader(self, reference: Reference, options: RegistryOptions) -> tuple[Session, Reference]:
        """The session of the primary location of `reference`, and its name there; raises
        like `source`."""
        config, found = self._endpoints(reference, options, write=False, mirrors=False)
        return self._only(config, reference, found, options)

    def _config(self, files: RegistriesFiles) -> RegistriesConfig | None:
        """The configuration, None for nothing, which costs less."""
        with self._lock:
            if files not in self._configs:
                self._configs[files] = load_if_any(files)
            return self._configs[files]

    def _endpoints(
        self, reference: Reference, options: RegistryOptions, *, write: bool, mirrors: bool
    ) -> tuple[RegistriesConfig | None, tuple[Endpoint, ...]]:
        """The configuration and what it makes of `reference`; nothing, when it is None."""
        config = self._config(options.registries)
        if config is None:
            return None, ()
        from imgtools.transport.registries.match import endpoints

        return config, endpoints(config, reference, write=write, mirrors=mirrors)

    def _only(
        self,
        config: RegistriesConfig | None,
        reference: Reference,
        found: tuple[Endpoint, ...],
        options: RegistryOptions,
    ) -> tuple[Session, Reference]:
        """The session of a single endpoint and the reference there."""
        if config is not None and found:
            options = endpoint_options(config, found[0], options)
            reference = found[0].reference
        return self._sessions.session(reference.registry, options), reference

    def _members(
        self,
        config: RegistriesConfig | None,
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
    config: RegistriesConfig | None,
    endpoint: Endpoint,
    options: RegistryOptions,
    *,
    named: str = "",
) -> RegistryOptions:
    """The options for one endpoint; those given where nothing is configured.

    `insecure` counts unless the user has decided. Credentials that were given by hand are
    for the registry that was `named`: a mirror on another host is not shown them.
    """
    changes: dict[str, object] = {}
    if endpoint.insecure and options.tls_verify and not options.tls_verify_given:
        changes["tls_verify"] = False
    if config is not None and config.credential_helpers and not options.credential_helpers:
        changes["credential_helpers"] = config.credential_helpers
    is_elsewhere = endpoint.kind == "mirror" and endpoint.reference.registry != named
    if options.credentials is not None and is_elsewhere:
        changes["credentials"] = None
    return _replaced(options, changes)


def _replaced(options: RegistryOptions, changes: Mapping[str, object]) -> RegistryOptions:
    # mypy cannot hold a mapping against the fields; the names above are fields.
    return replace(options, **changes) if changes else options  # type: ignore[arg-type]

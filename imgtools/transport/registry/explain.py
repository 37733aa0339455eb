"""Says how a reference would be reached and why, from files alone: no request is made.

Every fact names what decided it, and none of them is a secret. Helpers for credentials are
asked, because only they know whether they have any.
"""

from __future__ import annotations

import os
from typing import Any

from imgtools.errors import Error
from imgtools.frozen import dataclass
from imgtools.spec.reference import DOCKER_HUB, Reference
from imgtools.transport.options import RegistryOptions
from imgtools.transport.registries.match import Endpoint, decide
from imgtools.transport.registries.model import RegistriesConfig, Registry
from imgtools.transport.registry.access.challenge_cache import ChallengeCache
from imgtools.transport.registry.routes import endpoint_options
from imgtools.transport.registry.session import DOCKER_HUB_API
from imgtools.transport.registry.wire.url import Origin, redact

_CERTIFICATES = (".crt", ".cert", ".key")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One endpoint as it would be used; every field is text for people, "" for nothing."""

    kind: str
    reference: str
    decided_by: str
    location: str
    insecure: bool
    insecure_by: str
    blocked_by: str
    credentials: str
    certificates: str
    certificate_files: tuple[str, ...]
    proxy: str
    known: str

    def to_json(self) -> dict[str, Any]:
        """The document of this endpoint."""
        return {
            "kind": self.kind,
            "reference": self.reference,
            "decidedBy": self.decided_by,
            "location": self.location,
            "insecure": self.insecure,
            "insecureBy": self.insecure_by,
            "blocked": bool(self.blocked_by),
            "blockedBy": self.blocked_by,
            "credentials": self.credentials,
            "certificates": {"directory": self.certificates, "files": self.certificate_files},
            "proxy": self.proxy,
            "known": self.known,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """How one reference is read and written; `skipped` are mirrors and why not them."""

    reference: str
    reads: tuple[Place, ...]
    skipped: tuple[tuple[str, str], ...]
    write: Place

    def to_json(self) -> dict[str, Any]:
        """The document of this reference."""
        return {
            "reference": self.reference,
            "reads": [place.to_json() for place in self.reads],
            "skippedMirrors": [
                {"location": location, "reason": reason} for location, reason in self.skipped
            ],
            "write": self.write.to_json(),
        }


def explain(
    config: RegistriesConfig, reference: Reference, options: RegistryOptions
) -> Explanation:
    """How `reference` is reached under `options`; raises InvalidInput for a wrong location."""
    decision = decide(config, reference, write=False, mirrors=options.mirrors)
    (write,) = decide(config, reference, write=True).endpoints
    return Explanation(
        reference=str(reference),
        reads=tuple(_place(config, reference, e, options) for e in decision.endpoints),
        skipped=tuple((entry.mirror.location, entry.reason) for entry in decision.skipped),
        write=_place(config, reference, write, options),
    )


def _place(
    config: RegistriesConfig, reference: Reference, endpoint: Endpoint, options: RegistryOptions
) -> Place:
    used = endpoint_options(config, endpoint, options, named=reference.registry)
    there = endpoint.reference
    directory, files = _certificates(there.registry, used)
    return Place(
        kind=endpoint.kind,
        reference=str(there),
        decided_by=endpoint.entry.where if endpoint.entry is not None else "",
        location=endpoint.location,
        insecure=not used.tls_verify,
        insecure_by=_insecure_by(endpoint, options),
        blocked_by=_where(endpoint.blocked),
        credentials=_credentials(used, there),
        certificates=directory,
        certificate_files=files,
        proxy=_proxy(there.registry, used),
        known=_known(there.registry, used),
    )


def _where(entry: Registry | None) -> str:
    return entry.where if entry is not None else ""


def _insecure_by(endpoint: Endpoint, options: RegistryOptions) -> str:
    if options.tls_verify_given:
        return "--tls-verify"
    if endpoint.insecure and endpoint.entry is not None:
        return f"insecure = true in {endpoint.entry.file}"
    return "the default" if options.tls_verify else "the caller"


def _credentials(options: RegistryOptions, reference: Reference) -> str:
    from imgtools.transport.registry.access.credentials import where_credentials

    try:
        place = where_credentials(options, reference.registry, reference.repository)
    except Error as e:
        return f"cannot be looked up: {e.message}"
    match place.kind:
        case "option":
            return "given as options"
        case "file":
            return f"{place.file}: entry {place.key!r}"
        case "helper":
            named = f", named by {place.file}" if place.file else ""
            return f"helper docker-credential-{place.helper}{named}"
        case "anonymous":
            return "none, as wanted"
    return "none"


def _certificates(registry: str, options: RegistryOptions) -> tuple[str, tuple[str, ...]]:
    from imgtools.transport.registry.wire.tls import certificates_for

    directory = certificates_for(registry, options)
    if directory is None:
        return "", ()
    try:
        names = sorted(os.listdir(directory))
    except OSError as e:
        return f"{directory} (not used: {(e.strerror or str(e)).lower()})", ()
    return directory, tuple(name for name in names if name.endswith(_CERTIFICATES))


def _authority(registry: str) -> str:
    return DOCKER_HUB_API if registry == DOCKER_HUB else registry


def _proxy(registry: str, options: RegistryOptions) -> str:
    from imgtools.transport.registry.wire.proxies import proxy_for

    try:
        found = proxy_for(Origin.of(f"https://{_authority(registry)}"), options.proxies)
    except Error as e:
        return f"cannot be used: {e.message}"
    return str(found).removeprefix("proxy ") if found is not None else ""


def _known(registry: str, options: RegistryOptions) -> str:
    """What earlier commands remember of a registry."""
    entry = ChallengeCache(options.challenge_cache).get(_authority(registry))
    if entry is None:
        return ""
    realm = redact(entry.realm) if entry.realm else ""
    return ", ".join(part for part in (entry.scheme, entry.auth, realm) if part)

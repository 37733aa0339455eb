"""Decides which endpoints serve a reference: matching, rewriting, mirrors, blocking; pure.

The longest prefix wins. Reads try the mirrors that serve the kind of reference and then the
location; writes, as in the reference implementation, go to the registry of the name itself,
without mirrors and without rewriting, and take only `insecure` and `blocked` from here.
"""

from __future__ import annotations

from typing import Literal

from imgtools.errors import InvalidInput, InvalidReference, Rejected
from imgtools.frozen import dataclass
from imgtools.spec.reference import Reference
from imgtools.transport.registries.model import Mirror, RegistriesConfig, Registry

_SEPARATORS = "/:@"


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One place to ask.

    `reference` is what the user's reference is called there. `entry` is the table that this
    comes from, None without configuration. `insecure` accepts any certificate and http.
    `blocked` is the table that forbids asking there, None for nothing.
    """

    reference: Reference
    kind: Literal["primary", "mirror"]
    insecure: bool = False
    entry: Registry | None = None
    location: str = ""
    blocked: Registry | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """A mirror that does not serve the reference, and why not."""

    mirror: Mirror
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Everything that was decided about a reference; `endpoints` in order, blocked ones too."""

    reference: Reference
    endpoints: tuple[Endpoint, ...]
    skipped: tuple[Skipped, ...] = ()
    entry: Registry | None = None


def endpoints(
    config: RegistriesConfig, reference: Reference, *, write: bool, mirrors: bool = True
) -> tuple[Endpoint, ...]:
    """Where to ask for `reference`, in order; without `mirrors` only the primary location.

    Mirrors that are blocked are left out; a blocked primary stays, as the last one and
    marked, while there are mirrors. Raises Rejected when nothing is left, and InvalidInput
    when a location makes no reference.
    """
    decision = decide(config, reference, write=write, mirrors=mirrors)
    *others, primary = decision.endpoints
    open_mirrors = [mirror for mirror in others if mirror.blocked is None]
    if primary.blocked is not None and not open_mirrors:
        raise blocked(primary)
    return (*open_mirrors, primary)


def blocked(endpoint: Endpoint) -> Rejected:
    """The error for an endpoint that may not be asked."""
    entry = endpoint.blocked
    prefix, file = (entry.prefix, entry.file) if entry is not None else ("", "")
    return Rejected(
        f"{endpoint.reference}: registry {prefix} is blocked in {file}",
        requirement="blocked",
        hint=f"blocked = true is set for the prefix {prefix!r} there",
    )


def decide(
    config: RegistriesConfig, reference: Reference, *, write: bool, mirrors: bool = True
) -> Decision:
    """What `config` says of `reference`; raises InvalidInput for a location that makes none."""
    entry = find(config, reference)
    if entry is None:
        return Decision(
            reference=reference, endpoints=(Endpoint(reference=reference, kind="primary"),)
        )
    if write:
        primary = Endpoint(
            reference=reference,
            kind="primary",
            insecure=entry.insecure,
            entry=entry,
            blocked=entry if entry.blocked else None,
        )
        return Decision(reference=reference, endpoints=(primary,), entry=entry)
    used: list[Endpoint] = []
    skipped: list[Skipped] = []
    for mirror in entry.mirrors:
        reason = _unfit(mirror, entry, reference) if mirrors else "mirrors are not wanted"
        if reason:
            skipped.append(Skipped(mirror=mirror, reason=reason))
            continue
        there = rewrite(reference, entry, mirror.location)
        used.append(
            Endpoint(
                reference=there,
                kind="mirror",
                insecure=mirror.insecure,
                entry=entry,
                location=mirror.location,
                blocked=_blocking(config, there),
            )
        )
    there = rewrite(reference, entry, entry.location)
    used.append(
        Endpoint(
            reference=there,
            kind="primary",
            insecure=entry.insecure,
            entry=entry,
            location=entry.location,
            blocked=entry if entry.blocked else _blocking(config, there),
        )
    )
    return Decision(reference=reference, endpoints=tuple(used), skipped=tuple(skipped), entry=entry)


def find(config: RegistriesConfig, reference: Reference) -> Registry | None:
    """The table with the longest prefix of `reference`, None for none."""
    text = str(reference)
    found = [registry for registry in config.registries if match_length(text, registry.prefix)]
    return max(found, key=lambda registry: len(registry.prefix), default=None)


def match_length(text: str, prefix: str) -> int:
    """How many characters of the reference `text` the `prefix` stands for, 0 for no match.

    `*.example.com` stands for every host below example.com. Hosts have no case, and a final
    dot changes nothing. A prefix ends where a component, a tag, a digest or, which nobody may
    rely on, a port begins.
    """
    normal, prefix = _normal_host(text), _normal_host(prefix)
    dot = len(text) - len(normal)
    if prefix.startswith("*."):
        end = min((normal.find(c) for c in _SEPARATORS if c in normal), default=len(normal))
        return end + dot if normal[:end].endswith(prefix[1:]) else 0
    if not prefix or not normal.startswith(prefix):
        return 0
    if len(normal) > len(prefix) and normal[len(prefix)] not in _SEPARATORS:
        return 0
    return len(prefix) + dot


def rewrite(reference: Reference, entry: Registry, location: str) -> Reference:
    """`reference` with the prefix of `entry` replaced by `location`; itself for "".

    Raises InvalidInput when that is no reference with a registry.
    """
    if not location:
        return reference
    text = str(reference)
    moved = location + text[match_length(text, entry.prefix) :]
    try:
        found = Reference.parse(moved, default_tag="")
    except InvalidReference as e:
        raise InvalidInput(f"{entry.where}: location {location!r} makes of {text}: {e}") from e
    host, slash, _ = moved.partition("/")
    if not slash or not ("." in host or ":" in host or host == "localhost"):
        raise InvalidInput(
            f"{entry.where}: location {location!r} makes of {text}: {moved!r}, which names no "
            "registry"
        )
    return found


def _normal_host(text: str) -> str:
    """`text` with its host in lower case and without a final dot."""
    host, slash, rest = text.partition("/")
    name, colon, port = host.lower().partition(":")
    return f"{name.removesuffix('.')}{colon}{port}{slash}{rest}"


def _unfit(mirror: Mirror, entry: Registry, reference: Reference) -> str:
    """Why a mirror does not serve a reference of this kind, "" when it does."""
    pinned = reference.digest is not None
    if entry.mirror_by_digest_only and not pinned:
        return "mirror-by-digest-only is set, and the reference has no digest"
    if mirror.pull == "digest-only" and not pinned:
        return "pull-from-mirror is digest-only, and the reference has no digest"
    if mirror.pull == "tag-only" and pinned:
        return "pull-from-mirror is tag-only, and the reference has a digest"
    return ""


def _blocking(config: RegistriesConfig, reference: Reference) -> Registry | None:
    """The table that blocks the place itself, whatever name led there."""
    entry = find(config, reference)
    return entry if entry is not None and entry.blocked else None

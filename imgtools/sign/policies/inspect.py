"""A policy for people: its requirements in words, and what is wrong with the keys it names."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from imgtools.errors import InvalidInput, InvalidKey, LimitExceeded, StorageError
from imgtools.sign.identity import (
    ExactReference,
    ExactRepository,
    IdentityRule,
    MatchExact,
    MatchRepoDigestOrExact,
    MatchRepository,
    RemapIdentity,
)
from imgtools.sign.policies.loading import one, public_keys
from imgtools.sign.policies.model import (
    NAMES,
    AcceptAnything,
    AnyIdentity,
    AnyOf,
    Attested,
    FulcioTrust,
    KeylessTrust,
    Material,
    PkiTrust,
    Policy,
    Reject,
    Requirement,
    Signed,
    SignedBaseLayer,
    SignedBy,
    SigstoreSigned,
    TimedKey,
)
from imgtools.sign.policies.trials import trials


def described(requirement: Requirement) -> tuple[str, ...]:
    """A requirement in words, a line or several."""
    name = NAMES[type(requirement)]
    match requirement:
        case AcceptAnything():
            return (f"{name}: nothing at all",)
        case Reject():
            return (f"{name}: what no image can give",)
        case SignedBaseLayer():
            return (f"{name}: not implemented, so every image is rejected",)
        case SignedBy():
            return (
                f"{name}: a simple signature by a key of {_material(requirement.keys)}, "
                f"{_identity(requirement.identity)}",
            )
        case SigstoreSigned():
            logged = f", logged by {_material(requirement.rekor)}" if requirement.rekor else ""
            return (
                f"{name}: an attachment {_trust(requirement.trust)}{logged}, "
                f"{_identity(requirement.identity)}",
            )
        case Signed():
            forms = " or ".join(sorted(requirement.formats))
            trust = _trust(requirement.trust) + _log(requirement.log)
            said = "".join(f", saying {key}={text}" for key, text in requirement.annotations)
            identity = _identity(requirement.identity)
            return (f"{name}: a {forms} signature {trust}{said}, {identity}",)
        case Attested():
            trust = _trust(requirement.trust) + _log(requirement.log)
            return (f"{name}: an attestation of type {requirement.predicate_type} {trust}",)
        case AnyOf():
            lines = [f"{name}: one of {len(requirement.alternatives)} alternatives"]
            for number, alternative in enumerate(requirement.alternatives, 1):
                for inner in alternative:
                    lines += [f"  {number}: {line}" for line in described(inner)]
            return tuple(lines)


def problems(policy: Policy) -> list[str]:
    """What is wrong with the keys of a policy: it parses, but images would be rejected."""
    now = datetime.now(UTC)
    lists = [("default", policy.default or ())]
    for transport, scopes in policy.transports.items():
        lists += [(f"{transport}: {scope!r}", found) for scope, found in scopes.items()]
    found = []
    for where, requirements in lists:
        for requirement in leaves(requirements):
            try:
                load_keys(requirement, now)
            except (InvalidKey, InvalidInput, StorageError, LimitExceeded) as e:
                name = NAMES[type(requirement)]
                found.append(f"{policy.origin}, {where}: {name}: {e.message}")
    return found


def load_keys(requirement: Requirement, now: datetime) -> None:
    """Raise what is wrong with the keys and roots of a requirement: InvalidKey, InvalidInput,
    StorageError, LimitExceeded, Unsupported."""
    match requirement:
        case SignedBy() | SigstoreSigned() | Signed() | Attested():
            trials(requirement, now)
    match requirement:
        case SignedBy():
            from imgtools.sign.openpgp.gpg import read_keys
            from imgtools.sign.policies.loading import contents

            read_keys(contents(requirement.keys))
        case SigstoreSigned(trust=FulcioTrust() | PkiTrust() as trust):
            from imgtools.sign.certificates.pem import trusted_certificates

            trusted_certificates(one(trust.roots), trust.roots.field)
        case Signed(trust=KeylessTrust() as trust) | Attested(trust=KeylessTrust() as trust):
            from imgtools.sign.bundles.trusted_root import TrustedRoot
            from imgtools.sign.certificates.identity import check_rules

            TrustedRoot(one(trust.root))
            check_rules(trust.identities)
        case Signed(trust=tuple() as keys, log=log) | Attested(trust=tuple() as keys, log=log):
            for timed in keys:
                public_keys(timed.key)
            if log is not None:
                from imgtools.sign.bundles.trusted_root import TrustedRoot

                TrustedRoot(one(log))


def leaves(requirements: tuple[Requirement, ...]) -> Iterator[Requirement]:
    """The requirements, those inside of alternatives instead of their anyOf."""
    for requirement in requirements:
        if isinstance(requirement, AnyOf):
            for alternative in requirement.alternatives:
                yield from leaves(alternative)
        else:
            yield requirement


def _trust(
    trust: Material | FulcioTrust | PkiTrust | KeylessTrust | tuple[TimedKey, ...],
) -> str:
    match trust:
        case Material():
            return f"by a key of {_material(trust)}"
        case FulcioTrust():
            return (
                f"under a certificate of {trust.subject_email} (issuer {trust.oidc_issuer}) "
                f"below {_material(trust.roots)}"
            )
        case PkiTrust():
            names = " and ".join(name for name in (trust.email, trust.hostname) if name)
            return f"under a certificate of {names} below {_material(trust.roots)}"
        case KeylessTrust():
            who = " or ".join(
                f"{i.subject or i.subject_regexp} (issuer {i.issuer or i.issuer_regexp})"
                for i in trust.identities
            )
            return f"under a certificate of {who} of the sigstore {_material(trust.root)}"
    return "by one of " + ", ".join(_timed(key) for key in trust)


def _log(root: Material | None) -> str:
    return "" if root is None else f", in a log of {_material(root)}"


def _timed(timed: TimedKey) -> str:
    since = f" from {timed.not_before:%Y-%m-%dT%H:%M:%SZ}" if timed.not_before else ""
    until = f" until {timed.not_after:%Y-%m-%dT%H:%M:%SZ}" if timed.not_after else ""
    return f"{_material(timed.key)}{since}{until}"


def _material(material: Material) -> str:
    if material.paths:
        return ", ".join(material.paths)
    return f"{material.field} ({len(material.data)} in the policy)"


def _identity(rule: IdentityRule | AnyIdentity) -> str:
    match rule:
        case MatchExact():
            return "of exactly the name that is asked for"
        case MatchRepoDigestOrExact():
            return "of the name that is asked for (by digest: of its repository)"
        case MatchRepository():
            return "of any name in the repository"
        case ExactReference(reference=text):
            return f"of the name {text}"
        case ExactRepository(repository=text):
            return f"of any name in {text}"
        case RemapIdentity(prefix=prefix, signed_prefix=signed):
            return f"of the name that is asked for with {signed} instead of {prefix}"
        case AnyIdentity():
            return "of any name, or of none"

"""The judgement: an image, what it has to meet, and its signatures in; a verdict with its
reasons out.

Every requirement has to be met, each by at least one signature. A signature that does not hold
is a reason; one that cannot be read is an error of its own kind, and never "not signed".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Protocol

from imgtools.errors import Error, InvalidKey, InvalidSignature, LimitExceeded, StorageError
from imgtools.frozen import dataclass
from imgtools.sign.identity import matches
from imgtools.sign.image_places import Kind
from imgtools.sign.model import Signature, Verified
from imgtools.sign.policies.model import (
    NAMES,
    AcceptAnything,
    AnyIdentity,
    AnyOf,
    Chosen,
    Reject,
    Requirement,
    SignedBaseLayer,
)
from imgtools.sign.policies.trials import Trial, trials
from imgtools.spec.digest import Digest
from imgtools.spec.reference import Reference

FORMATS: Mapping[Kind, str] = MappingProxyType(
    {
        "simple": "simple signature",
        "sigstore": "sigstore attachment",
        "bundle": "sigstore bundle",
        "attestation": "attestation",
    }
)
"""The formats as messages name them."""

_UNUSABLE = (InvalidSignature, InvalidKey, LimitExceeded, StorageError)
"""What makes a signature, or the keys of a requirement, count for nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """The image that is judged: the digest of its manifest's bytes, and the name by which it
    was asked for, None where a transport has no such names."""

    digest: Digest
    reference: Reference | None


class Signatures(Protocol):
    """Gives the signatures of the subject; each format is read when a requirement needs it."""

    def __call__(self, kind: Kind, /) -> Sequence[Signature]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one requirement: met by `accepted` (None where no signature was needed),
    or not for `reasons`, one for each signature or one for all."""

    requirement: str
    met: bool
    accepted: tuple[Verified, ...] = ()
    reasons: tuple[str, ...] = ()
    unsigned: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The outcome of all requirements of a scope, in their order."""

    chosen: Chosen
    outcomes: tuple[Outcome, ...]

    @property
    def admitted(self) -> bool:
        """Whether the image may be used."""
        return all(outcome.met for outcome in self.outcomes)

    @property
    def signed(self) -> bool:
        """Whether a signature was required and accepted."""
        return self.admitted and any(outcome.accepted for outcome in self.outcomes)

    @property
    def verified(self) -> tuple[Verified, ...]:
        """The signatures that were accepted."""
        return tuple(found for outcome in self.outcomes for found in outcome.accepted)


def judge(
    chosen: Chosen,
    subject: Subject,
    signatures: Signatures,
    *,
    every: bool = False,
    now: datetime,
) -> Verdict:
    """The verdict about `subject`; with `every` all signatures are tried, to be shown, instead
    of those up to the first that will do. Raises what reading signatures raises."""
    judged = _Judge(subject, signatures, every, now)
    return Verdict(chosen=chosen, outcomes=tuple(map(judged.requirement, chosen.requirements)))


class _Judge:
    def __init__(
        self, subject: Subject, signatures: Signatures, every: bool, now: datetime
    ) -> None:
        self._subject, self._signatures = subject, signatures
        self._every, self._now = every, now

    def requirement(self, found: Requirement) -> Outcome:
        """What becomes of one requirement."""
        name = NAMES[type(found)]
        match found:
            case AcceptAnything():
                return Outcome(requirement=name, met=True)
            case Reject():
                return _unmet(name, "every image is rejected here")
            case SignedBaseLayer():
                return _unmet(name, "it is not implemented, here or elsewhere")
            case AnyOf():
                return self._any_of(found)
        try:
            tried = trials(found, self._now)
        except _UNUSABLE as e:
            return _unmet(name, e.message)
        return self._first(name, tried)

    def _first(self, name: str, tried: Sequence[Trial]) -> Outcome:
        """Met by the first signature that holds, is about the image and by its name."""
        reasons, accepted, seen = list[str](), list[Verified](), 0
        for trial in tried:
            for signature in self._signatures(trial.format):
                seen += 1
                try:
                    verified = trial.check(signature, self._subject.digest)
                    check_claim(verified, self._subject, trial)
                except _UNUSABLE as e:
                    reasons.append(_placed(signature, e))
                else:
                    accepted.append(verified)
                    if not self._every:
                        return Outcome(requirement=name, met=True, accepted=(verified,))
        if seen:
            return Outcome(
                requirement=name,
                met=bool(accepted),
                accepted=tuple(accepted),
                reasons=tuple(reasons),
            )
        formats = " or ".join(FORMATS[trial.format] for trial in tried)
        why = f"a signature was required, and there is no {formats}"
        return Outcome(requirement=name, met=False, reasons=(why,), unsigned=True)

    def _any_of(self, found: AnyOf) -> Outcome:
        name, reasons, unsigned = NAMES[AnyOf], list[str](), True
        for number, alternative in enumerate(found.alternatives, 1):
            outcomes = tuple(map(self.requirement, alternative))
            if all(outcome.met for outcome in outcomes):
                accepted = tuple(v for outcome in outcomes for v in outcome.accepted)
                return Outcome(requirement=name, met=True, accepted=accepted)
            for outcome in outcomes:
                unsigned = unsigned and (outcome.met or outcome.unsigned)
                where = f"alternative {number}: {outcome.requirement}"
                reasons += [f"{where}: {why}" for why in outcome.reasons]
        return Outcome(requirement=name, met=False, reasons=tuple(reasons), unsigned=unsigned)


def check_claim(verified: Verified, subject: Subject, trial: Trial) -> None:
    """Raise InvalidSignature unless what was signed is the subject, by a name that the
    identity rule of the trial accepts."""
    claim = verified.claim
    if claim.digest != subject.digest:
        raise InvalidSignature(f"it is about {claim.digest}, not {subject.digest}")
    if isinstance(trial.identity, AnyIdentity):
        return
    why = matches(trial.identity, subject.reference, claim.reference)
    if why is not None:
        raise InvalidSignature(f"its identity {claim.reference!r} is not accepted: {why}")


def _unmet(name: str, why: str) -> Outcome:
    return Outcome(requirement=name, met=False, reasons=(why,))


def _placed(signature: Signature, error: Error) -> str:
    where = signature.where
    return error.message if not where or where in error.message else f"{where}: {error.message}"

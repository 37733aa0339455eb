"""The gate that images pass on their way in: policy asked about names, then about manifests.

A name that nothing can admit is refused before anything is read, one that everything admits
costs nothing; for the others the signatures of each manifest are read and judged. What was
judged is the manifest's own bytes, so what is copied afterwards is what was signed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from imgtools.errors import NotSigned, Rejected
from imgtools.sign.image_places import ImagePlaces, Kind
from imgtools.sign.model import Signature
from imgtools.sign.policies.evaluate import Outcome, Subject, Verdict, judge
from imgtools.sign.policies.files import Policies
from imgtools.sign.policies.model import Chosen, Reject
from imgtools.sign.policies.scopes import (
    accepts_anything,
    asks_for_signatures,
    choose,
    docker_reference,
)
from imgtools.spec.digest import Digest
from imgtools.spec.manifest import RawManifest
from imgtools.spec.reference import ImageName

Places = Callable[[ImageName], ImagePlaces]
"""Where the signatures of an image are."""


class Gate:
    """The policies of one command, over all images that it uses; for several threads."""

    def __init__(
        self,
        policies: Policies,
        places: Places,
        *,
        require_signed: bool = False,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        report: Callable[[str], object] | None = None,
    ) -> None:
        """`require_signed` refuses what is admitted without any signature, as skopeo's
        --require-signed; `report` is told what is decided."""
        self._policies, self._places = policies, places
        self._require_signed, self._clock = require_signed, clock
        self._report = report or (lambda text: None)

    def check_name(self, name: ImageName) -> Callable[[RawManifest], object] | None:
        """Who has to admit the manifests of the image `name`, None for nobody.

        Raises Rejected for a name whose images are never admitted, and InvalidReference.
        """
        chosen = self.chosen(name)
        if any(isinstance(found, Reject) for found in chosen.requirements):
            raise Rejected(f"{name} is rejected by policy ({chosen.where})", requirement="reject")
        if not accepts_anything(chosen):
            return _Admission(self, name, chosen)
        if self._require_signed:
            raise NotSigned(
                f"{name} is admitted without a signature ({chosen.where}), and --require-signed "
                "asks for one",
                hint="add a requirement such as sigstoreSigned for this image to the policy",
            )
        return None

    @property
    def asks(self) -> bool:
        """Whether a signature is asked for under any name."""
        asked = [self._policies.policy, self._policies.companion]
        return self._require_signed or any(asks_for_signatures(p) for p in asked if p is not None)

    def chosen(self, name: ImageName) -> Chosen:
        """What an image of this name has to meet."""
        return choose(self._policies.policy, name, self._policies.companion)

    def verdict(self, name: ImageName, digest: Digest) -> Verdict:
        """The verdict about the manifest `digest` under this name; its signatures are read."""
        reference = docker_reference(name) if name.transport == "docker" else None
        return judge(
            self.chosen(name),
            Subject(digest=digest, reference=reference),
            _Reading(self._places(name), digest),
            now=self._clock(),
        )

    def admit(self, name: ImageName, digest: Digest) -> Verdict:
        """The verdict, which is good; raises Rejected or NotSigned with all reasons else."""
        verdict = self.verdict(name, digest)
        if not verdict.admitted:
            raise refusal(name, digest, verdict)
        if self._require_signed and not verdict.signed:
            raise NotSigned(f"{name} is admitted without a signature ({verdict.chosen.where})")
        for found in verdict.verified:
            proof = found.proof
            self._report(
                f"{name}: {digest} is signed by {proof.subject or proof.key} "
                f"as {found.claim.reference or 'no name'} ({found.signature.format})"
            )
        return verdict


class _Admission:
    """Admits the manifests of one image, each once."""

    def __init__(self, gate: Gate, name: ImageName, chosen: Chosen) -> None:
        self._gate, self._name = gate, name
        self._admitted: set[Digest] = set()

    def __call__(self, raw: RawManifest) -> None:
        if raw.digest not in self._admitted:
            self._gate.admit(self._name, raw.digest)
            self._admitted.add(raw.digest)


class _Reading:
    """Reads each format once, for one manifest."""

    def __init__(self, places: ImagePlaces, digest: Digest) -> None:
        self._places, self._digest = places, digest
        self._read: dict[Kind, tuple[Signature, ...]] = {}
        self._lock = threading.Lock()

    def __call__(self, kind: Kind, /) -> Sequence[Signature]:
        with self._lock:
            if kind not in self._read:
                self._read[kind] = self._places.signatures(kind, self._digest)
            return self._read[kind]


def refusal(name: ImageName, digest: Digest, verdict: Verdict) -> Rejected:
    """The error that says which requirements were not met, by what, and why."""
    unmet = [outcome for outcome in verdict.outcomes if not outcome.met]
    said = "; ".join(f"{o.requirement}: {', '.join(o.reasons)}" for o in unmet)
    text = f"{name} is not admitted: {said} ({verdict.chosen.where}; manifest {digest})"
    kind = NotSigned if all(outcome.unsigned for outcome in unmet) else Rejected
    return kind(text, requirement=unmet[0].requirement, hint=_hint(unmet[0]))


def _hint(outcome: Outcome) -> str:
    if outcome.unsigned:
        return "sign it with `imgtools sign`, or see `imgtools policy explain` for what is read"
    return "`imgtools verify` shows all signatures of an image and what is wrong with each"

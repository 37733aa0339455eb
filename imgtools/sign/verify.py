"""Verifying an image by what its user trusts: its index, the instance, and who signed each.

A signed index vouches for its instances, since it names them by digest; a signed instance is
what containers/image asks for. What was verified is named by digest, so that whoever goes on
with it uses just that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from imgtools.frozen import dataclass
from imgtools.sign.image_places import ImagePlaces, Kind
from imgtools.sign.model import Signature
from imgtools.sign.policies.evaluate import Subject, Verdict, judge
from imgtools.sign.policies.model import Chosen, Requirement
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest
from imgtools.spec.reference import Reference
from imgtools.task import Task, WorkerPool

COMMAND_LINE = "the command line"
"""The origin of requirements that are no policy's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifests:
    """What is verified of an image: its top manifest and, where that is an index, the
    instances that are asked about (none for an index alone); `whole` says that they are all
    that it names."""

    top: Descriptor
    instances: tuple[Descriptor, ...] = ()
    whole: bool = False

    @property
    def all(self) -> tuple[Descriptor, ...]:
        """The top one first."""
        return (self.top, *self.instances)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """The verdict about each manifest of an image, in the order of `Manifests.all`."""

    manifests: Manifests
    verdicts: tuple[Verdict, ...]

    @property
    def verified(self) -> bool:
        """Whether every instance that was asked about is vouched for: by its own signature, or
        by that of the index, whose digests are its word for them."""
        top, *instances = self.verdicts
        return top.admitted or (bool(instances) and all(v.admitted for v in instances))

    @property
    def pinned(self) -> Digest:
        """What can be used on the strength of the verdicts: the top manifest, unless it is an
        index that nobody signed and that names more than the instances that were verified."""
        found = self.manifests
        if self.verdicts[0].admitted or found.whole or not found.instances or not self.verified:
            return found.top.digest
        return found.instances[0].digest

    @property
    def complete(self) -> bool:
        """Whether the index and every instance are signed each for itself."""
        return all(verdict.admitted for verdict in self.verdicts)

    @property
    def unsigned(self) -> bool:
        """Whether there was nothing to verify at all."""
        return all(
            outcome.unsigned
            for verdict in self.verdicts
            for outcome in verdict.outcomes
            if not outcome.met
        ) and not any(verdict.verified for verdict in self.verdicts)


def verify_manifests(
    manifests: Manifests,
    requirements: Sequence[Requirement],
    reference: Reference | None,
    places: ImagePlaces,
    *,
    clock: Callable[[], datetime],
    task: Task,
) -> Verification:
    """The verdict about every manifest, all its signatures tried.

    Raises what reading signatures raises: an image whose signatures cannot be read is not an
    image without signatures.
    """
    chosen = Chosen(origin=COMMAND_LINE, scope="default", requirements=tuple(requirements))
    now = clock()

    def verdict(descriptor: Descriptor) -> Verdict:
        subject = Subject(digest=descriptor.digest, reference=reference)

        def read(kind: Kind, /) -> Sequence[Signature]:
            return places.signatures(kind, descriptor.digest)

        return judge(chosen, subject, read, every=True, now=now)

    with WorkerPool(task) as pool:
        verdicts = pool.map(verdict, manifests.all)
    return Verification(manifests=manifests, verdicts=tuple(verdicts))

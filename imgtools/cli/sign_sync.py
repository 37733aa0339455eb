"""Policy and signatures of a sync on the command line: every image by its own names."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from imgtools.cli.sign_copy import CopySigning
from imgtools.cli.sign_flags import SignRequest
from imgtools.cli.state import Cli
from imgtools.copy import CopyOptions, Selection
from imgtools.errors import Error
from imgtools.spec.reference import ImageName
from imgtools.task import Note, Task, WorkerPool
from imgtools.transport.options import DestinationOptions, RegistryOptions, SourceOptions
from imgtools.transport.table import Transports, registry_reference

if TYPE_CHECKING:
    from collections.abc import Sequence

    from imgtools.copy.attaching import Attaching
    from imgtools.copy.survey import Admit
    from imgtools.sign.api import SignPlan
    from imgtools.sign.protocols import ImageSigner
    from imgtools.spec.digest import Digest
    from imgtools.sync.facts import Image
    from imgtools.sync.looking import Attempt
    from imgtools.sync.options import SyncOptions
    from imgtools.sync.plan import SyncPlan
    from imgtools.sync.result import Outcome, OutcomeWord, SyncResult


class SyncSigning:
    """What `imgtools.sync.moves` calls a Trust, and the signing of what did not change."""

    def __init__(
        self,
        cli: Cli,
        transports: Transports,
        registries: tuple[RegistryOptions, RegistryOptions],
        signers: tuple[ImageSigner, ...],
        request: SignRequest,
        *,
        remove_signatures: bool,
        from_dir: bool,
    ) -> None:
        """`registries` are how the sources and the destination are reached; `from_dir` says
        that the sources are directories, which may have signatures."""
        self._transports, self._signers = transports, signers
        self._destination, self._request = registries[1], request
        self._from_dir, self._places_known = from_dir, cli.has_signature_places
        self._options = CopyOptions(remove_signatures=remove_signatures)
        self._cli = cli
        self._made: dict[RegistryOptions, CopySigning] = {}
        self._signing = self._of(registries[0])

    @property
    def needed(self) -> bool:
        """Whether any image has to be looked at for its signatures."""
        trust = self._signing.trust
        return bool(self._signers or self._from_dir) or trust.asks or self._places_known

    def check_name(self, source: ImageName) -> None:
        """Raise Rejected for a name that policy never admits."""
        self._signing.trust.check_name(source)

    def admit(self, image: Image) -> Admit | None:
        """Who admits the manifests of an image, None for nobody; raises Rejected."""
        return self._of(image.registry).trust.check_name(image.source)

    def attaching(self, image: Image, task: Task) -> Attaching | None:
        """What goes with the copy of an image: signatures of its own name. Attachments that a
        registry has in tags come along as images of their own."""
        if image.whole or image.subject is not None:
            return None
        names = (image.source, image.destination)
        return self._of(image.registry).attaching(names, self._options, task)

    def _of(self, source: RegistryOptions) -> CopySigning:
        """The same for images that are read in one way; a list of images has several."""
        if source not in self._made:
            self._made[source] = CopySigning(
                self._cli,
                self._transports,
                SourceOptions(registry=source, tmpdir=self._cli.tmpdir),
                DestinationOptions(registry=self._destination, tmpdir=self._cli.tmpdir),
                self._signers,
                self._request,
            )
        return self._made[source]

    def sign_the_same(
        self,
        result: SyncResult,
        images: tuple[Image, ...],
        options: SyncOptions,
        *,
        attempt: Attempt,
        task: Task,
    ) -> SyncResult:
        """Sign what was there already, where the same signers have not by that name: each image
        by `attempt`, several at a time. What became of it, with what could not be signed as
        failed; without `keep_going` the first of these ends it. Raises Cancelled."""
        from imgtools.sync.looking import answer

        if not self._signers or (result.errors and not options.keep_going):
            return result
        failed: dict[str, Error | None] = {}

        def sign(found: Sequence[_Unchanged]) -> None:
            for each in found:
                name = str(each.image.destination)
                if failed and not options.keep_going:
                    failed[name] = None
                    continue
                done = answer(partial(attempt, partial(self._sign, each, task)))
                if isinstance(done, Error):
                    failed[name] = done

        with WorkerPool(replace(task, jobs=options.images_at_once)) as pool:
            pool.map(sign, _unchanged(result, images))
        outcomes = tuple(
            _unsigned(o, failed[o.destination]) if o.destination in failed and not o.attached else o
            for o in result.outcomes
        )
        return replace(result, outcomes=outcomes)

    def to_be_signed(
        self, plan: SyncPlan, *, attempt: Attempt, task: Task
    ) -> dict[ImageName, bool | Error]:
        """Whether each image of `plan` would get a signature, or why nobody can tell; nothing
        where nobody signs. Raises Cancelled."""
        from imgtools.sync.looking import ask_all

        images = [a for a in plan.images if _signable(a.image) and a.decision != "failed"]
        if not self._signers:
            return {}
        found: dict[ImageName, bool | Error] = {a.image.destination: True for a in images}

        same = {
            a.image.destination: _Unchanged(a.image, a.current.digest)
            for a in images
            if a.decision == "same" and a.current is not None
        }

        def lacks(name: ImageName) -> bool:
            return not all(step.present for step in self._plan(same[name], task).steps)

        found.update(ask_all(lacks, same, attempt=attempt, task=task))
        return found

    def _plan(self, found: _Unchanged, task: Task) -> SignPlan:
        """What has to be signed of an image, once policy has admitted it; it was not copied,
        so that nobody has asked yet."""
        from imgtools.copy.judging import judge_image
        from imgtools.sign.api import plan_signing, subjects
        from imgtools.sign.image_places import image_places

        name, admit = found.image.destination, self.admit(found.image)
        options = SourceOptions(registry=self._destination)
        with self._transports.open_source(found.pinned, options) as source:
            if admit is not None:
                judge_image(source, Selection(mode="all"), None, admit, task=task)
            wanted = subjects(source.top(), source.manifest, recursive=True)
        places = image_places(name, self._transports, options, self._signing.trust.signature_places)
        reference = self._request.identity or name.rest.removeprefix("//")
        return plan_signing(wanted, self._signers, reference, places.signatures, task=task)

    def _sign(self, found: _Unchanged, task: Task) -> None:
        from imgtools.sign.api import execute_signing
        from imgtools.sign.image_writers import image_writers

        plan, name = self._plan(found, task), found.image.destination
        places_of = self._signing.trust.signature_places
        writers = image_writers(name, self._transports, self._destination, places_of, task=task)
        for step, made in execute_signing(plan, self._signers, writers, task=task):
            if made is not None:
                text = f"{step.subject.digest}: 1 new {step.format} signature(s)"
                task.progress(Note("info", text))


class _Unchanged(NamedTuple):
    """An image that is at its destination already, and by which digest: that is what is signed,
    whatever the tag means by now, or is said to mean."""

    image: Image
    digest: Digest

    @property
    def pinned(self) -> ImageName:
        """What is at the destination, by its digest."""
        reference = registry_reference(self.image.destination)
        return ImageName(transport="docker", rest=f"//{reference.with_digest(self.digest)}")


def _unchanged(result: SyncResult, images: tuple[Image, ...]) -> list[list[_Unchanged]]:
    """The images that were there already and can be signed. Those of one digest are together,
    because its signatures are in one place, where two writers would meet."""
    same = {o.destination: o.digest for o in result.outcomes if o.outcome == "same"}
    found: dict[Digest, list[_Unchanged]] = {}
    for image in {image.destination: image for image in images if _signable(image)}.values():
        digest = same.get(str(image.destination))
        if digest is not None:
            found.setdefault(digest, []).append(_Unchanged(image, digest))
    return list(found.values())


def _signable(image: Image) -> bool:
    """Whether it is an image of a registry, and nothing that is attached to one."""
    return image.destination.transport == "docker" and not image.whole and image.subject is None


def _unsigned(outcome: Outcome, error: Error | None) -> Outcome:
    """An image that is there and was not signed: for `error`, or because that of another one
    ended it."""
    word: OutcomeWord = "skipped" if error is None else "failed"
    return replace(outcome, outcome=word, digest=None, error=error)

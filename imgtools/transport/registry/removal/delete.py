"""Deletes what a reference names in a registry: survey, plan, execute.

A tag is deleted alone wherever the registry can. Elsewhere its manifest has to go, which
takes all of its tags along, so nothing goes before every tag has been looked at.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping

from imgtools.errors import (
    Conflict,
    Denied,
    Error,
    ImageNotFound,
    InvalidInput,
    LimitExceeded,
    RegistryError,
)
from imgtools.spec.digest import Digest
from imgtools.spec.reference import Reference, is_tag
from imgtools.task import Task, WorkerPool
from imgtools.transport.registry.api import Repository
from imgtools.transport.registry.manifests import get_manifest, head_manifest
from imgtools.transport.registry.pull.tags import list_tags
from imgtools.transport.registry.referrers import fallback_tag, list_referrers, subject_of
from imgtools.transport.registry.removal.delete_plan import (
    Attached,
    DeleteOptions,
    DeletePlan,
    DeleteSurvey,
    Step,
    plan_manifest,
    plan_tag,
)
from imgtools.transport.registry.removal.deleting import Deleting, TagsFirst
from imgtools.transport.registry.removal.unlist import unlist_referrer

log = logging.getLogger(__name__)

_COSIGN = (".sig", ".att", ".sbom")
_ATTACHED_LIMIT = 10_000


class Deletion:
    """The deletion of what `reference` names in `repository`; for one thread, used once."""

    def __init__(
        self, repository: Repository, reference: Reference, options: DeleteOptions, *, task: Task
    ) -> None:
        """`repository` is where the reference leads, and may be written to."""
        self._repository = repository
        self._reference = reference
        self._options = options
        self._task = task
        self._reading = Repository(repository.session, repository.name)
        self._deleting = Deleting(repository)

    def run(self) -> DeletePlan:
        """Delete; what was done.

        Raises ImageNotFound, Conflict when tags would go that nobody named, or when a tag
        is not at the digest that was named with it, Unsupported where the registry does not
        delete, Denied, ConnectionFailed, RegistryError.
        """
        if self._may_be_tag_alone() and self._delete_tag():
            return plan_tag(self._deleting.where, self._reference.tag)
        plan = plan_manifest(self.survey(), self._options)
        for step in plan.steps:
            self._do(step)
        return plan

    def preview(self) -> tuple[DeletePlan | Conflict, ...]:
        """What `run` would do, nothing of it done. There are two where it depends on whether
        the registry can delete a tag; the second is the Conflict where `run` would refuse.

        Raises as `run`.
        """
        survey = self.survey()
        if not self._may_be_tag_alone():
            return (plan_manifest(survey, self._options),)
        alone = plan_tag(survey.repository, survey.tag)
        try:
            return alone, plan_manifest(survey, self._options)
        except Conflict as e:
            return alone, e

    def survey(self) -> DeleteSurvey:
        """The manifest, its subject, where all tags point, and what is attached.

        Raises ImageNotFound, Conflict, Denied, ConnectionFailed, RegistryError.
        """
        digest, subject = self._manifest(self._reference.tag or self._reference.target)
        self._check_pinned(digest)
        tags = self._tags()
        attached: tuple[Attached, ...] = ()
        if self._options.referrers:
            attached = self._attached(digest, tags)
        return DeleteSurvey(
            repository=self._deleting.where,
            digest=digest,
            tag=self._reference.tag,
            subject=subject,
            tags=tags,
            attached=attached,
        )

    def _may_be_tag_alone(self) -> bool:
        wider = self._options.all_tags or self._options.referrers
        return bool(self._reference.tag) and not wider

    def _delete_tag(self) -> bool:
        """Delete the tag alone; False where the registry cannot."""
        if self._reference.digest is not None:
            self._check_pinned(self._resolved(self._reference.tag))
        return bool(self._deleting.tag(self._reference.tag))

    def _check_pinned(self, digest: Digest) -> None:
        pinned = self._reference.digest
        if pinned is not None and self._reference.tag and pinned != digest:
            raise Conflict(
                f"{self._deleting.where}:{self._reference.tag} was not deleted: "
                f"it is {digest}, not {pinned}"
            )

    def _manifest(self, target: str) -> tuple[Digest, Digest | None]:
        """The digest of the manifest and of its subject; what we cannot read has none."""
        pinned = None if self._reference.tag else self._reference.digest
        try:
            raw = get_manifest(self._reading, target, pinned)
        except (InvalidInput, LimitExceeded) as e:
            log.debug("%s: %s", self._deleting.where, e.message)
            return self._resolved(target), None
        return raw.digest, subject_of(raw)

    def _resolved(self, target: str) -> Digest:
        found = head_manifest(self._reading, target, None)
        return found.digest if found else get_manifest(self._reading, target, None).digest

    def _tags(self) -> Mapping[str, Digest]:
        """Where every tag points, asked in parallel; a tag that leads nowhere is left out."""
        try:
            names = list_tags(self._repository.session, self._repository.name)
        except ImageNotFound:
            return {}
        except (Denied, RegistryError) as e:
            if self._reference.tag or self._options.referrers:
                raise
            # A digest was named, so its tags only matter for what we say about them.
            log.debug("%s: no tags are known: %s", self._deleting.where, e.message)
            return {}

        def look(tag: str) -> Digest | None:
            try:
                return self._resolved(tag)
            except ImageNotFound:
                return None

        usable = [name for name in names if is_tag(name)]
        with WorkerPool(self._task) as pool:
            found = pool.map(look, usable)
        return {tag: d for tag, d in zip(usable, found, strict=True) if d is not None}

    def _attached(self, digest: Digest, tags: Mapping[str, Digest]) -> tuple[Attached, ...]:
        """Referrers at any depth, signatures in tags, and lists in tags; the deepest first."""
        found: dict[tuple[Digest, str], Attached] = {}
        seen = {digest}
        todo = [digest]
        while todo:
            subject = todo.pop(0)
            attached = [
                *self._referrers(subject),
                *_sibling_tags(subject, tags),
            ]
            for each in attached:
                # Equal lists are one manifest, and each of its tags belongs to us.
                if each.digest == digest or (each.digest, each.tag) in found:
                    continue
                if len(found) >= _ATTACHED_LIMIT:
                    raise LimitExceeded("number of referrers", _ATTACHED_LIMIT, unit="manifests")
                found[each.digest, each.tag] = each
                if each.digest not in seen:
                    seen.add(each.digest)
                    todo.append(each.digest)
        return tuple(reversed(found.values()))

    def _referrers(self, subject: Digest) -> Iterable[Attached]:
        for descriptor in list_referrers(self._reading, subject):
            kind = descriptor.artifact_type or descriptor.media_type
            yield Attached(digest=descriptor.digest, what=f"referrer of type {kind}")

    def _do(self, step: Step) -> None:
        digest = step.digest
        log.debug("%s: %s", self._deleting.where, step.text)
        if step.kind == "placeholder":
            self._replace_tag(step)
        elif step.kind == "unlist" and digest is not None and step.subject is not None:
            unlist_referrer(self._repository, self._deleting, step.subject, digest)
        elif digest is not None:
            self._delete_manifest(digest, step.tags)

    def _delete_manifest(self, digest: Digest, tags: Iterable[str]) -> None:
        """Delete by digest; where a registry refuses as long as there are tags, those first."""
        try:
            there = self._deleting.manifest(digest)
        except TagsFirst as e:
            # Looked at before: those tags may go, and where one cannot, nothing has changed.
            if not tags or not all(self._deleting.tag(tag) for tag in tags):
                raise
            log.debug("%s: again without tags: %s", self._deleting.where, e.message)
            there = self._deleting.manifest(digest)
        if not there:
            log.debug("%s: %s was gone already", self._deleting.where, digest)

    def _replace_tag(self, step: Step) -> None:
        """Move the tag to a manifest that nothing else can be, and delete that."""
        import os

        from imgtools.blob.reader import BlobReader
        from imgtools.transport.registry.push.destination import RegistryDestination
        from imgtools.transport.registry.removal.placeholder import (
            CONFIG,
            CONFIG_DESCRIPTOR,
            placeholder,
        )

        raw = placeholder(os.urandom(16).hex())
        reference = self._reference.with_tag(step.tag)
        with RegistryDestination(self._repository.session, reference) as destination:
            destination.put_blob(CONFIG_DESCRIPTOR, lambda: BlobReader.of(CONFIG), task=self._task)
            destination.put_manifest(raw, top=True)
            destination.commit()
        try:
            self._deleting.manifest(raw.digest)
        except Error as e:
            e.hint = f"the tag leads to a placeholder now; before, it led to {step.digest}"
            raise


def delete_image(
    repository: Repository, reference: Reference, options: DeleteOptions, *, task: Task
) -> DeletePlan:
    """Delete what `reference` names; see `Deletion.run`."""
    return Deletion(repository, reference, options, task=task).run()


def preview_deletion(
    repository: Repository, reference: Reference, options: DeleteOptions, *, task: Task
) -> tuple[DeletePlan | Conflict, ...]:
    """What `delete_image` would do; see `Deletion.preview`."""
    return Deletion(repository, reference, options, task=task).preview()


def _sibling_tags(subject: Digest, tags: Mapping[str, Digest]) -> Iterable[Attached]:
    """What stands in tags made of the digest: cosign's, and the list of referrers."""
    stem = f"{subject.algorithm}-{subject.hex}"
    for suffix in _COSIGN:
        tag = stem + suffix
        if tag in tags:
            yield Attached(digest=tags[tag], what="signature, attestation or SBOM", tag=tag)
    tag = fallback_tag(subject)
    if tag in tags:
        yield Attached(digest=tags[tag], what="list of referrers", tag=tag)

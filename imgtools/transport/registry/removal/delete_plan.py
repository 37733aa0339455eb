"""What a deletion in a registry removes: decided from what was found, before anything goes.

Pure. A registry that can delete one tag is asked for just that; one that cannot deletes
manifests, and with a manifest go all of its tags, so those are looked at first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from types import MappingProxyType
from typing import Literal

from imgtools.errors import Conflict, Unsupported
from imgtools.frozen import dataclass
from imgtools.spec.digest import Digest

_NO_TAGS: Mapping[str, Digest] = MappingProxyType({})
_SHOWN = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteOptions:
    """How far a deletion may go.

    `all_tags` lets the other tags of the same manifest go with it. `replace_tag` frees a
    tag where the registry cannot delete one: it is moved to a placeholder, which is then
    deleted. `referrers` deletes what is attached to the manifest too.
    """

    all_tags: bool = False
    replace_tag: bool = False
    referrers: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Attached:
    """A manifest that belongs to another: a referrer, a signature, a list of referrers."""

    digest: Digest
    what: str
    tag: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteSurvey:
    """What is there. `repository` is `host/name`; `tag` is what was named, "" for a digest.

    `digest` is the manifest, `subject` what it is attached to, `tags` where each tag of the
    repository points. `attached` are its referrers, those of others before the others, and one
    that has several tags by which it belongs to them once with each.
    """

    repository: str
    digest: Digest
    tag: str = ""
    subject: Digest | None = None
    tags: Mapping[str, Digest] = field(default_factory=lambda: _NO_TAGS)
    attached: tuple[Attached, ...] = ()

    def tags_of(self, digest: Digest) -> tuple[str, ...]:
        """The tags that point at `digest`, in order."""
        return tuple(sorted(tag for tag, found in self.tags.items() if found == digest))


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing to do.

    "tag" deletes a tag alone; "manifest" a manifest by digest, with all its `tags`, and
    "attached" one that may be gone already; "placeholder" moves the tag away and deletes
    what it then points at; "unlist" takes `digest` out of the list of referrers of
    `subject`, where the registry leaves that to its clients.
    """

    kind: Literal["tag", "manifest", "attached", "placeholder", "unlist"]
    text: str
    tag: str = ""
    tags: tuple[str, ...] = ()
    digest: Digest | None = None
    subject: Digest | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeletePlan:
    """The steps in order, and the tags that go with the manifests without being named."""

    repository: str
    steps: tuple[Step, ...]
    lost_tags: tuple[str, ...] = ()


def plan_tag(repository: str, tag: str) -> DeletePlan:
    """The plan where the registry (`repository` is `host/name`) can delete one tag."""
    step = Step(kind="tag", text=f"delete tag {tag}", tag=tag)
    return DeletePlan(repository=repository, steps=(step,))


def plan_manifest(survey: DeleteSurvey, options: DeleteOptions) -> DeletePlan:
    """The plan where a manifest has to go.

    Raises Conflict when tags would go that nobody named, and Unsupported for a placeholder
    where something other than a tag shall be deleted.
    """
    if options.replace_tag and (options.referrers or not survey.tag):
        raise Unsupported(
            "a placeholder can replace a tag, but neither a digest nor what is attached to it"
        )
    going = {attached.digest for attached in survey.attached} | {survey.digest}
    meant = {survey.tag} | {attached.tag for attached in survey.attached}
    if not survey.tag:
        meant |= set(survey.tags_of(survey.digest))
    gone = sorted(tag for tag, digest in survey.tags.items() if digest in going)
    unnamed = [tag for tag in gone if tag not in meant]
    if unnamed and not options.all_tags:
        if options.replace_tag:
            return _plan_placeholder(survey)
        raise _refusal(survey, unnamed)
    steps = [
        Step(
            kind="attached",
            text=f"delete {a.what} {_named(a)}",
            tag=a.tag,
            tags=survey.tags_of(a.digest),
            digest=a.digest,
        )
        for a in {a.digest: a for a in survey.attached}.values()
    ]
    steps.append(
        Step(
            kind="manifest",
            text=f"delete manifest {survey.digest}" + (f" ({survey.tag})" if survey.tag else ""),
            tag=survey.tag,
            tags=survey.tags_of(survey.digest),
            digest=survey.digest,
        )
    )
    if survey.subject is not None:
        steps.append(
            Step(
                kind="unlist",
                text=f"take {survey.digest} out of the list of referrers of {survey.subject}, "
                "unless the registry keeps that itself",
                digest=survey.digest,
                subject=survey.subject,
            )
        )
    return DeletePlan(
        repository=survey.repository,
        steps=tuple(steps),
        lost_tags=tuple(tag for tag in gone if tag != survey.tag),
    )


def _plan_placeholder(survey: DeleteSurvey) -> DeletePlan:
    text = f"move tag {survey.tag} to a placeholder and delete that"
    step = Step(kind="placeholder", text=text, tag=survey.tag, digest=survey.digest)
    return DeletePlan(repository=survey.repository, steps=(step,))


def _refusal(survey: DeleteSurvey, unnamed: list[str]) -> Conflict:
    hint = "--all-tags deletes the manifest with all of them"
    if survey.tag:
        hint += ", --replace-tag moves the tag to a placeholder and deletes that"
    what = f"{survey.repository}:{survey.tag}" if survey.tag else str(survey.digest)
    reason = "" if survey.attached else ", and the registry cannot delete a tag alone"
    digests = {survey.tags[tag] for tag in unnamed}
    digest = survey.digest if survey.digest in digests else survey.tags[unnamed[0]]
    tags = [tag for tag in unnamed if survey.tags[tag] == digest]
    which = str(digest) if digest == survey.digest else f"{digest}, which is attached to it,"
    return Conflict(
        f"{what} was not deleted: {which} is also tagged {tags_text(tags)}{reason}",
        hint=hint,
    )


def tags_text(tags: list[str] | tuple[str, ...]) -> str:
    """Tags for people, the first ten by name."""
    more = f" and {len(tags) - _SHOWN} more" if len(tags) > _SHOWN else ""
    return ", ".join(tags[:_SHOWN]) + more


def _named(attached: Attached) -> str:
    return f"{attached.digest}" + (f" ({attached.tag})" if attached.tag else "")

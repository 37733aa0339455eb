"""What is attached to images: referrers, and tags such as `sha256-HEX.sig` made of digests.

Looked for per distinct digest, once in a run. Where a registry has the referrers API that is
one request; where it has not, the list of tags says without any whether there is something.
What is attached to what is attached is looked for too, and no digest twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TypeVar

from imgtools.errors import Error, ImageNotFound, LimitExceeded, NotFound
from imgtools.frozen import dataclass
from imgtools.spec import media_type as mt
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest
from imgtools.spec.digest_tag import subject_of_tag
from imgtools.spec.reference import ImageName, Reference
from imgtools.sync.facts import Image, ImageFact, Pair, ReferrerFact, Survey
from imgtools.sync.looking import Attempt, ask_all, once
from imgtools.sync.options import SyncOptions
from imgtools.task import Task
from imgtools.transport.options import RegistryOptions
from imgtools.transport.table import Transports

T = TypeVar("T")

Look = Callable[[Iterable[Image]], list[ImageFact]]
KnownTags = Mapping[tuple[RegistryOptions, Reference], frozenset[str]]

_DEEPEST = 8
_MOST = 10_000
_COSIGN = (".sig", ".att", ".sbom")
"""Asked for one by one only where the tags of a repository are not known."""


@dataclass(frozen=True, slots=True)
class _Subject:
    """A digest that something may be attached to, and the image of the run it belongs to."""

    pair: Pair
    digest: Digest
    owner: Digest


def add_attached(
    survey: Survey,
    tags: KnownTags,
    options: SyncOptions,
    transports: Transports,
    *,
    look: Look,
    attempt: Attempt = once,
    task: Task,
) -> Survey:
    """`survey` with what is attached to its images.

    `tags` are the tags of the source repositories of which all are known; `look` finds the
    facts of further images. Each question is asked by `attempt`. What cannot be listed is a
    failure. Raises LimitExceeded for more levels or referrers than anybody attaches, Cancelled.
    """
    return _Search(survey, tags, options, transports, look, attempt, task).run()


class _Search:
    def __init__(
        self,
        survey: Survey,
        tags: KnownTags,
        options: SyncOptions,
        transports: Transports,
        look: Look,
        attempt: Attempt,
        task: Task,
    ) -> None:
        self.survey, self.options, self.transports = survey, options, transports
        self.look, self.attempt, self.task = look, attempt, task
        self.tags: dict[Pair, frozenset[str] | None] = {}
        self.by_tag: dict[Pair, dict[Digest, list[str]]] = {}
        self.images = {fact.image.destination: fact for fact in survey.images}
        self.referrers: list[ReferrerFact] = []
        self.failures = list(survey.failures)
        self.seen: set[tuple[Pair, Digest]] = set()
        for fact in survey.images:
            pair = fact.image.pair
            if pair is not None and pair not in self.tags:
                known = tags.get((pair.registry, pair.source))
                self.tags[pair], self.by_tag[pair] = known, _by_subject(known or ())

    def run(self) -> Survey:
        """See `add_attached`."""
        level = self._new(
            _Subject(fact.image.pair, fact.root.digest, fact.root.digest)
            for fact in self.survey.images
            if fact.image.pair and fact.root and fact.image.subject is None and not fact.error
        )
        scouts = list({subject.pair: subject for subject in reversed(level)}.values())
        found = self._ask_all(self._referrers, scouts)
        level += self._new(self._instances())
        for _ in range(_DEEPEST):
            if not level:
                return self._result()
            rest = [s for s in level if s not in found and self._worth_asking(s)]
            found |= self._ask_all(self._referrers, rest)
            some = (subject for subject in level if self._some(found.get(subject)))
            there = self._ask_all(self._at_destination, some)
            below = [*self._from_tags(level), *self._note(level, found, there)]
            found, level = {}, self._new(below)
        raise LimitExceeded("the chain of referrers", _DEEPEST, unit="levels")

    def _result(self) -> Survey:
        return replace(
            self.survey,
            images=tuple(self.images.values()),
            referrers=tuple(self.referrers),
            failures=tuple(self.failures),
        )

    def _ask_all(
        self, question: Callable[[_Subject], T], about: Iterable[_Subject]
    ) -> dict[_Subject, T | Error]:
        return ask_all(question, about, attempt=self.attempt, task=self.task)

    def _new(self, subjects: Iterable[_Subject]) -> list[_Subject]:
        """Those not looked at yet."""
        fresh = []
        for subject in subjects:
            key = (subject.pair, subject.digest)
            if key not in self.seen:
                self.seen.add(key)
                fresh.append(subject)
        return fresh

    # --- referrers --------------------------------------------------------------------------

    def _worth_asking(self, subject: _Subject) -> bool:
        """Whether a request can find anything: with the API, or with the fallback tag."""
        from imgtools.transport.registry.referrers import fallback_tag

        tags = self.tags[subject.pair]
        if tags is None or self._has_api(subject):
            return True
        return fallback_tag(subject.digest) in tags

    def _has_api(self, subject: _Subject) -> bool:
        """Whether there may be referrers that no tag tells of."""
        pair = subject.pair
        try:
            return self.transports.routes.may_list_referrers(
                pair.source, pair.registry, subject.digest
            )
        except Error:
            # Asking fails too, and has somewhere to tell of it.
            return True

    def _referrers(self, subject: _Subject) -> tuple[Descriptor, ...]:
        pair = subject.pair
        found = self.transports.routes.referrers(
            pair.source, pair.registry, subject.digest, tags=self.tags[pair]
        )
        return _bounded(found, subject.digest)

    def _at_destination(self, subject: _Subject) -> frozenset[Digest]:
        from imgtools.transport.registry.referrers import list_referrers

        place = subject.pair.destination
        if place not in self.survey.occupied:
            return frozenset()
        repository = self.transports.repository(place, self.survey.target.registry, push=True)
        try:
            found = _bounded(list_referrers(repository, subject.digest), subject.digest)
        except NotFound:
            return frozenset()
        return frozenset(descriptor.digest for descriptor in found)

    @staticmethod
    def _some(found: tuple[Descriptor, ...] | Error | None) -> bool:
        return bool(found) and not isinstance(found, Error)

    def _note(
        self,
        level: list[_Subject],
        found: Mapping[_Subject, tuple[Descriptor, ...] | Error],
        there: Mapping[_Subject, frozenset[Digest] | Error],
    ) -> list[_Subject]:
        """Keep what was found; the referrers, which may have referrers themselves."""
        below: list[_Subject] = []
        for subject in level:
            referrers = found.get(subject, ())
            present = there.get(subject, frozenset())
            for failed in (referrers, present):
                if isinstance(failed, Error):
                    name = f"referrers of {subject.pair.source}@{subject.digest}"
                    self.failures.append((name, failed))
            if isinstance(referrers, Error) or isinstance(present, Error):
                continue
            for descriptor in referrers:
                self.referrers.append(
                    ReferrerFact(
                        pair=subject.pair,
                        subject=subject.digest,
                        owner=subject.owner,
                        descriptor=descriptor,
                        present=descriptor.digest in present,
                    )
                )
                below.append(_Subject(subject.pair, descriptor.digest, subject.owner))
        if len(self.referrers) > _MOST:
            raise LimitExceeded("what is attached to the images", _MOST, unit="referrers")
        return below

    # --- instances and tags -----------------------------------------------------------------

    def _instances(self) -> list[_Subject]:
        """The instances of the indexes that are copied whole, where knowing them matters."""
        if not self.options.all:
            return []
        wanted = {
            _Subject(fact.image.pair, fact.root.digest, fact.root.digest): fact.root
            for fact in self.survey.images
            if fact.image.pair
            and fact.root
            and mt.kind(fact.root.media_type) == "index"
            and not fact.image.whole
            and not fact.error
            and self._may_have_more(fact.image.pair, fact.root.digest)
        }
        found = self._ask_all(lambda subject: self._children(subject, wanted[subject]), wanted)
        below: list[_Subject] = []
        for subject, children in found.items():
            if isinstance(children, Error):
                self.failures.append((f"{subject.pair.source}@{subject.digest}", children))
            else:
                below += [_Subject(subject.pair, digest, subject.owner) for digest in children]
        return below

    def _may_have_more(self, pair: Pair, index: Digest) -> bool:
        if self.tags[pair] is None or self._has_api(_Subject(pair, index, index)):
            return True
        return any((pair, digest) not in self.seen for digest in self.by_tag[pair])

    def _children(self, subject: _Subject, index: Descriptor) -> tuple[Digest, ...]:
        from imgtools.image.select import is_manifest_entry
        from imgtools.spec.manifest import Index, parse
        from imgtools.transport.options import SourceOptions

        pair = subject.pair
        name = ImageName(transport="docker", rest=f"//{pair.source.with_digest(subject.digest)}")
        with self.transports.open_source(name, SourceOptions(registry=pair.registry)) as source:
            view = parse(source.manifest(index))
        if not isinstance(view, Index):
            return ()
        return tuple(entry.digest for entry in view.manifests if is_manifest_entry(entry))

    def _from_tags(self, level: list[_Subject]) -> list[_Subject]:
        """Look at the tags made of the digests of `level`; what they name, in its turn."""
        wanted: list[tuple[_Subject, Image]] = []
        below: list[_Subject] = []
        for subject in level:
            for tag in self._tags_of(subject):
                image = self._image(subject, tag)
                known = self.images.get(image.destination)
                if known is None:
                    wanted.append((subject, image))
                    continue
                owned = replace(known.image, owner=known.image.owner or subject.owner)
                self.images[image.destination] = replace(known, image=owned)
                if known.root:
                    below.append(_Subject(subject.pair, known.root.digest, subject.owner))
        facts = self.look(image for _, image in wanted)
        for (subject, image), fact in zip(wanted, facts, strict=True):
            if isinstance(fact.error, ImageNotFound) and fact.top is None:
                continue
            self.images[image.destination] = fact
            if fact.root:
                below.append(_Subject(subject.pair, fact.root.digest, subject.owner))
        return below

    def _tags_of(self, subject: _Subject) -> list[str]:
        if self.tags[subject.pair] is not None:
            return self.by_tag[subject.pair].get(subject.digest, [])
        if subject.digest != subject.owner:
            return []
        digest = subject.digest
        return [f"{digest.algorithm}-{digest.hex}{suffix}" for suffix in _COSIGN]

    def _image(self, subject: _Subject, tag: str) -> Image:
        pair = subject.pair
        source, place = pair.source.with_tag(tag), pair.destination.with_tag(tag)
        return Image(
            source=ImageName(transport="docker", rest=f"//{source}"),
            destination=ImageName(transport="docker", rest=f"//{place}"),
            registry=pair.registry,
            reference=source,
            place=place,
            whole=True,
            subject=subject.digest,
            owner=subject.owner,
        )


def _by_subject(tags: Iterable[str]) -> dict[Digest, list[str]]:
    """The tags made of digests, but for fallback tags, by the digest."""
    found: dict[Digest, list[str]] = {}
    for tag in sorted(tags):
        made_of = subject_of_tag(tag)
        if made_of is not None and made_of[1]:
            found.setdefault(made_of[0], []).append(tag)
    return found


def _bounded(found: Iterable[Descriptor], digest: Digest) -> tuple[Descriptor, ...]:
    kept: list[Descriptor] = []
    for descriptor in found:
        kept.append(descriptor)
        if len(kept) > _MOST:
            raise LimitExceeded(f"the referrers of {digest}", _MOST, unit="manifests")
    return tuple(kept)

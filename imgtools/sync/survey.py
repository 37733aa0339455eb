"""The reads of a sync: which images there are, and what both sides hold of them.

Tags are listed on both sides at once, which also teaches every session its challenge and
token before the many questions come; then one HEAD for each name, all in parallel. An index
of which only one instance is wanted is read once per digest, because what the destination
holds is compared with that instance.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import TypeVar

from imgtools.errors import Error, ImageNotFound, InvalidInput
from imgtools.frozen import dataclass
from imgtools.spec import media_type as mt
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.platform import Platform, from_machine
from imgtools.spec.reference import ImageName, Reference
from imgtools.sync.facts import Image, ImageFact, Survey, bare
from imgtools.sync.finding import Finder
from imgtools.sync.looking import Attempt, answer, ask_all, once
from imgtools.sync.options import (
    RepositoryWanted,
    SyncOptions,
    Target,
    Wanted,
)
from imgtools.task import Task
from imgtools.transport.options import DestinationOptions, RegistryOptions, SourceOptions
from imgtools.transport.table import Transports

A = TypeVar("A")
T = TypeVar("T")

Admit = Callable[[ImageName], object]
"""Policy by name: raises Rejected for an image that must not be copied."""

_OF_DESTINATION = 20_000
_BESIDE_ONE = 1000
"""Tags that are listed: of a destination, to save asking for each, and of a source of which
only single images are wanted, to find what is attached to them."""
_MANY = 8


@dataclass(frozen=True, slots=True)
class _Listing:
    """One side of a repository whose tags are wanted."""

    repository: Reference
    registry: RegistryOptions
    push: bool
    limit: int | None


def survey(
    wanted: Iterable[Wanted],
    target: Target,
    options: SyncOptions,
    transports: Transports,
    *,
    admit: Admit | None = None,
    attempt: Attempt = once,
    task: Task,
) -> Survey:
    """Look at everything that is wanted and at where it goes, each question by `attempt`;
    nothing is written.

    What cannot be looked at is a failure of that image or source; of the only source it is
    raised. Raises also InvalidReference for names that the destination cannot have,
    InvalidInput, Unsupported, StorageError, Cancelled.
    """
    return _Surveyor(tuple(wanted), target, options, transports, admit, attempt, task).run()


class _Surveyor:
    def __init__(
        self,
        wanted: tuple[Wanted, ...],
        target: Target,
        options: SyncOptions,
        transports: Transports,
        admit: Admit | None,
        attempt: Attempt,
        task: Task,
    ) -> None:
        self.wanted, self.target, self.options = wanted, target, options
        self.transports, self.admit, self.task = transports, admit, task
        self.attempt = attempt
        self.finder = Finder(target, options)
        self.listings: dict[_Listing, list[str] | Error] = {}
        self.failures: list[tuple[str, Error]] = []

    def run(self) -> Survey:
        self._list()
        found = [self._images(each) for each in self.wanted]
        images = _once(image for of_source in found for image in of_source)
        facts = self._look(images)
        survey = Survey(
            target=self.target,
            sources=sum(bool(of_source) for of_source in found),
            images=tuple(facts),
            failures=tuple(self.failures),
            warnings=tuple(self.finder.warnings),
            occupied=self._occupied(facts),
        )
        if not self.finder.attached:
            return survey
        from imgtools.sync.attached import add_attached

        return add_attached(
            survey,
            self._known_tags(),
            self.options,
            self.transports,
            look=self._look,
            attempt=self.attempt,
            task=self.task,
        )

    def _ask_all(self, question: Callable[[A], T], about: Iterable[A]) -> dict[A, T | Error]:
        return ask_all(question, about, attempt=self.attempt, task=self.task)

    # --- which images -----------------------------------------------------------------------

    def _list(self) -> None:
        """List tags, and where none are needed ask for the first image of each repository,
        so that no session has to learn its way with many requests at once."""
        listings: list[_Listing] = []
        for each in self.wanted:
            if not isinstance(each, RepositoryWanted):
                continue
            if each.tags is not None:
                listings.append(_Listing(each.repository, each.registry, False, None))
                listings.extend(self._at_destination(each))
            elif self.finder.attached:
                listings.append(_Listing(each.repository, each.registry, False, _BESIDE_ONE))
        self.listings = self._ask_all(self._tags, listings)

    def _at_destination(self, wanted: RepositoryWanted) -> Iterator[_Listing]:
        if self.target.place != "docker":
            return
        place = self.finder.place(wanted.repository)
        yield _Listing(place, self.target.registry, True, _OF_DESTINATION)

    def _tags(self, listing: _Listing) -> list[str]:
        if not listing.push:
            return self.transports.list_tags(listing.repository, listing.registry, listing.limit)
        from imgtools.transport.registry.pull.tags import tags_of

        # With the right to push, so that one token serves the whole run.
        repository = self.transports.repository(listing.repository, listing.registry, push=True)
        try:
            return tags_of(repository, listing.limit)
        except ImageNotFound:
            return []

    def _images(self, wanted: Wanted) -> list[Image]:
        """The images of one source; that its tags cannot be listed is noted, or raised of
        the only source."""
        tags: list[str] | Error = []
        if isinstance(wanted, RepositoryWanted) and wanted.tags is not None:
            tags = self.listings[_Listing(wanted.repository, wanted.registry, False, None)]
        alone = len(self.wanted) == 1
        if isinstance(tags, Error):
            if alone:
                raise tags
            self.failures.append((wanted.name, tags))
            return []
        found = self.finder.images(wanted, tags)
        if not found and alone:
            raise InvalidInput(f"No images to sync found in {wanted.name!r}")
        if not found:
            self.finder.warnings.append(f"{wanted.name}: No refs to sync found")
        return found

    # --- what they are ----------------------------------------------------------------------

    def _look(self, images: Iterable[Image]) -> list[ImageFact]:
        """The facts of images: one question for each name."""
        wanted = list(images)
        absent = self._known_absent(wanted)
        # Both sides in turns, so that each has half of the connections.
        sides = [
            (number, at_source)
            for number in range(len(wanted))
            for at_source in (True, False)
            if at_source or number not in absent
        ]

        def ask(side: tuple[int, bool]) -> Descriptor | None:
            number, at_source = side
            return self._side(wanted[number], at_source)

        answers = self._ask_all(ask, self._first(wanted, sides))
        answers |= self._ask_all(ask, (s for s in sides if s not in answers))
        facts: list[ImageFact] = []
        for number, image in enumerate(wanted):
            top, current = answers[number, True], answers.get((number, False))
            error = next((each for each in (top, current) if isinstance(each, Error)), None)
            facts.append(
                ImageFact(
                    image=image,
                    top=top if isinstance(top, Descriptor) else None,
                    root=top if isinstance(top, Descriptor) else None,
                    current=current if isinstance(current, Descriptor) else None,
                    whole=self._whole(image, top, current),
                    error=error,
                )
            )
        return self._chosen(facts)

    def _first(self, images: list[Image], sides: list[tuple[int, bool]]) -> list[tuple[int, bool]]:
        """One question for each registry that has many to answer and none before, so that
        a single one learns what proof of who we are it wants."""
        listed = {(not key.push, key.repository.registry) for key in self.listings}
        lanes: dict[tuple[bool, str], list[tuple[int, bool]]] = {}
        for number, at_source in sides:
            reference = images[number].reference if at_source else images[number].place
            if reference is not None and (at_source, reference.registry) not in listed:
                lanes.setdefault((at_source, reference.registry), []).append((number, at_source))
        return [lane[0] for lane in lanes.values() if len(lane) >= _MANY]

    def _side(self, image: Image, at_source: bool) -> Descriptor | None:
        if not at_source:
            return self._current(image)
        if self.admit is not None:
            self.admit(image.source)
        options = SourceOptions(registry=image.registry, tmpdir=self.options.tmpdir)
        with self.transports.open_source(image.source, options) as source:
            return source.resolve()

    def _current(self, image: Image) -> Descriptor | None:
        name = image.destination
        if name.transport == "dir" and not os.path.lexists(name.rest):
            return None
        options = DestinationOptions(registry=self.target.registry)
        with self.transports.open_destination(name, options) as destination:
            return destination.current()

    def _whole(self, image: Image, *both: Descriptor | Error | None) -> bool:
        """Whether a directory has the source's index and every manifest below it."""
        top, current = both
        if not isinstance(top, Descriptor) or not isinstance(current, Descriptor):
            return False
        if image.place is not None or not _is_index(top) or top.digest != current.digest:
            return False
        from imgtools.copy.walk import Tree

        def read() -> bool:
            with self.transports.open_source(image.destination, SourceOptions()) as source:
                Tree(source, self.task).add(source.top())
            return True

        return answer(read) is True

    def _known_absent(self, images: list[Image]) -> set[int]:
        """The numbers of the images that are not among the destination's tags."""
        known = {
            listing.repository: frozenset(tags)
            for listing, tags in self.listings.items()
            if listing.push and not isinstance(tags, Error) and len(tags) < _OF_DESTINATION
        }
        return {
            number
            for number, image in enumerate(images)
            if image.place is not None
            and image.place.digest is None
            and image.place.tag not in known.get(bare(image.place), (image.place.tag,))
        }

    def _chosen(self, facts: list[ImageFact]) -> list[ImageFact]:
        """The facts with the instance in place of an index of which one is wanted."""
        if self.options.all or self.options.format:
            return facts
        images = {
            (fact.image.registry, bare(fact.image.reference), fact.top): fact.image
            for fact in facts
            if fact.image.reference and not fact.image.whole and fact.top and _is_index(fact.top)
        }
        chosen = self._ask_all(self._instance, images)
        done: list[ImageFact] = []
        for fact in facts:
            if fact.image.reference is None or fact.top is None or fact.image.whole:
                done.append(fact)
                continue
            root = chosen.get((fact.image.registry, bare(fact.image.reference), fact.top), fact.top)
            if isinstance(root, Error):
                done.append(replace(fact, error=fact.error or root, root=None))
            else:
                done.append(replace(fact, root=root))
        return done

    def _instance(self, key: tuple[RegistryOptions, Reference, Descriptor]) -> Descriptor:
        from imgtools.copy.walk import choose

        registry, repository, index = key
        name = ImageName(transport="docker", rest=f"//{repository.with_digest(index.digest)}")
        options = SourceOptions(registry=registry, tmpdir=self.options.tmpdir)
        with self.transports.open_source(name, options) as source:
            return choose(source, source.top(), self._platform())

    def _platform(self) -> Platform:
        if self.options.platform is not None:
            return self.options.platform
        host = os.uname()
        return from_machine(host.sysname.lower(), host.machine)

    # --- what else is known -----------------------------------------------------------------

    def _known_tags(self) -> dict[tuple[RegistryOptions, Reference], frozenset[str]]:
        """The tags of source repositories of which all are known."""
        return {
            (listing.registry, listing.repository): frozenset(tags)
            for listing, tags in self.listings.items()
            if not listing.push
            and not isinstance(tags, Error)
            and (listing.limit is None or len(tags) < listing.limit)
        }

    def _occupied(self, facts: list[ImageFact]) -> frozenset[Reference]:
        listed = {
            listing.repository
            for listing, tags in self.listings.items()
            if listing.push and tags and not isinstance(tags, Error)
        }
        seen = {bare(f.image.place) for f in facts if f.image.place and f.current}
        return frozenset(listed | seen)


def _once(images: Iterable[Image]) -> list[Image]:
    """The images without those that are wanted twice under one name."""
    found: dict[tuple[ImageName, ImageName], Image] = {}
    for image in images:
        found.setdefault((image.source, image.destination), image)
    return list(found.values())


def _is_index(descriptor: Descriptor) -> bool:
    return mt.kind(descriptor.media_type) == "index"

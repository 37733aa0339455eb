"""The decision of a sync: a survey in, a printable plan out. Pure.

Names that point at the same manifest are one unit, copied once. What is attached to an
image belongs to its unit and is put between the image's content and its name, so that who
sees the name finds the signature.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from imgtools.errors import Error, InvalidInput
from imgtools.frozen import dataclass
from imgtools.spec import media_type as mt
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest
from imgtools.spec.reference import ImageName, Reference
from imgtools.sync.facts import Image, ImageFact, Pair, ReferrerFact, Survey
from imgtools.sync.options import SyncOptions, Target

Decision = Literal["new", "changed", "same", "unsure", "failed"]
"""Unsure is what only a copy can find out, because the manifest is going to be converted or
the directory lacks some of an index's instances."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageAction:
    """What is to be done about an image; `root` is what is copied, `error` why it cannot be."""

    image: Image
    decision: Decision
    root: Descriptor | None = None
    current: Descriptor | None = None
    error: Error | None = None

    @property
    def pending(self) -> bool:
        """Whether something has to be written, or may have to be."""
        return self.decision in ("new", "changed", "unsure")


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """What is done by one worker, in this order: content, what is attached, names.

    `images` all get the manifest `root` (or, without `pair`, are one image on its own),
    `tags` are names made of its digest, `referrers` manifests that the destination lacks.
    """

    images: tuple[ImageAction, ...] = ()
    tags: tuple[ImageAction, ...] = ()
    referrers: tuple[ReferrerFact, ...] = ()
    pair: Pair | None = None
    root: Descriptor | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncPlan:
    """Everything a sync is going to do; `render` and `plan_json` show it.

    `images` has all images in the order of the sources, `units` the work that is left to do.
    """

    target: Target
    sources: int
    images: tuple[ImageAction, ...]
    units: tuple[Unit, ...] = ()
    referrers: tuple[ReferrerFact, ...] = ()
    failures: tuple[tuple[str, Error], ...] = ()
    warnings: tuple[str, ...] = ()
    occupied: frozenset[Reference] = frozenset()

    def count(self, *decisions: Decision) -> int:
        """How many images were decided so."""
        return sum(action.decision in decisions for action in self.images)


def plan_sync(survey: Survey, options: SyncOptions) -> SyncPlan:
    """What a sync has to do.

    Raises InvalidInput when two different images would get one name.
    """
    actions = [_action(fact, survey.target, options) for fact in _distinct(survey.images)]
    return SyncPlan(
        target=survey.target,
        sources=survey.sources,
        images=tuple(actions),
        units=tuple(_units(actions, survey.referrers, options)),
        referrers=survey.referrers,
        failures=survey.failures,
        warnings=survey.warnings,
        occupied=survey.occupied,
    )


def _distinct(facts: Iterable[ImageFact]) -> list[ImageFact]:
    """The facts, with one for each destination."""
    found: dict[ImageName, ImageFact] = {}
    for fact in facts:
        name = fact.image.destination
        other = found.setdefault(name, fact)
        if other is fact:
            continue
        if other.root is None or fact.root is None or other.root.digest != fact.root.digest:
            raise InvalidInput(
                f"two images would be {shown(name)}: {shown(other.image.source)} "
                f"and {shown(fact.image.source)}",
                hint="--scoped keeps the names of their sources apart",
            )
    return list(found.values())


def _action(fact: ImageFact, target: Target, options: SyncOptions) -> ImageAction:
    return ImageAction(
        image=fact.image,
        decision=_decide(fact, target, options),
        root=fact.root,
        current=fact.current,
        error=fact.error,
    )


def _decide(fact: ImageFact, target: Target, options: SyncOptions) -> Decision:
    root, current = fact.root, fact.current
    if fact.error is not None:
        return "failed"
    if current is None:
        return "new"
    if root is None or options.format:
        return "unsure"
    is_index = mt.kind(root.media_type) == "index"
    if fact.image.reference is None and is_index and not options.all:
        # Which instance of a directory's index it is, is the copy's to find out.
        return "unsure"
    if current.digest != root.digest:
        return "changed"
    return "unsure" if is_index and target.place == "dir" and not fact.whole else "same"


def _units(
    actions: list[ImageAction], referrers: tuple[ReferrerFact, ...], options: SyncOptions
) -> list[Unit]:
    images: dict[tuple[Pair, Digest], list[ImageAction]] = {}
    tags: dict[tuple[Pair, Digest], list[ImageAction]] = {}
    missing: dict[tuple[Pair, Digest], list[ReferrerFact]] = {}
    alone: list[Unit] = []
    for action in actions:
        pair = action.image.pair
        if not action.pending:
            continue
        if pair is None or not _shares(action, options):
            alone.append(Unit(images=(action,)))
        elif action.image.owner is not None:
            tags.setdefault((pair, action.image.owner), []).append(action)
        elif action.root is not None:
            images.setdefault((pair, action.root.digest), []).append(action)
    for fact in referrers:
        if not fact.present:
            missing.setdefault((fact.pair, fact.owner), []).append(fact)
    shared = [
        Unit(
            images=tuple(images.get(key, ())),
            tags=tuple(tags.get(key, ())),
            referrers=tuple(missing.get(key, ())),
            pair=key[0],
            root=images[key][0].root if key in images else None,
        )
        for key in dict.fromkeys((*images, *tags, *missing))
    ]
    return [*alone, *shared]


def _shares(action: ImageAction, options: SyncOptions) -> bool:
    """Whether names of the same manifest can be given without copying it again.

    A schema 1 manifest has a name in it, and a conversion may depend on the destination.
    """
    root, place = action.root, action.image.place
    if root is None or options.format or (place is not None and place.digest is not None):
        return False
    return mt.kind(root.media_type) in ("manifest", "index")


def shown(name: ImageName) -> str:
    """A name as skopeo prints it."""
    return str(name)

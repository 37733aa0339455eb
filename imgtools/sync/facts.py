"""What a survey finds: images with their names on both sides, and what those names hold.

Frozen data without any decision; later selectors, journals and bundles can be made of it.
"""

from __future__ import annotations

from dataclasses import field

from imgtools.errors import Error
from imgtools.frozen import dataclass
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest
from imgtools.spec.reference import ImageName, Reference
from imgtools.sync.options import Target
from imgtools.transport.options import RegistryOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """An image to be synced: its names, and which of how many of its source it is.

    `reference` is None for a `dir:` source. `whole` images are copied with all that they
    name, whatever the options say. `subject` is the digest that a tag such as
    `sha256-HEX.sig` is about, `owner` the image of this run that it belongs to.
    """

    source: ImageName
    destination: ImageName
    registry: RegistryOptions
    reference: Reference | None = None
    place: Reference | None = None
    number: int = 1
    of: int = 1
    whole: bool = False
    subject: Digest | None = None
    owner: Digest | None = None

    @property
    def pair(self) -> Pair | None:
        """The two repositories, None unless both sides are in registries."""
        if self.reference is None or self.place is None:
            return None
        return Pair(bare(self.reference), bare(self.place), self.registry)


@dataclass(frozen=True, slots=True)
class Pair:
    """A repository, the one that its images go to, and how the first is reached."""

    source: Reference
    destination: Reference
    registry: RegistryOptions


def bare(reference: Reference) -> Reference:
    """The repository alone."""
    return Reference(registry=reference.registry, repository=reference.repository)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFact:
    """What was found about an image.

    `top` is what the source's name points at and `root` what is to be copied of it: the
    same, or the instance for the platform. `current` is what the destination's name holds.
    `whole` says of an index in a directory that its instances are there too. `error` says
    why the source or the destination could not be looked at.
    """

    image: Image
    top: Descriptor | None = None
    root: Descriptor | None = None
    current: Descriptor | None = None
    whole: bool = False
    error: Error | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferrerFact:
    """A manifest that refers to `subject`, and whether the destination knows that; `owner`
    is the image of this run that it belongs to."""

    pair: Pair
    subject: Digest
    owner: Digest
    descriptor: Descriptor
    present: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """All that was found.

    `sources` counts those that had images. `failures` are sources, or what is attached to
    their images, that could not be listed. `occupied` are the repositories at the
    destination that hold something already.
    """

    target: Target
    sources: int
    images: tuple[ImageFact, ...]
    referrers: tuple[ReferrerFact, ...] = ()
    failures: tuple[tuple[str, Error], ...] = ()
    warnings: tuple[str, ...] = ()
    occupied: frozenset[Reference] = field(default_factory=frozenset)

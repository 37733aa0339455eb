"""What a sync is asked to do, as frozen data."""

from __future__ import annotations

from dataclasses import field

from imgtools.errors import InvalidInput, Unsupported
from imgtools.frozen import dataclass
from imgtools.spec.platform import Platform
from imgtools.spec.reference import Reference
from imgtools.sync.names import Place
from imgtools.sync.tags import TagFilter
from imgtools.transport.options import RegistryOptions

PLACES: tuple[Place, ...] = ("docker", "dir")


@dataclass(frozen=True, slots=True, kw_only=True)
class RepositoryWanted:
    """Images of one repository: those that `explicit` names by tag or digest and, of all its
    tags, those that `tags` lets through (None: no others)."""

    repository: Reference
    registry: RegistryOptions
    explicit: tuple[Reference, ...] = ()
    tags: TagFilter | None = None

    @property
    def name(self) -> str:
        """By what it is called in messages."""
        return self.repository.name


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectoryWanted:
    """All images in and below a directory, each a `dir:` image."""

    path: str

    @property
    def name(self) -> str:
        """By what it is called in messages."""
        return self.path


Wanted = RepositoryWanted | DirectoryWanted


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where images go: below a registry and path, or below a directory."""

    place: Place
    base: str
    registry: RegistryOptions = field(default_factory=RegistryOptions)


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncOptions:
    """How images are copied and named.

    `scoped` and `append_suffix` are about names, see `destination_name`. Of an index, `all`
    copies everything, else the one instance for `platform` (None: that of this machine).
    `format`, `preserve_digests`, `remove_signatures` and `tmpdir` are as in CopyOptions.
    `referrers` also brings what is attached to an image (signatures, attestations, SBOMs),
    by the referrers API or by tags made of the digest; None means where the destination can
    hold them. `keep_going` goes on after the failure of an image. At most `images_at_once`
    are copied in parallel, each with at most as many transfers as the task has jobs.
    """

    scoped: bool = False
    append_suffix: str = ""
    all: bool = False
    platform: Platform | None = None
    format: str = ""
    preserve_digests: bool = False
    remove_signatures: bool = False
    referrers: bool | None = None
    keep_going: bool = False
    images_at_once: int = 8
    tmpdir: str | None = None

    def __post_init__(self) -> None:
        if self.images_at_once < 1:
            raise InvalidInput("at least one image has to be copied at a time")

    def attached(self, place: Place) -> bool:
        """Whether what is attached to images comes too; raises Unsupported."""
        if place == "dir" and self.referrers:
            raise Unsupported(
                "dir: cannot hold referrers", hint="sync to a registry, or without --referrers"
            )
        return place == "docker" and self.referrers is not False

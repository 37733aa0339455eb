"""Tags made of digests, such as cosign's `sha256-HEX.sig`, that come with an image.

They are no referrers: nothing but their names says what they are about. So the tags of the
source are listed, and those of the copied manifests copied as images of their own, with those of
what they name in turn. A layout has them as further names in its index.json.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from imgtools.copy.api import copy_image
from imgtools.copy.attached_images import CheckName, by_its_name
from imgtools.copy.execute import CopyResult
from imgtools.copy.options import CopyOptions, Selection
from imgtools.errors import ImageNotFound, LimitExceeded
from imgtools.frozen import dataclass
from imgtools.image.select import is_manifest_entry
from imgtools.spec import media_type as mt
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest
from imgtools.spec.digest_tag import subject_of_tag
from imgtools.spec.manifest import Index, parse
from imgtools.spec.reference import ImageName
from imgtools.task import Task
from imgtools.transport.base import Destination, Source
from imgtools.transport.names import parse_local_name
from imgtools.transport.options import DestinationOptions, SourceOptions
from imgtools.transport.table import Transports, registry_reference

HOLDERS = frozenset({"docker", "oci"})
"""The transports that such tags can be copied to."""

_SOURCES = HOLDERS | {"oci-archive"}
_DEEPEST = 8

Merge = Callable[[ImageName, ImageName], int | None]
"""Adds what a tag of the source names to what the same tag of the destination does; how much was
new, None for what is not to be merged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sibling:
    """A tag that was copied: what it names at the source, and what became of it."""

    tag: str
    digest: Digest
    outcome: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Siblings:
    """Two images whose places have tags, and how they are reached. With `merge` what others
    have put into an attachment at the destination stays there; without, it is replaced.
    `check_name` is policy, which is asked about what can be run."""

    source: ImageName
    destination: ImageName
    source_options: SourceOptions
    destination_options: DestinationOptions
    transports: Transports
    merge: Merge | None = None
    check_name: CheckName | None = None

    @property
    def held(self) -> bool:
        """Whether the destination can have such tags."""
        return self.destination.transport in HOLDERS

    def tags(self) -> tuple[str, ...]:
        """The tags of the source that are made of digests, but for fallback tags, whose
        entries are referrers. Raises what listing tags does."""
        return tuple(tag for tag in self._listed() if (subject_of_tag(tag) or ("", ""))[1])

    def copy(self, tags: Iterable[str], digests: Iterable[Digest], *, task: Task) -> list[Sibling]:
        """Copy those of `tags` that are about `digests`, or about what was copied for them.

        Raises what a copy does, and LimitExceeded for a chain that nobody would make.
        """
        left = dict.fromkeys(tags)
        level, done = set(digests), list[Sibling]()
        for _ in range(_DEEPEST):
            wanted = about(left, level)
            if not wanted:
                return done
            for tag in wanted:
                del left[tag]
            results = [self._copy(tag, task) for tag in wanted]
            done += results
            level = {result.digest for result in results}
        raise LimitExceeded("the chain of tags made of digests", _DEEPEST, unit="levels")

    def _listed(self) -> list[str]:
        if self.source.transport == "docker":
            reference = registry_reference(self.source)
            return self.transports.list_tags(reference, self.source_options.registry)
        if self.source.transport not in _SOURCES:
            return []
        from imgtools.transport.layout_index import names_of
        from imgtools.transport.oci_layout import LayoutSource

        with self.transports.open_source(self.source, self.source_options) as source:
            return names_of(source.entries) if isinstance(source, LayoutSource) else []

    def _copy(self, tag: str, task: Task) -> Sibling:
        there, here = named(self.source, tag), named(self.destination, tag)
        options = CopyOptions(selection=Selection(mode="all"), blobs_likely=True)
        with (
            self.transports.open_source(there, self.source_options) as source,
            self.transports.open_destination(here, self.destination_options) as destination,
        ):
            if self.merge is not None and _differ(source, destination):
                new = self.merge(there, here)
                if new is not None:
                    outcome = f"merged ({new} new)" if new else "up to date"
                    return Sibling(tag=tag, digest=source.resolve().digest, outcome=outcome)
            admit = by_its_name(self.check_name, there) if self.check_name is not None else None
            result = copy_image(source, destination, options, admit=admit, task=task)
        return Sibling(
            tag=tag,
            digest=result.top.digest,
            outcome="up to date" if result.up_to_date else "copied",
        )


def named(name: ImageName, tag: str) -> ImageName:
    """The image at another tag of the same place."""
    if name.transport == "docker":
        return ImageName(transport="docker", rest=f"//{registry_reference(name).with_tag(tag)}")
    path = parse_local_name(name.transport, name.rest).path
    return ImageName(transport=name.transport, rest=f"{path}:{tag}")


def about(tags: Iterable[str], digests: Iterable[Digest]) -> list[str]:
    """The tags that are made of one of `digests`."""
    wanted = frozenset(digests)
    return [tag for tag in tags if (found := subject_of_tag(tag)) and found[0] in wanted]


def copied_digests(source: Source, root: Descriptor, result: CopyResult | None) -> set[Digest]:
    """The manifests that a copy of `root` leaves at the destination as they are: of its
    `result`, or without one (or of a copy that found nothing to do) all below `root`."""
    if result is not None and not result.up_to_date:
        return {done.old for done in result.manifests if done.old == done.new.digest}
    found = {root.digest}
    if mt.kind(root.media_type) == "index":
        view = parse(source.manifest(root))
        if isinstance(view, Index):
            found.update(entry.digest for entry in view.manifests if is_manifest_entry(entry))
    return found


def _differ(source: Source, destination: Destination) -> bool:
    """Whether both have the tag, and not for the same."""
    there = destination.current()
    if there is None:
        return False
    try:
        return source.resolve().digest != there.digest
    except ImageNotFound:
        return False

"""Tags made of digests, such as cosign's `sha256-HEX.sig`, that come with an image.

They are no referrers: nothing but their names says what they are about. So the tags of the
source's repository are listed, and those of the copied manifests copied as images of their
own, with those of what they name in turn.
"""

from __future__ import annotations

from collections.abc import Iterable

from imgtools.copy.api import copy_image
from imgtools.copy.execute import CopyResult
from imgtools.copy.options import CopyOptions, Selection
from imgtools.errors import LimitExceeded
from imgtools.frozen import dataclass
from imgtools.image.select import is_manifest_entry
from imgtools.spec import media_type as mt
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest
from imgtools.spec.digest_tag import subject_of_tag
from imgtools.spec.manifest import Index, parse
from imgtools.spec.reference import ImageName, Reference
from imgtools.task import Task
from imgtools.transport.base import Source
from imgtools.transport.options import DestinationOptions, SourceOptions
from imgtools.transport.table import Transports

_DEEPEST = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Siblings:
    """Two repositories in registries, and how they are reached."""

    source: Reference
    destination: Reference
    source_options: SourceOptions
    destination_options: DestinationOptions
    transports: Transports

    def tags(self) -> tuple[str, ...]:
        """The tags of the source that are made of digests, but for fallback tags, whose
        entries are referrers. Raises what listing tags does."""
        listed = self.transports.list_tags(self.source, self.source_options.registry)
        return tuple(tag for tag in listed if (subject_of_tag(tag) or ("", ""))[1])

    def copy(
        self, tags: Iterable[str], digests: Iterable[Digest], *, task: Task
    ) -> list[CopyResult]:
        """Copy those of `tags` that are about `digests`, or about what was copied for them.

        Raises what a copy does, and LimitExceeded for a chain that nobody would make.
        """
        left = dict.fromkeys(tags)
        level, done = set(digests), list[CopyResult]()
        for _ in range(_DEEPEST):
            wanted = about(left, level)
            if not wanted:
                return done
            for tag in wanted:
                del left[tag]
            results = [self._copy(tag, task) for tag in wanted]
            done += results
            level = {result.top.digest for result in results}
        raise LimitExceeded("the chain of tags made of digests", _DEEPEST, unit="levels")

    def _copy(self, tag: str, task: Task) -> CopyResult:
        def name(reference: Reference) -> ImageName:
            return ImageName(transport="docker", rest=f"//{reference.with_tag(tag)}")

        options = CopyOptions(selection=Selection(mode="all"), blobs_likely=True)
        with (
            self.transports.open_source(name(self.source), self.source_options) as source,
            self.transports.open_destination(
                name(self.destination), self.destination_options
            ) as destination,
        ):
            return copy_image(source, destination, options, task=task)


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

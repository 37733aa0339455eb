"""The tags of cosign beside an image that is copied with --referrers, on the command line."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from imgtools.frozen import dataclass
from imgtools.spec.reference import ImageName
from imgtools.task import Note, Task
from imgtools.transport.base import Source
from imgtools.transport.options import DestinationOptions, SourceOptions
from imgtools.transport.table import Transports

if TYPE_CHECKING:
    from imgtools.copy import CopyPlan, CopyResult
    from imgtools.copy.attached_images import CheckName
    from imgtools.copy.siblings import Siblings


@dataclass(frozen=True, slots=True, kw_only=True)
class Ends:
    """Both names with the options for opening them."""

    names: tuple[ImageName, ImageName]
    source: SourceOptions
    destination: DestinationOptions


def copy_attached(
    transports: Transports,
    ends: Ends,
    source: Source,
    result: CopyResult,
    check_name: CheckName | None,
    task: Task,
) -> None:
    """Copy the tags that are about what was copied; each is a note. What is left behind, and
    why, is a warning. `check_name` is policy about them, None for none."""
    from imgtools.copy.siblings import about, copied_digests

    siblings = replace(_siblings(transports, ends, task), check_name=check_name)
    tags = siblings.tags()
    digests = copied_digests(source, result.top, result)
    if not siblings.held:
        _left(about(tags, digests), f"{ends.names[1].transport}: has no place for them", task)
        return
    changed = {done.old for done in result.manifests if done.old != done.new.digest}
    _left(about(tags, changed), "the manifests that they are about have changed", task)
    for each in siblings.copy(tags, digests, task=task):
        task.progress(Note("info", f"{each.outcome} {each.tag}: {each.digest}"))


def attached_tags(
    transports: Transports, ends: Ends, source: Source, plan: CopyPlan, task: Task
) -> list[str]:
    """The tags that would be copied with the image."""
    from imgtools.copy.siblings import about, copied_digests

    siblings = _siblings(transports, ends, task)
    if not siblings.held:
        return []
    return about(siblings.tags(), copied_digests(source, plan.root, None))


def _left(tags: list[str], why: str, task: Task) -> None:
    if tags:
        task.warn(f"not copied, because {why}: {', '.join(tags)}")


def _siblings(transports: Transports, ends: Ends, task: Task) -> Siblings:
    from imgtools.copy.siblings import Siblings
    from imgtools.sign.stores.merging import Merging

    destination = replace(ends.destination, additional_tags=())
    return Siblings(
        source=ends.names[0],
        destination=ends.names[1],
        source_options=ends.source,
        destination_options=destination,
        transports=transports,
        merge=Merging(transports, ends.source, destination, task=task),
    )

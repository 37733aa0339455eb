"""`inspect --referrers`: what is attached to an image, such as signatures and attestations.

The tree below the manifest that a name points at and, for an index, below each of its
entries; what is attached has attachments of its own. What there is beside referrers, and what
each of it is, is known to whoever gives a `List`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from imgtools.errors import LimitExceeded
from imgtools.frozen import dataclass
from imgtools.inspect.instances import MAX_INSTANCES
from imgtools.inspect.text import human_size, printable
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest
from imgtools.spec.manifest import Index, parse
from imgtools.task import Task, WorkerPool
from imgtools.transport.base import Source

MAX_DEPTH = 16
"""Referrers of referrers that are followed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One thing that is attached, or one of the `contents` of an image at a `tag`.

    `kind` and `predicate_type` are "" where they are not known; `claimed` is who says that
    they signed it, which nobody has verified.
    """

    descriptor: Descriptor
    kind: str = ""
    predicate_type: str = ""
    claimed: str = ""
    tag: str = ""
    contents: tuple[Item, ...] = ()
    leaf: bool = False

    def to_json(self) -> dict[str, Any]:
        """What the object for machines has of it beside its descriptor."""
        return {
            "Kind": self.kind or None,
            "PredicateType": self.predicate_type or None,
            "ClaimedSigner": self.claimed or None,
            "Tag": self.tag or None,
            "Contents": [
                {
                    "Digest": str(each.descriptor.digest),
                    "MediaType": each.descriptor.media_type,
                    "Size": each.descriptor.size,
                    "Kind": each.kind or None,
                    "PredicateType": each.predicate_type or None,
                    "ClaimedSigner": each.claimed or None,
                }
                for each in self.contents
            ],
        }


List = Callable[[Descriptor], Iterable[Item]]
"""What is attached to one manifest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Referred:
    """A manifest and what is attached to it; the platform is that of an index's entry, `item`
    None for what nothing else was asked about than that it is there."""

    descriptor: Descriptor
    referrers: tuple[Referred, ...] = ()
    item: Item | None = None

    def to_json(self) -> dict[str, Any]:
        """The object for machines."""
        descriptor = self.descriptor
        return {
            **(self.item.to_json() if self.item is not None else {}),
            "Digest": str(descriptor.digest),
            "MediaType": descriptor.media_type,
            "ArtifactType": descriptor.artifact_type or None,
            "Platform": None if descriptor.platform is None else descriptor.platform.to_json(),
            "Size": descriptor.size,
            "Annotations": dict(descriptor.annotations) or None,
            "Referrers": [referrer.to_json() for referrer in self.referrers],
        }


def read_referrers(
    source: Source, *, listed: List | None = None, task: Task
) -> tuple[Referred, ...]:
    """The manifest that the name points at, then the entries of an index that have referrers,
    each with what `listed` says is attached (None: its referrers, as they are listed).

    Raises ImageNotFound, LimitExceeded, and what the source and `listed` raise.
    """
    top = source.top()
    parsed = parse(top)
    subjects = [top.descriptor()]
    if isinstance(parsed, Index):
        subjects += parsed.manifests
    if len(subjects) > MAX_INSTANCES:
        raise LimitExceeded("number of instances", MAX_INSTANCES, unit="entries")
    room = _Room(MAX_INSTANCES)
    look = listed or (lambda subject: map(_plain, source.referrers(subject.digest)))
    with WorkerPool(task) as pool:
        found = pool.map(lambda subject: _referred(look, subject, frozenset(), room), subjects)
    return tuple(one for number, one in enumerate(found) if number == 0 or one.referrers)


def referrer_lines(trees: tuple[Referred, ...]) -> Iterator[str]:
    """The trees for people."""
    for tree in trees:
        platform = tree.descriptor.platform
        yield str(tree.descriptor.digest) + (f"  {printable(str(platform))}" if platform else "")
        if not tree.referrers:
            yield "  (nothing refers to it)"
        yield from _below(tree, "")


def _below(tree: Referred, indent: str) -> Iterator[str]:
    for number, referrer in enumerate(tree.referrers):
        is_last = number + 1 == len(tree.referrers)
        descriptor = referrer.descriptor
        branch = "└── " if is_last else "├── "
        yield f"{indent}{branch}{descriptor.digest}  {_words(descriptor, referrer.item)}"
        further = indent + ("    " if is_last else "│   ")
        for each in referrer.item.contents if referrer.item is not None else ():
            yield f"{further}- {each.descriptor.digest}  {_words(each.descriptor, each)}"
        yield from _below(referrer, further)


def _words(descriptor: Descriptor, item: Item | None) -> str:
    """A line about one thing: what it is, its types, its size, and who says they signed it."""
    kind = item.kind if item is not None else ""
    tag = item.tag.partition(".")[2] if item is not None else ""
    words = [
        kind,
        f"tag .{tag}" if tag else "",
        descriptor.artifact_type or descriptor.media_type,
        item.predicate_type if item is not None else "",
        human_size(descriptor.size),
        f"(says it is by {item.claimed}, unverified)" if item is not None and item.claimed else "",
    ]
    return printable("  ".join(word for word in words if word))


def _plain(descriptor: Descriptor) -> Item:
    return Item(descriptor=descriptor)


class _Room:
    """How many referrers may still be listed, in all threads together: they may refer to
    each other in more ways than there is time for."""

    def __init__(self, left: int) -> None:
        self._lock = threading.Lock()
        self._left = left

    def take(self) -> None:
        """Count one; raises LimitExceeded."""
        with self._lock:
            self._left -= 1
            if self._left < 0:
                raise LimitExceeded("number of referrers", MAX_INSTANCES, unit="entries")


def _referred(
    look: List,
    subject: Descriptor,
    above: frozenset[Digest],
    room: _Room,
    item: Item | None = None,
) -> Referred:
    if subject.digest in above or len(above) > MAX_DEPTH or (item is not None and item.leaf):
        return Referred(descriptor=subject, item=item)
    way = above | {subject.digest}
    found: list[Referred] = []
    for each in look(subject):
        room.take()
        found.append(_referred(look, each.descriptor, way, room, each))
    return Referred(descriptor=subject, referrers=tuple(found), item=item)

"""`inspect --referrers`: what refers to an image, such as signatures and attestations.

The tree below the manifest that a name points at and, for an index, below each of its
entries; referrers have referrers of their own.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
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
class Referred:
    """A manifest and what refers to it; the platform is that of an index's entry."""

    descriptor: Descriptor
    referrers: tuple[Referred, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The object for machines."""
        descriptor = self.descriptor
        return {
            "Digest": str(descriptor.digest),
            "MediaType": descriptor.media_type,
            "ArtifactType": descriptor.artifact_type or None,
            "Platform": None if descriptor.platform is None else descriptor.platform.to_json(),
            "Size": descriptor.size,
            "Annotations": dict(descriptor.annotations) or None,
            "Referrers": [referrer.to_json() for referrer in self.referrers],
        }


def read_referrers(source: Source, *, task: Task) -> tuple[Referred, ...]:
    """The manifest that the name points at, then the entries of an index that have referrers.

    Raises ImageNotFound, LimitExceeded, and what the source raises.
    """
    top = source.top()
    parsed = parse(top)
    subjects = [top.descriptor()]
    if isinstance(parsed, Index):
        subjects += parsed.manifests
    if len(subjects) > MAX_INSTANCES:
        raise LimitExceeded("number of instances", MAX_INSTANCES, unit="entries")
    room = _Room(MAX_INSTANCES)
    with WorkerPool(task) as pool:
        found = pool.map(lambda subject: _referred(source, subject, frozenset(), room), subjects)
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
        kind = printable(descriptor.artifact_type or descriptor.media_type)
        branch = "└── " if is_last else "├── "
        yield f"{indent}{branch}{descriptor.digest}  {kind}  {human_size(descriptor.size)}"
        yield from _below(referrer, indent + ("    " if is_last else "│   "))


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
    source: Source, subject: Descriptor, above: frozenset[Digest], room: _Room
) -> Referred:
    if subject.digest in above or len(above) > MAX_DEPTH:
        return Referred(descriptor=subject)
    way = above | {subject.digest}
    found: list[Referred] = []
    for descriptor in source.referrers(subject.digest):
        room.take()
        found.append(_referred(source, descriptor, way, room))
    return Referred(descriptor=subject, referrers=tuple(found))

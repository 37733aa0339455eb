"""Reading the tree of manifests below one manifest, level by level and in parallel.

Each manifest is read once by digest, so a tree that names itself ends; depth, number and
total size are bounded, because an index is somebody else's claim.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import field
from itertools import islice

from imgtools.copy.options import Selection
from imgtools.errors import Error, LimitExceeded
from imgtools.frozen import dataclass
from imgtools.image.select import choose_instance, instances_for, is_manifest_entry
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest
from imgtools.spec.manifest import Index, Manifest, RawManifest, parse
from imgtools.spec.platform import Platform
from imgtools.spec.schema1 import Schema1
from imgtools.task import Task, WorkerPool
from imgtools.transport.base import Source

MAX_DEPTH = 8
MAX_MANIFESTS = 10_000
MAX_BYTES = 256 * 1024 * 1024
"""Bytes of all manifests of one copy; ten thousand of ordinary size are 20 MiB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A manifest of the tree: as received, its typed view, and which entries are copied."""

    raw: RawManifest
    view: Manifest | Index | Schema1
    kept: tuple[Descriptor, ...] = ()

    def children(self) -> tuple[Descriptor, ...]:
        """The kept entries that are manifests (a build cache lists blobs too)."""
        return tuple(entry for entry in self.kept if is_manifest_entry(entry))


@dataclass(slots=True)
class Tree:
    """The manifests read so far, by digest; `add` and `add_referrers` read more."""

    source: Source
    task: Task
    nodes: dict[Digest, Node] = field(default_factory=dict)
    referrers: dict[Digest, tuple[Descriptor, ...]] = field(default_factory=dict)
    _bytes: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, raw: RawManifest, selection: Selection | None = None) -> None:
        """Read the tree below `raw`; `selection` applies to `raw` only, None is everything.

        Raises LimitExceeded, NotFound for a missing child, and InvalidManifest.
        """
        self._read(raw)
        fresh = self._insert([raw], selection)
        self._descend(fresh)

    def add_referrers(self) -> None:
        """Read what refers to any node, and what refers to that, with what they consist of."""
        asked: set[Digest] = set()
        for _ in range(MAX_DEPTH):
            subjects = [digest for digest in self.nodes if digest not in asked]
            if not subjects:
                return
            asked.update(subjects)
            with WorkerPool(self.task) as pool:
                found = pool.map(self._referrers_of, subjects)
            fresh: dict[Digest, Descriptor] = {}
            for subject, descriptors in zip(subjects, found, strict=True):
                self.referrers[subject] = descriptors
                fresh.update((d.digest, d) for d in descriptors if d.digest not in self.nodes)
            self._descend(list(fresh.values()))
        if any(digest not in asked for digest in self.nodes):
            raise LimitExceeded("the chain of referrers", MAX_DEPTH, unit="levels")

    def _descend(self, level: Sequence[Descriptor]) -> None:
        for _ in range(MAX_DEPTH):
            if not level:
                return
            if len(self.nodes) + len(level) > MAX_MANIFESTS:
                raise LimitExceeded("the tree of manifests", MAX_MANIFESTS, unit="manifests")
            with WorkerPool(self.task) as pool:
                found = pool.map(self._fetch, level)
            level = self._insert(found, None)
        if level:
            raise LimitExceeded("the nesting of indexes", MAX_DEPTH, unit="levels")

    def _insert(
        self, found: Iterable[RawManifest], selection: Selection | None
    ) -> list[Descriptor]:
        """Add nodes; the children not read yet, each once."""
        fresh: dict[Digest, Descriptor] = {}
        for raw in found:
            node = _node(raw, selection)
            self.nodes[raw.digest] = node
            fresh.update((child.digest, child) for child in node.children())
        return [child for digest, child in fresh.items() if digest not in self.nodes]

    def _fetch(self, descriptor: Descriptor) -> RawManifest:
        try:
            raw = self.source.manifest(descriptor)
        except Error as e:
            if str(descriptor.digest) in e.message:
                raise
            raise e.with_context(f"manifest {descriptor.digest}") from None
        self._read(raw)
        return raw

    def _read(self, raw: RawManifest) -> None:
        with self._lock:
            self._bytes += raw.size
            if self._bytes > MAX_BYTES:
                raise LimitExceeded("the tree of manifests", MAX_BYTES)

    def _referrers_of(self, digest: Digest) -> tuple[Descriptor, ...]:
        found = tuple(islice(self.source.referrers(digest), MAX_MANIFESTS + 1))
        if len(found) > MAX_MANIFESTS:
            raise LimitExceeded(f"the referrers of {digest}", MAX_MANIFESTS, unit="manifests")
        return found


def _node(raw: RawManifest, selection: Selection | None) -> Node:
    view = parse(raw)
    if not isinstance(view, Index):
        return Node(raw=raw, view=view)
    if selection is None or selection.mode in ("all", "system"):
        return Node(raw=raw, view=view, kept=view.manifests)
    if selection.mode == "platforms":
        return Node(raw=raw, view=view, kept=instances_for(view, selection.platforms))
    return Node(raw=raw, view=view)


def choose(source: Source, raw: RawManifest, wanted: Platform) -> Descriptor:
    """The manifest of `raw`, which may be an index of indexes, that suits `wanted` best.

    The answer has not been read when it is an entry of `raw` itself. Raises NotFound when
    nothing suits, and LimitExceeded.
    """
    for _ in range(MAX_DEPTH):
        view = parse(raw)
        if not isinstance(view, Index):
            return raw.descriptor()
        chosen = choose_instance(view, wanted)
        if chosen.media_type and not _is_index(chosen):
            return chosen
        raw = source.manifest(chosen)
    raise LimitExceeded("the nesting of indexes", MAX_DEPTH, unit="levels")


def _is_index(descriptor: Descriptor) -> bool:
    from imgtools.spec import media_type as mt

    return mt.kind(descriptor.media_type) == "index"

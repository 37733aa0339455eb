"""The reads of a copy: what the source has, what the destination holds, as frozen facts.

Policy is asked as soon as a manifest is there, then the two names are compared, and only what
a difference makes necessary is read further: manifests in parallel, configs where layers
change, presence of blobs where asking is cheaper than moving.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Protocol, runtime_checkable

from imgtools.copy.decide import Rules, is_left, keeps, may_change_layers
from imgtools.copy.options import CopyOptions, Selection
from imgtools.copy.walk import MAX_BYTES, Node, Tree, choose
from imgtools.errors import LimitExceeded, Unsupported
from imgtools.frozen import dataclass
from imgtools.image.select import is_manifest_entry
from imgtools.spec import media_type as mt
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest
from imgtools.spec.manifest import Manifest, RawManifest
from imgtools.spec.platform import Platform, from_machine
from imgtools.spec.strict_json import MANIFEST_LIMIT
from imgtools.task import Task, WorkerPool
from imgtools.transport.base import Capabilities, Destination, Origin, Source

Admit = Callable[[RawManifest], object]
"""Policy: raises Rejected for a manifest, as received, that must not be copied. It is asked
about those that `to_admit` says."""


@runtime_checkable
class _KeepsSignatures(Protocol):
    """A source that has simple signatures beside its manifests."""

    def signatures(self, digest: Digest | None = None) -> Sequence[bytes]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """Facts a plan is made of.

    `root` is what is copied: the source's manifest or the instance chosen from it; `raw` its
    bytes, None when nothing has to be put. `current` is what the destination's name points
    at. `complete` says that the whole tree of `root` is known to be at the destination byte
    for byte, `named` that its name points there too; then `nodes` may lack it. `nodes` are
    the manifests by digest, `images` those of them that are the image's own in the order of
    reading, `referrers` the descriptors by subject, `configs` and `blobs`
    (present or not; absent when not asked) by digest, `manifests` those that the
    destination has.
    """

    source: Origin
    destination: Origin
    capabilities: Capabilities
    root: Descriptor
    raw: RawManifest | None
    current: Descriptor | None = None
    complete: bool = False
    named: bool = False
    nodes: Mapping[Digest, Node]
    images: tuple[Digest, ...] = ()
    referrers: Mapping[Digest, tuple[Descriptor, ...]]
    configs: Mapping[Digest, bytes]
    blobs: Mapping[Digest, bool]
    manifests: frozenset[Digest] = frozenset()


def survey(
    source: Source,
    destination: Destination,
    options: CopyOptions,
    admit: Admit | None = None,
    *,
    task: Task,
) -> Survey:
    """Read what a copy with `options` has to know; `admit` sees the manifests before any
    blob is read.

    Raises ImageNotFound, NotFound, Rejected, LimitExceeded, InvalidManifest and what the
    transports raise.
    """
    return _Surveyor(source, destination, options, admit, task).run()


class _Surveyor:
    def __init__(
        self,
        source: Source,
        destination: Destination,
        options: CopyOptions,
        admit: Admit | None,
        task: Task,
    ) -> None:
        self.source, self.destination = source, destination
        self.options, self.admit, self.task = options, admit, task
        self.rules = Rules(
            source=source.origin,
            destination=destination.origin,
            capabilities=destination.capabilities,
            options=options,
        )
        self.remote = destination.capabilities.remote
        self.current: Descriptor | None = None
        self.asked = False  # policy, about the top manifest, before it was parsed

    def run(self) -> Survey:
        if self.options.referrers and not self.rules.capabilities.referrers:
            raise Unsupported(
                f"{self.rules.destination.transport}: cannot hold referrers",
                hint="copy without --referrers",
            )
        top, head = self._tops()
        if top is None and head is not None and self._nothing_to_do(head):
            return self._result(head, None, complete=True, named=True)
        if top is None:
            top = self.source.top()
            self.task.cancel.check()
        self.asked = not top.is_index or _alone(self.options.selection)
        if self.admit is not None and self.asked:
            self.admit(top)
        root = self._root(top)
        equal = self._same(root) and self._equal(root)
        there = equal or (self._same(root) and self.rules.same_repository)
        every = self.options.referrers or self.options.entire or self.admit is not None
        if there and self._implies_children(root) and not every:
            return self._complete(root, top, named=equal)
        return self._walk(root, top, there=there, named=equal)

    def _tops(self) -> tuple[RawManifest | None, Descriptor | None]:
        """The source's manifest, or only what it is when that may be enough."""
        if not self.remote:
            self.current = self.destination.current()
            if self.current is None:
                return self.source.top(), None
            return (self.source.top(), None) if self._must_read() else (None, self.source.resolve())
        with WorkerPool(self.task) as pool:
            waiting = pool.submit(self.destination.current)
            if self._must_read():
                top, head = self.source.top(), None
            else:
                top, head = None, self.source.resolve()
            self.current = waiting.get()
        return top, head

    def _must_read(self) -> bool:
        options = self.options
        return (
            self.admit is not None
            or options.entire
            or options.differs
            or options.referrers
            or bool(options.additional_tags)
        )

    def _nothing_to_do(self, head: Descriptor) -> bool:
        """Whether equal names alone prove that nothing is left to do.

        An index in a layout or directory may be there without all of its instances, so it
        is looked at; a registry does not take an index whose instances it lacks.
        """
        if mt.kind(head.media_type) not in ("manifest", "index", "schema1"):
            return False
        return self._equal(head) and self._same(head) and self._implies_children(head)

    def _equal(self, root: Descriptor) -> bool:
        return self.current is not None and self.current.digest == root.digest

    def _root(self, top: RawManifest) -> Descriptor:
        if self.options.selection.mode != "system" or not top.is_index:
            return top.descriptor()
        return choose(self.source, top, self._platform())

    def _platform(self) -> Platform:
        if self.options.selection.platform is not None:
            return self.options.selection.platform
        host = os.uname()
        return from_machine(host.sysname.lower(), host.machine)

    def _same(self, root: Descriptor) -> bool:
        """Whether `root` would arrive byte for byte."""
        selection = self.options.selection
        is_index = mt.kind(root.media_type) == "index"
        filtered = is_index and selection.mode == "platforms" and not selection.sparse
        return keeps(self.rules, root.media_type) and not filtered

    def _implies_children(self, root: Descriptor) -> bool:
        """Whether `root` being at the destination means that what is to be copied is."""
        if mt.kind(root.media_type) != "index":
            return True
        mode = self.options.selection.mode
        return mode == "index-only" or (mode == "all" and self.remote)

    def _complete(self, root: Descriptor, top: RawManifest, *, named: bool) -> Survey:
        """Nothing but names can differ: the manifest itself is all that is needed."""
        if named and not self.options.additional_tags:
            return self._result(root, None, complete=True, named=True)
        raw = top if top.digest == root.digest else self.source.manifest(root)
        return self._result(_of(raw, root), raw, complete=True, named=named)

    def _walk(self, root: Descriptor, top: RawManifest, *, there: bool, named: bool) -> Survey:
        tree = Tree(self.source, self.task)
        raw = top if top.digest == root.digest else self.source.manifest(root)
        tree.add(raw, self.options.selection)
        if self.admit is not None:
            for found in to_admit(raw, self.options.selection, tree.nodes):
                if found.digest != top.digest or not self.asked:
                    self.admit(found)
        self._check_signatures(root, tree)
        complete = there and self._implies_children(root)
        image = tuple(tree.nodes)
        if self.options.referrers:
            tree.add_referrers()
            self._admit_attached(tree, image)
        missing = [
            node for digest, node in tree.nodes.items() if not complete or digest not in image
        ]
        manifests = self._ask_manifests(missing, root)
        complete = complete or (there and manifests | {root.digest} >= set(image))
        if self.remote:
            # Elsewhere a manifest may be there without its blobs.
            missing = [node for node in missing if node.raw.digest not in manifests]
        if complete:
            missing = [node for node in missing if node.raw.digest != root.digest]
        return self._result(
            _of(raw, root),
            raw,
            complete=complete,
            named=named and complete,
            tree=tree,
            images=image,
            configs=self._configs(missing),
            blobs=self._ask_blobs(missing),
            manifests=manifests,
        )

    def _admit_attached(self, tree: Tree, image: tuple[Digest, ...]) -> None:
        """Ask policy about what refers to the image and can be run."""
        if self.admit is None:
            return
        from imgtools.copy.attached_images import only_images

        admit = only_images(self.admit)
        for digest in tree.nodes.keys() - set(image):
            admit(tree.nodes[digest].raw)

    def _check_signatures(self, root: Descriptor, tree: Tree) -> None:
        """Refuse to lose signatures that a source such as dir: keeps beside its image."""
        options = self.options
        if options.remove_signatures or options.signatures_carried:
            return
        if not isinstance(self.source, _KeepsSignatures):
            return
        found = list(self.source.signatures())
        for digest in tree.nodes:
            found.extend(self.source.signatures(digest))
        if found:
            raise Unsupported(
                f"{self.rules.destination.transport}: cannot hold the {len(found)} signatures "
                f"of {root.digest}",
                hint="copy without them: --remove-signatures",
            )

    def _ask_manifests(self, nodes: list[Node], root: Descriptor) -> frozenset[Digest]:
        """Of the children that would arrive unchanged, those that the destination has."""
        if self.remote and self._looks_empty():
            return frozenset()
        asked = [
            node.raw.descriptor()
            for node in nodes
            if node.raw.digest != root.digest and keeps(self.rules, node.raw.media_type)
        ]
        answers = self._ask(self.destination.has_manifest, asked)
        return frozenset(digest for digest, has in answers.items() if has)

    def _ask_blobs(self, nodes: list[Node]) -> dict[Digest, bool]:
        """Whether the blobs of `nodes` are at the destination, where asking is worth it.

        A registry that mounts answers the same question with the mount itself, and an empty
        repository needs no asking.
        """
        if self.remote and (self._looks_empty() or self.rules.same_registry):
            return {}
        wanted: dict[Digest, Descriptor] = {}
        for node in nodes:
            for blob in blobs_of(node):
                if not is_left(self.rules, blob):
                    wanted.setdefault(blob.digest, blob)
        return self._ask(self.destination.has_blob, list(wanted.values()))

    def _looks_empty(self) -> bool:
        """Whether nothing is expected where the copy goes."""
        return self.current is None and not self.options.blobs_likely

    def _ask(
        self, question: Callable[[Descriptor], bool], about: list[Descriptor]
    ) -> dict[Digest, bool]:
        if not self.remote:
            return {d.digest: question(d) for d in about}
        with WorkerPool(self.task) as pool:
            answers = pool.map(question, about)
        return {d.digest: has for d, has in zip(about, answers, strict=True)}

    def _configs(self, nodes: list[Node]) -> dict[Digest, bytes]:
        wanted = {
            node.view.config.digest: node.view.config
            for node in nodes
            if isinstance(node.view, Manifest) and may_change_layers(self.rules, node.view)
        }
        if sum(config.size for config in wanted.values()) > MAX_BYTES:
            raise LimitExceeded("the configs of all images", MAX_BYTES)
        with WorkerPool(self.task) as pool:
            contents = pool.map(self._read_config, wanted.values())
        return dict(zip(wanted, contents, strict=True))

    def _read_config(self, config: Descriptor) -> bytes:
        if config.data is not None:
            return config.data
        if config.size > MANIFEST_LIMIT:
            raise LimitExceeded(f"image config {config.digest}", MANIFEST_LIMIT)
        with self.source.open_blob(config) as reader:
            return reader.read()

    def _result(
        self,
        root: Descriptor,
        raw: RawManifest | None,
        *,
        complete: bool,
        named: bool,
        tree: Tree | None = None,
        images: tuple[Digest, ...] = (),
        configs: dict[Digest, bytes] | None = None,
        blobs: dict[Digest, bool] | None = None,
        manifests: frozenset[Digest] = frozenset(),
    ) -> Survey:
        return Survey(
            source=self.rules.source,
            destination=self.rules.destination,
            capabilities=self.rules.capabilities,
            root=root,
            raw=raw,
            current=self.current,
            complete=complete,
            named=named,
            nodes=MappingProxyType(dict(tree.nodes) if tree else {}),
            images=images,
            referrers=MappingProxyType(dict(tree.referrers) if tree else {}),
            configs=MappingProxyType(configs or {}),
            blobs=MappingProxyType(blobs or {}),
            manifests=manifests,
        )


def to_admit(
    root: RawManifest, selection: Selection, nodes: Mapping[Digest, Node]
) -> list[RawManifest]:
    """Which manifests of the tree `nodes` below `root` policy is asked about.

    Each image that is copied, as in containers/image, so that an index cannot bring in an
    instance that nobody signed. An index of its own where it arrives with entries that are
    not read: alone, sparse, with none at all, or with some that do not say that they are
    manifests, which somebody else may take for images all the same.
    """
    images = [node.raw for node in nodes.values() if not node.raw.is_index]
    indexes = [node.raw for node in nodes.values() if len(node.children()) < len(node.kept)]
    if root not in indexes and (not images or (root.is_index and _alone(selection))):
        indexes.insert(0, root)
    return [*indexes, *images]


def _alone(selection: Selection) -> bool:
    """Whether an index is copied with instances that are not."""
    return selection.mode == "index-only" or (selection.mode == "platforms" and selection.sparse)


def _of(raw: RawManifest, root: Descriptor) -> Descriptor:
    """What `raw` is, with the platform by which it was chosen."""
    return replace(raw.descriptor(), platform=root.platform)


def blobs_of(node: Node) -> tuple[Descriptor, ...]:
    """The blobs that a node itself names and whose size it says, each once."""
    if isinstance(node.view, Manifest):
        return node.view.blobs()
    return tuple({e.digest: e for e in node.kept if not is_manifest_entry(e)}.values())

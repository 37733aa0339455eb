"""What can be removed from a store: pure functions from what is there to a plan.

Nothing is counted while things come and go. What is referenced follows from the records of
images and users each time, so there is no count that could be wrong.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import field
from types import MappingProxyType

from engine.storage.containers import Use
from engine.storage.images import StoredImage, StoredName
from engine.storage.kept import Kept
from imgtools.errors import Conflict
from imgtools.frozen import dataclass
from imgtools.spec.digest import Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerFacts:
    """A stored layer: the one below it, those whose files make up its tree, its own bytes."""

    parent: Digest | None
    stack: tuple[Digest, ...] = ()
    size: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """Everything in a store.

    `uses` says of each recorded user whether it is there. `snapshots` maps ids to the layers
    they need, `blobs` are stored documents, `known` the digests of blobs of which it is known
    which layer they became, with it. `kept` are the records of builds by file name.
    """

    images: Mapping[str, StoredImage] = field(default_factory=lambda: MappingProxyType({}))
    names: Mapping[str, StoredName] = field(default_factory=lambda: MappingProxyType({}))
    layers: Mapping[Digest, LayerFacts] = field(default_factory=lambda: MappingProxyType({}))
    uses: Mapping[Use, bool] = field(default_factory=lambda: MappingProxyType({}))
    snapshots: Mapping[str, tuple[Digest, ...]] = field(
        default_factory=lambda: MappingProxyType({})
    )
    blobs: frozenset[Digest] = frozenset()
    known: Mapping[Digest, Digest] = field(default_factory=lambda: MappingProxyType({}))
    kept: Mapping[str, Kept] = field(default_factory=lambda: MappingProxyType({}))

    def names_of(self, image_id: str) -> tuple[str, ...]:
        """The names of an image, in order."""
        return tuple(sorted(n.name for n in self.names.values() if n.image_id == image_id))

    def users_of(self, image_id: str) -> tuple[Use, ...]:
        """Who uses an image now."""
        return tuple(use for use, there in self.uses.items() if there and use.image_id == image_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """What goes, in the order in which it does: uses and snapshots, names, images, layers
    (children before parents), and what nothing needs any more; `kept` are records of builds,
    `caches` the names of directories that their steps shared. `size` is the bytes of the
    layers' files."""

    uses: tuple[Use, ...] = ()
    snapshots: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    layers: tuple[Digest, ...] = ()
    blobs: tuple[Digest, ...] = ()
    known: tuple[Digest, ...] = ()
    kept: tuple[str, ...] = ()
    caches: tuple[str, ...] = ()
    size: int = 0

    @property
    def empty(self) -> bool:
        """Whether nothing goes."""
        return not (
            self.uses or self.snapshots or self.names or self.images or self.layers
            or self.blobs or self.known or self.kept or self.caches
        )  # fmt: skip


class ImageInUse(Conflict):
    """The image `image_id` is used by `users`, so it stays (exit code 2 of rmi)."""

    def __init__(self, image_id: str, users: Sequence[str], *, hint: str | None = None) -> None:
        super().__init__(
            f"image used by {', '.join(user[:64] for user in users)}: "
            "image is in use by a container",
            hint=hint,
        )
        self.image_id = image_id
        self.users = tuple(users)


def plan_rmi(
    contents: Contents, image_id: str, name: str, *, names: bool = False, force: bool = False
) -> Removal:
    """What goes when an image is removed by a name of it, or (name "") by its id.

    As podman: one of several names is only taken away; with several names an id needs
    `names`; an image that is used stays without `force`, but for a name that is not its last.
    Raises ImageInUse and Conflict.
    """
    known = contents.names_of(image_id)
    if name and len(known) > 1:
        return Removal(names=(name,))
    if not name and len(known) > 1 and not names:
        raise Conflict(
            f'unable to delete image "{image_id}" by ID with more than one tag '
            f"([{' '.join(known)}])",
            hint="please force removal: --force",
        )
    users = contents.users_of(image_id)
    if users and not force:
        raise ImageInUse(
            image_id, [user.id for user in users], hint="remove the containers first, or --force"
        )
    return plan_without(contents, (image_id,), only_theirs=True)


def plan_prune(
    contents: Contents, images: Collection[str], *, cache_before: float | None = None
) -> Removal:
    """What goes when the unused ones of `images` are removed, and all that nothing refers to:
    layers of pulls that were killed, snapshots of users that are gone. What builds remember
    goes too where it was last of use before `cache_before`, in seconds since the epoch."""
    unused = [i for i in images if not contents.users_of(i)]
    return plan_without(contents, unused, cache_before=cache_before)


def plan_without(
    contents: Contents,
    images: Iterable[str],
    *,
    only_theirs: bool = False,
    cache_before: float | None = None,
) -> Removal:
    """What goes with `images` (ids). With `only_theirs` what they alone referred to, which
    spares what a pull that goes on has stored; otherwise all that is not referred to."""
    gone = frozenset(images)
    left = [image for key, image in contents.images.items() if key not in gone]
    kept_snapshots = {use.id for use, alive in contents.uses.items() if alive}
    dropped = frozenset() if only_theirs else _dropped(contents, cache_before)
    needed = needed_layers(contents, gone, dropped)
    theirs = _closure(
        contents, (layer.chain_id for i in gone for layer in contents.images[i].layers)
    )
    layers = {d for d in contents.layers if d not in needed and (not only_theirs or d in theirs)}
    blobs = {digest for image in left for digest in image.blobs()}
    their_blobs = {digest for i in gone for digest in contents.images[i].blobs()}
    dead = () if only_theirs else tuple(u for u, alive in contents.uses.items() if not alive)
    stray = () if only_theirs else tuple(sorted(set(contents.snapshots) - kept_snapshots))
    return Removal(
        uses=dead,
        snapshots=stray,
        names=tuple(
            sorted(
                n.name
                for n in contents.names.values()
                if n.image_id in gone or (not only_theirs and n.image_id not in contents.images)
            )
        ),
        images=tuple(sorted(gone)),
        layers=_children_first(contents, layers),
        blobs=tuple(
            sorted(d for d in contents.blobs - blobs if not only_theirs or d in their_blobs)
        ),
        known=tuple(
            sorted(
                d
                for d, chain in contents.known.items()
                if chain in layers or (not only_theirs and chain not in contents.layers)
            )
        ),
        kept=tuple(sorted(dropped)),
        size=sum(contents.layers[d].size for d in layers),
    )


def _dropped(contents: Contents, before: float | None) -> frozenset[str]:
    """The records of builds that go: those that are older, and those whose layer is gone."""
    return frozenset(
        name
        for name, kept in contents.kept.items()
        if (before is not None and kept.used < before)
        or (kept.layer is not None and kept.layer not in contents.layers)
    )


def needed_layers(
    contents: Contents, without: Collection[str] = (), dropped: Collection[str] = ()
) -> set[Digest]:
    """The layers that images (but for those of `without`), users, snapshots and records of
    builds (but for those that are `dropped`) stand on."""
    roots = [
        layer.chain_id
        for key, image in contents.images.items()
        if key not in without
        for layer in image.layers
    ]
    for use, there in contents.uses.items():
        if there:
            roots += contents.snapshots.get(use.id, ())
            roots += [use.layer] if use.layer is not None else []
    for name, kept in contents.kept.items():
        if name not in dropped and kept.layer is not None:
            roots.append(kept.layer)
    return _closure(contents, roots)


def _closure(contents: Contents, roots: Iterable[Digest]) -> set[Digest]:
    """Layers with all that are below them."""
    found: set[Digest] = set()
    todo = list(roots)
    while todo:
        digest = todo.pop()
        facts = contents.layers.get(digest)
        if digest in found or facts is None:
            continue
        found.add(digest)
        todo += facts.stack
        if facts.parent is not None:
            todo.append(facts.parent)
    return found


def _children_first(contents: Contents, layers: Iterable[Digest]) -> tuple[Digest, ...]:
    def depth(digest: Digest) -> int:
        count = 0
        facts = contents.layers.get(digest)
        while facts is not None and facts.parent is not None and count <= len(contents.layers):
            count += 1
            facts = contents.layers.get(facts.parent)
        return count

    return tuple(sorted(layers, key=lambda d: (-depth(d), d)))

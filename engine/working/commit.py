"""Making an image of a working container: the layers of its base, and its changes as one more.

The image is a source like any other, so that it is stored, pushed or written into a file by the
same copy that everything else is.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import field, replace
from types import MappingProxyType
from typing import Literal

from engine.storage.intake import Intake
from engine.storage.options import DiffOptions, Layer
from engine.storage.parts import find_layer
from engine.storage.store import Store
from engine.working.commit_document import (
    DocumentOptions,
    Documents,
    LayerFacts,
    make_documents,
)
from engine.working.commit_layer import AddedFile, SpooledLayer, spool_changes, spool_whole
from engine.working.model import WorkingContainer
from engine.working.registry import Held, WorkingContainers
from engine.working.times import SECOND, rfc3339
from imgtools.blob.reader import BlobReader
from imgtools.errors import BlobNotFound, NotFound
from imgtools.frozen import dataclass
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest
from imgtools.spec.manifest import RawManifest
from imgtools.task import Task
from imgtools.transport.base import Origin
from imgtools.transport.closing import Closing


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitOptions:
    """How an image is made. Times in whole seconds since the epoch: `created` is that of image
    and history (None: now), `mtime` of all files of the new layer, `mtime_clamp` the latest that
    they may have. `format` None is the container's."""

    squash: bool = False
    format: Literal["oci", "docker"] | None = None
    created: int | None = None
    mtime: int | None = None
    mtime_clamp: int | None = None
    omit_history: bool = False
    labels: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    added: tuple[AddedFile, ...] = ()


class CommittedImage(Closing):
    """A Source of an image that is being made; see imgtools.transport.base."""

    def __init__(
        self,
        store: Store,
        container: WorkingContainer,
        documents: Documents,
        below: Mapping[Digest, Layer],
        new: SpooledLayer,
    ) -> None:
        """`below` are the layers of the base by diff_id; `new` is closed by who made it."""
        self._intake = Intake(store.parts)
        self._documents = documents
        self._below = below
        self._new = new
        self._origin = Origin(
            transport="containers-storage", name=f"container {container.name}", synthesised=True
        )

    @property
    def origin(self) -> Origin:
        """Where this is."""
        return self._origin

    @property
    def image_id(self) -> str:
        """What the image is called where images have ids: its config's digest, hexadecimal."""
        return Digest.of(self._documents.config).hex

    def resolve(self) -> Descriptor:
        """See Source."""
        return self._documents.manifest.descriptor()

    def top(self) -> RawManifest:
        """See Source."""
        return self._documents.manifest

    def manifest(self, descriptor: Descriptor) -> RawManifest:
        """See Source."""
        if descriptor.digest != self._documents.manifest.digest:
            raise NotFound(f"{self._origin.name} has no manifest {descriptor.digest}")
        return self._documents.manifest

    def open_blob(self, descriptor: Descriptor) -> BlobReader:
        """See Source."""
        if descriptor.digest == Digest.of(self._documents.config):
            return BlobReader.of(self._documents.config, descriptor.digest)
        if descriptor.digest == self._new.diff_id:
            return self._new.open()
        layer = self._below.get(descriptor.digest)
        if layer is None:
            raise BlobNotFound(f"{self._origin.name} has no blob {descriptor.digest}")
        return self._intake.replay(layer)

    def read_range(self, descriptor: Descriptor, offset: int, length: int) -> bytes | None:
        """None: layers are made while they are read."""
        return None

    def referrers(self, digest: Digest) -> Iterator[Descriptor]:
        """None."""
        return iter(())

    def close(self) -> None:
        """Nothing is open between calls."""


@contextmanager
def committed(
    store: Store, held: Held, options: CommitOptions, *, task: Task
) -> Iterator[CommittedImage]:
    """The image of a container that is held, to be copied from in the block.

    Nothing may run in the container. A container without changes makes an image without a new
    layer. Raises as `SnapshotStore.diff`, BlobNotFound for a layer of the base that cannot be
    given back.
    """
    container = held.container
    snapshot = WorkingContainers(store).snapshot(container)
    diff = DiffOptions(mtime=options.mtime, mtime_clamp=options.mtime_clamp)
    below = _below(store, container)
    with spool_changes(store, snapshot, diff, options.added) as changes:
        if options.squash:
            with spool_whole(store, below, changes, diff, task=task) as whole:
                yield _image(store, container, (), whole, options)
        else:
            yield _image(store, container, below, changes, options)


def _image(
    store: Store,
    container: WorkingContainer,
    below: tuple[Layer, ...],
    new: SpooledLayer,
    options: CommitOptions,
) -> CommittedImage:
    intake = Intake(store.parts)
    layers = [LayerFacts(diff_id=each.diff_id, size=intake.tar_size(each)) for each in below]
    new_layer = not new.empty
    if new_layer:
        layers.append(LayerFacts(diff_id=new.diff_id, size=new.size))
    now = options.created * SECOND if options.created is not None else time.time_ns()
    kind: Literal["oci", "docker"] = "docker" if container.format == "docker" else "oci"
    documents = make_documents(
        container,
        layers,
        DocumentOptions(
            created=rfc3339(now),
            format=options.format or kind,
            squash=options.squash,
            omit_history=options.omit_history,
            labels=options.labels,
        ),
        new_layer=new_layer,
    )
    return CommittedImage(store, container, documents, {b.diff_id: b for b in below}, new)


def _below(store: Store, container: WorkingContainer) -> tuple[Layer, ...]:
    """The layers that the container stands on, oldest first."""
    found: list[Layer] = []
    chain_id = container.layer
    while chain_id is not None:
        layer = find_layer(store.parts, chain_id)
        if layer is None or not Intake(store.parts).is_whole(layer):
            raise BlobNotFound(
                f"layer {chain_id} below {container.name} is gone from the store",
                hint="pull its image again",
            )
        found.append(layer)
        chain_id = layer.parent
    return tuple(reversed(found))


def with_changed(container: WorkingContainer, document: Mapping[str, object]) -> WorkingContainer:
    """The container as if its config were `document`, for options of one commit alone."""
    return replace(container, document=document)

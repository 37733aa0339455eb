"""A destination that is told for each blob which repositories may have it, so that layers of a
base are mounted from where the base is rather than moved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest
from imgtools.spec.manifest import RawManifest
from imgtools.task import Task
from imgtools.transport.base import BlobOpener, BlobOutcome, Capabilities, Destination, Origin
from imgtools.transport.closing import Closing


class MountingDestination(Closing):
    """`inner` with the repositories of `mounts` added to what it is offered."""

    def __init__(self, inner: Destination, mounts: Mapping[Digest, tuple[Origin, ...]]) -> None:
        self._inner = inner
        self._mounts = mounts

    @property
    def origin(self) -> Origin:
        """See Destination."""
        return self._inner.origin

    @property
    def capabilities(self) -> Capabilities:
        """See Destination."""
        return self._inner.capabilities

    def current(self) -> Descriptor | None:
        """See Destination."""
        return self._inner.current()

    def has_blob(self, descriptor: Descriptor) -> bool:
        """See Destination."""
        return self._inner.has_blob(descriptor)

    def has_manifest(self, descriptor: Descriptor) -> bool:
        """See Destination."""
        return self._inner.has_manifest(descriptor)

    def put_blob(
        self,
        descriptor: Descriptor,
        open_blob: BlobOpener,
        *,
        mount_from: Sequence[Origin] = (),
        task: Task,
    ) -> BlobOutcome:
        """See Destination."""
        candidates = (*mount_from, *self._mounts.get(descriptor.digest, ()))
        return self._inner.put_blob(descriptor, open_blob, mount_from=candidates, task=task)

    def put_manifest(self, raw: RawManifest, *, top: bool) -> None:
        """See Destination."""
        self._inner.put_manifest(raw, top=top)

    def commit(self) -> None:
        """See Destination."""
        self._inner.commit()

    def close(self) -> None:
        """Close the destination."""
        self._inner.close()

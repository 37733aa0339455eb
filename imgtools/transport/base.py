"""The two protocols that every transport fulfils, and the data they speak of.

A `Source` only reads, a `Destination` only writes; what a destination can do is data
(`Capabilities`), never a method. This file does not know about any transport.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Literal, Protocol, Self, runtime_checkable

from imgtools.blob.reader import BlobReader
from imgtools.frozen import dataclass
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest
from imgtools.spec.manifest import RawManifest
from imgtools.task import Task
from imgtools.transport.options import DestinationOptions, SourceOptions

BlobOpener = Callable[[], BlobReader]
"""Opens a blob from its start; called again when a transfer has to be repeated."""

BlobOutcome = Literal["present", "mounted", "stored"]
"""How a blob came to be at its destination."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a source or destination is.

    `name` is what people and policies know it by (`docker://host/repo:tag`); registry and
    repository are empty outside registries and decide whether a blob can be mounted.
    `synthesised`: the manifest was made by the transport, not stored, so its digest says
    nothing about what was once pushed.
    """

    transport: str
    name: str
    registry: str = ""
    repository: str = ""
    synthesised: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a destination can hold.

    `manifest_types`: media types of manifests and indexes it takes, None for any.
    `layer_compressions`: of "none", "gzip", "zstd", those that layers may have, None for any.
    `indexes`: whether it can hold an index and its instances.
    `artifacts`: whether it can hold a manifest whose config is no image config.
    `referrers`: whether manifests beside the top one stay findable by their subject.
    `foreign_layers_by_url`: whether layers with URLs may be left where they are.
    `remote`: whether asking for a blob costs a round trip.
    """

    manifest_types: frozenset[str] | None = None
    layer_compressions: frozenset[str] | None = None
    indexes: bool = True
    artifacts: bool = True
    referrers: bool = False
    foreign_layers_by_url: bool = False
    remote: bool = False


class Source(Protocol):
    """Reads one image, index or artifact. Methods may be called from several threads."""

    @property
    def origin(self) -> Origin:
        """Where this is."""
        ...

    def resolve(self) -> Descriptor:
        """What the name points at now, by the cheapest request; raises ImageNotFound."""
        ...

    def top(self) -> RawManifest:
        """The manifest the name points at, verified; raises ImageNotFound."""
        ...

    def manifest(self, descriptor: Descriptor) -> RawManifest:
        """The manifest of `descriptor`, verified and bounded; raises NotFound."""
        ...

    def open_blob(self, descriptor: Descriptor) -> BlobReader:
        """A verifying reader from the blob's start; raises BlobNotFound, which may come of the
        first read (or of `BlobReader.start`) where opening asks nobody yet."""
        ...

    def read_range(self, descriptor: Descriptor, offset: int, length: int) -> bytes | None:
        """`length` bytes at `offset` (fewer at the blob's end), NOT verified by the digest.

        None when this source cannot read in the middle of a blob without reading what is
        before. For callers that verify by other means, such as a table of contents.
        """
        ...

    def referrers(self, digest: Digest) -> Iterator[Descriptor]:
        """The manifests whose `subject` is `digest`; empty where none can be known."""
        ...

    def close(self) -> None:
        """Release files and connections; safe to call twice."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class Destination(Protocol):
    """Writes one image, index or artifact. Methods may be called from several threads,
    except `commit`, which comes last and once. Closing without commit leaves nothing that a
    reader could take for an image."""

    @property
    def origin(self) -> Origin:
        """Where this is."""
        ...

    @property
    def capabilities(self) -> Capabilities:
        """What can be written here; constant."""
        ...

    def current(self) -> Descriptor | None:
        """What the destination's name holds now, None for nothing (or what cannot be told)."""
        ...

    def has_blob(self, descriptor: Descriptor) -> bool:
        """Whether the blob is there already."""
        ...

    def has_manifest(self, descriptor: Descriptor) -> bool:
        """Whether the manifest is there already, by digest."""
        ...

    def put_blob(
        self,
        descriptor: Descriptor,
        open_blob: BlobOpener,
        *,
        mount_from: Sequence[Origin] = (),
        task: Task,
    ) -> BlobOutcome:
        """Make the blob be there: mounted from a repository of `mount_from` where that is
        possible, else read from `open_blob`. Reports Advanced events under the digest."""
        ...

    def put_manifest(self, raw: RawManifest, *, top: bool) -> None:
        """Put a manifest whose blobs and children are there.

        `top` is the manifest that the destination's name and tags shall point at, and is
        put last; all others are instances or referrers, known by digest.
        """
        ...

    def commit(self) -> None:
        """Make everything visible; nothing was before, except in a registry, which shows
        manifests as they are put."""
        ...

    def close(self) -> None:
        """Release files and connections and, without commit, undo; safe to call twice."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


@runtime_checkable
class Announced(Protocol):
    """A destination that does better when it knows beforehand what is going to come."""

    def announce(self, raw: RawManifest, open_config: BlobOpener) -> None:
        """The manifest that will be put as the top one, byte for byte, before its blobs are;
        `open_config` reads the config that it names. Raises what reading raises."""
        ...


class Opener(Protocol):
    """Opens the names of a transport that this package does not have itself.

    `rest` is what stands behind `transport:`; errors are those of `Transports`.
    """

    def open_source(self, rest: str, options: SourceOptions) -> Source:
        """The source that `rest` means."""
        ...

    def open_destination(self, rest: str, options: DestinationOptions) -> Destination:
        """The destination that `rest` means."""
        ...

    def close(self) -> None:
        """Release what names were opened with; safe to call twice."""
        ...

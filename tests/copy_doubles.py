"""Images in memory, and a source and a destination over them that count what they are asked.

Faults are injected by replacing content (`blobs`, `documents`) or by `fail`, a function that
sees each call's name and subject and may raise.
"""

from __future__ import annotations

import struct
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any, NoReturn, Self

from imgtools.blob.reader import BlobReader
from imgtools.errors import BlobNotFound, ImageNotFound, NotFound
from imgtools.spec import media_type as mt
from imgtools.spec import strict_json
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest
from imgtools.spec.manifest import Index, Manifest, RawManifest
from imgtools.spec.platform import Platform
from imgtools.task import Advanced, CancelToken, Event, Task
from imgtools.transport.base import BlobOpener, BlobOutcome, Capabilities, Origin

AMD64 = Platform(os="linux", architecture="amd64")
ARM64 = Platform(os="linux", architecture="arm64")

REGISTRY_CAPABILITIES = Capabilities(referrers=True, foreign_layers_by_url=True, remote=True)
LAYOUT_CAPABILITIES = Capabilities(
    manifest_types=frozenset({mt.OCI_MANIFEST, mt.OCI_INDEX, mt.DOCKER_MANIFEST, mt.DOCKER_LIST}),
    layer_compressions=frozenset({"gzip", "zstd"}),
    referrers=True,
    foreign_layers_by_url=True,
)
DIR_CAPABILITIES = Capabilities()
ARCHIVE_CAPABILITIES = Capabilities(
    manifest_types=frozenset({mt.DOCKER_MANIFEST}),
    layer_compressions=frozenset({"none"}),
    indexes=False,
    artifacts=False,
)


def gzipped(data: bytes) -> bytes:
    """A gzip stream of stored blocks: the same bytes under every version of zlib."""
    blocks = [data[i : i + 0xFFFF] for i in range(0, len(data), 0xFFFF)] or [b""]
    stored = b"".join(
        struct.pack("<BHH", block is blocks[-1], len(block), len(block) ^ 0xFFFF) + block
        for block in blocks
    )
    head = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
    return head + stored + struct.pack("<II", zlib.crc32(data), len(data) & 0xFFFFFFFF)


@dataclass
class World:
    """Content that exists somewhere: blobs and manifests by digest."""

    blobs: dict[Digest, bytes] = field(default_factory=dict)
    documents: dict[Digest, RawManifest] = field(default_factory=dict)

    def blob(self, content: bytes, media_type: str, **more: Any) -> Descriptor:
        """Add a blob; its descriptor."""
        digest = Digest.of(content)
        self.blobs[digest] = content
        return Descriptor(media_type=media_type, digest=digest, size=len(content), **more)

    def manifest(self, raw: RawManifest) -> RawManifest:
        """Add a manifest."""
        self.documents[raw.digest] = raw
        return raw

    def image(
        self,
        layers: Sequence[bytes],
        *,
        docker: bool = False,
        compression: str = "gzip",
        platform: Platform = AMD64,
        diff_ids: Sequence[bytes] | None = None,
        **more: Any,
    ) -> RawManifest:
        """An image whose layers have the given uncompressed contents."""
        base = mt.DOCKER_LAYER if docker else mt.OCI_LAYER
        layer_type = mt.with_compression(base, compression) or ""
        pack: Callable[[bytes], bytes] = {"gzip": gzipped, "none": bytes, "zstd": _zstd}[
            compression
        ]
        config = {
            **platform.to_json(),
            "rootfs": {
                "type": "layers",
                "diff_ids": [str(Digest.of(x)) for x in (diff_ids or layers)],
            },
        }
        manifest = Manifest(
            media_type=mt.DOCKER_MANIFEST if docker else mt.OCI_MANIFEST,
            config=self.blob(
                strict_json.dumps(config), mt.DOCKER_CONFIG if docker else mt.OCI_CONFIG
            ),
            layers=tuple(self.blob(pack(x), layer_type) for x in layers),
            **more,
        )
        return self.manifest(manifest.to_raw())

    def artifact(self, content: bytes, *, subject: RawManifest | None = None) -> RawManifest:
        """An artifact of one blob, perhaps referring to another manifest."""
        manifest = Manifest(
            media_type=mt.OCI_MANIFEST,
            config=self.blob(b"{}", mt.OCI_EMPTY),
            layers=(self.blob(content, "application/vnd.example"),),
            subject=subject.descriptor() if subject else None,
            artifact_type="application/vnd.example",
        )
        return self.manifest(manifest.to_raw())

    def index(
        self, *entries: tuple[RawManifest, Platform | None] | Descriptor, docker: bool = False
    ) -> RawManifest:
        """An index of manifests with platforms, or of ready descriptors."""
        children = []
        for entry in entries:
            if isinstance(entry, Descriptor):
                children.append(entry)
                continue
            raw, platform = entry
            own = raw.descriptor()
            children.append(
                Descriptor(
                    media_type=own.media_type, digest=own.digest, size=own.size, platform=platform
                )
            )
        media_type = mt.DOCKER_LIST if docker else mt.OCI_INDEX
        return self.manifest(Index(media_type=media_type, manifests=tuple(children)).to_raw())


def attestation(world: World, subject: RawManifest) -> Descriptor:
    """BuildKit's attestation of an image, as an index entry."""
    raw = world.artifact(b"provenance of " + subject.digest.hex.encode())
    return Descriptor(
        media_type=raw.media_type,
        digest=raw.digest,
        size=raw.size,
        platform=Platform(os="unknown", architecture="unknown"),
        annotations={
            "vnd.docker.reference.type": "attestation-manifest",
            "vnd.docker.reference.digest": str(subject.digest),
        },
    )


def _zstd(data: bytes) -> bytes:
    import zstandard

    return zstandard.ZstdCompressor().compress(data)


class _Double:
    """Counts calls; `fail` may raise."""

    def __init__(self, origin: Origin) -> None:
        self.origin = origin
        self.calls: list[tuple[str, str]] = []
        self.fail: Callable[[str, str], object] = lambda name, subject: None
        self._lock = threading.Lock()

    def _called(self, name: str, subject: object = "") -> None:
        with self._lock:
            self.calls.append((name, str(subject)))
        self.fail(name, str(subject))

    def names(self) -> list[str]:
        """The names of the calls made, sorted, because threads interleave."""
        return sorted(name for name, _ in self.calls)

    def count(self, name: str) -> int:
        """How often one was made."""
        return self.names().count(name)

    def close(self) -> None:
        """Nothing is open."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None


class FakeSource(_Double):
    """A source over a world."""

    def __init__(
        self,
        world: World,
        top: RawManifest | None,
        *,
        name: str = "docker://src.example/app:1",
        registry: str = "src.example",
        repository: str = "app",
        synthesised: bool = False,
        referrers: dict[Digest, list[Descriptor]] | None = None,
    ) -> None:
        super().__init__(
            Origin(
                transport=name.partition(":")[0],
                name=name,
                registry=registry,
                repository=repository,
                synthesised=synthesised,
            )
        )
        self.world, self._top, self._referrers = world, top, referrers or {}

    def resolve(self) -> Descriptor:
        self._called("resolve")
        return self._named().descriptor()

    def top(self) -> RawManifest:
        self._called("top")
        return self._named()

    def _named(self) -> RawManifest:
        if self._top is None:
            raise ImageNotFound(f"{self.origin.name} is not there")
        return self._top

    def manifest(self, descriptor: Descriptor) -> RawManifest:
        self._called("manifest", descriptor.digest)
        found = self.world.documents.get(descriptor.digest)
        if found is None:
            raise NotFound(f"no manifest {descriptor.digest}")
        return found

    def open_blob(self, descriptor: Descriptor) -> BlobReader:
        self._called("open_blob", descriptor.digest)
        content = self.world.blobs.get(descriptor.digest)
        if content is None:
            raise BlobNotFound("not here")
        size = descriptor.size if descriptor.size >= 0 else None
        return BlobReader(BytesIO(content), descriptor.digest, size)

    def read_range(self, descriptor: Descriptor, offset: int, length: int) -> bytes | None:
        raise AssertionError("a copy reads whole blobs")

    def referrers(self, digest: Digest) -> Iterator[Descriptor]:
        self._called("referrers", digest)
        return iter(self._referrers.get(digest, ()))


class FakeDestination(_Double):
    """A destination that keeps what it is given."""

    def __init__(
        self,
        capabilities: Capabilities = REGISTRY_CAPABILITIES,
        *,
        name: str = "docker://dst.example/app:1",
        registry: str = "dst.example",
        repository: str = "app",
        current: RawManifest | None = None,
        world: World | None = None,
        mounts: bool = True,
    ) -> None:
        registry = registry if capabilities.remote else ""
        super().__init__(
            Origin(
                transport=name.partition(":")[0],
                name=name,
                registry=registry,
                repository=repository if registry else "",
            )
        )
        self.capabilities = capabilities
        self.world = world or World()
        self.top = current
        self.committed = False
        self.mounts = mounts
        self.order: list[str] = []

    def current(self) -> Descriptor | None:
        self._called("current")
        return self.top.descriptor() if self.top else None

    def has_blob(self, descriptor: Descriptor) -> bool:
        self._called("has_blob", descriptor.digest)
        return descriptor.digest in self.world.blobs

    def has_manifest(self, descriptor: Descriptor) -> bool:
        self._called("has_manifest", descriptor.digest)
        return descriptor.digest in self.world.documents

    def put_blob(
        self,
        descriptor: Descriptor,
        open_blob: BlobOpener,
        *,
        mount_from: Sequence[Origin] = (),
        task: Task,
    ) -> BlobOutcome:
        self._called("put_blob", descriptor.digest)
        if descriptor.digest in self.world.blobs:
            return "present"
        if mount_from and self.mounts:
            return "mounted"
        with open_blob() as reader:
            content = b""
            while data := reader.read(1024):
                task.cancel.check()
                content += data
                task.progress(Advanced(str(descriptor.digest), len(data)))
        assert len(content) == descriptor.size
        with self._lock:
            self.world.blobs[descriptor.digest] = content
            self.order.append(f"blob {descriptor.digest}")
        return "stored"

    def put_manifest(self, raw: RawManifest, *, top: bool) -> None:
        self._called("put_manifest", raw.digest)
        with self._lock:
            self.world.documents[raw.digest] = raw
            self.order.append(f"manifest {raw.digest}")
            if top:
                self.top = raw

    def commit(self) -> None:
        self._called("commit")
        assert not self.committed
        self.committed = True


class Forbidden:
    """Every use is an error: proves that something is not touched."""

    def __getattr__(self, name: str) -> NoReturn:
        raise AssertionError(f"{name} was used")


def layout_destination(**more: Any) -> FakeDestination:
    """A destination like an OCI layout."""
    return FakeDestination(LAYOUT_CAPABILITIES, name="oci:out:1", **more)


def archive_destination(**more: Any) -> FakeDestination:
    """A destination like a docker archive."""
    return FakeDestination(ARCHIVE_CAPABILITIES, name="docker-archive:out.tar", **more)


def dir_destination(**more: Any) -> FakeDestination:
    """A destination like a directory."""
    return FakeDestination(DIR_CAPABILITIES, name="dir:out", **more)


def task(events: list[Event] | None = None, cancel: CancelToken | None = None) -> Task:
    """A task whose events are collected."""
    return Task(
        jobs=4,
        cancel=cancel or CancelToken(),
        progress=events.append if events is not None else lambda event: None,
    )

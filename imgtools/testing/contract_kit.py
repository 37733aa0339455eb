"""What the contract's cases are written with: endpoints, openers, samples that suit.

An `Endpoint` is one name in one transport; everything else here moves a sample through it or
asserts that it came through whole.
"""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import NoReturn

from imgtools.blob.compression import Decompressor
from imgtools.blob.reader import BlobReader
from imgtools.errors import Denied, Error, Unsupported
from imgtools.frozen import dataclass
from imgtools.spec import manifest as mf
from imgtools.spec import media_type as mt
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest
from imgtools.spec.manifest import RawManifest
from imgtools.task import Task
from imgtools.testing import images
from imgtools.testing.images import Sample
from imgtools.transport.base import BlobOpener, Capabilities, Destination, Source

OpenDestination = Callable[[], Destination]
OpenSource = Callable[[], Source]


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One name in one transport, opened to be written and, after commit, to be read.

    Both functions may be called often; the name starts out empty.
    """

    destination: OpenDestination
    source: OpenSource


def opener(content: bytes, digest: Digest | None = None) -> BlobOpener:
    """A BlobOpener over bytes; another `digest` than theirs makes it fail at the end."""
    return lambda: BlobReader.of(content, digest)


def put(destination: Destination, sample: Sample, *, task: Task | None = None) -> None:
    """Write a sample as a copy does: blobs, children, top; without commit."""
    task = task or Task()
    for descriptor, content in sample.blobs.items():
        destination.put_blob(descriptor, opener(content, descriptor.digest), task=task)
    for raw in sample.manifests:
        destination.put_manifest(raw, top=False)
    destination.put_manifest(sample.top, top=True)


def write(endpoint: Endpoint, sample: Sample) -> None:
    """Write and commit a sample."""
    with endpoint.destination() as destination:
        put(destination, sample)
        destination.commit()


def suitable(
    capabilities: Capabilities, seed: object = 0, *, layers: int = 2, size: int = 1000
) -> Sample:
    """A single image of a kind that the destination takes."""
    types, compressions = capabilities.manifest_types, capabilities.layer_compressions
    return images.random_image(
        seed,
        layers=layers,
        size=size,
        docker=types is not None and mt.OCI_MANIFEST not in types,
        compression="gzip" if compressions is None or "gzip" in compressions else "none",
    )


def takes(capabilities: Capabilities, sample: Sample) -> bool:
    """Whether the capabilities admit every manifest of the sample."""
    types = capabilities.manifest_types
    for raw in (sample.top, *sample.manifests):
        if types is not None and raw.media_type not in types:
            return False
        view = mf.parse(raw)
        if isinstance(view, mf.Index) and not capabilities.indexes:
            return False
        if isinstance(view, mf.Manifest) and view.is_artifact and not capabilities.artifacts:
            return False
    return True


def check_same(source: Source, sample: Sample) -> None:
    """Assert that the source holds the sample, byte for byte."""
    with source:
        found = source.top()
        assert found.digest == source.resolve().digest
        if source.origin.synthesised:
            _check_same_image(source, found, sample)
            return
        assert found.content == sample.top.content
        assert found.media_type == sample.top.media_type
        for raw in sample.manifests:
            assert source.manifest(raw.descriptor()).content == raw.content
        for descriptor, content in sample.blobs.items():
            with source.open_blob(descriptor) as reader:
                assert reader.read() == content
            part = source.read_range(descriptor, 3, 20)
            assert part is None or part == content[3:23]


def _check_same_image(source: Source, found: RawManifest, sample: Sample) -> None:
    """The same config and layers under another manifest."""
    view, wanted = mf.parse(found), mf.parse(sample.top)
    assert isinstance(view, mf.Manifest)
    assert isinstance(wanted, mf.Manifest)
    assert view.config.digest == wanted.config.digest
    assert len(view.layers) == len(wanted.layers)
    for mine, theirs in zip(view.layers, wanted.layers, strict=True):
        content = content_of(sample, mine)
        assert content in (sample.content(theirs.digest), plain(sample.content(theirs.digest)))
    for descriptor in view.blobs():
        with source.open_blob(descriptor) as reader:
            assert reader.read() == content_of(sample, descriptor)


def plain(content: bytes) -> bytes:
    """A layer without its compression."""
    return Decompressor(BytesIO(content)).read()


def content_of(sample: Sample, descriptor: Descriptor) -> bytes:
    """The content of a blob of the sample, or of a layer that was taken out of its
    compression, which a transport may do that stores images unpacked."""
    if mt.layer_compression(descriptor.media_type) == "none":
        for blob, content in sample.blobs.items():
            if mt.layer_compression(blob.media_type) not in (None, "none"):
                tar = plain(content)
                if Digest.of(tar, descriptor.digest.algorithm) == descriptor.digest:
                    return tar
    return sample.content(descriptor.digest)


def round_trip(endpoint: Endpoint, sample: Sample) -> None:
    """The sample comes back as it was, or is refused where the capabilities exclude it."""
    with endpoint.destination() as destination:
        if not takes(destination.capabilities, sample):
            with expected(Unsupported):
                put(destination, sample)
            return
        put(destination, sample)
        destination.commit()
    check_same(endpoint.source(), sample)


def write_suitable(endpoint: Endpoint) -> Sample:
    with endpoint.destination() as destination:
        sample = suitable(destination.capabilities)
        put(destination, sample)
        destination.commit()
    return sample


def sized(content: bytes, descriptor: Descriptor) -> BlobOpener:
    return lambda: BlobReader(BytesIO(content), descriptor.digest, descriptor.size)


class Failing:
    """Gives some bytes and then fails as a carrier does."""

    def __init__(self, content: bytes) -> None:
        self._rest = BytesIO(content)

    def read(self, size: int, /) -> bytes:
        return self._rest.read(size) or _deny()


def _deny() -> NoReturn:
    raise Denied("the carrier refuses to go on", host="registry.example")


class expected:  # noqa: N801 - reads as a statement
    """The block must raise `kind`; anything else passes through."""

    def __init__(self, kind: type[Error]) -> None:
        self._kind = kind

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        assert kind is not None, f"{self._kind.__name__} was not raised"
        return issubclass(kind, self._kind)

"""Cases of the transport contract about blobs: at an offset, equal ones, ones without a byte."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from imgtools.errors import BlobNotFound
from imgtools.spec import manifest as mf
from imgtools.spec import media_type as mt
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest
from imgtools.task import Task
from imgtools.testing import images
from imgtools.testing.contract_kit import (
    Endpoint,
    check_same,
    content_of,
    opener,
    round_trip,
    suitable,
    write,
)
from imgtools.testing.images import Sample


def blob_at_an_offset(endpoint: Endpoint) -> None:
    """Any part of a blob can be read, or none of it that way; what is beyond its end is not."""
    with endpoint.destination() as destination:
        sample = suitable(destination.capabilities, "offset", size=300_000)
    write(endpoint, sample)
    with endpoint.source() as source:
        view = mf.parse(source.top())
        assert isinstance(view, mf.Manifest)
        for descriptor in view.blobs():
            content = content_of(sample, descriptor)
            size = len(content)
            for offset, length in (
                (0, 1),
                (0, size),
                (size // 2, size // 3),
                (size - 1, 1),
                (size - 1, 100),
                (0, size + 100),
                (size, 10),
                (7, 0),
            ):
                part = source.read_range(descriptor, offset, length)
                assert part in (None, content[offset : offset + length]), (offset, length)
            # A part that was read leaves the whole as it was.
            with source.open_blob(descriptor) as reader:
                assert reader.read() == content


def no_part_of_an_absent_blob(endpoint: Endpoint) -> None:
    with endpoint.destination() as destination:
        sample = suitable(destination.capabilities)
    write(endpoint, sample)
    absent = Descriptor(media_type=mt.OCI_LAYER, digest=Digest.of(b"absent"), size=6)
    with endpoint.source() as source:
        try:
            assert source.read_range(absent, 2, 3) is None
        except BlobNotFound:
            pass  # the usual answer; a source that reads no ranges may not look


def equal_layers(endpoint: Endpoint) -> None:
    """An image that has one layer three times keeps all three, from one blob."""
    tar, other = images.random_layer("equal"), images.random_layer("other")
    sample = _suitable_image(endpoint, [tar, other, tar, tar])
    assert len(sample.blobs) == 3
    round_trip(endpoint, sample)


def equal_blobs_of_two_types(endpoint: Endpoint) -> None:
    """A layer that is the config again, under another media type, is there already."""
    sample = images.random_artifact("equal", content=b"{}")
    assert len({d.digest for d in sample.blobs}) == 1 < len(sample.blobs)
    round_trip(endpoint, sample)


def blob_put_again(endpoint: Endpoint) -> None:
    """A blob that is put a second time is present, whatever it is called, and not read."""
    with endpoint.destination() as destination:
        sample = suitable(destination.capabilities, "again")
        for descriptor, content in sample.blobs.items():
            destination.put_blob(descriptor, opener(content), task=Task())
        for descriptor in sample.blobs:
            renamed = replace(descriptor, annotations={"org.example.name": "again"})
            # An opener whose bytes are wrong would be refused if it was read.
            wrong = opener(b"", descriptor.digest)
            assert destination.put_blob(renamed, wrong, task=Task()) == "present"
        destination.put_manifest(sample.top, top=True)
        destination.commit()
    check_same(endpoint.source(), sample)


def empty_layer(endpoint: Endpoint) -> None:
    """A layer without a byte among others."""
    round_trip(endpoint, _suitable_image(endpoint, [images.random_layer("full"), b""]))


def empty_blob(endpoint: Endpoint) -> None:
    """A blob without a byte is a blob."""
    round_trip(endpoint, images.random_artifact("empty", size=0))


def _suitable_image(endpoint: Endpoint, tars: Sequence[bytes]) -> Sample:
    """An image of these layers, uncompressed, of a kind that the destination takes."""
    with endpoint.destination() as destination:
        types = destination.capabilities.manifest_types
    docker = types is not None and mt.OCI_MANIFEST not in types
    return images.image_of(tars, "of layers", docker=docker, compression="none")


CASES: tuple[Callable[[Endpoint], None], ...] = (
    blob_at_an_offset,
    no_part_of_an_absent_blob,
    equal_layers,
    equal_blobs_of_two_types,
    blob_put_again,
    empty_layer,
    empty_blob,
)
"""The cases of this file, for `imgtools.testing.contract.CASES`."""

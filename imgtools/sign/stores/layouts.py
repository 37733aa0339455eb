"""cosign's attachments in an OCI layout, where the names in its index.json are their tags.

regctl keeps them in the same way, and a registry that serves the layout shows them as tags.
"""

from __future__ import annotations

from collections.abc import Sequence

from imgtools.errors import LimitExceeded
from imgtools.sign.model import SIGNATURES_LIMIT, SigstoreSignature
from imgtools.sign.stores.attachment import (
    Layer,
    Suffix,
    attachment_manifest,
    attachment_tag,
    check_sizes,
)
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest
from imgtools.spec.manifest import RawManifest
from imgtools.transport.base import Source
from imgtools.transport.layout_index import REF_NAME, annotation
from imgtools.transport.oci_layout import LayoutSource

_MOST_OF_A_NAME = 16
"""Manifests of one name: it should have one, and each may be large."""


def named_manifests(source: Source, tag: str) -> tuple[RawManifest, ...]:
    """What a layout has by the name `tag`, each once; nothing where `source` reads no layout.
    Raises LimitExceeded and what reading raises."""
    if not isinstance(source, LayoutSource):
        return ()
    named = (entry for entry in source.entries if annotation(entry, REF_NAME) == tag)
    found = {descriptor.digest: descriptor for descriptor in map(Descriptor.from_json, named)}
    if len(found) > _MOST_OF_A_NAME:
        where = f"{source.origin.name}: the name {tag}"
        raise LimitExceeded(where, _MOST_OF_A_NAME, unit="manifests")
    return tuple(map(source.manifest, found.values()))


def layout_signatures(
    source: Source, digest: Digest, where: str, *, suffix: Suffix = "sig"
) -> tuple[SigstoreSignature, ...]:
    """The layers of the attachment of `digest`, as `AttachmentReader.signatures` gives those in
    a registry; `where` names the layout. Raises InvalidSignature, LimitExceeded, NotFound,
    DigestMismatch and what reading raises."""
    tag = attachment_tag(digest, suffix)
    manifests = map(attachment_manifest, named_manifests(source, tag))
    layers = read_layers(source, [layer for each in manifests for layer in each.layers], suffix)
    return tuple(
        SigstoreSignature(
            payload=layer.content,
            annotations=layer.annotations,
            media_type=layer.media_type,
            where=f"{where}, {tag}, layer {number}",
        )
        for number, layer in enumerate(layers, 1)
    )


def read_layers(source: Source, layers: Sequence[Descriptor], suffix: Suffix) -> tuple[Layer, ...]:
    """The layers of attachments with their contents, of which each is read once, however many
    layers have it; raises LimitExceeded and what reading raises."""
    if len(layers) > SIGNATURES_LIMIT:
        raise LimitExceeded("number of layers of the attachment", SIGNATURES_LIMIT, unit="layers")
    check_sizes(layers, suffix)
    contents: dict[Digest, bytes] = {}
    for layer in layers:
        if layer.digest not in contents:
            contents[layer.digest] = read_small(source, layer, layer.size)
    return tuple(
        Layer(
            media_type=layer.media_type,
            content=contents[layer.digest],
            annotations=layer.annotations,
        )
        for layer in layers
    )


def read_small(source: Source, descriptor: Descriptor, limit: int) -> bytes:
    """A blob of at most `limit` bytes, verified; raises LimitExceeded and what reading raises."""
    if descriptor.size > limit:
        raise LimitExceeded(f"blob {descriptor.digest}", limit)
    with source.open_blob(descriptor) as reader:
        return reader.read()

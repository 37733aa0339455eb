"""cosign's attachments in an OCI layout, where the names in its index.json are their tags.

regctl keeps them in the same way, and a registry that serves the layout shows them as tags.
"""

from __future__ import annotations

from imgtools.errors import LimitExceeded
from imgtools.sign.model import SigstoreSignature
from imgtools.sign.stores.attachment import (
    Layer,
    Suffix,
    attachment_manifest,
    attachment_tag,
    check_sizes,
)
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest
from imgtools.spec.manifest import Manifest, RawManifest
from imgtools.transport.base import Source
from imgtools.transport.layout_index import REF_NAME, annotation
from imgtools.transport.oci_layout import LayoutSource


def named_manifests(source: Source, tag: str) -> tuple[RawManifest, ...]:
    """What a layout has by the name `tag`; nothing where `source` reads no layout. Raises what
    reading raises."""
    if not isinstance(source, LayoutSource):
        return ()
    found = (entry for entry in source.entries if annotation(entry, REF_NAME) == tag)
    return tuple(source.manifest(Descriptor.from_json(entry)) for entry in found)


def layout_signatures(
    source: Source, digest: Digest, where: str, *, suffix: Suffix = "sig"
) -> tuple[SigstoreSignature, ...]:
    """The layers of the attachment of `digest`, as `AttachmentReader.signatures` gives those in
    a registry; `where` names the layout. Raises InvalidSignature, LimitExceeded, NotFound,
    DigestMismatch and what reading raises."""
    tag = attachment_tag(digest, suffix)
    layers = (
        layer
        for raw in named_manifests(source, tag)
        for layer in read_layers(source, attachment_manifest(raw), suffix)
    )
    return tuple(
        SigstoreSignature(
            payload=layer.content,
            annotations=layer.annotations,
            media_type=layer.media_type,
            where=f"{where}, {tag}, layer {number}",
        )
        for number, layer in enumerate(layers, 1)
    )


def read_layers(source: Source, manifest: Manifest, suffix: Suffix) -> tuple[Layer, ...]:
    """The layers of an attachment with their contents; raises LimitExceeded and what reading
    raises."""
    check_sizes(manifest.layers, suffix)
    return tuple(
        Layer(
            media_type=layer.media_type,
            content=read_small(source, layer, layer.size),
            annotations=layer.annotations,
        )
        for layer in manifest.layers
    )


def read_small(source: Source, descriptor: Descriptor, limit: int) -> bytes:
    """A blob of at most `limit` bytes, verified; raises LimitExceeded and what reading raises."""
    if descriptor.size > limit:
        raise LimitExceeded(f"blob {descriptor.digest}", limit)
    with source.open_blob(descriptor) as reader:
        return reader.read()

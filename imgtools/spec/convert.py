"""Conversions of manifests and indexes between Docker v2 schema 2 and OCI.

Pure: a new value comes out, or Unsupported when the other family cannot say the same. The
config and layer bytes stay as they are; only media types and the document around them
change.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from imgtools.errors import Unsupported
from imgtools.spec import media_type as mt
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest
from imgtools.spec.manifest import Index, Manifest

_NONE: Mapping[str, str] = MappingProxyType({})


def manifest_to_oci(manifest: Manifest) -> Manifest:
    """The OCI manifest of the same image; raises Unsupported for an unknown Docker type."""
    if not manifest.is_docker:
        return manifest
    return Manifest(
        media_type=mt.OCI_MANIFEST,
        config=_converted(manifest.config, docker=False),
        layers=tuple(_converted(layer, docker=False) for layer in manifest.layers),
    )


def manifest_to_docker(manifest: Manifest) -> Manifest:
    """The v2 schema 2 manifest of the same image.

    Annotations and a subject have no place there and are dropped, as skopeo does; raises
    Unsupported for an artifact, or a layer type that Docker does not have.
    """
    if manifest.is_docker:
        return manifest
    if manifest.is_artifact:
        raise Unsupported(
            f"an artifact with config type {manifest.config.media_type} "
            "cannot be written as Docker v2 schema 2"
        )
    return Manifest(
        media_type=mt.DOCKER_MANIFEST,
        config=_converted(manifest.config, docker=True),
        layers=tuple(_converted(layer, docker=True) for layer in manifest.layers),
    )


def index_to_oci(index: Index, children: Mapping[Digest, Descriptor]) -> Index:
    """The OCI index of `index`, its children replaced as `children` says (old digest -> new)."""
    return Index(
        media_type=mt.OCI_INDEX,
        manifests=_replaced(index, children),
        annotations=index.annotations,
        subject=index.subject,
        artifact_type=index.artifact_type,
        extra=index.extra,
    )


def index_to_docker(index: Index, children: Mapping[Digest, Descriptor]) -> Index:
    """The Docker manifest list of `index`, its children replaced as `children` says.

    Raises Unsupported when a child has no platform or is no v2 schema 2 image, because a
    list can hold nothing else.
    """
    manifests = _replaced(index, children)
    for child in manifests:
        if child.platform is None:
            raise Unsupported(f"index entry {child.digest} has no platform, which a list needs")
        if mt.kind(child.media_type) != "manifest" or not mt.is_docker(child.media_type):
            raise Unsupported(
                f"index entry {child.digest} of type {child.media_type} "
                "cannot be part of a Docker manifest list"
            )
    return Index(media_type=mt.DOCKER_LIST, manifests=manifests)


def _replaced(index: Index, children: Mapping[Digest, Descriptor]) -> tuple[Descriptor, ...]:
    """Each entry with the media type, digest and size of its replacement, all else kept."""
    out = []
    for old in index.manifests:
        new = children.get(old.digest)
        if new is not None:
            old = replace(
                old, media_type=new.media_type, digest=new.digest, size=new.size, data=None
            )
        out.append(old)
    return tuple(out)


def _converted(descriptor: Descriptor, *, docker: bool) -> Descriptor:
    family = mt.to_family(descriptor.media_type, docker=docker)
    if family is None:
        name = "Docker v2 schema 2" if docker else "OCI"
        raise Unsupported(
            f"{descriptor.media_type or 'a blob without media type'} has no {name} form"
        )
    converted = descriptor.with_media_type(family)
    return replace(converted, annotations=_NONE, platform=None) if docker else converted

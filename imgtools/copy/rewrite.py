"""Drafts of manifests that change on the way: what is known beforehand, and how it is filled.

Pure. A draft whose missing parts are none is filled by the plan itself; one that waits for
recompressed layers is filled when they have been written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from imgtools.copy.decide import Family
from imgtools.errors import InvalidManifest, Unsupported
from imgtools.frozen import dataclass
from imgtools.spec import media_type as mt
from imgtools.spec import strict_json
from imgtools.spec.convert import (
    index_to_docker,
    index_to_oci,
    manifest_to_docker,
    manifest_to_oci,
)
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest
from imgtools.spec.manifest import Index, Manifest, RawManifest
from imgtools.spec.schema1 import Schema1

Key = tuple[Digest, str]
"""A blob and what it is recompressed to ("" as it is)."""

# Annotations that describe the compressed form of a layer and are lies after a change of it:
# estargz and zstd:chunked tables of contents.
_OF_THE_FORM = (
    "containerd.io/snapshot/stargz/",
    "io.containers.estargz.",
    "io.github.containers.zstd-chunked.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A layer as it was written; `compression` is what it really is, by its first bytes."""

    digest: Digest
    size: int
    compression: str
    diff_id: Digest | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestDraft:
    """A manifest that is converted to `family` (None: kept) with some layers replaced.

    `targets` maps the digest of each replaced layer to its new compression.
    """

    manifest: Manifest
    family: Family | None
    targets: Mapping[Digest, str]
    algorithm: str

    @property
    def waits_for(self) -> tuple[Key, ...]:
        """The layers that have to be written first."""
        return tuple(self.targets.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexDraft:
    """An index of other children, or of another family; `children` may still change."""

    index: Index
    family: Family | None
    algorithm: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Schema1Draft:
    """A schema 1 manifest on its way to `family`; `targets` as in ManifestDraft."""

    manifest: Schema1
    family: Family
    targets: Mapping[Digest, str]
    algorithm: str

    @property
    def waits_for(self) -> tuple[Key, ...]:
        """The layers that have to be read first."""
        return tuple(
            (d, self.targets.get(d, "")) for d in dict.fromkeys(self.manifest.real_layers())
        )


Draft = ManifestDraft | IndexDraft | Schema1Draft


def fill_manifest(draft: ManifestDraft, written: Mapping[Key, Written]) -> RawManifest:
    """The manifest with each replaced layer as it was written.

    Raises Unsupported when the family has no such layer.
    """
    layers = []
    for layer in draft.manifest.layers:
        target = draft.targets.get(layer.digest)
        if target is not None:
            found = written[layer.digest, target]
            layer = replace(recompressed(layer, target), digest=found.digest, size=found.size)
        layers.append(layer)
    return converted(replace(draft.manifest, layers=tuple(layers)), draft.family).to_raw(
        draft.algorithm
    )


def honest(manifest: Manifest, diff_ids: Mapping[Digest, Digest]) -> Manifest:
    """The manifest with each layer that is its own diff_id typed as uncompressed.

    A docker-archive: says gzip of layers that it has uncompressed, as containers/image does.
    """
    return replace(
        manifest,
        layers=tuple(
            layer.with_media_type(mt.with_compression(layer.media_type, "none") or layer.media_type)
            if diff_ids.get(layer.digest) == layer.digest
            else layer
            for layer in manifest.layers
        ),
    )


def recompressed(layer: Descriptor, target: str) -> Descriptor:
    """The descriptor of a layer under another compression, its digest and size yet to come.

    Raises Unsupported where the family has no such layer type.
    """
    media_type = mt.with_compression(layer.media_type, target)
    if media_type is None:
        raise Unsupported(f"{layer.media_type} has no form with {target} compression")
    kept = {k: v for k, v in layer.annotations.items() if not k.startswith(_OF_THE_FORM)}
    return replace(
        layer, media_type=media_type, annotations=MappingProxyType(kept), urls=(), data=None
    )


def converted(manifest: Manifest, family: Family | None) -> Manifest:
    """The manifest in `family`; raises Unsupported where it has no such form."""
    if family is None:
        return manifest
    if family == "oci":
        return manifest_to_oci(manifest)
    if not manifest.is_docker:
        for layer in manifest.layers:
            if mt.layer_compression(layer.media_type) == "zstd":
                raise Unsupported(
                    f"layer {layer.digest} is compressed with zstd, "
                    "which Docker v2 schema 2 does not have",
                    hint="recompress it: --dest-compress-format gzip --dest-force-compress-format",
                )
    return manifest_to_docker(manifest)


def fill_index(draft: IndexDraft, children: Mapping[Digest, Descriptor]) -> RawManifest:
    """The index with its children replaced; raises Unsupported where the family cannot."""
    docker = draft.index.is_docker if draft.family is None else draft.family == "docker"
    fill = index_to_docker if docker else index_to_oci
    filled = fill(draft.index, children)
    if draft.family is None:
        filled = replace(filled, media_type=draft.index.media_type)
    return filled.to_raw(draft.algorithm)


def fill_schema1(draft: Schema1Draft, written: Mapping[Key, Written]) -> tuple[bytes, RawManifest]:
    """The config and the manifest of a schema 1 image whose layers were read.

    Raises InvalidManifest when the history cannot make a config.
    """
    layers, diff_ids = [], []
    for digest in draft.manifest.real_layers():
        found = written[digest, draft.targets.get(digest, "")]
        if found.diff_id is None:
            raise InvalidManifest(f"layer {digest} of a schema 1 manifest was not read")
        media_type = mt.with_compression(mt.DOCKER_LAYER, found.compression)
        if media_type is None:
            raise Unsupported(f"layer {digest} is compressed with {found.compression}")
        layers.append(Descriptor(media_type=media_type, digest=found.digest, size=found.size))
        diff_ids.append(found.diff_id)
    config = strict_json.dumps(draft.manifest.to_config(tuple(diff_ids)))
    manifest = Manifest(
        media_type=mt.DOCKER_MANIFEST,
        config=Descriptor(
            media_type=mt.DOCKER_CONFIG,
            digest=Digest.of(config, draft.algorithm),
            size=len(config),
        ),
        layers=tuple(layers),
    )
    return config, converted(manifest, draft.family).to_raw(draft.algorithm)

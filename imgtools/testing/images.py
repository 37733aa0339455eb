"""Images for tests: small, whole, and the same for the same arguments.

Everything is in memory. A `Sample` is what a copy moves: the top manifest, the manifests
below it and all blobs.
"""

from __future__ import annotations

import gzip
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from imgtools.blob.tar import Entry, TarWriter
from imgtools.frozen import dataclass
from imgtools.spec import media_type as mt
from imgtools.spec import strict_json
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest
from imgtools.spec.manifest import Index, Manifest, RawManifest
from imgtools.spec.platform import Platform

AMD64 = Platform(os="linux", architecture="amd64")
PLATFORMS = (
    AMD64,
    Platform(os="linux", architecture="arm64"),
    Platform(os="linux", architecture="arm", variant="v7"),
    Platform(os="linux", architecture="s390x"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """An image, artifact or index with all that belongs to it.

    `manifests` are those below the top one, children before parents; `blobs` maps the
    descriptors of all configs and layers to their content.
    """

    top: RawManifest
    manifests: tuple[RawManifest, ...] = ()
    blobs: Mapping[Descriptor, bytes]

    def content(self, digest: Digest) -> bytes:
        """The content of a blob; raises KeyError for one that is not of the sample."""
        return {d.digest: content for d, content in self.blobs.items()}[digest]


def random_layer(seed: object, size: int = 1000) -> bytes:
    """A tar archive with a file of `size` random bytes, not compressed."""
    source = random.Random(f"layer {seed}")
    parts: list[bytes] = []
    writer = TarWriter(parts.append)
    writer.add(Entry(path=f"data-{seed}", size=size), source.randbytes(size))
    writer.finish()
    return b"".join(parts)


def random_image(
    seed: object = 0,
    *,
    layers: int = 2,
    size: int = 1000,
    docker: bool = False,
    compression: str = "gzip",
    platform: Platform = AMD64,
    algorithm: str = "sha256",
    subject: Descriptor | None = None,
    annotations: Mapping[str, str] | None = None,
) -> Sample:
    """An image of `layers` layers with `size` bytes each before compression.

    `docker` makes it v2 schema 2; `compression` is "gzip" or "none".
    """
    return image_of(
        [random_layer(f"{seed}/{number}", size) for number in range(layers)],
        seed,
        docker=docker,
        compression=compression,
        platform=platform,
        algorithm=algorithm,
        subject=subject,
        annotations=annotations,
    )


def image_of(
    tars: Sequence[bytes],
    seed: object = 0,
    *,
    docker: bool = False,
    compression: str = "gzip",
    platform: Platform = AMD64,
    algorithm: str = "sha256",
    subject: Descriptor | None = None,
    annotations: Mapping[str, str] | None = None,
) -> Sample:
    """An image of these layers, given before compression; equal ones become equal blobs."""
    blobs: dict[Descriptor, bytes] = {}
    listed: list[Descriptor] = []
    diff_ids: list[Digest] = []
    layer_type = mt.with_compression(mt.DOCKER_LAYER if docker else mt.OCI_LAYER, compression)
    for tar in tars:
        diff_ids.append(Digest.of(tar, algorithm))
        content = gzip.compress(tar, mtime=0) if compression == "gzip" else tar
        listed.append(_blob(blobs, layer_type or mt.OCI_LAYER, content, algorithm))
    config = strict_json.dumps(
        {
            "created": "2024-01-02T03:04:05Z",
            **platform.to_json(),
            "config": {"Env": ["PATH=/bin"], "Labels": {"seed": str(seed)}},
            "rootfs": {"type": "layers", "diff_ids": [str(d) for d in diff_ids]},
            "history": [{"created_by": f"layer {number} && true"} for number in range(len(tars))],
        }
    )
    kind = mt.DOCKER_CONFIG if docker else mt.OCI_CONFIG
    manifest = Manifest(
        media_type=mt.DOCKER_MANIFEST if docker else mt.OCI_MANIFEST,
        config=_blob(blobs, kind, config, algorithm),
        layers=tuple(listed),
        subject=subject,
        annotations=annotations or {},
    )
    return Sample(top=manifest.to_raw(algorithm), blobs=MappingProxyType(blobs))


def random_index(
    seed: object = 0,
    *,
    platforms: Sequence[Platform] = PLATFORMS,
    layers: int = 2,
    size: int = 1000,
    docker: bool = False,
) -> Sample:
    """An index (or Docker manifest list) of one image per platform; the first layer of all
    is the same."""
    shared = random_layer(f"{seed}/shared", size)
    images = []
    for number, platform in enumerate(platforms):
        image = random_image(
            f"{seed}/{number}", layers=layers, size=size, docker=docker, platform=platform
        )
        images.append(_with_first_layer(image, shared))
    return index_of(images, platforms=platforms, docker=docker)


def index_of(
    samples: Sequence[Sample],
    *,
    platforms: Sequence[Platform | None] | None = None,
    docker: bool = False,
    subject: Descriptor | None = None,
) -> Sample:
    """An index of `samples`, which may be indexes themselves."""
    known = platforms or [None] * len(samples)
    children = tuple(
        replace(sample.top.descriptor(), platform=platform)
        for sample, platform in zip(samples, known, strict=True)
    )
    index = Index(
        media_type=mt.DOCKER_LIST if docker else mt.OCI_INDEX, manifests=children, subject=subject
    )
    manifests: dict[Digest, RawManifest] = {}
    blobs: dict[Descriptor, bytes] = {}
    for sample in samples:
        manifests.update({raw.digest: raw for raw in (*sample.manifests, sample.top)})
        blobs.update(sample.blobs)
    return Sample(
        top=index.to_raw(), manifests=tuple(manifests.values()), blobs=MappingProxyType(blobs)
    )


def random_artifact(
    seed: object = 0,
    *,
    size: int = 100,
    artifact_type: str = "application/vnd.example.report",
    subject: Descriptor | None = None,
    content: bytes | None = None,
) -> Sample:
    """An artifact with the empty config and one blob; with `subject`, a referrer.

    The blob is `content` if that is given, else `size` random bytes.
    """
    blobs: dict[Descriptor, bytes] = {}
    if content is None:
        content = random.Random(f"artifact {seed}").randbytes(size)
    layer = _blob(blobs, "application/octet-stream", content, "sha256")
    manifest = Manifest(
        media_type=mt.OCI_MANIFEST,
        config=_blob(blobs, mt.OCI_EMPTY, b"{}", "sha256"),
        layers=(layer,),
        subject=subject,
        artifact_type=artifact_type,
        annotations={"org.example.seed": str(seed)},
    )
    return Sample(top=manifest.to_raw(), blobs=MappingProxyType(blobs))


def _blob(
    blobs: dict[Descriptor, bytes], media_type: str, content: bytes, algorithm: str
) -> Descriptor:
    digest = Digest.of(content, algorithm)
    descriptor = Descriptor(media_type=media_type, digest=digest, size=len(content))
    blobs[descriptor] = content
    return descriptor


def _with_first_layer(image: Sample, tar: bytes) -> Sample:
    """The image with `tar` as its first layer, gzip compressed."""
    manifest = strict_json.loads_object(image.top.content)
    if not manifest["layers"]:
        return image
    blobs = dict(image.blobs)
    old_layer = Descriptor.from_json(manifest["layers"][0])
    old_config = Descriptor.from_json(manifest["config"])
    config = strict_json.loads_object(blobs.pop(old_config))
    config["rootfs"]["diff_ids"][0] = str(Digest.of(tar))
    del blobs[old_layer]
    layer = _blob(blobs, old_layer.media_type, gzip.compress(tar, mtime=0), "sha256")
    new_config = _blob(blobs, old_config.media_type, strict_json.dumps(config), "sha256")
    view = Manifest(
        media_type=image.top.media_type,
        config=new_config,
        layers=(layer, *(Descriptor.from_json(d) for d in manifest["layers"][1:])),
    )
    return Sample(top=view.to_raw(), blobs=MappingProxyType(blobs))

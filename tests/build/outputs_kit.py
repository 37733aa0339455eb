"""What the tests of outputs share: finished images over a store double, and looks at results."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from imgtools.build.outputs.model import BuiltImage, BuiltLayer
from imgtools.build.protocols import BaseImage
from imgtools.spec import media_type as mt
from imgtools.spec.config import Config, History
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest
from imgtools.spec.manifest import Manifest
from imgtools.spec.platform import Platform
from imgtools.transport.base import Source
from imgtools.transport.options import DestinationOptions, RegistryOptions, SourceOptions
from tests.build.store_double import StoreDouble

AMD64 = Platform(os="linux", architecture="amd64")
ARM64 = Platform(os="linux", architecture="arm64")
PLAIN_HTTP = RegistryOptions(tls_verify=False)
FROM = SourceOptions(registry=PLAIN_HTTP)
TO = DestinationOptions(registry=PLAIN_HTTP)
CREATED = "2024-05-06T07:08:09Z"

Member = tuple[str, bytes] | tarfile.TarInfo


def tar(*members: Member) -> bytes:
    """A layer: files by name and content (a name with "/" at its end is a directory), or
    whole members."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
                continue
            name, content = member
            info = tarfile.TarInfo(name.rstrip("/"))
            if name.endswith("/"):
                info.type, info.mode = tarfile.DIRTYPE, 0o755
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def link(name: str, target: str, kind: bytes = tarfile.LNKTYPE) -> tarfile.TarInfo:
    """A hard link, or another kind of link."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def config_of(diff_ids: Sequence[Digest], platform: Platform = AMD64, **settings: Any) -> Config:
    """A config with a history of one entry for each layer."""
    history = [History(created=CREATED, created_by=f"step {n}") for n in range(len(diff_ids))]
    document = {
        "created": CREATED,
        **platform.to_json(),
        "config": {"Env": ["PATH=/bin"], **settings},
    }
    return Config.from_json(document).with_rootfs(diff_ids, history)


def built(
    store: StoreDouble,
    layers: Iterable[bytes],
    *,
    base: BaseImage | None = None,
    platform: Platform = AMD64,
    annotations: Mapping[str, str] | None = None,
    **settings: Any,
) -> BuiltImage:
    """A finished image whose new `layers` are put into the store, on top of those of `base`,
    which are there."""
    made: list[BuiltLayer] = []
    parent: Digest | None = None
    for diff_id in base.config.diff_ids if base is not None else ():
        parent = Digest.of(f"{parent} {diff_id}".encode()) if parent is not None else diff_id
        made.append(BuiltLayer(diff_id=diff_id, chain_id=parent, size=store.layers[parent].size))
    for step, content in enumerate(layers):
        new = store.add(parent, content)
        parent = new.chain_id
        made.append(BuiltLayer(diff_id=new.diff_id, chain_id=parent, size=new.size, step=step))
    return BuiltImage(
        platform=platform,
        config=config_of([layer.diff_id for layer in made], platform, **settings),
        layers=tuple(made),
        base=base,
        annotations=annotations or {},
    )


def base_image(
    store: StoreDouble, name: str, layers: Sequence[bytes], *, docker: bool = False
) -> tuple[BaseImage, dict[Digest, bytes]]:
    """A base with gzip layers as a registry would have it, its tars in the store; and its
    blobs by digest. The compressor is another than ours, so that nobody can make the same
    bytes again."""
    config = config_of([Digest.of(layer) for layer in layers])
    content = config.to_bytes()
    packed = [gzip.compress(layer, 1, mtime=7) for layer in layers]
    layer_type = mt.DOCKER_LAYER_GZIP if docker else mt.OCI_LAYER_GZIP
    manifest = Manifest(
        media_type=mt.DOCKER_MANIFEST if docker else mt.OCI_MANIFEST,
        config=described(content, mt.DOCKER_CONFIG if docker else mt.OCI_CONFIG),
        layers=tuple(described(blob, layer_type) for blob in packed),
    ).to_raw()
    parent = None
    for layer in layers:
        parent = store.add(parent, layer).chain_id
    base = BaseImage(name=name, pinned="", platform=AMD64, manifest=manifest, config=config)
    return base, {Digest.of(blob): blob for blob in (content, *packed)}


def pinned(base: BaseImage, repository: str) -> BaseImage:
    """The base as found in a registry."""
    return replace(base, name=f"{repository}:latest", pinned=f"{repository}@{base.manifest.digest}")


def described(content: bytes, media_type: str) -> Descriptor:
    """A descriptor of bytes."""
    return Descriptor(media_type=media_type, digest=Digest.of(content), size=len(content))


def layer_bytes(source: Source, layer: Descriptor) -> bytes:
    """The uncompressed tar of a layer at a source."""
    from imgtools.blob.compression import Decompressor

    with source.open_blob(layer) as reader:
        return Decompressor(io.BytesIO(reader.read())).readall()


def new_store(tmp_path: Path) -> StoreDouble:
    """A store in a fresh directory."""
    root = tmp_path / "store"
    root.mkdir()
    return StoreDouble(root)

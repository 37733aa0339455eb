"""`inspect --platforms`: every instance that a name stands for, of nested indexes too.

Survey (the manifests of all instances, in parallel) and a pure table of rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from imgtools.errors import LimitExceeded, NotFound
from imgtools.frozen import dataclass
from imgtools.image.select import is_attestation, is_manifest_entry
from imgtools.inspect.summary import artifact_type
from imgtools.inspect.survey import INDEX_COUNT, INDEX_DEPTH, read_config
from imgtools.spec import media_type as mt
from imgtools.spec.config import Config
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest
from imgtools.spec.manifest import Index, Manifest, RawManifest, parse
from imgtools.spec.platform import Platform
from imgtools.spec.schema1 import Schema1
from imgtools.task import Task, WorkerPool
from imgtools.transport.base import Source

MAX_INSTANCES = 4_096
"""Entries, in all indexes together, that we agree to look up."""

Kind = Literal["image", "artifact", "attestation", "blob", "missing"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """One entry: `size` is the compressed bytes of config and layers, each blob once.

    `size`, `layers` and `config` are None where the entry is no manifest, or not there;
    `type` is an artifact's type, `about` the image that an attestation is about, `parent`
    the digest of the index that names the entry (None for a name that is no index).
    """

    kind: Kind
    digest: Digest
    media_type: str
    platform: Platform | None = None
    size: int | None = None
    layers: int | None = None
    config: Digest | None = None
    type: str = ""
    about: str = ""
    parent: Digest | None = None

    def to_json(self) -> dict[str, Any]:
        """The object for machines; what is not known is null."""
        return {
            "Platform": None if self.platform is None else self.platform.to_json(),
            "Kind": self.kind,
            "Digest": str(self.digest),
            "MediaType": self.media_type,
            "Size": self.size,
            "Layers": self.layers,
            "Config": None if self.config is None else str(self.config),
            "ArtifactType": self.type or None,
            "About": self.about or None,
            "Index": None if self.parent is None else str(self.parent),
        }


def read_instances(source: Source, *, task: Task) -> tuple[Instance, ...]:
    """All instances behind the name, in the order of the indexes; one for a plain image.

    An entry that the source does not have is listed as missing. Raises ImageNotFound,
    LimitExceeded, and what a malformed manifest raises.
    """
    top = source.top()
    parsed = parse(top)
    if not isinstance(parsed, Index):
        return (_described(source, top.descriptor(), top, None),)
    entries = _flattened(source, top.digest, parsed, INDEX_DEPTH, set())
    with WorkerPool(task) as pool:
        return tuple(pool.map(lambda entry: _looked_up(source, *entry), entries))


Entry = tuple[Descriptor, Digest]
"""An entry of an index, and the digest of that index."""


def _flattened(
    source: Source, digest: Digest, index: Index, depth: int, seen: set[Digest]
) -> Sequence[Entry]:
    """The entries below `index`; an index that is named in several ways is read once."""
    entries: list[Entry] = []
    for descriptor in index.manifests:
        if mt.kind(descriptor.media_type) != "index":
            entries.append((descriptor, digest))
        elif depth <= 0:
            raise LimitExceeded("nesting of indexes", INDEX_DEPTH, unit="levels")
        elif descriptor.digest not in seen:
            seen.add(descriptor.digest)
            if len(seen) > INDEX_COUNT:
                raise LimitExceeded("number of indexes", INDEX_COUNT, unit="indexes")
            try:
                inner = parse(source.manifest(descriptor))
            except NotFound:
                entries.append((descriptor, digest))
                continue
            if isinstance(inner, Index):
                entries += _flattened(source, descriptor.digest, inner, depth - 1, seen)
        if len(entries) > MAX_INSTANCES:
            raise LimitExceeded("number of instances", MAX_INSTANCES, unit="entries")
    return entries


def _looked_up(source: Source, descriptor: Descriptor, parent: Digest) -> Instance:
    if not is_manifest_entry(descriptor):
        return Instance(
            kind="blob",
            digest=descriptor.digest,
            media_type=descriptor.media_type,
            platform=descriptor.platform,
            size=descriptor.size,
            parent=parent,
        )
    try:
        if mt.kind(descriptor.media_type) == "index":
            raise NotFound(f"index {descriptor.digest} is not there")
        return _described(source, descriptor, source.manifest(descriptor), parent)
    except NotFound:
        return Instance(
            kind="missing",
            digest=descriptor.digest,
            media_type=descriptor.media_type,
            platform=descriptor.platform,
            parent=parent,
        )


def _described(
    source: Source, descriptor: Descriptor, raw: RawManifest, parent: Digest | None
) -> Instance:
    manifest = parse(raw)
    if isinstance(manifest, Schema1):
        platform = Platform(os="linux", architecture=manifest.architecture)
        return Instance(
            kind="image",
            digest=raw.digest,
            media_type=raw.media_type,
            platform=descriptor.platform or platform,
            layers=len(manifest.layers),
            parent=parent,
        )
    if not isinstance(manifest, Manifest):
        raise NotFound(f"index {raw.digest} where its entry promises a manifest")
    kind = _kind(descriptor, manifest)
    platform_said = descriptor.platform
    if platform_said is None and kind == "image":
        platform_said = Config.parse(read_config(source, manifest.config)).platform
    return Instance(
        kind=kind,
        digest=raw.digest,
        media_type=raw.media_type,
        platform=platform_said,
        size=sum(blob.size for blob in manifest.blobs()),
        layers=len(manifest.layers),
        config=manifest.config.digest,
        type=artifact_type(manifest) if kind == "artifact" else "",
        about=descriptor.annotations.get("vnd.docker.reference.digest", ""),
        parent=parent,
    )


def _kind(descriptor: Descriptor, manifest: Manifest) -> Kind:
    if is_attestation(descriptor):
        return "attestation"
    if manifest.is_artifact and not manifest.is_docker:
        return "artifact"
    return "image"

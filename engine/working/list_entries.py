"""What an index gets as entries: images of the store or anywhere else, all images of another
index, and artifacts made of files. Pure, but for what is read through Sources."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from types import MappingProxyType
from typing import Any

from engine.working.lists import FILE, ImageList
from imgtools.blob.files import storage_errors
from imgtools.blob.reader import CHUNK
from imgtools.errors import ImageNotFound, InvalidInput, InvalidManifest
from imgtools.frozen import dataclass
from imgtools.spec import media_type as mt
from imgtools.spec.config import Config
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest
from imgtools.spec.manifest import Index, Manifest, RawManifest, parse
from imgtools.spec.platform import Platform, choose
from imgtools.spec.strict_json import MANIFEST_LIMIT
from imgtools.transport.base import Source

EMPTY = b"{}"
TITLE = "org.opencontainers.image.title"
_UNKNOWN = "application/octet-stream"


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryEdit:
    """What is said of an entry instead of what its image says; "" and () for what stays.
    `features` are those of processors, of docker's lists."""

    os: str = ""
    architecture: str = ""
    variant: str = ""
    os_version: str = ""
    os_features: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    annotations: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactOptions:
    """How files become an artifact (OCI image-spec manifest.md, "Guidelines for Artifact
    Usage"): media types ("" for usual ones), a config of a file's content, a subject."""

    type: str = ""
    config_type: str = mt.OCI_EMPTY
    config: bytes | None = None
    layer_type: str = ""
    titles: bool = True
    subject: Descriptor | None = None
    annotations: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


def entries_of(source: Source, wanted: Platform, *, everything: bool) -> tuple[Descriptor, ...]:
    """The entries that an image or index gives: of an index the one for `wanted`, or all of
    them. Raises ImageNotFound where there is none for it, and what reading raises."""
    raw = source.top()
    view = parse(raw)
    if isinstance(view, Index):
        if everything:
            return view.manifests
        number = choose([child.platform for child in view.manifests], wanted)
        if number is None:
            raise ImageNotFound(f"{source.origin.name} has no image for {wanted}")
        return (view.manifests[number],)
    if not isinstance(view, Manifest):
        raise InvalidManifest(f"{source.origin.name} has a manifest of schema 1, see imgtools copy")
    entry = raw.descriptor()
    if view.is_artifact:
        return (replace(entry, artifact_type=view.artifact_type or view.config.media_type),)
    return (replace(entry, platform=_platform(source, view)),)


def _platform(source: Source, view: Manifest) -> Platform | None:
    if view.config.size > MANIFEST_LIMIT:
        raise InvalidManifest(f"the config {view.config.digest} is too large")
    with source.open_blob(view.config) as reader:
        config = Config.parse(reader.read())
    return config.platform if config.platform.os else None


def with_edit(image_list: ImageList, digest: Digest, edit: EntryEdit) -> ImageList:
    """The index with the entries of a digest changed. Raises ImageNotFound."""
    if not any(each.digest == digest for each in image_list.index.manifests):
        raise ImageNotFound(f"no instance {digest} in the index {image_list.name}")
    changed = tuple(
        edited(each, edit) if each.digest == digest else each for each in image_list.index.manifests
    )
    return replace(image_list, index=replace(image_list.index, manifests=changed))


def edited(entry: Descriptor, edit: EntryEdit) -> Descriptor:
    """The entry as `edit` wants it."""
    before = entry.platform or Platform()
    platform = Platform(
        os=edit.os or before.os,
        architecture=edit.architecture or before.architecture,
        variant=edit.variant or before.variant,
        os_version=edit.os_version or before.os_version,
        os_features=edit.os_features or before.os_features,
    )
    extra: Mapping[str, Any] = entry.extra
    if edit.features:
        extra = {**extra, "features": list(edit.features)}
    return replace(
        entry,
        platform=platform if platform != Platform() else entry.platform,
        annotations={**entry.annotations, **edit.annotations},
        extra=extra,
    )


def with_artifact(
    image_list: ImageList, paths: Sequence[str], options: ArtifactOptions
) -> tuple[ImageList, Digest]:
    """The index with an artifact of the files `paths` (absolute), whose content stays in them;
    the artifact's digest. Raises StorageError, InvalidInput."""
    if not paths:
        raise InvalidInput("an artifact needs at least one file")
    config = options.config if options.config is not None else EMPTY
    layers = tuple(_layer(path, options) for path in paths)
    manifest = Manifest(
        media_type=mt.OCI_MANIFEST,
        config=Descriptor(
            media_type=options.config_type, digest=Digest.of(config), size=len(config)
        ),
        layers=layers,
        annotations=dict(options.annotations),
        subject=options.subject,
        artifact_type=options.type or ("" if options.config is not None else _UNKNOWN),
    )
    raw = manifest.to_raw()
    entry = replace(raw.descriptor(), artifact_type=manifest.artifact_type)
    sources = {layer.digest: FILE + path for layer, path in zip(layers, paths, strict=True)}
    documents = {raw.digest: raw.content, Digest.of(config): config}
    return image_list.with_entry(entry, sources, documents), raw.digest


def _layer(path: str, options: ArtifactOptions) -> Descriptor:
    digest = hashlib.sha256()
    size = 0
    with storage_errors(path), open(path, "rb") as file:
        while data := file.read(CHUNK):
            digest.update(data)
            size += len(data)
    title = {TITLE: os.path.basename(path)} if options.titles else {}
    return Descriptor(
        media_type=options.layer_type or _UNKNOWN,
        digest=Digest("sha256", digest.hexdigest()),
        size=size,
        annotations=title,
    )


def digest_of(image_list: ImageList, text: str) -> Digest | None:
    """The entry that people mean by a digest, or by a file of an artifact; None for neither."""
    for each in image_list.index.manifests:
        if str(each.digest) == text:
            return each.digest
        content = image_list.documents.get(each.digest)
        view = parse(RawManifest.of(content, each.media_type)) if content is not None else None
        names = (
            {layer.annotations.get(TITLE) for layer in view.layers}
            if isinstance(view, Manifest)
            else set()
        )
        if os.path.basename(text) in names:
            return each.digest
    return None

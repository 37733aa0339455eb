"""The config and manifest of an image that is committed, from what is recorded of its container.

Pure. History has one entry for the layer, with those that were noted around it; entries that
say `empty_layer` are without one, so that the others are as many as the layers (OCI image-spec
config.md, "history").
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from types import MappingProxyType
from typing import Any, Literal

from engine.working.model import SCRATCH, WorkingContainer
from imgtools.frozen import dataclass
from imgtools.spec import media_type as mt
from imgtools.spec import strict_json
from imgtools.spec.config import Config, History
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest
from imgtools.spec.manifest import Manifest, RawManifest

IDENTITY_LABEL = "io.imgtools.version"
_OF_CONTAINERS = ("id", "parent", "container", "container_config", "docker_version", "throwaway",
                  "comment", "Size")  # fmt: skip
"""What docker writes beside the OCI image-spec's fields about how an image came to be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Documents:
    """A config and the manifest that names it with uncompressed layers."""

    config: bytes
    manifest: RawManifest


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerFacts:
    """A layer of the image: digest and bytes of its uncompressed tar."""

    diff_id: Digest
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentOptions:
    """`created` is RFC 3339; `squash` says that the layers are not those of the base;
    `omit_history` leaves history out; `labels` are added."""

    created: str
    format: Literal["oci", "docker"] = "oci"
    squash: bool = False
    omit_history: bool = False
    labels: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


def make_documents(
    container: WorkingContainer,
    layers: Sequence[LayerFacts],
    options: DocumentOptions,
    *,
    new_layer: bool,
) -> Documents:
    """The documents of an image with `layers`, of which the last is new if `new_layer` says
    so. Raises InvalidManifest where the container's own document is no config."""
    base = Config.from_json(container.document)
    document = {k: v for k, v in base.document.items() if k not in _OF_CONTAINERS}
    document["created"] = options.created
    settings = dict(container.run_config)
    if options.labels:
        labels = {**(settings.get("Labels") or {}), **options.labels}
        settings["Labels"] = dict(sorted(labels.items()))
    document["config"] = settings
    if options.format == "docker":
        document |= _docker(container, settings)
    history = () if options.squash else base.history
    added = (*container.before, _entry(container, options, new_layer), *container.after)
    config = Config.from_json(document).with_rootfs(
        [layer.diff_id for layer in layers],
        [] if options.omit_history else [*history, *_dated(added, options.created)],
    )
    content = _ordered(dict(config.document), options)
    return Documents(config=content, manifest=_manifest(container, content, layers, options))


def _docker(container: WorkingContainer, settings: dict[str, Any]) -> dict[str, Any]:
    """What only Docker's config has."""
    found: dict[str, Any] = {}
    if container.hostname:
        settings["Hostname"] = container.hostname
    if container.domainname:
        settings["Domainname"] = container.domainname
    comment = container.document.get("comment")
    if isinstance(comment, str) and comment:
        found["comment"] = comment
    return found


def _entry(container: WorkingContainer, options: DocumentOptions, new_layer: bool) -> History:
    author = container.document.get("author")
    comment = container.history_comment
    if not comment and container.image != SCRATCH and container.image:
        comment = f"FROM {container.image}"
    return History(
        created=options.created,
        created_by=container.created_by or "/bin/sh",
        author=author if isinstance(author, str) else "",
        comment=comment,
        empty_layer=not new_layer,
    )


def _dated(entries: Sequence[History], created: str) -> list[History]:
    """The entries with a time: those that were noted get that of the image, so that it alone
    decides about the bytes."""
    return [
        History(
            created=entry.created or created,
            created_by=entry.created_by,
            author=entry.author,
            comment=entry.comment,
            empty_layer=entry.empty_layer,
        )
        for entry in entries
    ]


def _ordered(document: dict[str, Any], options: DocumentOptions) -> bytes:
    """The document with its fields in the order in which Go's types write them, unknown ones
    last."""
    order = ("created", "author", "architecture", "variant", "os", "os.version", "os.features",
             "config", "rootfs", "history")  # fmt: skip
    known = {key: document[key] for key in order if document.get(key) not in (None, "", [])}
    if options.omit_history:
        known.pop("history", None)
    rest = {key: value for key, value in document.items() if key not in order}
    return strict_json.dumps({**known, **rest})


def _manifest(
    container: WorkingContainer,
    config: bytes,
    layers: Sequence[LayerFacts],
    options: DocumentOptions,
) -> RawManifest:
    docker = options.format == "docker"
    layer_type = mt.DOCKER_LAYER if docker else mt.OCI_LAYER
    return Manifest(
        media_type=mt.DOCKER_MANIFEST if docker else mt.OCI_MANIFEST,
        config=Descriptor(
            media_type=mt.DOCKER_CONFIG if docker else mt.OCI_CONFIG,
            digest=Digest.of(config),
            size=len(config),
        ),
        layers=tuple(
            Descriptor(media_type=layer_type, digest=each.diff_id, size=each.size)
            for each in layers
        ),
        annotations={} if docker else dict(container.annotations),
    ).to_raw()

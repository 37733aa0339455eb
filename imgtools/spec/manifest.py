"""Manifests and indexes: OCI image-spec "manifest.md", "image-index.md", Docker v2 schema 2.

`RawManifest` is the bytes as received, with their media type and digest; `parse` gives the
typed view. A view is never written back unless something was changed on purpose.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from types import MappingProxyType
from typing import Any

from imgtools.errors import DigestMismatch, InvalidInput, InvalidManifest
from imgtools.frozen import dataclass
from imgtools.spec import media_type as mt
from imgtools.spec import strict_json
from imgtools.spec.descriptor import Descriptor, optional, others, string_map
from imgtools.spec.digest import Digest
from imgtools.spec.schema1 import Schema1, payload_digest

_EMPTY: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class RawManifest:
    """A manifest, index or schema 1 manifest as received: bytes, media type, digest."""

    content: bytes = field(repr=False)
    media_type: str
    digest: Digest

    @classmethod
    def of(cls, content: bytes, media_type: str = "", *, algorithm: str = "sha256") -> RawManifest:
        """A raw manifest whose digest is computed.

        `media_type` is what a registry or descriptor said; the document's own `mediaType`
        wins when it is one we know, and its structure decides when nobody said anything.
        Raises InvalidJSON, InvalidManifest or LimitExceeded.
        """
        guessed = guess_media_type(content, media_type)
        if mt.kind(guessed) == "schema1":
            return cls(
                content=content, media_type=guessed, digest=payload_digest(content, algorithm)
            )
        return cls(content=content, media_type=guessed, digest=Digest.of(content, algorithm))

    @classmethod
    def verified(cls, content: bytes, media_type: str, expected: Digest) -> RawManifest:
        """Like `of`, and the digest must be `expected`; raises DigestMismatch."""
        plain = Digest.of(content, expected.algorithm)
        if plain == expected:
            return cls(
                content=content, media_type=guess_media_type(content, media_type), digest=expected
            )
        try:
            raw = cls.of(content, media_type, algorithm=expected.algorithm)
        except InvalidInput as e:
            # Only schema 1 is named by another digest; what is wrong here is that these are
            # not the bytes, not what they happen to look like.
            raise DigestMismatch("manifest", expected=str(expected), actual=str(plain)) from e
        if raw.digest != expected:
            raise DigestMismatch("manifest", expected=str(expected), actual=str(raw.digest))
        return raw

    @property
    def size(self) -> int:
        """Bytes of the document."""
        return len(self.content)

    @property
    def is_index(self) -> bool:
        """Whether this is an index or manifest list."""
        return mt.kind(self.media_type) == "index"

    def descriptor(self) -> Descriptor:
        """A descriptor of this document."""
        return Descriptor(media_type=self.media_type, digest=self.digest, size=self.size)

    def __str__(self) -> str:
        return f"{self.digest} ({self.media_type})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """One image or artifact: a config, layers and the optional properties."""

    media_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]
    annotations: Mapping[str, str] = field(default_factory=lambda: _EMPTY)
    subject: Descriptor | None = None
    artifact_type: str = ""
    extra: Mapping[str, Any] = field(default_factory=lambda: _EMPTY, compare=False)

    @property
    def is_docker(self) -> bool:
        """Whether this is Docker's v2 schema 2 rather than OCI's."""
        return self.media_type == mt.DOCKER_MANIFEST

    @property
    def is_artifact(self) -> bool:
        """Whether the config is not an image config, so nothing is said about a file system."""
        return mt.kind(self.config.media_type) != "config"

    def blobs(self) -> tuple[Descriptor, ...]:
        """Config and layers, each digest once, config first."""
        seen: dict[Digest, Descriptor] = {}
        for descriptor in (self.config, *self.layers):
            seen.setdefault(descriptor.digest, descriptor)
        return tuple(seen.values())

    def to_json(self) -> dict[str, Any]:
        """The JSON object, keys in the order in which Go's types write them."""
        value: dict[str, Any] = {"schemaVersion": 2}
        if self.media_type:
            value["mediaType"] = self.media_type
        if self.artifact_type:
            value["artifactType"] = self.artifact_type
        if self.is_docker:
            value["config"] = _docker_blob(self.config)
            value["layers"] = [_docker_blob(layer) for layer in self.layers]
        else:
            value["config"] = self.config.to_json()
            value["layers"] = [layer.to_json() for layer in self.layers]
        if self.subject is not None:
            value["subject"] = self.subject.to_json()
        if self.annotations:
            value["annotations"] = dict(sorted(self.annotations.items()))
        value.update(self.extra)
        return value

    def to_raw(self, algorithm: str = "sha256") -> RawManifest:
        """This manifest written anew (v2s2 indented as Docker does, OCI compact)."""
        return _written(self, algorithm)


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """An OCI index or Docker manifest list; a child may be another index."""

    media_type: str
    manifests: tuple[Descriptor, ...]
    annotations: Mapping[str, str] = field(default_factory=lambda: _EMPTY)
    subject: Descriptor | None = None
    artifact_type: str = ""
    extra: Mapping[str, Any] = field(default_factory=lambda: _EMPTY, compare=False)

    @property
    def is_docker(self) -> bool:
        """Whether this is Docker's manifest list rather than an OCI index."""
        return self.media_type == mt.DOCKER_LIST

    def to_json(self) -> dict[str, Any]:
        """The JSON object, keys in the order in which Go's types write them."""
        value: dict[str, Any] = {"schemaVersion": 2}
        if self.media_type:
            value["mediaType"] = self.media_type
        if self.artifact_type:
            value["artifactType"] = self.artifact_type
        write = _docker_child if self.is_docker else Descriptor.to_json
        value["manifests"] = [write(child) for child in self.manifests]
        if self.subject is not None:
            value["subject"] = self.subject.to_json()
        if self.annotations:
            value["annotations"] = dict(sorted(self.annotations.items()))
        value.update(self.extra)
        return value

    def to_raw(self, algorithm: str = "sha256") -> RawManifest:
        """This index written anew (a list indented as Docker does, an OCI index compact)."""
        return _written(self, algorithm)


def _written(document: Manifest | Index, algorithm: str) -> RawManifest:
    """A document as bytes, in the form of its family."""
    if document.is_docker:
        content = strict_json.dumps_indented(document.to_json(), "   ").encode()
    else:
        content = strict_json.dumps(document.to_json())
    digest = Digest.of(content, algorithm)
    return RawManifest(content=content, media_type=document.media_type, digest=digest)


def parse(raw: RawManifest) -> Manifest | Index | Schema1:
    """The typed view of `raw`; raises InvalidJSON, InvalidManifest or LimitExceeded."""
    kind = mt.kind(raw.media_type)
    if kind == "schema1":
        return Schema1.parse(raw.content)
    value = strict_json.loads_object(raw.content, "manifest")
    if kind == "index":
        return _parse_index(value, raw.media_type)
    if kind == "manifest":
        return _parse_manifest(value, raw.media_type)
    raise InvalidManifest(f"manifest has the media type {raw.media_type!r}, which is no manifest")


def parse_index(raw: RawManifest) -> Index:
    """The index in `raw`; raises InvalidManifest when it is something else."""
    value = parse(raw)
    if not isinstance(value, Index):
        raise InvalidManifest(f"{raw.digest} is not an index but {raw.media_type}")
    return value


def guess_media_type(content: bytes, said: str = "") -> str:
    """The media type of a manifest, from the document and from what its carrier said.

    The document's `mediaType` decides when it is a manifest type, then the carrier's word
    when it is one, then the structure. A document that contradicts itself (layers and
    manifests at once: the class of CVE-2021-41190) raises InvalidManifest.
    """
    value = strict_json.loads_object(content, "manifest")
    version = value.get("schemaVersion")
    own = value.get("mediaType")
    has_children = "manifests" in value
    has_image = "config" in value or "layers" in value
    has_schema1 = "fsLayers" in value or "history" in value
    if sum((has_children, has_image, has_schema1)) > 1:
        raise InvalidManifest(
            "manifest is ambiguous: it has properties of more than one kind "
            "(config or layers, manifests, fsLayers)"
        )
    if version == 1:
        if has_children or has_image:
            raise InvalidManifest("manifest says schemaVersion 1 but is built like version 2")
        return mt.DOCKER_SCHEMA1_SIGNED if "signatures" in value else mt.DOCKER_SCHEMA1
    said = mt.normalise(said)
    for candidate in (own, said):
        if isinstance(candidate, str) and mt.kind(candidate) in ("manifest", "index"):
            wants_children = mt.kind(candidate) == "index"
            if (wants_children and has_image) or (not wants_children and has_children):
                raise InvalidManifest(f"manifest says {candidate} but is built like another kind")
            return candidate
    if version not in (2, None):
        raise InvalidManifest(f"manifest has the unknown schemaVersion {version!r}")
    if has_children:
        return mt.OCI_INDEX
    if has_image:
        config = value.get("config")
        config_type = config.get("mediaType") if isinstance(config, dict) else None
        return mt.DOCKER_MANIFEST if config_type == mt.DOCKER_CONFIG else mt.OCI_MANIFEST
    shown = own if isinstance(own, str) and own else said
    raise InvalidManifest(f"document is not a manifest (media type {shown or 'unknown'!r})")


_MANIFEST_KEYS = frozenset(
    {"schemaVersion", "mediaType", "config", "layers", "annotations", "subject", "artifactType"}
)
_INDEX_KEYS = frozenset(
    {"schemaVersion", "mediaType", "manifests", "annotations", "subject", "artifactType"}
)


def _parse_manifest(value: dict[str, Any], media_type: str) -> Manifest:
    what = "manifest"
    layers = optional(value, "layers", list, what) or []
    if "config" not in value:
        raise InvalidManifest("manifest has no config")
    return Manifest(
        media_type=media_type,
        config=Descriptor.from_json(value["config"], "config descriptor"),
        layers=tuple(
            Descriptor.from_json(layer, f"layer {number} of manifest")
            for number, layer in enumerate(layers)
        ),
        annotations=string_map(value, "annotations", what),
        subject=_subject(value),
        artifact_type=optional(value, "artifactType", str, what) or "",
        extra=others(value, _MANIFEST_KEYS, what, more=_INDEX_KEYS),
    )


def _parse_index(value: dict[str, Any], media_type: str) -> Index:
    what = "index"
    children = optional(value, "manifests", list, what) or []
    return Index(
        media_type=media_type,
        manifests=tuple(
            Descriptor.from_json(child, f"entry {number} of index")
            for number, child in enumerate(children)
        ),
        annotations=string_map(value, "annotations", what),
        subject=_subject(value),
        artifact_type=optional(value, "artifactType", str, what) or "",
        extra=others(value, _INDEX_KEYS, what, more=_MANIFEST_KEYS),
    )


def _subject(value: dict[str, Any]) -> Descriptor | None:
    found = value.get("subject")
    return None if found is None else Descriptor.from_json(found, "subject descriptor")


def _docker_blob(descriptor: Descriptor) -> dict[str, Any]:
    value: dict[str, Any] = {
        "mediaType": descriptor.media_type,
        "size": descriptor.size,
        "digest": str(descriptor.digest),
    }
    if descriptor.urls:
        value["urls"] = list(descriptor.urls)
    return value


def _docker_child(descriptor: Descriptor) -> dict[str, Any]:
    value = _docker_blob(descriptor)
    if descriptor.platform is not None:
        value["platform"] = descriptor.platform.to_json()
    return value

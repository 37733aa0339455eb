"""Image configs: OCI image-spec "config.md", which Docker's config agrees with.

A `Config` is a typed view beside the document itself; what we do not interpret is kept in
`document`, so that a changed config loses nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from types import MappingProxyType
from typing import Any

from imgtools.errors import InvalidDigest, InvalidManifest
from imgtools.frozen import dataclass
from imgtools.spec import strict_json
from imgtools.spec.descriptor import optional, string_map
from imgtools.spec.digest import Digest
from imgtools.spec.platform import Platform


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """One step of an image's making; `empty_layer` steps have no layer."""

    created: str = ""
    created_by: str = ""
    author: str = ""
    comment: str = ""
    empty_layer: bool = False

    def to_json(self) -> dict[str, Any]:
        """The JSON object, keys in the order in which Go's types write them."""
        value: dict[str, Any] = {}
        for key in ("created", "created_by", "author", "comment"):
            if getattr(self, key):
                value[key] = getattr(self, key)
        if self.empty_layer:
            value["empty_layer"] = True
        return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The typed view of an image config, and the document it was read from."""

    platform: Platform
    created: str = ""
    author: str = ""
    docker_version: str = ""
    labels: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    env: tuple[str, ...] = ()
    diff_ids: tuple[Digest, ...] = ()
    history: tuple[History, ...] = ()
    document: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    @classmethod
    def parse(cls, content: bytes) -> Config:
        """The config in `content`; raises InvalidJSON or InvalidManifest."""
        return cls.from_json(strict_json.loads_object(content, "image config"))

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Config:
        """The config that `value` describes; raises InvalidManifest on a wrong type."""
        what = "image config"
        settings = optional(value, "config", dict, what) or {}
        rootfs = optional(value, "rootfs", dict, what) or {}
        diff_ids = optional(rootfs, "diff_ids", list, what) or []
        history = optional(value, "history", list, what) or []
        platform = Platform.from_json(dict(value)) or Platform()
        return cls(
            platform=platform,
            created=optional(value, "created", str, what) or "",
            author=optional(value, "author", str, what) or "",
            docker_version=optional(value, "docker_version", str, what) or "",
            labels=string_map(settings, "Labels", what),
            env=_strings(settings, "Env"),
            diff_ids=tuple(_diff_id(item) for item in diff_ids),
            history=tuple(_history(item) for item in history),
            document=MappingProxyType(dict(value)),
        )

    def with_rootfs(self, diff_ids: Sequence[Digest], history: Sequence[History]) -> Config:
        """The same config with other layers and history."""
        document = dict(self.document)
        document["rootfs"] = {"type": "layers", "diff_ids": [str(d) for d in diff_ids]}
        document["history"] = [step.to_json() for step in history]
        return replace(
            self,
            diff_ids=tuple(diff_ids),
            history=tuple(history),
            document=MappingProxyType(document),
        )

    def to_bytes(self) -> bytes:
        """The document written compactly; equal documents give equal bytes."""
        return strict_json.dumps(dict(self.document))


def _strings(settings: Mapping[str, Any], key: str) -> tuple[str, ...]:
    found = optional(settings, key, list, "image config") or []
    if not all(isinstance(item, str) for item in found):
        raise InvalidManifest(f"image config: property {key!r} has an item that is not a string")
    return tuple(found)


def _diff_id(item: object) -> Digest:
    if not isinstance(item, str):
        raise InvalidManifest("image config: a diff_id is not a string")
    try:
        return Digest.parse(item)
    except InvalidDigest as e:
        raise InvalidManifest(f"image config: diff_id: {e.message}") from e


def _history(item: object) -> History:
    if not isinstance(item, dict):
        raise InvalidManifest("image config: a history entry is not an object")
    what = "history entry"
    return History(
        created=optional(item, "created", str, what) or "",
        created_by=optional(item, "created_by", str, what) or "",
        author=optional(item, "author", str, what) or "",
        comment=optional(item, "comment", str, what) or "",
        empty_layer=bool(optional(item, "empty_layer", bool, what)),
    )

"""Descriptors: how one document names another (OCI image-spec "descriptor.md").

A `Descriptor` also keeps the object it was read from, so that a property we do not know
survives when a manifest is written again.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import field, replace
from types import MappingProxyType
from typing import Any

from imgtools.errors import InvalidDigest, InvalidManifest
from imgtools.frozen import dataclass
from imgtools.spec.digest import Digest
from imgtools.spec.platform import Platform

_EMPTY: Mapping[str, str] = MappingProxyType({})
_KNOWN_KEYS = frozenset(
    {
        "mediaType",
        "digest",
        "size",
        "urls",
        "annotations",
        "data",
        "platform",
        "artifactType",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Descriptor:
    """Media type, digest and size (bytes) of a blob or manifest, with the optional properties."""

    media_type: str
    digest: Digest
    size: int
    annotations: Mapping[str, str] = field(default_factory=lambda: _EMPTY, hash=False)
    platform: Platform | None = None
    urls: tuple[str, ...] = ()
    artifact_type: str = ""
    data: bytes | None = None
    extra: Mapping[str, Any] = field(default_factory=lambda: _EMPTY, hash=False, compare=False)

    @classmethod
    def from_json(cls, value: object, what: str = "descriptor") -> Descriptor:
        """The descriptor `value` describes; `what` names it in errors.

        Raises InvalidManifest when a required property is missing or of a wrong type.
        """
        if not isinstance(value, dict):
            raise InvalidManifest(f"{what} is not an object")
        media_type = optional(value, "mediaType", str, what) or ""
        text = optional(value, "digest", str, what)
        size = optional(value, "size", int, what)
        if text is None or size is None:
            missing = "digest" if text is None else "size"
            raise InvalidManifest(f"{what} has no {missing}")
        if size < 0 or size >= 1 << 63:
            raise InvalidManifest(f"{what} has an impossible size: {size}")
        try:
            digest = Digest.parse(text)
        except InvalidDigest as e:
            raise InvalidManifest(f"{what}: {e.message}") from e
        return cls(
            media_type=media_type,
            digest=digest,
            size=size,
            annotations=string_map(value, "annotations", what),
            platform=Platform.from_json(value.get("platform")),
            urls=string_list(value, "urls", what),
            artifact_type=optional(value, "artifactType", str, what) or "",
            data=_inline_data(value, digest, size, what),
            extra=others(value, _KNOWN_KEYS, what),
        )

    def to_json(self) -> dict[str, Any]:
        """The JSON object, keys in the order in which Go's OCI types write them."""
        value: dict[str, Any] = {
            "mediaType": self.media_type,
            "digest": str(self.digest),
            "size": self.size,
        }
        if self.urls:
            value["urls"] = list(self.urls)
        if self.annotations:
            value["annotations"] = dict(sorted(self.annotations.items()))
        if self.data is not None:
            value["data"] = base64.b64encode(self.data).decode("ascii")
        if self.platform is not None:
            value["platform"] = self.platform.to_json()
        if self.artifact_type:
            value["artifactType"] = self.artifact_type
        value.update(self.extra)
        return value

    def with_media_type(self, media_type: str) -> Descriptor:
        """The same content under another media type."""
        return replace(self, media_type=media_type)

    def __str__(self) -> str:
        return f"{self.digest} ({self.media_type or 'no media type'}, {self.size} bytes)"


def others(
    value: Mapping[str, Any],
    known: frozenset[str],
    what: str,
    *,
    more: frozenset[str] = frozenset(),
) -> Mapping[str, Any]:
    """The properties of `value` that are not among the `known`.

    Raises InvalidManifest for one that is another spelling of a known one, or of `more`: Go
    compares the names of properties without case, and takes the last, so that its programs
    would read another image out of the same bytes.
    """
    found = {key: item for key, item in value.items() if key not in known}
    if found:
        names = {name.casefold(): name for name in known | more}
        for key in found:
            name = names.get(key.casefold())
            if name is not None:
                raise InvalidManifest(
                    f"{what}: property {key[:80]!r} would be {name!r} to other programs"
                )
    return MappingProxyType(found)


def optional(value: Mapping[str, Any], key: str, kind: type[Any], what: str) -> Any:
    """The property `key` of `value`: of type `kind`, or None when absent or null.

    Raises InvalidManifest when it has another type (a bool is never an int here).
    """
    found = value.get(key)
    if found is None:
        return None
    if not isinstance(found, kind) or (kind is int and isinstance(found, bool)):
        raise InvalidManifest(f"{what}: property {key!r} is not {_NAMES.get(kind, kind.__name__)}")
    return found


_NAMES: Mapping[type, str] = MappingProxyType(
    {str: "a string", int: "an integer", dict: "an object", list: "a list"}
)


def string_map(value: Mapping[str, Any], key: str, what: str) -> Mapping[str, str]:
    """The property `key` as a map of strings, empty when absent; raises InvalidManifest."""
    found = optional(value, key, dict, what)
    if not found:
        return _EMPTY
    if not all(isinstance(item, str) for item in found.values()):
        raise InvalidManifest(f"{what}: property {key!r} has a value that is not a string")
    return MappingProxyType(dict(found))


def string_list(value: Mapping[str, Any], key: str, what: str) -> tuple[str, ...]:
    """The property `key` as a tuple of strings, empty when absent; raises InvalidManifest."""
    found = optional(value, key, list, what) or []
    if not all(isinstance(item, str) for item in found):
        raise InvalidManifest(f"{what}: property {key!r} has an item that is not a string")
    return tuple(found)


def _inline_data(value: Mapping[str, Any], digest: Digest, size: int, what: str) -> bytes | None:
    text = optional(value, "data", str, what)
    if text is None:
        return None
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as e:
        raise InvalidManifest(f"{what}: property 'data' is not base64") from e
    if len(data) != size or Digest.of(data, digest.algorithm) != digest:
        raise InvalidManifest(f"{what}: property 'data' is not the content that {digest} names")
    return data

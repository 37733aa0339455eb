"""Docker schema 1 manifests, read only.

The digest of a signed one is over the payload of its JWS, rebuilt from the protected
header's formatLength and formatTail (distribution "manifest v2 schema 1"). Layers are
listed newest first, each with a v1Compatibility string; we turn them into the history and
config of an image config.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from imgtools.errors import InvalidDigest, InvalidJSON, InvalidManifest
from imgtools.frozen import dataclass
from imgtools.spec import strict_json
from imgtools.spec.descriptor import optional
from imgtools.spec.digest import Digest

EMPTY_LAYER = Digest("sha256", "a3ed95caeb02ffe68cdd9fd84406680ae93d633cb16422d00e8a7c22955b46d4")
"""The gzip of an empty tar that Docker wrote for instructions without files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schema1:
    """A schema 1 manifest, oldest layer first (the reverse of the document)."""

    name: str
    tag: str
    architecture: str
    layers: tuple[Digest, ...]
    history: tuple[Mapping[str, Any], ...]

    @classmethod
    def parse(cls, content: bytes) -> Schema1:
        """The manifest in `content`; raises InvalidJSON or InvalidManifest."""
        what = "schema 1 manifest"
        value = strict_json.loads_object(payload(content), what)
        layers = optional(value, "fsLayers", list, what) or []
        history = optional(value, "history", list, what) or []
        if not layers:
            raise InvalidManifest(f"{what} has no layers")
        if len(layers) != len(history):
            raise InvalidManifest(
                f"{what} has {len(layers)} layers but {len(history)} history entries"
            )
        return cls(
            name=optional(value, "name", str, what) or "",
            tag=optional(value, "tag", str, what) or "",
            architecture=optional(value, "architecture", str, what) or "",
            layers=tuple(_blob_sum(layer) for layer in reversed(layers)),
            history=tuple(_compatibility(entry) for entry in reversed(history)),
        )

    def throwaway(self) -> tuple[bool, ...]:
        """For each layer, oldest first, whether it stands for an instruction without files."""
        return tuple(bool(entry.get("throwaway")) for entry in self.history)

    def real_layers(self) -> tuple[Digest, ...]:
        """The digests of the layers that hold files, oldest first."""
        return tuple(
            layer for layer, empty in zip(self.layers, self.throwaway(), strict=True) if not empty
        )

    def to_config(self, diff_ids: tuple[Digest, ...]) -> dict[str, Any]:
        """An image config with these diff_ids, one for each of `real_layers`.

        Raises InvalidManifest when their number differs.
        """
        if len(diff_ids) != len(self.real_layers()):
            raise InvalidManifest(
                f"schema 1 manifest has {len(self.real_layers())} layers "
                f"but {len(diff_ids)} diff_ids"
            )
        newest = self.history[-1]
        dropped = {"id", "parent", "parent_id", "layer_id", "throwaway", "Size", "size"}
        config = {k: v for k, v in newest.items() if k not in dropped}
        config.setdefault("architecture", self.architecture or "amd64")
        config.setdefault("os", "linux")
        config["rootfs"] = {"type": "layers", "diff_ids": [str(d) for d in diff_ids]}
        config["history"] = [_history(entry) for entry in self.history]
        return config


def payload(content: bytes) -> bytes:
    """The signed payload of a schema 1 document; an unsigned document is its own payload.

    Raises InvalidManifest when signatures disagree on the payload or lie about it, and when
    the document says anything else than the payload: it would have that one's digest.
    """
    value = strict_json.loads_object(content, "schema 1 manifest")
    signatures = value.get("signatures")
    if signatures is None:
        return content
    if not isinstance(signatures, list) or not signatures:
        raise InvalidManifest("schema 1 manifest has an empty list of signatures")
    formats = {_format(signature) for signature in signatures}
    if len(formats) != 1:
        raise InvalidManifest("schema 1 manifest has signatures over different payloads")
    length, tail = formats.pop()
    if not 0 <= length <= len(content):
        raise InvalidManifest("schema 1 manifest has a signature over more than the document")
    found = content[:length] + tail
    rest = {key: item for key, item in value.items() if key != "signatures"}
    if strict_json.loads_object(found, "payload of a schema 1 manifest") != rest:
        raise InvalidManifest("schema 1 manifest says something else than what was signed of it")
    return found


def payload_digest(content: bytes, algorithm: str = "sha256") -> Digest:
    """The digest that names a schema 1 document: that of its payload."""
    return Digest.of(payload(content), algorithm)


def _format(signature: object) -> tuple[int, bytes]:
    protected = signature.get("protected") if isinstance(signature, dict) else None
    if not isinstance(protected, str):
        raise InvalidManifest("schema 1 manifest has a signature without a protected header")
    header = strict_json.loads_object(_unbase64(protected), "protected header")
    length, tail = header.get("formatLength"), header.get("formatTail")
    if not isinstance(length, int) or isinstance(length, bool) or not isinstance(tail, str):
        raise InvalidManifest("schema 1 manifest has a protected header without format")
    return length, _unbase64(tail)


def _unbase64(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as e:
        raise InvalidManifest("schema 1 manifest has a header that is not base64url") from e


def _blob_sum(layer: object) -> Digest:
    text = layer.get("blobSum") if isinstance(layer, dict) else None
    if not isinstance(text, str):
        raise InvalidManifest("schema 1 manifest has a layer without blobSum")
    try:
        return Digest.parse(text)
    except InvalidDigest as e:
        raise InvalidManifest(f"schema 1 manifest: {e.message}") from e


def _compatibility(entry: object) -> Mapping[str, Any]:
    text = entry.get("v1Compatibility") if isinstance(entry, dict) else None
    if not isinstance(text, str):
        raise InvalidManifest("schema 1 manifest has a history entry without v1Compatibility")
    try:
        return MappingProxyType(strict_json.loads_object(text.encode(), "v1Compatibility"))
    except (InvalidJSON, UnicodeEncodeError) as e:
        raise InvalidManifest(f"schema 1 manifest: {e}") from e


def _history(entry: Mapping[str, Any]) -> dict[str, Any]:
    value: dict[str, Any] = {}
    if entry.get("created"):
        value["created"] = entry["created"]
    if entry.get("author"):
        value["author"] = entry["author"]
    command = entry.get("container_config")
    if isinstance(command, dict) and isinstance(command.get("Cmd"), list):
        value["created_by"] = " ".join(str(part) for part in command["Cmd"])
    if entry.get("comment"):
        value["comment"] = entry["comment"]
    if entry.get("throwaway"):
        value["empty_layer"] = True
    return value

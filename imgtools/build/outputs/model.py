"""A finished image before anybody has it: its config and layers, and where to get their bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Literal

from imgtools.build.protocols import BaseImage
from imgtools.frozen import dataclass
from imgtools.spec.config import Config
from imgtools.spec.digest import Digest
from imgtools.spec.platform import Platform

Family = Literal["oci", "docker"]
"""Which documents an image is written with (--format)."""
Compression = Literal["", "none", "gzip", "zstd"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """How layers are compressed on their way out: `compression` "" is what the destination
    prefers, `level` None the compressor's own. `force` also applies it to layers of the base
    that have another form."""

    compression: Compression = ""
    level: int | None = None
    force: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltLayer:
    """A layer of a finished image: `chain_id` is by which the snapshot store has it, `size`
    the bytes of its uncompressed tar; `step` is its place in the build, -1 for a base's."""

    diff_id: Digest
    chain_id: Digest
    size: int
    step: int = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltImage:
    """One image of a build, for one platform: `config` has the final rootfs and history.
    `base` is the image of its last FROM, None for scratch. `annotations` are the manifest's."""

    platform: Platform
    config: Config
    layers: tuple[BuiltLayer, ...]
    base: BaseImage | None
    annotations: Mapping[str, str] = field(default_factory=dict)
    provenance: Mapping[str, object] = field(default_factory=dict)

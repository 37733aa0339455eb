"""A manifest that stands in for another until it is deleted.

A registry that deletes only by digest takes every tag of a manifest along; a tag that was
first moved to a manifest which is nobody else's goes alone. Pure.
"""

from __future__ import annotations

from types import MappingProxyType

from imgtools.spec import media_type as mt
from imgtools.spec import strict_json
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest
from imgtools.spec.manifest import Manifest, RawManifest

CONFIG = strict_json.dumps(
    {
        "architecture": "unknown",
        "os": "unknown",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": []},
    }
)
"""The config of every placeholder: a whole one, because some registries look into it."""

CONFIG_DESCRIPTOR = Descriptor(media_type=mt.OCI_CONFIG, digest=Digest.of(CONFIG), size=len(CONFIG))


def placeholder(unique: str) -> RawManifest:
    """A manifest without layers whose digest is as unique as `unique`."""
    annotations = {
        "org.opencontainers.image.description": "placeholder of a tag that is being deleted",
        "io.imgtools.placeholder": unique,
    }
    return Manifest(
        media_type=mt.OCI_MANIFEST,
        config=CONFIG_DESCRIPTOR,
        layers=(),
        annotations=MappingProxyType(annotations),
    ).to_raw()

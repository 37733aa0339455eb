"""What differs from the source: in words for people, and as the descriptor that is foreseen.

Pure helpers of the plan; nothing here decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from imgtools.copy.actions import PutIndex, PutManifest
from imgtools.copy.decide import Family
from imgtools.copy.rewrite import IndexDraft, ManifestDraft, Schema1Draft
from imgtools.copy.walk import Node
from imgtools.image.select import is_attestation
from imgtools.spec import media_type as mt
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest
from imgtools.spec.manifest import Index, Manifest

FAMILY_NAMES: Mapping[str, str] = MappingProxyType({"oci": "oci", "docker": "v2s2"})
"""Families by the names that --format has for them."""


def label_of(descriptor: Descriptor) -> str:
    """Which instance this is, for people."""
    if is_attestation(descriptor):
        return "attestation"
    return str(descriptor.platform) if descriptor.platform else ""


def image_changes(
    manifest: Manifest, targets: Mapping[Digest, str], becomes: Family | None
) -> tuple[str, ...]:
    """What a conversion to `becomes` and recompressions to `targets` change, in words."""
    changes = []
    if becomes is not None and (becomes == "docker") != manifest.is_docker:
        changes.append(f"{'v2s2' if manifest.is_docker else 'oci'} -> {FAMILY_NAMES[becomes]}")
    counts: dict[tuple[str, str], int] = {}
    for layer in {x.digest: x for x in manifest.layers}.values():
        if layer.digest in targets:
            key = (mt.layer_compression(layer.media_type) or "?", targets[layer.digest])
            counts[key] = counts.get(key, 0) + 1
    for (was, now), count in counts.items():
        changes.append(f"{count} {'layer' if count == 1 else 'layers'} {was} -> {now}")
    return tuple(changes)


def index_changes(
    index: Index, node: Node, becomes: Family | None, filtered: bool, changed: bool
) -> tuple[str, ...]:
    """What a conversion, dropped instances and changed instances change, in words."""
    changes = []
    if becomes is not None and (becomes == "docker") != index.is_docker:
        changes.append(f"{'v2s2' if index.is_docker else 'oci'} -> {FAMILY_NAMES[becomes]}")
    if filtered:
        changes.append(f"{len(node.kept)} of {len(index.manifests)} instances")
    if changed:
        changes.append("instances changed")
    return tuple(changes)


def foreseen(action: PutManifest | PutIndex) -> Descriptor:
    """The descriptor of what an action puts; while its digest is not known, its old one."""
    if action.raw is not None:
        return action.raw.descriptor()
    match action.draft:
        case ManifestDraft(manifest=manifest, family=None):
            return replace(action.old, media_type=manifest.media_type)
        case IndexDraft(index=index, family=None):
            return replace(action.old, media_type=index.media_type)
        case IndexDraft(family=becomes):
            return replace(
                action.old, media_type=mt.OCI_INDEX if becomes == "oci" else mt.DOCKER_LIST
            )
        case ManifestDraft(family=becomes) | Schema1Draft(family=becomes):
            return replace(
                action.old, media_type=mt.OCI_MANIFEST if becomes == "oci" else mt.DOCKER_MANIFEST
            )
    return action.old

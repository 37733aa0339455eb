"""Choosing instances of an index: one for a platform, or all that a selection names.

Pure; what it cannot find it reports with the list of what there is.
"""

from __future__ import annotations

from collections.abc import Sequence

from imgtools.errors import NotFound
from imgtools.spec import media_type as mt
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.manifest import Index
from imgtools.spec.platform import Platform, choose, matches_any


def choose_instance(index: Index, wanted: Platform) -> Descriptor:
    """The entry of `index` that suits `wanted` best; raises NotFound naming what there is.

    A single entry without any platform is taken as it is, since it says nothing to the
    contrary; attestations (`unknown/unknown`) never are.
    """
    candidates = [d for d in index.manifests if not is_attestation(d)]
    position = choose([d.platform for d in candidates], wanted)
    if position is not None:
        return candidates[position]
    if len(candidates) == 1 and candidates[0].platform is None:
        return candidates[0]
    raise NotFound(
        f"no image for {wanted} in the index, which has {platforms_text(index)}",
        hint="choose one with --override-os and --override-arch",
    )


def instances_for(index: Index, wanted: Sequence[Platform]) -> tuple[Descriptor, ...]:
    """All entries for the platforms `wanted`, in the order of the index, with attestations
    that refer to them; raises NotFound when one of them has no entry."""
    for platform in wanted:
        if not any(matches_any(d.platform, [platform]) for d in index.manifests):
            raise NotFound(
                f"no image for {platform} in the index, which has {platforms_text(index)}"
            )
    chosen = [matches_any(d.platform, wanted) for d in index.manifests]
    digests = {
        str(d.digest) for d, is_chosen in zip(index.manifests, chosen, strict=True) if is_chosen
    }
    return tuple(
        d
        for d, is_chosen in zip(index.manifests, chosen, strict=True)
        if is_chosen or d.annotations.get("vnd.docker.reference.digest") in digests
    )


def is_attestation(descriptor: Descriptor) -> bool:
    """Whether an index entry is BuildKit's attestation manifest rather than an image."""
    return descriptor.annotations.get("vnd.docker.reference.type") == "attestation-manifest" or (
        descriptor.platform is not None and descriptor.platform.is_unknown
    )


def is_manifest_entry(descriptor: Descriptor) -> bool:
    """Whether an index entry is a manifest or index (a build cache lists blobs there)."""
    return mt.kind(descriptor.media_type) in ("manifest", "index", "schema1")


def platforms_text(index: Index) -> str:
    """The platforms of an index for people, in order, each once."""
    names = [str(d.platform) if d.platform else "(no platform)" for d in index.manifests]
    return ", ".join(dict.fromkeys(names)) or "no entries"

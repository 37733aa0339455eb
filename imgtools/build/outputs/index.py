"""Several images under one name: the index of a build for several platforms.

Pure. Entries are in the order of the platforms, attestations after all images, as BuildKit's
attestation-storage has it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType

from imgtools.build.outputs.model import Family
from imgtools.errors import InvalidInput, Unsupported
from imgtools.spec import media_type as mt
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.manifest import Index, RawManifest
from imgtools.spec.platform import Platform

REFERENCE_TYPE = "vnd.docker.reference.type"
REFERENCE_DIGEST = "vnd.docker.reference.digest"
ATTESTATION_MANIFEST = "attestation-manifest"
UNKNOWN = Platform(os="unknown", architecture="unknown")


def image_entry(manifest: RawManifest, platform: Platform) -> Descriptor:
    """How an image stands in an index."""
    return replace(manifest.descriptor(), platform=platform)


def attestation_entry(manifest: RawManifest, subject: Descriptor) -> Descriptor:
    """How an attestation manifest stands in an index: as what no machine runs."""
    return replace(
        manifest.descriptor(),
        platform=UNKNOWN,
        annotations=MappingProxyType(
            {REFERENCE_DIGEST: str(subject.digest), REFERENCE_TYPE: ATTESTATION_MANIFEST}
        ),
    )


def index_of(
    images: Iterable[Descriptor],
    attestations: Iterable[Descriptor] = (),
    *,
    family: Family = "oci",
    annotations: Mapping[str, str] = MappingProxyType({}),
) -> RawManifest:
    """The index of `images`; Docker's list has neither annotations nor attestations.

    Raises InvalidInput when two images are for one platform, Unsupported.
    """
    entries, extra = tuple(images), tuple(attestations)
    seen: dict[str, Descriptor] = {}
    for entry in entries:
        # Architecture and variant as they are written: arm64 and arm64/v8 are one machine.
        key = str(entry.platform.normalised()) if entry.platform is not None else ""
        version = entry.platform.os_version if entry.platform is not None else ""
        if (other := seen.setdefault(f"{key} {version}", entry)) is not entry:
            raise InvalidInput(f"two images are for {key}: {other.digest} and {entry.digest}")
    if family == "docker":
        if extra:
            raise Unsupported(
                "a Docker manifest list cannot have attestations", hint="use --format oci"
            )
        return Index(media_type=mt.DOCKER_LIST, manifests=entries).to_raw()
    return Index(
        media_type=mt.OCI_INDEX,
        manifests=entries + extra,
        annotations=MappingProxyType(dict(annotations)),
    ).to_raw()

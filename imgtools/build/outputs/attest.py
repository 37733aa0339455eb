"""Attestations about a finished image: in-toto statements in a manifest that refers to it.

Pure. The manifest is the one that BuildKit stores (docs/attestations/attestation-storage.md): an
artifact with the image as its subject, so that it is a referrer, and may stand in an index as
well. Statements are in-toto's version 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any
from urllib.parse import quote

from imgtools.errors import InvalidReference
from imgtools.frozen import dataclass
from imgtools.spec import media_type as mt
from imgtools.spec import strict_json
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest
from imgtools.spec.manifest import Manifest, RawManifest
from imgtools.spec.platform import Platform
from imgtools.spec.reference import Reference

IN_TOTO = "application/vnd.in-toto+json"
STATEMENT = "https://in-toto.io/Statement/v1"
SPDX = "https://spdx.dev/Document"
PREDICATE_TYPE = "in-toto.io/predicate-type"
ARTIFACT_TYPE = "application/vnd.docker.attestation.manifest.v1+json"
EMPTY = b"{}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Predicate:
    """What is said of an image; `type` is a URI."""

    type: str
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class AttestationDocuments:
    """An attestation manifest and its blobs."""

    manifest: RawManifest
    blobs: Mapping[Digest, bytes]

    def referrer(self) -> Descriptor:
        """How a list of referrers names it."""
        return Descriptor(
            media_type=self.manifest.media_type,
            digest=self.manifest.digest,
            size=self.manifest.size,
            artifact_type=ARTIFACT_TYPE,
        )


def statement(predicate: Predicate, subjects: Sequence[str], digest: Digest) -> bytes:
    """An in-toto statement about the image `digest`, which goes by the names `subjects`."""
    names = list(subjects) or ["_"]
    return strict_json.dumps(
        {
            "_type": STATEMENT,
            "predicateType": predicate.type,
            "subject": [{"name": n, "digest": {digest.algorithm: digest.hex}} for n in names],
            "predicate": dict(predicate.body),
        }
    )


def attestation(
    predicates: Sequence[Predicate], subject: Descriptor, names: Sequence[str]
) -> AttestationDocuments:
    """The manifest of all `predicates` about the image `subject`, which goes by `names`."""
    blobs: dict[Digest, bytes] = {Digest.of(EMPTY): EMPTY}
    layers = []
    for predicate in predicates:
        content = statement(predicate, names, subject.digest)
        digest = Digest.of(content)
        blobs[digest] = content
        layers.append(
            Descriptor(
                media_type=IN_TOTO,
                digest=digest,
                size=len(content),
                annotations=MappingProxyType({PREDICATE_TYPE: predicate.type}),
            )
        )
    manifest = Manifest(
        media_type=mt.OCI_MANIFEST,
        artifact_type=ARTIFACT_TYPE,
        config=Descriptor(
            media_type=mt.OCI_EMPTY, digest=Digest.of(EMPTY), size=len(EMPTY), data=EMPTY
        ),
        layers=tuple(layers),
        subject=Descriptor(media_type=subject.media_type, digest=subject.digest, size=subject.size),
    )
    return AttestationDocuments(manifest=manifest.to_raw(), blobs=MappingProxyType(blobs))


def image_purl(name: str, platform: Platform | None = None, digest: Digest | None = None) -> str:
    """The package URL of an image (purl-spec, type docker): the tag, or `digest`, is its
    version, and the platform a qualifier. "" for a name that is no reference."""
    try:
        reference = Reference.parse(name)
    except InvalidReference:
        return ""
    path = reference.familiar.partition("@")[0]
    path = path.removesuffix(f":{reference.tag}") if reference.tag else path
    version = str(reference.tag or reference.digest or digest or "")
    purl = f"pkg:docker/{quote(path, safe='/')}"
    if version:
        purl += f"@{quote(version, safe='')}"
    qualifiers = []
    if reference.tag and (reference.digest or digest) is not None:
        qualifiers.append(f"digest={quote(str(reference.digest or digest), safe=':')}")
    if platform is not None:
        qualifiers.append(f"platform={quote(str(platform), safe='')}")
    return purl + (f"?{'&'.join(qualifiers)}" if qualifiers else "")

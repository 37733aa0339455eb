"""Bills of materials as they are attached: what kind a document is, and its manifests.

A bill that is attached is nobody's word: it is kept beside the image, and no signature covers
it. As a referrer its artifact type is its media type; at cosign's tag `sha256-HEX.sbom` it is
the one layer of an image, as of `cosign attach sbom`.
"""

from __future__ import annotations

import re
from dataclasses import field
from typing import Any

from imgtools.errors import InvalidInput, InvalidJSON, LimitExceeded
from imgtools.frozen import dataclass
from imgtools.sign.stores.attachment import Attachment
from imgtools.sign.stores.referrer import EMPTY_CONFIG
from imgtools.spec import media_type as mt
from imgtools.spec import strict_json
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest
from imgtools.spec.manifest import RawManifest

SBOM_LIMIT = 64 * 1024 * 1024
"""Bytes of a bill of materials."""

SBOM_KINDS = ("spdx", "cyclonedx", "syft")
SBOM_FORMS = ("json", "xml", "text")

_TYPES = {
    ("spdx", "json"): ("application/spdx+json", "text/spdx+json"),
    ("spdx", "text"): ("text/spdx", "text/spdx"),
    ("cyclonedx", "json"): ("application/vnd.cyclonedx+json", "application/vnd.cyclonedx+json"),
    ("cyclonedx", "xml"): ("application/vnd.cyclonedx+xml", "application/vnd.cyclonedx+xml"),
    ("syft", "json"): ("application/vnd.syft+json", "application/vnd.syft+json"),
}
"""The media types by kind and form: of artifacts, and cosign's."""

_SPDX_TEXT = re.compile(rb"^SPDXVersion:", re.MULTILINE)
_CYCLONEDX_XML = re.compile(rb"<bom\s[^>]*xmlns=[\"']http://cyclonedx\.org/")
_HEAD = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Sbom:
    """A document with its `media_type` as an artifact and at cosign's tag."""

    content: bytes = field(repr=False)
    media_type: str
    cosign_media_type: str


def read_sbom(content: bytes, kind: str = "", form: str = "") -> Sbom:
    """The document in `content`, of the kind and form that it shows or that are named.

    Raises InvalidInput for what is of no known kind, or of another than is named, and
    LimitExceeded.
    """
    if len(content) > SBOM_LIMIT:
        raise LimitExceeded("the SBOM", SBOM_LIMIT)
    shown = _kind(content)
    found = (kind or (shown[0] if shown else ""), form or (shown[1] if shown else ""))
    if shown is not None and found != shown:
        raise InvalidInput(
            f"the SBOM is {' '.join(shown)}, not {' '.join(part for part in found if part)}"
        )
    if found not in _TYPES:
        raise InvalidInput(
            "the SBOM is of no known kind: expected SPDX (JSON or tag-value), CycloneDX (JSON "
            "or XML) or syft's JSON",
            hint="name them: --type spdx|cyclonedx|syft --input-format json|xml|text",
        )
    artifact, cosign = _TYPES[found]
    return Sbom(content=content, media_type=artifact, cosign_media_type=cosign)


def sbom_referrer(sbom: Sbom, subject: Descriptor) -> RawManifest:
    """The artifact that refers to `subject` with the document as its layer (image-spec
    "Guidelines for Artifact Usage"). Without a time, so that attaching again changes nothing."""
    value: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": mt.OCI_MANIFEST,
        "artifactType": sbom.media_type,
        "config": _descriptor(mt.OCI_EMPTY, EMPTY_CONFIG),
        "layers": [_descriptor(sbom.media_type, sbom.content)],
        "subject": {
            "mediaType": subject.media_type,
            "digest": str(subject.digest),
            "size": subject.size,
        },
    }
    return RawManifest.of(strict_json.dumps(value), mt.OCI_MANIFEST)


def sbom_attachment(sbom: Sbom) -> Attachment:
    """The image at the tag `.sbom`, whose only layer is the document."""
    layer = _descriptor(sbom.cosign_media_type, sbom.content)
    rootfs = {"type": "layers", "diff_ids": [layer["digest"]]}
    config = strict_json.dumps({"architecture": "", "os": "", "rootfs": rootfs})
    value: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": mt.OCI_MANIFEST,
        "config": _descriptor(mt.OCI_CONFIG, config),
        "layers": [layer],
    }
    manifest = RawManifest.of(strict_json.dumps(value), mt.OCI_MANIFEST)
    return Attachment(manifest=manifest, config=config)


def _kind(content: bytes) -> tuple[str, str] | None:
    """What a document shows itself to be, None where it does not."""
    head = content[:_HEAD].lstrip(b"\xef\xbb\xbf \t\r\n")
    if head.startswith(b"{"):
        try:
            value = strict_json.loads_object(content, "SBOM", limit=SBOM_LIMIT)
        except InvalidJSON as e:
            raise InvalidInput(f"the SBOM cannot be read: {e.message}") from e
        if "spdxVersion" in value or str(value.get("@context", "")).startswith("https://spdx.org/"):
            return "spdx", "json"
        if value.get("bomFormat") == "CycloneDX":
            return "cyclonedx", "json"
        descriptor = value.get("descriptor")
        if isinstance(descriptor, dict) and descriptor.get("name") == "syft":
            return "syft", "json"
        return None
    if _CYCLONEDX_XML.search(head):
        return "cyclonedx", "xml"
    return ("spdx", "text") if _SPDX_TEXT.search(head) else None


def _descriptor(media_type: str, content: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": str(Digest.of(content)), "size": len(content)}

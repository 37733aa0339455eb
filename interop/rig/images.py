"""The test images one by one, and what an OCI layout has to hold for one of them.

Everything is read with nothing but json and hashlib, so that the tests compare imgtools and its
peers with a third opinion.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.rig.testdata import TESTDATA

INDEX_TYPES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
TITLE = "org.opencontainers.image.ref.name"


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """One test image: its kind, the digest and bytes of its top manifest, and where it is.

    `layout` is an OCI layout with this image only, named `kind`; `directory` is the same for
    `dir:`.
    """

    kind: str
    media_type: str
    digest: str
    layout: Path
    directory: Path

    @property
    def manifest(self) -> bytes:
        """The top manifest as it is."""
        return blob_path(self.layout, self.digest).read_bytes()

    @property
    def blobs(self) -> set[str]:
        """The digests of all that the image consists of."""
        return blobs_below(self.layout, self.digest)

    @property
    def is_docker(self) -> bool:
        """Whether it is in Docker's formats rather than OCI's."""
        return self.media_type.startswith("application/vnd.docker.")


def kinds() -> dict[str, dict[str, Any]]:
    """The descriptor of each kind of test image that an OCI layout can hold."""
    everything: dict[str, dict[str, Any]] = json.loads((TESTDATA / "digests.json").read_text())
    return {kind: top for kind, top in everything.items() if kind != "schema1"}


def one_image(images: Path, kind: str, target: Path) -> Image:
    """Make a layout at `target` with the image `kind` of the layout `images` and nothing else.

    The subject of a referrer is there too, without a name.
    """
    top = kinds()[kind]
    entry = {**top, "annotations": {TITLE: kind}}
    target.mkdir(parents=True)
    (target / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    index = {"schemaVersion": 2, "mediaType": INDEX_TYPES[0], "manifests": [entry]}
    (target / "index.json").write_text(json.dumps(index))
    (target / "blobs" / "sha256").mkdir(parents=True)
    subject = json.loads(blob_path(images, top["digest"]).read_bytes()).get("subject")
    wanted = blobs_below(images, top["digest"])
    if subject:
        wanted |= blobs_below(images, subject["digest"])
    for digest in wanted:
        blob_path(target, digest).write_bytes(blob_path(images, digest).read_bytes())
    return Image(
        kind=kind,
        media_type=top["mediaType"],
        digest=top["digest"],
        layout=target,
        directory=images / "dir" / kind,
    )


def blob_path(layout: Path, digest: str) -> Path:
    """Where a layout keeps a blob."""
    return layout / "blobs" / "sha256" / digest.removeprefix("sha256:")


def blobs_below(layout: Path, top: str) -> set[str]:
    """The digests of a manifest in a layout and all it consists of, every one checked.

    What is foreign may be missing, and the subject of a referrer is not part of it.
    """
    content = blob_path(layout, top).read_bytes()
    assert "sha256:" + hashlib.sha256(content).hexdigest() == top
    value = json.loads(content)
    found = {top}
    for child in value.get("manifests", []):
        found |= blobs_below(layout, child["digest"])
    for part in (*value.get("layers", []), *filter(None, [value.get("config")])):
        path = blob_path(layout, part["digest"])
        if part.get("urls") and not path.exists():
            continue
        content = path.read_bytes()
        assert "sha256:" + hashlib.sha256(content).hexdigest() == part["digest"]
        assert len(content) == part["size"]
        found.add(part["digest"])
    return found


def unpacked(archive: Path, target: Path) -> Path:
    """The layout in an archive, which has plain files only, as files in a new directory."""
    with tarfile.open(archive) as tar:
        for member in tar:
            if content := tar.extractfile(member):
                path = target / member.name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content.read())
    return target


def files_in(directory: Path) -> dict[str, bytes]:
    """The files of a `dir:` by name."""
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def entries(layout: Path) -> list[dict[str, Any]]:
    """The descriptors in a layout's index.json."""
    found: list[dict[str, Any]] = json.loads((layout / "index.json").read_text())["manifests"]
    return found


def named(layout: Path, name: str) -> str:
    """The digest of the image of that name in a layout, which has it once."""
    (found,) = [e for e in entries(layout) if e.get("annotations", {}).get(TITLE) == name]
    return str(found["digest"])

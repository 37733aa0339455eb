"""Writes an OCI layout, and beside it each image as a directory in the form of `dir:`.

The second form is for readers that refuse what the first may hold, such as Docker manifests.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

Json = dict[str, Any]

OCI_INDEX = "application/vnd.oci.image.index.v1+json"


def digest_of(data: bytes) -> str:
    """The sha256 digest of `data`, as written in descriptors."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def compact(value: Json) -> bytes:
    """JSON in the form that Go's encoder, and so most registries' clients, give it."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


class Layout:
    """An OCI layout being written: blobs as they come, index.json at the end."""

    def __init__(self, root: Path) -> None:
        """Begin a layout in `root`."""
        self.root = root
        self.blobs = root / "blobs" / "sha256"
        self.blobs.mkdir(parents=True)
        self.entries: list[Json] = []
        self.summary: dict[str, Json] = {}

    def blob(self, media_type: str, content: bytes, **extra: Any) -> Json:
        """Keep `content`; its descriptor, with `extra` fields."""
        (self.blobs / digest_of(content)[7:]).write_bytes(content)
        return descriptor(media_type, content, **extra)

    def manifest(self, value: Json, media_type: str, **extra: Any) -> Json:
        """Keep `value` as JSON; its descriptor."""
        return self.blob(media_type, compact(value), **extra)

    def tag(self, name: str, top: Json) -> Json:
        """Name a manifest in index.json and in the summary."""
        reference = {"org.opencontainers.image.ref.name": name}
        annotations = {**top.get("annotations", {}), **reference}
        self.entries.append({**top, "annotations": annotations})
        self.summary[name] = {key: top[key] for key in ("mediaType", "digest", "size")}
        return top

    def finish(self) -> None:
        """Write index.json and oci-layout."""
        index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": self.entries}
        (self.root / "index.json").write_bytes(compact(index))
        (self.root / "oci-layout").write_bytes(b'{"imageLayoutVersion":"1.0.0"}')
        for name, top in self.summary.items():
            directory = self.directory(name)
            self.export(top, directory, directory / "manifest.json")

    def directory(self, name: str) -> Path:
        """A new directory as `dir:` has it, still without manifest and blobs."""
        directory = self.root / "dir" / name
        directory.mkdir(parents=True)
        (directory / "version").write_bytes(b"Directory Transport Version: 1.1\n")
        return directory

    def export(self, top: Json, directory: Path, target: Path) -> None:
        """Write the manifest `top` to `target`, and what it names into `directory`."""
        content = (self.blobs / top["digest"][7:]).read_bytes()
        target.write_bytes(content)
        value = json.loads(content)
        for child in value.get("manifests", []):
            self.export(child, directory, directory / f"{child['digest'][7:]}.manifest.json")
        for part in (*value.get("layers", []), *filter(None, [value.get("config")])):
            # Foreign layers are somewhere else.
            if (self.blobs / part["digest"][7:]).exists():
                blob = self.blobs / part["digest"][7:]
                (directory / part["digest"][7:]).write_bytes(blob.read_bytes())


def descriptor(media_type: str, content: bytes, **extra: Any) -> Json:
    """The descriptor of `content`."""
    return {"mediaType": media_type, "digest": digest_of(content), "size": len(content), **extra}

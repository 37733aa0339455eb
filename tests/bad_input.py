"""What the tests of bad input share: the command line in this process, layouts made by hand.

Nothing here, or in those tests, names a destination outside of the test's own directory: what
they try is meant to go wrong, and may be run by root.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import sys
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from imgtools.cli.main import run
from imgtools.cli.settings import Settings
from imgtools.cli.state import Cli
from imgtools.spec import media_type as mt
from imgtools.spec.platform import Platform
from imgtools.testing.images import Sample
from imgtools.testing.registry import ScriptedRegistry
from imgtools.transport.registry.wire.retry import RetryPolicy

PLAIN = "--tls-verify=false"
HOST = Platform(os="linux", architecture="amd64")
QUICK = RetryPolicy(first=0.001, longest=0.01)
"""As many tries as ever, without the waits."""


@dataclass(frozen=True)
class Outcome:
    """How a command line ended."""

    code: int
    out: bytes
    err: str

    def refused(self, *words: str, code: int = 1, lines: int = 1) -> None:
        """Assert that it failed as it should: so many lines, each our own, with these words."""
        found = self.err.splitlines()
        assert self.code == code, self.err
        assert len(found) == lines, self.err
        assert all(line.startswith("imgtools: ") and line.isprintable() for line in found)
        for word in words:
            assert word in self.err, self.err
        assert "Traceback" not in self.err


def cli(tmp_path: Path, *arguments: str | Path, **settings: Any) -> Outcome:
    """Run one command line here; anything but an error of the tree comes out of it."""
    made = Settings(tmpdir=str(tmp_path), host=HOST, **settings)
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    err = io.StringIO()
    quick = mock.patch("imgtools.transport.registry.session.RetryPolicy", return_value=QUICK)
    with mock.patch.object(sys, "stdout", out), mock.patch.object(sys, "stderr", err), quick:
        code = run([str(argument) for argument in arguments], Cli(settings=made))
        out.flush()
    buffer = out.buffer
    assert isinstance(buffer, io.BytesIO)
    return Outcome(code, buffer.getvalue(), err.getvalue())


def push(registry: ScriptedRegistry, name: str, sample: Sample, tag: str = "1") -> str:
    """Put a sample into a registry without a request; the name by which to pull it."""
    for content in sample.blobs.values():
        registry.push_blob(name, content)
    for raw in sample.manifests:
        registry.push_manifest(name, raw.content, raw.media_type)
    registry.push_manifest(name, sample.top.content, sample.top.media_type, tags=[tag])
    return f"docker://{registry.host}/{name}:{tag}"


def tar_of(*members: tuple[str, bytes | tuple[bytes, str]]) -> bytes:
    """A tar archive; a member is bytes, or a link as (type, target)."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            if isinstance(content, tuple):
                info.type, info.linkname = content
                archive.addfile(info)
            else:
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


class Layout:
    """An OCI layout written by hand, as nobody should write one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = f"oci:{path}"
        (path / "blobs" / "sha256").mkdir(parents=True)
        (path / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        self.index([])

    def blob(self, content: bytes | Mapping[str, Any], media_type: str) -> dict[str, Any]:
        """Store a blob; its descriptor."""
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        name = hashlib.sha256(data).hexdigest()
        (self.path / "blobs" / "sha256" / name).write_bytes(data)
        return {"mediaType": media_type, "digest": f"sha256:{name}", "size": len(data)}

    def file(self, descriptor: Mapping[str, Any]) -> Path:
        """Where a blob is."""
        return self.path / "blobs" / "sha256" / str(descriptor["digest"]).partition(":")[2]

    def index(self, entries: list[dict[str, Any]]) -> None:
        """Write index.json."""
        document = {"schemaVersion": 2, "manifests": entries}
        (self.path / "index.json").write_text(json.dumps(document))

    def image(self, *layers: dict[str, Any]) -> dict[str, Any]:
        """Store the config and manifest of an image and make it the only one."""
        diff_ids = [layer["digest"] for layer in layers]  # of the right form, that is all
        config = self.blob(
            {
                "os": "linux",
                "architecture": "amd64",
                "rootfs": {"type": "layers", "diff_ids": diff_ids},
            },
            mt.OCI_CONFIG,
        )
        manifest = self.blob(
            {"schemaVersion": 2, "mediaType": mt.OCI_MANIFEST, "config": config, "layers": layers},
            mt.OCI_MANIFEST,
        )
        self.index([manifest])
        return manifest

    @classmethod
    def of(cls, path: Path, tar: bytes, media_type: str = mt.OCI_LAYER_GZIP) -> Layout:
        """A layout with an image of one layer."""
        layout = cls(path)
        content = gzip.compress(tar) if media_type == mt.OCI_LAYER_GZIP else tar
        layout.image(layout.blob(content, media_type))
        return layout


def everything(directory: Path) -> dict[str, bytes | int | None]:
    """Every name below a directory, with the content of files (their size, if too large)."""
    return {str(path.relative_to(directory)): _content(path) for path in directory.rglob("*")}


def _content(path: Path) -> bytes | int | None:
    if not path.is_file():
        return None
    size = path.stat().st_size
    return path.read_bytes() if size < 1 << 24 else size

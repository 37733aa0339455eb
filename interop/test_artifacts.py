"""Artifacts: files in a registry that are no image."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from interop.conftest import Imgtools
from interop.rig import Image, Peer, Registry, blobs_below

KIND = "application/vnd.example.test.v1"
FILES = {"a.txt": b"first\n", "b.bin": bytes(range(256)) * 64, "empty": b""}


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """FILES on disk."""
    directory = tmp_path / "files"
    directory.mkdir()
    for name, content in FILES.items():
        (directory / name).write_bytes(content)
    return sorted(directory.iterdir())


def push(client: Peer, place: str, files: list[Path]) -> None:
    """Make an artifact of files with ORAS's library or regctl."""
    if client.name == "oras":
        client.run("push", place, KIND, *files)
        return
    each = [
        ("--file", str(file), "--file-media-type", "application/octet-stream") for file in files
    ]
    named = [argument for arguments in each for argument in arguments]
    flags = ("--artifact-type", KIND, "--file-title", "--strip-dirs")
    client.run("artifact", "put", *flags, *named, place)


@pytest.mark.parametrize("maker", ["oras", "regctl"])
def test_an_artifact_of_a_peer_survives_imgtools(
    maker: str,
    registry: Registry,
    any_registry: Registry,
    files: list[Path],
    repository: str,
    peer_named: Callable[[str], Peer],
    imgtools: Imgtools,
    tmp_path: Path,
) -> None:
    """Through a layout, an archive and another registry; its files are what they were."""
    client = peer_named(maker)
    name = f"{registry.host}/{repository}:artifact"
    push(client, name, files)
    digest = client.digest(name)
    summary = json.loads(imgtools("inspect", f"docker://{name}"))
    assert summary["Digest"] == digest
    assert len(summary["Layers"]) == len(FILES)
    assert imgtools("inspect", "--raw", f"docker://{name}") == client.manifest(name)

    layout, archive = tmp_path / "layout", tmp_path / "archive.tar"
    back = f"{any_registry.host}/{repository}:back"
    imgtools("copy", "--preserve-digests", f"docker://{name}", f"oci:{layout}:a")
    assert digest in blobs_below(layout, digest)
    imgtools("copy", "--preserve-digests", f"oci:{layout}:a", f"oci-archive:{archive}:a")
    imgtools("copy", "--preserve-digests", f"oci-archive:{archive}:a", f"docker://{back}")
    oras = client if maker == "oras" else peer_named("oras")
    assert oras.digest(back) == digest
    pulled = tmp_path / "pulled"
    pulled.mkdir()
    oras.run("pull", back, pulled)
    assert {path.name: path.read_bytes() for path in pulled.iterdir()} == FILES


def test_peers_read_an_artifact_that_imgtools_pushed(
    registry: Registry,
    images: dict[str, Image],
    repository: str,
    peer_named: Callable[[str], Peer],
    imgtools: Imgtools,
    tmp_path: Path,
) -> None:
    """Its one file."""
    name = f"{registry.host}/{repository}:artifact"
    imgtools("copy", f"oci:{images['artifact'].layout}:artifact", f"docker://{name}")
    pulled = tmp_path / "pulled"
    pulled.mkdir()
    peer_named("oras").run("pull", name, pulled)
    assert {p.name: p.read_bytes() for p in pulled.iterdir()} == {"hello.txt": b"hello, artifact\n"}
    assert peer_named("regctl").run("artifact", "get", name) == b"hello, artifact\n"

"""Images that one program put into a registry and another one reads, byte for byte.

Every client with every kind of image, through every registry, imgtools serve among them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from interop.conftest import Imgtools
from interop.rig import (
    CANNOT_PULL,
    CANNOT_PUSH,
    PEERS,
    Image,
    Peer,
    Registry,
    blobs_below,
    files_in,
    kinds,
    named,
    pairs,
    unpacked,
)

AS_IS = ("--all", "--preserve-digests", "--dest-oci-accept-uncompressed-layers")
# Kinds that crane validate finds fault with in any case: it takes every layer for gzip, every
# entry of an index for an image, and looks for foreign layers elsewhere.
NOT_VALIDATED = {
    "artifact",
    "foreign",
    "index",
    "nested-index",
    "oci-uncompressed",
    "oci-zstd",
    "referrer-sbom",
}


@pytest.mark.parametrize(("peer", "kind"), pairs(CANNOT_PUSH))
def test_imgtools_copies_what_a_peer_pushed(
    peer: str,
    kind: str,
    registry: Registry,
    images: dict[str, Image],
    repository: str,
    peer_named: Callable[[str], Peer],
    imgtools: Imgtools,
    tmp_path: Path,
) -> None:
    """To a layout, an archive of one and a directory, with the same digests."""
    image = images[kind]
    name = f"{registry.host}/{repository}:pushed"
    peer_named(peer).push(image, name)

    imgtools("copy", *AS_IS, f"docker://{name}", f"oci:{tmp_path}/layout:copied")
    assert named(tmp_path / "layout", "copied") == image.digest
    assert blobs_below(tmp_path / "layout", image.digest) == image.blobs

    imgtools("copy", *AS_IS, f"docker://{name}", f"oci-archive:{tmp_path}/layout.tar:copied")
    layout = unpacked(tmp_path / "layout.tar", tmp_path / "unpacked")
    assert named(layout, "copied") == image.digest
    assert blobs_below(layout, image.digest) == image.blobs

    # A directory has to hold what is foreign too, and that is nowhere.
    if kind != "foreign":
        imgtools("copy", "--all", f"docker://{name}", f"dir:{tmp_path}/directory")
        assert files_in(tmp_path / "directory") == files_in(image.directory)


@pytest.mark.parametrize(("peer", "kind"), pairs(CANNOT_PUSH))
def test_imgtools_inspects_what_a_peer_pushed(
    peer: str,
    kind: str,
    registry: Registry,
    images: dict[str, Image],
    repository: str,
    peer_named: Callable[[str], Peer],
    imgtools: Imgtools,
) -> None:
    """The manifest as it is, its digest, and the tag."""
    image = images[kind]
    name = f"docker://{registry.host}/{repository}:pushed"
    peer_named(peer).push(image, name.removeprefix("docker://"))
    assert imgtools("inspect", "--raw", name) == image.manifest
    summary = json.loads(imgtools("inspect", "--override-os=linux", name))
    assert summary["Digest"] == image.digest
    assert "pushed" in summary["RepoTags"]


@pytest.mark.parametrize("kind", kinds())
@pytest.mark.parametrize("peer", PEERS)
def test_a_peer_reads_what_imgtools_pushed(
    peer: str,
    kind: str,
    registry: Registry,
    images: dict[str, Image],
    repository: str,
    peer_named: Callable[[str], Peer],
    imgtools: Imgtools,
    tmp_path: Path,
) -> None:
    """Digest and manifest, and all of it into a layout of its own."""
    image = images[kind]
    name = f"{registry.host}/{repository}:pushed"
    imgtools("copy", *AS_IS, f"dir:{image.directory}", f"docker://{name}")
    if "subject" in json.loads(image.manifest):
        # ORAS's library copies the subject along, so it has to be there.
        subject = f"docker://{registry.host}/{repository}:subject"
        imgtools("copy", f"dir:{images['oci'].directory}", subject)

    client = peer_named(peer)
    assert client.digest(name) == image.digest
    # crane ends what it prints with a newline of its own.
    assert client.manifest(name).removesuffix(b"\n") == image.manifest
    if (peer, kind) not in CANNOT_PULL:
        client.pull(name, tmp_path / "pulled")
        assert blobs_below(tmp_path / "pulled", image.digest) == image.blobs


@pytest.mark.parametrize("kind", sorted(set(kinds()) - NOT_VALIDATED))
def test_crane_finds_no_fault_with_what_imgtools_pushed(
    kind: str,
    registry: Registry,
    images: dict[str, Image],
    repository: str,
    peer_named: Callable[[str], Peer],
    imgtools: Imgtools,
) -> None:
    """It unpacks every layer and compares it with the configuration."""
    name = f"{registry.host}/{repository}:pushed"
    imgtools("copy", *AS_IS, f"dir:{images[kind].directory}", f"docker://{name}")
    assert b"PASS" in peer_named("crane").run("validate", "--insecure", "--remote", name)


@pytest.mark.parametrize("kind", ["oci", "index", "docker-list"])
def test_imgtools_copies_between_repositories_and_registries(
    kind: str,
    registry: Registry,
    any_registry: Registry,
    images: dict[str, Image],
    repository: str,
    peer_named: Callable[[str], Peer],
    imgtools: Imgtools,
    tmp_path: Path,
) -> None:
    """Mounted within a registry, moved to another one; a peer gets all of it from both."""
    image = images[kind]
    first = f"{registry.host}/{repository}/first:tag"
    second = f"{registry.host}/{repository}/second:tag"
    third = f"{any_registry.host}/{repository}/third:tag"
    client = peer_named("regctl")
    client.push(image, first)
    imgtools("copy", *AS_IS, f"docker://{first}", f"docker://{second}")
    imgtools("copy", *AS_IS, f"docker://{second}", f"docker://{third}")
    for name in (second, third):
        layout = tmp_path / name.rpartition("/")[2].partition(":")[0]
        client.pull(name, layout)
        assert blobs_below(layout, image.digest) == image.blobs


@pytest.mark.parametrize("peer", PEERS)
def test_tags_are_the_same_for_everyone(
    peer: str,
    registry: Registry,
    images: dict[str, Image],
    repository: str,
    peer_named: Callable[[str], Peer],
    imgtools: Imgtools,
) -> None:
    """Whoever made them."""
    place = f"{registry.host}/{repository}"
    client = peer_named(peer)
    client.push(images["oci"], f"{place}:b_1")
    imgtools("copy", f"dir:{images['docker'].directory}", f"docker://{place}:a.2")
    client.push(images["oci"], f"{place}:UPPER")
    imgtools("copy", "--all", f"docker://{place}:a.2", f"docker://{place}:again")
    expected = sorted(["b_1", "a.2", "UPPER", "again"])
    assert sorted(client.tags(place)) == expected
    listed = json.loads(imgtools("list-tags", f"docker://{place}"))
    assert listed["Repository"] == place
    assert sorted(listed["Tags"]) == expected

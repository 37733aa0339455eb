"""OCI layouts and their archives written by one program and read by another one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from interop.conftest import Imgtools
from interop.rig import (
    CANNOT_PULL,
    PEERS,
    Image,
    Peer,
    Registry,
    blobs_below,
    entries,
    files_in,
    kinds,
    named,
    pairs,
)

AS_IS = ("--all", "--preserve-digests", "--dest-oci-accept-uncompressed-layers")
# A directory has to hold what is foreign too, and that is nowhere.
FOREIGN = {(peer, "foreign") for peer in PEERS}
# skopeo does not see Docker manifests in a layout, and knows no index in an index.
DOCKER_KINDS = [kind for kind, top in kinds().items() if ".docker." in top["mediaType"]]
CANNOT_READ = {("skopeo", kind) for kind in [*DOCKER_KINDS, "nested-index"]}


@pytest.mark.parametrize(("peer", "kind"), pairs(CANNOT_READ))
def test_a_peer_reads_a_layout_of_imgtools(
    peer: str,
    kind: str,
    any_registry: Registry,
    images: dict[str, Image],
    repository: str,
    peer_named: Callable[[str], Peer],
    imgtools: Imgtools,
    tmp_path: Path,
) -> None:
    """It pushes from there what was meant."""
    image = images[kind]
    layout = tmp_path / "layout"
    imgtools("copy", *AS_IS, f"dir:{image.directory}", f"oci:{layout}:written")
    if peer == "oras" and "subject" in json.loads(image.manifest):
        imgtools("copy", f"dir:{images['oci'].directory}", f"oci:{layout}:subject")
    name = f"{any_registry.host}/{repository}:pushed"
    client = peer_named(peer)
    client.push_layout(layout, "written", name)
    assert client.digest(name) == image.digest


@pytest.mark.parametrize("kind", DOCKER_KINDS)
@pytest.mark.parametrize("peer", PEERS)
def test_a_peer_reads_a_layout_that_imgtools_converted(
    peer: str,
    kind: str,
    any_registry: Registry,
    images: dict[str, Image],
    repository: str,
    peer_named: Callable[[str], Peer],
    imgtools: Imgtools,
    tmp_path: Path,
) -> None:
    """Docker's formats as OCI's; then skopeo sees them too."""
    layout = tmp_path / "layout"
    source = f"dir:{images[kind].directory}"
    imgtools("copy", "--all", "--format", "oci", source, f"oci:{layout}:written")
    name = f"{any_registry.host}/{repository}:pushed"
    client = peer_named(peer)
    client.push_layout(layout, "written", name)
    assert client.digest(name) == named(layout, "written") != images[kind].digest
    if kind != "foreign":
        crane = client if peer == "crane" else peer_named("crane")
        assert b"PASS" in crane.run("validate", "--insecure", "--remote", name)


@pytest.mark.parametrize(("peer", "kind"), pairs(CANNOT_PULL | FOREIGN))
def test_imgtools_reads_a_layout_of_a_peer(
    peer: str,
    kind: str,
    any_registry: Registry,
    images: dict[str, Image],
    repository: str,
    peer_named: Callable[[str], Peer],
    imgtools: Imgtools,
    tmp_path: Path,
) -> None:
    """Byte for byte, with and without a name in it."""
    image = images[kind]
    name = f"{any_registry.host}/{repository}:pushed"
    regctl = peer_named("regctl")
    regctl.push(image, name)
    if "subject" in json.loads(image.manifest):
        # ORAS's library copies the subject along, so it has to be there.
        regctl.push(images["oci"], f"{any_registry.host}/{repository}:subject")
    client = regctl if peer == "regctl" else peer_named(peer)
    layout = client.pull(name, tmp_path / "pulled")
    imgtools("copy", "--all", layout, f"dir:{tmp_path}/directory")
    assert files_in(tmp_path / "directory") == files_in(image.directory)
    assert imgtools("inspect", "--raw", layout) == image.manifest


@pytest.mark.parametrize("peer", ["regctl", "oras", "skopeo"])
def test_images_gather_in_one_layout(
    peer: str,
    any_registry: Registry,
    images: dict[str, Image],
    repository: str,
    peer_named: Callable[[str], Peer],
    imgtools: Imgtools,
    tmp_path: Path,
) -> None:
    """imgtools and a peer add to it in turns; both find all of them."""
    layout = tmp_path / "layout"
    client = peer_named(peer)
    place = f"{any_registry.host}/{repository}"
    client.push(images["oci"], f"{place}:pushed")
    imgtools("copy", *AS_IS, f"dir:{images['index'].directory}", f"oci:{layout}:first")
    client.pull(f"{place}:pushed", layout)
    imgtools("copy", *AS_IS, f"dir:{images['annotations'].directory}", f"oci:{layout}:last")

    expected = {"first": "index", "pulled": "oci", "last": "annotations"}
    for name, kind in expected.items():
        assert named(layout, name) == images[kind].digest
        assert blobs_below(layout, images[kind].digest) == images[kind].blobs
        assert imgtools("inspect", "--raw", f"oci:{layout}:{name}") == images[kind].manifest
        client.push_layout(layout, name, f"{place}:{name}")
    assert sorted(client.tags(place)) == sorted([*expected, "pushed"])
    assert len(entries(layout)) == 3


def test_crane_pushes_a_layout_of_several_images_as_an_index(
    any_registry: Registry,
    images: dict[str, Image],
    repository: str,
    peer_named: Callable[[str], Peer],
    imgtools: Imgtools,
    tmp_path: Path,
) -> None:
    """index.json itself becomes the image, so it has to be in order."""
    layout = tmp_path / "layout"
    chosen = ["oci", "oci-zstd", "annotations"]
    for kind in chosen:
        imgtools("copy", *AS_IS, f"dir:{images[kind].directory}", f"oci:{layout}:{kind}")
    name = f"{any_registry.host}/{repository}:pushed"
    crane = peer_named("crane")
    crane.run("push", "--insecure", "--index", layout, name)
    assert crane.manifest(name).removesuffix(b"\n") == (layout / "index.json").read_bytes()
    crane.pull(name, tmp_path / "pulled")
    for kind in chosen:
        assert blobs_below(tmp_path / "pulled", images[kind].digest) == images[kind].blobs


@pytest.mark.parametrize("kind", sorted(set(kinds()) - {"foreign"}))
def test_regctl_imports_an_archive_of_imgtools(
    kind: str,
    any_registry: Registry,
    images: dict[str, Image],
    repository: str,
    peer_named: Callable[[str], Peer],
    imgtools: Imgtools,
    tmp_path: Path,
) -> None:
    """`oci-archive:` in, the same digest out."""
    image = images[kind]
    archive = tmp_path / "image.tar"
    imgtools("copy", *AS_IS, f"dir:{image.directory}", f"oci-archive:{archive}:written")
    name = f"{any_registry.host}/{repository}:pushed"
    regctl = peer_named("regctl")
    regctl.run("image", "import", name, archive)
    assert regctl.digest(name) == image.digest


@pytest.mark.parametrize("kind", sorted(set(kinds()) - {"foreign"}))
def test_imgtools_reads_an_archive_of_regctl(
    kind: str,
    any_registry: Registry,
    images: dict[str, Image],
    repository: str,
    peer_named: Callable[[str], Peer],
    imgtools: Imgtools,
    tmp_path: Path,
) -> None:
    """It is a layout, and for single images something that Docker loads as well."""
    image = images[kind]
    name = f"{any_registry.host}/{repository}:pushed"
    regctl = peer_named("regctl")
    regctl.push(image, name)
    archive = tmp_path / "image.tar"
    regctl.run("image", "export", name, archive)
    imgtools("copy", "--all", f"oci-archive:{archive}", f"dir:{tmp_path}/directory")
    assert files_in(tmp_path / "directory") == files_in(image.directory)

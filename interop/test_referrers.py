"""Things that refer to an image: put there by one program, found and carried along by another one.

The registries with the referrers API are asked by it, the others have a tag in its place.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from interop.conftest import Imgtools
from interop.rig import Image, Registry, blobs_below, entries, make_peer
from interop.rig.peers import Oras, Regctl

CLIENTS = ["regctl", "oras"]
REFERRERS = ["referrer-image", "referrer-sbom"]
SBOM = b'{"spdxVersion":"SPDX-2.3"}'
SBOM_TYPE = "application/spdx+json"

Client = Regctl | Oras


@pytest.fixture
def client_named(tmp_path: Path) -> Callable[[str], Client]:
    """client_named("regctl") is that client in a new home."""

    def make(name: str) -> Client:
        client = make_peer(name, tmp_path / "clients" / name)
        assert isinstance(client, Client)
        return client

    return make


def expected_types(images: dict[str, Image], registry: Registry | None = None) -> dict[str, str]:
    """Digest -> artifact type of what refers to the image `oci`."""
    found = {}
    for kind in REFERRERS:
        value = json.loads(images[kind].manifest)
        kind_of_config = value["config"]["mediaType"]
        if registry and registry.name == "go-containerregistry":
            # Its API knows no other type.
            found[images[kind].digest] = kind_of_config
        else:
            found[images[kind].digest] = value.get("artifactType", kind_of_config)
    return found


def attach(client: Client, image: str, directory: Path) -> str:
    """Put an SBOM to an image in a registry with a client; its digest."""
    file = directory / "sbom.json"
    file.write_bytes(SBOM)
    if isinstance(client, Oras):
        return str(json.loads(client.run("attach", image, SBOM_TYPE, file))["digest"])
    before = set(client.referrers(image))
    client.run("artifact", "put", "--artifact-type", SBOM_TYPE, "--subject", image, "--file", file)
    (added,) = set(client.referrers(image)) - before
    return added


def seen(imgtools: Imgtools, image: str) -> dict[str, str]:
    """Digest -> artifact type of what imgtools finds to refer to an image."""
    (top, *_) = json.loads(imgtools("inspect", "--referrers", "--json", image))
    return {each["Digest"]: each["ArtifactType"] for each in top["Referrers"]}


@pytest.mark.parametrize("name", CLIENTS)
def test_a_peer_finds_the_referrers_that_imgtools_pushed(
    name: str,
    registry: Registry,
    images: dict[str, Image],
    images_dir: Path,
    repository: str,
    client_named: Callable[[str], Client],
    imgtools: Imgtools,
    tmp_path: Path,
) -> None:
    """From a layout that has them beside the image; and it can carry them on."""
    place = f"{registry.host}/{repository}"
    imgtools("copy", "--referrers", f"oci:{images_dir}:oci", f"docker://{place}:tag")
    client = client_named(name)
    assert client.referrers(f"{place}:tag") == expected_types(images, registry)
    # imgtools reads the manifests themselves, whatever the registry says their types are.
    assert seen(imgtools, f"docker://{place}:tag") == expected_types(images)
    for kind in REFERRERS:
        client.pull(f"{place}@{images[kind].digest}", tmp_path / kind)
        assert blobs_below(tmp_path / kind, images[kind].digest) == images[kind].blobs
    fallback = images["oci"].digest.replace(":", "-")
    if registry.name == "imgtools-serve":
        assert fallback not in registry.tags(repository)
    elif not registry.has_referrers_api:
        assert fallback in registry.tags(repository)


@pytest.mark.parametrize("name", CLIENTS)
def test_a_referrer_pushed_by_itself_is_found(
    name: str,
    registry: Registry,
    images: dict[str, Image],
    repository: str,
    client_named: Callable[[str], Client],
    imgtools: Imgtools,
) -> None:
    """imgtools registers what it pushes, one by one and again, with what was there before."""
    place = f"{registry.host}/{repository}"
    client = client_named(name)
    client.push(images["oci"], f"{place}:tag")
    for kind in [*REFERRERS, *REFERRERS]:
        imgtools("copy", f"dir:{images[kind].directory}", f"docker://{place}:{kind}")
    assert client.referrers(f"{place}:tag") == expected_types(images, registry)


@pytest.mark.parametrize("name", CLIENTS)
def test_imgtools_carries_the_referrers_that_a_peer_pushed(
    name: str,
    registry: Registry,
    any_registry: Registry,
    images: dict[str, Image],
    repository: str,
    client_named: Callable[[str], Client],
    imgtools: Imgtools,
    tmp_path: Path,
) -> None:
    """To a layout, from there to a registry without the API, and back to this one."""
    first, second = f"{registry.host}/{repository}", f"{any_registry.host}/{repository}"
    client = client_named(name)
    client.push(images["oci"], f"{first}:tag")
    added = {attach(client, f"{first}:tag", tmp_path)}
    assert set(seen(imgtools, f"docker://{first}:tag")) == added

    layout = tmp_path / "layout"
    imgtools("copy", "--referrers", f"docker://{first}:tag", f"oci:{layout}:tag")
    assert added <= {entry["digest"] for entry in entries(layout)}
    assert set(seen(imgtools, f"oci:{layout}:tag")) == added
    imgtools("copy", "--referrers", f"oci:{layout}:tag", f"docker://{second}:tag")
    assert client.referrers(f"{second}:tag") == dict.fromkeys(added, SBOM_TYPE)
    imgtools("copy", "--referrers", f"docker://{second}:tag", f"docker://{first}/back:tag")
    assert set(client.referrers(f"{first}/back:tag")) == added


@pytest.mark.parametrize("name", CLIENTS)
def test_referrers_of_both_gather(
    name: str,
    registry: Registry,
    images: dict[str, Image],
    images_dir: Path,
    repository: str,
    client_named: Callable[[str], Client],
    imgtools: Imgtools,
    tmp_path: Path,
) -> None:
    """A peer's before and after imgtools's: nobody's get lost."""
    image = f"{registry.host}/{repository}:tag"
    client = client_named(name)
    client.push(images["oci"], image)
    before = attach(client, image, tmp_path)
    imgtools("copy", "--referrers", f"oci:{images_dir}:oci", f"docker://{image}")
    expected = {before, *expected_types(images)}
    assert set(client.referrers(image)) == expected
    (tmp_path / "other").mkdir()
    other = client_named("oras" if name == "regctl" else "regctl")
    after = attach(other, image, tmp_path / "other")
    assert set(seen(imgtools, f"docker://{image}")) == {*expected, after}


def test_oras_finds_referrers_in_a_layout_of_imgtools(
    images: dict[str, Image],
    images_dir: Path,
    client_named: Callable[[str], Client],
    imgtools: Imgtools,
    tmp_path: Path,
) -> None:
    """By their subjects; regctl finds in a layout only what a tag like a registry's names."""
    layout = tmp_path / "layout"
    imgtools("copy", "--referrers", f"oci:{images_dir}:oci", f"oci:{layout}:tag")
    assert client_named("oras").referrers(f"oci:{layout}:tag") == expected_types(images)


@pytest.mark.parametrize("name", CLIENTS)
def test_imgtools_finds_referrers_in_a_layout_of_a_peer(
    name: str,
    registry: Registry,
    images: dict[str, Image],
    images_dir: Path,
    repository: str,
    client_named: Callable[[str], Client],
    imgtools: Imgtools,
    tmp_path: Path,
) -> None:
    """Copied out of a registry by the peer, with all that refers to the image."""
    image = f"{registry.host}/{repository}:tag"
    imgtools("copy", "--referrers", f"oci:{images_dir}:oci", f"docker://{image}")
    client, layout = client_named(name), tmp_path / "layout"
    if isinstance(client, Oras):
        client.run("copy-referrers", image, f"oci:{layout}:tag")
    else:
        client.run("image", "copy", "--referrers", image, f"ocidir://{layout}:tag")
    assert seen(imgtools, f"oci:{layout}:tag") == expected_types(images)

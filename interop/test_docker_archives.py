"""What `docker save` writes: between imgtools and crane, regctl and skopeo, both ways."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from interop.conftest import Imgtools
from interop.rig import Image, Peer, Registry

# Single images; Docker's archive has no others.
KINDS = ["oci", "docker", "oci-zstd", "oci-uncompressed", "repeated", "empty-layer", "zero-layers"]


def config_of(image: Image) -> bytes:
    """The configuration's bytes."""
    digest: str = json.loads(image.manifest)["config"]["digest"]
    return (image.directory / digest.removeprefix("sha256:")).read_bytes()


def archived(path: Path) -> tuple[dict[str, Any], bytes]:
    """The only entry of an archive's manifest.json, and the configuration it names."""
    with tarfile.open(path) as archive:
        listing = archive.extractfile("manifest.json")
        assert listing is not None
        (entry,) = json.load(listing)
        config = archive.extractfile(entry["Config"])
        assert config is not None
        return entry, config.read()


@pytest.mark.parametrize("kind", KINDS)
def test_crane_reads_an_archive_of_imgtools(
    kind: str,
    any_registry: Registry,
    images: dict[str, Image],
    repository: str,
    peer_named: Callable[[str], Peer],
    imgtools: Imgtools,
    tmp_path: Path,
) -> None:
    """It is in order, and pushed it has the configuration it had."""
    image = images[kind]
    archive = tmp_path / "image.tar"
    name = f"{any_registry.host}/{repository}:pushed"
    crane = peer_named("crane")
    crane.push(image, f"{name}-before")
    imgtools("copy", f"docker://{name}-before", f"docker-archive:{archive}:{name}")
    assert archived(archive)[0]["RepoTags"] == [name]
    assert b"PASS" in crane.run("validate", "--tarball", archive)
    crane.run("push", "--insecure", archive, name)
    assert crane.run("config", "--insecure", name).removesuffix(b"\n") == config_of(image)
    assert b"PASS" in crane.run("validate", "--insecure", "--remote", name)


@pytest.mark.parametrize(
    ("kind", "form"),
    [
        (kind, form)
        for kind in KINDS
        for form in ("tarball", "legacy")
        # crane writes no zstd, and its legacy form crashes without layers.
        if kind != "oci-zstd" and (kind, form) != ("zero-layers", "legacy")
    ],
)
def test_imgtools_reads_an_archive_of_crane(
    kind: str,
    form: str,
    any_registry: Registry,
    images: dict[str, Image],
    repository: str,
    peer_named: Callable[[str], Peer],
    imgtools: Imgtools,
    tmp_path: Path,
) -> None:
    """Pushed from there, crane finds it in order and with the configuration it had."""
    image = images[kind]
    name = f"{any_registry.host}/{repository}:pushed"
    back = f"{any_registry.host}/{repository}:back"
    crane = peer_named("crane")
    crane.push(image, name)
    archive = tmp_path / "image.tar"
    crane.run("pull", "--insecure", "--format", form, name, archive)

    config = archived(archive)[1]
    assert imgtools("inspect", "--config", "--raw", f"docker-archive:{archive}") == config
    imgtools("copy", f"docker-archive:{archive}:{name}", f"docker://{back}")
    assert crane.run("config", "--insecure", back).removesuffix(b"\n") == config
    assert b"PASS" in crane.run("validate", "--insecure", "--remote", back)
    if form == "tarball":
        assert config == config_of(image)


# regctl forgets a layer that is there twice.
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "repeated"])
def test_regctl_imports_an_archive_of_imgtools(
    kind: str,
    any_registry: Registry,
    images: dict[str, Image],
    repository: str,
    peer_named: Callable[[str], Peer],
    imgtools: Imgtools,
    tmp_path: Path,
) -> None:
    """crane finds in order what it makes of it."""
    archive = tmp_path / "image.tar"
    name = f"{any_registry.host}/{repository}:pushed"
    imgtools("copy", f"dir:{images[kind].directory}", f"docker-archive:{archive}:{name}")
    peer_named("regctl").run("image", "import", name, archive)
    assert b"PASS" in peer_named("crane").run("validate", "--insecure", "--remote", name)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "oci-zstd"])
def test_imgtools_reads_the_docker_side_of_an_archive_of_regctl(
    kind: str,
    any_registry: Registry,
    images: dict[str, Image],
    repository: str,
    peer_named: Callable[[str], Peer],
    imgtools: Imgtools,
    tmp_path: Path,
) -> None:
    """Its archives are a layout and Docker's at once, with layers as they were."""
    image = images[kind]
    name = f"{any_registry.host}/{repository}:pushed"
    regctl = peer_named("regctl")
    regctl.push(image, name)
    archive = tmp_path / "image.tar"
    regctl.run("image", "export", name, archive)
    back = f"{any_registry.host}/{repository}:back"
    imgtools("copy", f"docker-archive:{archive}", f"docker://{back}")
    crane = peer_named("crane")
    assert crane.run("config", "--insecure", back).removesuffix(b"\n") == config_of(image)
    assert b"PASS" in crane.run("validate", "--insecure", "--remote", back)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "oci-zstd"])
def test_skopeo_and_imgtools_make_the_same_of_an_archive(
    kind: str,
    images: dict[str, Image],
    peer_named: Callable[[str], Peer],
    imgtools: Imgtools,
    tmp_path: Path,
) -> None:
    """Configuration and layers of an archive, read by each from the other's."""
    image = images[kind]
    skopeo = peer_named("skopeo")
    ours, theirs = tmp_path / "ours.tar", tmp_path / "theirs.tar"
    source = f"dir:{image.directory}"
    imgtools("copy", source, f"docker-archive:{ours}:example.org/a:b")
    skopeo.run("copy", source, f"docker-archive:{theirs}:example.org/a:b")
    skopeo.run("copy", f"docker-archive:{ours}", f"dir:{tmp_path}/by-skopeo")
    imgtools("copy", f"docker-archive:{theirs}", f"dir:{tmp_path}/by-imgtools")
    configs = []
    for directory in (tmp_path / "by-skopeo", tmp_path / "by-imgtools"):
        digest = json.loads((directory / "manifest.json").read_bytes())["config"]["digest"]
        configs.append((directory / digest.removeprefix("sha256:")).read_bytes())
    assert configs == [config_of(image)] * 2
    assert archived(ours)[0] == archived(theirs)[0]

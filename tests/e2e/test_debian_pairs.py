"""A real root filesystem through every pair of transports, and skopeo on both ends.

Each source was written by skopeo; each destination is read by skopeo and copied back. Between
forms that keep manifests nothing may change; an archive of docker's keeps config and diff_ids.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.debian import TAG, Made
from tests.e2e.forms import FORMS, Place, check_equivalent, check_identical, place
from tests.rig import RegistryServer, RunCli

Skopeo = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def written_by_skopeo(
    debian: Made, registry_plain: RegistryServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Place]]:
    """The image in every form, written by skopeo from a layout that was written by hand."""
    directory = tmp_path_factory.mktemp("by-skopeo")
    places = {}
    for form in FORMS:
        there = place(form, directory, registry_plain, "by-skopeo/debian")
        subprocess.run(
            ["skopeo", "--insecure-policy", "--tmpdir", directory, "copy", "--quiet",
             *there.flags("dest"), f"oci:{debian.layout}:{TAG}", there.name],
            check=True,
        )  # fmt: skip
        places[form] = there
    yield places
    shutil.rmtree(directory)


@pytest.mark.parametrize("target", FORMS)
@pytest.mark.parametrize("source", FORMS)
def test_debian_from_every_form_to_every_form(
    source: str,
    target: str,
    debian: Made,
    written_by_skopeo: dict[str, Place],
    registry_plain: RegistryServer,
    repository: str,
    run_cli: RunCli,
    skopeo: Skopeo,
    room: Path,
) -> None:
    """There, read by skopeo with validation, and back."""
    first = written_by_skopeo[source]
    there = place(target, room, registry_plain, repository)
    run_cli("copy", *first.flags("src"), *there.flags("dest"), first.name, there.name, check=True)
    skopeo("copy", *there.flags("src"), there.name, f"dir:{room}/skopeo")
    run_cli("copy", *there.flags("src"), there.name, f"dir:{room}/back", check=True)
    raw = skopeo("inspect", "--raw", *there.flags(), there.name).stdout.encode()
    ours = run_cli("inspect", "--raw", *there.flags(), there.name, check=True).stdout.encode()
    if "docker-archive" not in (source, target):
        assert raw == ours == debian.manifest
        check_identical(room / "skopeo", debian)
        check_identical(room / "back", debian)
        return
    by_skopeo = check_equivalent(room / "skopeo", debian)
    by_us = check_equivalent(room / "back", debian)
    assert by_skopeo["config"]["digest"] == by_us["config"]["digest"]
    if target != "docker-archive":
        # What was made of the archive is a manifest that stays as it is.
        assert raw == ours == (room / "skopeo" / "manifest.json").read_bytes()
        assert raw == (room / "back" / "manifest.json").read_bytes()


def test_a_docker_archive_survives_docker_archive(
    debian: Made, written_by_skopeo: dict[str, Place], run_cli: RunCli, room: Path
) -> None:
    """The members that docker reads: config, layers by their content, and names."""
    import tarfile

    for number, source in enumerate(FORMS):
        archive = room / f"{number}.tar"
        first = written_by_skopeo[source]
        name = f"docker-archive:{archive}:example.com/app:{TAG}"
        run_cli("copy", *first.flags("src"), first.name, name, check=True)
        with tarfile.open(archive) as tar:
            names = tar.extractfile("manifest.json")
            assert names is not None
            (item,) = json.load(names)
            config = tar.extractfile(item["Config"])
            assert config is not None
            assert config.read() == debian.config
            assert item["RepoTags"] == [f"example.com/app:{TAG}"]
            assert len(item["Layers"]) == len(debian.diff_ids)


@pytest.mark.parametrize("target", FORMS)
def test_tarballs(
    target: str,
    debian: Made,
    registry_plain: RegistryServer,
    repository: str,
    run_cli: RunCli,
    skopeo: Skopeo,
    room: Path,
) -> None:
    """Layers that have no image yet: their content is in the image made of them, in order."""
    there = place(target, room, registry_plain, repository)
    layers = debian.tars[1:]
    source = "tarball:" + ":".join(map(str, layers))
    run_cli("copy", *there.flags("dest"), source, there.name, check=True)
    skopeo("copy", *there.flags("src"), there.name, f"dir:{room}/skopeo")
    made = Made(
        layout=debian.layout, directory=debian.directory, tars=layers,
        manifest=b"", config=b"", diff_ids=debian.diff_ids[1:],
    )  # fmt: skip
    check_equivalent(room / "skopeo", made, same_config=False)

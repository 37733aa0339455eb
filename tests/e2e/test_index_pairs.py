"""Four platforms through every pair of forms that hold an index, and through guarded registries."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.debian import PLATFORMS, TAG, Made, sha256
from tests.e2e.forms import WITH_INDEX, Place, check_identical, place
from tests.rig import RegistryServer, RunCli

Skopeo = Callable[..., subprocess.CompletedProcess[str]]


@pytest.mark.parametrize("target", WITH_INDEX)
@pytest.mark.parametrize("source", WITH_INDEX)
def test_an_index_from_every_form_to_every_form(
    source: str,
    target: str,
    platforms: Made,
    registry_plain: RegistryServer,
    repository: str,
    run_cli: RunCli,
    skopeo: Skopeo,
    room: Path,
) -> None:
    """Written by skopeo, copied by us, read by skopeo with validation, and back."""
    (room / "first").mkdir()
    first = place(source, room / "first", registry_plain, f"{repository}/first")
    there = place(target, room, registry_plain, repository)
    skopeo("copy", "--all", *first.flags("dest"), f"oci:{platforms.layout}:{TAG}", first.name)
    flags = (*first.flags("src"), *there.flags("dest"))
    run_cli("copy", "--all", *flags, first.name, there.name, check=True)
    skopeo("copy", "--all", *there.flags("src"), there.name, f"dir:{room}/skopeo")
    run_cli("copy", "--all", *there.flags("src"), there.name, f"dir:{room}/back", check=True)
    check_identical(room / "skopeo", platforms)
    check_identical(room / "back", platforms)
    raw = skopeo("inspect", "--raw", *there.flags(), there.name).stdout.encode()
    assert raw == platforms.manifest


@pytest.mark.parametrize("platform", PLATFORMS, ids=lambda p: str(p["architecture"]))
def test_one_platform_of_an_index(
    platform: dict[str, str],
    platforms: Made,
    run_cli: RunCli,
    skopeo: Skopeo,
    room: Path,
) -> None:
    """Its manifest alone, as it was in the index; the same as skopeo chooses."""
    variant = platform.get("variant", "")
    text = "/".join(["linux", platform["architecture"], variant]).rstrip("/")
    source = f"oci:{platforms.layout}:{TAG}"
    run_cli("copy", "--platform", text, source, f"dir:{room}/ours", check=True)
    override = ["--override-os=linux", f"--override-arch={platform['architecture']}"]
    skopeo(*override, f"--override-variant={variant}", "copy", source, f"dir:{room}/theirs")
    ours, theirs = ((room / who / "manifest.json").read_bytes() for who in ("ours", "theirs"))
    assert ours == theirs
    entries = json.loads(platforms.manifest)["manifests"]
    assert [e["platform"] for e in entries if e["digest"] == sha256(ours)] == [platform]


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("token", "htpasswd"),
        ("htpasswd", "token"),
        ("htpasswd", "tls"),
        ("token", "oci"),
        ("oci", "token"),
        ("htpasswd", "dir"),
        ("dir", "htpasswd"),
        ("token", "token"),
        ("htpasswd", "htpasswd"),
    ],
)
@pytest.mark.parametrize("kind", ["debian", "platforms"])
def test_registries_that_ask_for_credentials(
    kind: str,
    source: str,
    target: str,
    request: pytest.FixtureRequest,
    repository: str,
    run_cli: RunCli,
    skopeo: Skopeo,
    room: Path,
) -> None:
    """Basic over TLS and tokens, on either side and on both."""
    made: Made = request.getfixturevalue(kind)

    def at(where: str, directory: Path, name: str) -> Place:
        if where in ("oci", "dir"):
            form, registry = where, request.getfixturevalue("registry_plain")
        else:
            form, registry = "docker", request.getfixturevalue(f"registry_{where}")
        return place(form, directory, registry, name)

    (room / "first").mkdir()
    first, there = at(source, room / "first", f"{repository}/first"), at(target, room, repository)
    skopeo("copy", "--all", *first.flags("dest"), f"oci:{made.layout}:{TAG}", first.name)
    flags = (*first.flags("src"), *there.flags("dest"))
    run_cli("copy", "--all", *flags, first.name, there.name, check=True)
    skopeo("copy", "--all", *there.flags("src"), there.name, f"dir:{room}/skopeo")
    check_identical(room / "skopeo", made)
    if there.registry and there.registry.kind != "tls":
        refused = run_cli("inspect", *there.flags()[:1], "--no-creds", there.name)
        assert refused.returncode == 1

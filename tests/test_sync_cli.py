"""`imgtools sync` beside Debian's skopeo: the same names, trees and repositories; its errors."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.local_images import tree
from tests.rig import RegistryServer, RunCli

Skopeo = Callable[..., subprocess.CompletedProcess[str]]
Preload = Callable[[RegistryServer, str, str], str]

PLAIN = ("--src-tls-verify=false", "--dest-tls-verify=false")
KINDS = {"1.0": "oci", "1.1": "docker", "2.0": "oci", "edge": "docker-list"}


@pytest.fixture
def filled(registry_plain: RegistryServer, repository: str, preload: Preload) -> str:
    """The name of a repository with four tags, as both programs write it."""
    for tag, kind in KINDS.items():
        preload(registry_plain, kind, f"{repository}:{tag}")
    return f"{registry_plain.host}/{repository}"


def both(
    run_cli: RunCli, skopeo: Skopeo, *arguments: str | Path, ours: str | Path, theirs: str | Path
) -> subprocess.CompletedProcess[str]:
    """Run both with their own destinations; what ours said."""
    skopeo("sync", *PLAIN, *arguments, theirs)
    return run_cli("sync", *PLAIN, *arguments, ours, check=True)


def manifests(registry: RegistryServer, repository: str) -> dict[str, bytes]:
    """The manifest of every tag."""
    return {tag: registry.manifest(repository, tag).body for tag in registry.tags(repository)}


@pytest.mark.parametrize("flags", [(), ("--all",)], ids=["one", "all"])
def test_registry_to_registry(
    run_cli: RunCli,
    skopeo: Skopeo,
    registry_plain: RegistryServer,
    repository: str,
    filled: str,
    flags: tuple[str, ...],
) -> None:
    """Every manifest under the same tag, twice over; the second run has nothing to do."""
    places = [f"{repository}/{flags}".translate(str.maketrans("(',-)", "_____")).strip("_")]
    base = "".join(c for c in places[0] if c.isalnum() or c in "/").rstrip("/")
    host = registry_plain.host
    arguments = ("--src", "docker", "--dest", "docker", *flags, filled)
    both(run_cli, skopeo, *arguments, ours=f"{host}/{base}/ours", theirs=f"{host}/{base}/theirs")
    name = repository.rpartition("/")[2]
    mine = manifests(registry_plain, f"{base}/ours/{name}")
    assert mine == manifests(registry_plain, f"{base}/theirs/{name}")
    assert set(mine) == set(KINDS)
    again = run_cli("sync", *PLAIN, *arguments, f"{host}/{base}/ours", check=True)
    assert "Synced 4 images from 1 sources: 4 same" in again.stderr


@pytest.mark.parametrize(
    "flags",
    [(), ("--scoped",), ("--all", "--scoped")],
    ids=["plain", "scoped", "all"],
)
def test_registry_to_directory(
    run_cli: RunCli, skopeo: Skopeo, tmp_path: Path, filled: str, flags: tuple[str, ...]
) -> None:
    """The same tree of directories, byte for byte."""
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    arguments = ("--src", "docker", "--dest", "dir", *flags, filled)
    both(run_cli, skopeo, *arguments, ours=ours, theirs=theirs)
    assert tree(ours) == tree(theirs)
    assert len(tree(ours)) > 10
    again = run_cli("sync", *PLAIN, *arguments, ours, check=True)
    assert "4 same" in again.stderr
    assert tree(ours) == tree(theirs)


@pytest.mark.parametrize("flags", [(), ("--scoped",)], ids=["plain", "scoped"])
def test_directory_to_registry(
    run_cli: RunCli,
    skopeo: Skopeo,
    tmp_path: Path,
    registry_plain: RegistryServer,
    repository: str,
    filled: str,
    flags: tuple[str, ...],
) -> None:
    """Paths become names, as skopeo makes them."""
    skopeo("sync", *PLAIN, "--src", "docker", "--dest", "dir", filled, tmp_path / "usb" / "deep")
    host, last = registry_plain.host, repository.rpartition("/")[2]
    kind = "-".join(flags).strip("-") or "plain"
    arguments = ("--src", "dir", "--dest", "docker", *flags, tmp_path / "usb")
    ours, theirs = f"{repository}/{kind}/ours", f"{repository}/{kind}/theirs"
    both(run_cli, skopeo, *arguments, ours=f"{host}/{ours}", theirs=f"{host}/{theirs}")
    path = f"/deep/{last}" if flags else f"/{last}"
    mine = manifests(registry_plain, ours + path)
    assert set(mine) == set(KINDS)
    assert mine == manifests(registry_plain, theirs + path)
    again = run_cli("sync", *PLAIN, *arguments, f"{host}/{ours}", check=True)
    assert "4 same" in again.stderr


def test_one_directory_to_registry(
    run_cli: RunCli, skopeo: Skopeo, images_dir: Path, registry_plain: RegistryServer,
    repository: str, tmp_path: Path,
) -> None:  # fmt: skip
    """The directory is the image, and its name the image's."""
    os.symlink(images_dir / "dir" / "oci", tmp_path / "link")
    skopeo("copy", f"dir:{tmp_path / 'link'}", f"dir:{tmp_path / 'app:1'}")
    host = registry_plain.host
    both(run_cli, skopeo, "--src", "dir", "--dest", "docker", tmp_path / "app:1",
         ours=f"{host}/{repository}/ours", theirs=f"{host}/{repository}/theirs")  # fmt: skip
    mine = manifests(registry_plain, f"{repository}/ours/app")
    assert set(mine) == {"1"}
    assert mine == manifests(registry_plain, f"{repository}/theirs/app")


def test_yaml_to_directory(
    run_cli: RunCli,
    skopeo: Skopeo,
    tmp_path: Path,
    registry_plain: RegistryServer,
    repository: str,
    filled: str,
    preload: Preload,
) -> None:
    """Tags, digests, expressions and all of a repository, with --scoped; versions by us."""
    digest = preload(registry_plain, "empty-layer", f"{repository}/two:x")
    preload(registry_plain, "oci-zstd", f"{repository}/three:t")
    file = tmp_path / "sync.yml"
    file.write_text(
        f"{registry_plain.host}:\n"
        "  tls-verify: false\n"
        "  images:\n"
        f"    {repository}/two: ['{digest}', x]\n"
        f"    {repository}/three: []\n"
        "  images-by-tag-regex:\n"
        f"    {repository}: ^1\\.\n"
    )
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    arguments = ("sync", "--src", "yaml", "--dest", "dir", "--scoped", file)
    skopeo(*arguments, theirs)
    done = run_cli(*arguments, ours, check=True)
    assert "Synced 5 images from 3 sources" in done.stderr
    assert tree(ours) == tree(theirs)
    file.write_text(
        f"{registry_plain.host}:\n"
        "  tls-verify: false\n"
        "  images-by-semver:\n"
        f"    {repository}: '>= 1.1'\n"
    )
    run_cli("sync", "--src", "yaml", "--dest", "dir", file, tmp_path / "versions", check=True)
    last = repository.rpartition("/")[2]
    assert sorted(os.listdir(tmp_path / "versions")) == [f"{last}:1.1", f"{last}:2.0"]


def test_credentials_of_the_file(
    run_cli: RunCli, tmp_path: Path, registry_token: RegistryServer, repository: str,
    preload: Preload,
) -> None:  # fmt: skip
    """They are used for the registry under which they stand."""
    preload(registry_token, "oci", f"{repository}:1")
    file = tmp_path / "sync.yml"
    text = (
        f"{registry_token.host}:\n  tls-verify: false\n  images: {{{repository}: []}}\n"
        f"  credentials: {{username: {registry_token.username}, password: PASSWORD}}\n"
    )
    arguments = ("sync", "--src", "yaml", "--dest", "dir", file, tmp_path / "out")
    file.write_text(text.replace("PASSWORD", "mistaken"))
    refused = run_cli(*arguments)
    assert refused.returncode == 1
    assert "mistaken" not in refused.stderr
    file.write_text(text.replace("PASSWORD", f"'{registry_token.password}'"))
    run_cli(*arguments, check=True)
    assert [name.rpartition(":")[2] for name in os.listdir(tmp_path / "out")] == ["1"]


def test_changed_image_in_a_directory(
    run_cli: RunCli, tmp_path: Path, registry_plain: RegistryServer, repository: str,
    preload: Preload,
) -> None:  # fmt: skip
    """Where skopeo refuses we go on: what changed is rewritten, what is not ours refused."""
    preload(registry_plain, "oci", f"{repository}:1")
    name, out = f"{registry_plain.host}/{repository}:1", tmp_path / "out"
    arguments = ("sync", *PLAIN, "--src", "docker", "--dest", "dir", name, out)
    run_cli(*arguments, check=True)
    (image,) = out.iterdir()
    digest = preload(registry_plain, "docker", f"{repository}:1")
    assert "1 changed" in run_cli(*arguments, check=True).stderr
    done = run_cli("manifest-digest", image / "manifest.json", check=True)
    assert done.stdout.strip() == digest
    shutil.rmtree(image)
    image.mkdir()
    (image / "letter.txt").write_text("not an image")
    refused = run_cli(*arguments)
    assert refused.returncode == 1
    assert (image / "letter.txt").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--dest", "dir", "a", "b"), "A source transport must be specified"),
        (("--src", "docker", "a", "b"), "A destination transport must be specified"),
        (("--src", "oci", "--dest", "dir", "a", "b"), '"oci" is not a valid source transport'),
        (("--src", "yaml", "--dest", "yaml", "a", "b"),
         '"yaml" is not a valid destination transport'),
        (("--src", "dir", "--dest", "dir", "a", "b"),
         "sync from 'dir' to 'dir' not implemented, consider using rsync instead"),
        (("--src", "dir", "--dest", "docker", "absent", "b"),
         "Invalid source directory specified"),
    ],
)  # fmt: skip
def test_wrong_command_lines(
    run_cli: RunCli, skopeo: Skopeo, arguments: tuple[str, ...], message: str
) -> None:
    """Skopeo's own words, and its exit code."""
    theirs = skopeo("sync", *arguments, check=False)
    assert message in (theirs.stdout + theirs.stderr).replace('\\"', '"')
    ours = run_cli("sync", *arguments)
    assert message in ours.stderr
    assert (ours.returncode, theirs.returncode) == (1, 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--src", "docker", "--dest", "dir", "a"), "Exactly two arguments expected"),
        (("--src", "docker", "--dest", "dir", "a", "b", "c"), "Exactly two arguments expected"),
        (("--src", "docker", "--dest", "dir", "docker://a.io/b", "c"), "leave docker:// out"),
        (("--src", "docker", "--dest", "dir", "--sign-by=x", "a", "b"), "--sign-identity"),
        (
            (
                "--src",
                "docker",
                "--dest",
                "docker",
                "--sign-by-sigstore=absent",
                "a.io/a",
                "b.io/b",
            ),
            "absent",
        ),
        (("--src", "docker", "--dest", "dir", "--referrers", "a", "b"), "cannot hold referrers"),
        (("--src", "dir", "--dest", "docker", "--format=v3", "a", "b"), "v3"),
        (
            ("--src", "dir", "--dest", "docker", "--dry-run", "--digestfile=d", "a", "b"),
            "--digestfile and --dry-run cannot be given together",
        ),
        (("--src", "yaml", "--dest", "dir", "absent.yml", "b"), "absent.yml: no such file"),
        (("--src", "docker", "--dest", "dir", "a.io/b:1@sha256:zz", "c"), "invalid reference"),
        (("--src", "docker", "--dest", "docker", "a.io/b:1", "UP.io/X Y"), "invalid reference"),
        (("--src", "dir", "--dest", "docker", ".", "a.io/b"), "No images to sync found in '.'"),
    ],
)
def test_refused(run_cli: RunCli, arguments: tuple[str, ...], message: str) -> None:
    """One line, before any registry is asked."""
    done = run_cli("sync", *arguments)
    assert done.returncode == 1
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_two_sources_of_one_name(
    run_cli: RunCli, tmp_path: Path, registry_plain: RegistryServer, repository: str,
    preload: Preload,
) -> None:  # fmt: skip
    """Refused with the option that helps; nothing is written."""
    host = registry_plain.host
    preload(registry_plain, "oci", f"{repository}/a/app:1")
    preload(registry_plain, "docker", f"{repository}/b/app:1")
    file = tmp_path / "sync.yml"
    file.write_text(
        f"{host}:\n  tls-verify: false\n  images:\n"
        f"    {repository}/a/app: ['1']\n    {repository}/b/app: ['1']\n"
    )
    arguments = ("sync", "--src", "yaml", "--dest", "dir")
    done = run_cli(*arguments, file, tmp_path / "out")
    assert done.returncode == 1
    assert "--scoped" in done.stderr
    assert not (tmp_path / "out").exists()
    run_cli(*arguments, "--scoped", file, tmp_path / "out", check=True)


def test_a_source_that_cannot_be_listed(
    run_cli: RunCli, tmp_path: Path, registry_plain: RegistryServer, repository: str, filled: str
) -> None:
    """The others are synced, and the exit code says that something is missing."""
    file = tmp_path / "sync.yml"
    file.write_text(
        f"{registry_plain.host}:\n  tls-verify: false\n  images:\n"
        f"    {repository}/absent: []\n    {repository}: ['1.0']\n"
    )
    done = run_cli("sync", "--src", "yaml", "--dest", "dir", "--keep-going", file, tmp_path / "out")
    assert done.returncode == 1
    assert "absent does not exist" in done.stderr
    assert len(list((tmp_path / "out").iterdir())) == 1

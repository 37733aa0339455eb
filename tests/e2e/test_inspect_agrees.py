"""`inspect` and `list-tags` print what skopeo prints, for every image in every form.

Differences are listed in DIFFERENCES with their reasons; everything else is compared as JSON, and
what is to be used by scripts (`--raw`, `--config`, `--format`) byte for byte.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from imgtools.cli.main import run
from imgtools.cli.settings import Settings
from imgtools.cli.state import Cli
from imgtools.spec.platform import Platform
from tests.e2e.debian import PLATFORMS, TAG, Made
from tests.e2e.forms import FORMS, Place, place
from tests.rig import RegistryServer, RunCli

Skopeo = Callable[..., subprocess.CompletedProcess[str]]
Preload = Callable[[RegistryServer, str, str], str]
Call = Callable[..., str]

# Fields that we print and this skopeo does not; newer ones do, with the same content, which is
# checked against the manifest below.
DIFFERENCES = frozenset({"LayersData"})
# `--config` of an image with a variant: image-spec 1.1, and with it newer skopeos, have it after
# `os`, where this skopeo has it before. The values are compared.

FLAGS = (
    ["--raw"],
    ["--config"],
    ["--config", "--raw"],
    ["--format", "{{.Digest}}"],
    ["--format", "{{.Name}} {{.Created}} {{.DockerVersion}} {{.Os}}/{{.Architecture}}"],
    ["--format", "{{range .Layers}}{{.}}\\n{{end}}{{.Labels}} {{.Env}}"],
)

# Kind -> the forms skopeo can write it in. It does not read a Docker manifest in a layout, so it
# converts on the way there; it writes no layer of zstd into an archive of docker's.
EVERYWHERE = FORMS
KINDS: dict[str, tuple[str, ...]] = {
    "oci": EVERYWHERE,
    "docker": EVERYWHERE,
    "oci-zstd": ("docker", "oci", "oci-archive", "dir"),
    "oci-uncompressed": EVERYWHERE,
    "repeated": EVERYWHERE,
    "empty-layer": EVERYWHERE,
    "annotations": EVERYWHERE,
    "zero-layers": EVERYWHERE,
    "referrer-image": EVERYWHERE,
    "foreign": ("docker",),  # skopeo wants the layer itself to copy it anywhere else
    "index": ("docker", "oci", "oci-archive", "dir"),
    "docker-list": ("docker", "dir"),
}


@pytest.fixture
def call(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> Call:
    """call("inspect", ...) runs the command line in this process; its output."""
    settings = Settings(
        tmpdir=str(tmp_path), host=Platform(os="linux", architecture="amd64"), cache_dir=None
    )

    def invoke(*arguments: str | Path) -> str:
        capfdbinary.readouterr()
        code = run([str(argument) for argument in arguments], Cli(settings=settings))
        out, err = capfdbinary.readouterr()
        assert (code, err) == (0, b"")
        return out.decode()

    return invoke


def compare(call: Call, skopeo: Skopeo, there: Place, *switches: str) -> None:
    """Everything that either tool can be asked about a place."""
    ours = json.loads(call(*switches, "inspect", *there.flags(), there.name))
    theirs = json.loads(skopeo(*switches, "inspect", *there.flags(), there.name).stdout)
    added = {key: ours.pop(key) for key in DIFFERENCES if key not in theirs}
    assert ours == theirs
    assert list(ours) == list(theirs)
    for flags in FLAGS:
        arguments = (*switches, "inspect", *flags, *there.flags(), there.name)
        printed, expected = call(*arguments), skopeo(*arguments).stdout
        if flags == ["--config"] and "variant" in json.loads(expected):
            assert json.loads(printed) == json.loads(expected)
        else:
            assert printed == expected
    manifest = json.loads(skopeo(*switches, "inspect", "--raw", *there.flags(), there.name).stdout)
    if "layers" in manifest:
        assert added["LayersData"] == [layer_data(layer) for layer in manifest["layers"]]


def layer_data(layer: dict[str, Any]) -> dict[str, Any]:
    """What newer skopeos say of a layer, as their manual has it."""
    return {
        "MIMEType": layer["mediaType"],
        "Digest": layer["digest"],
        "Size": layer["size"],
        "Annotations": layer.get("annotations"),
    }


@pytest.mark.parametrize(
    ("kind", "form"), [(kind, form) for kind, forms in KINDS.items() for form in forms]
)
def test_inspect_agrees(
    kind: str,
    form: str,
    images_dir: Path,
    registry_plain: RegistryServer,
    preload: Preload,
    repository: str,
    call: Call,
    skopeo: Skopeo,
    room: Path,
) -> None:
    """Of what skopeo wrote; into the registry byte for byte."""
    there = place(form, room, registry_plain, repository)
    if form == "docker":
        preload(registry_plain, kind, f"{repository}:{TAG}")
        preload(registry_plain, "oci", f"{repository}:another-tag")
    else:
        skopeo("copy", "--all", f"dir:{images_dir}/dir/{kind}", there.name)
    compare(call, skopeo, there)


@pytest.mark.parametrize("platform", PLATFORMS, ids=lambda p: str(p["architecture"]))
@pytest.mark.parametrize("form", ["docker", "oci", "dir"])
def test_inspect_of_each_platform_agrees(
    form: str,
    platform: dict[str, str],
    platforms: Made,
    registry_plain: RegistryServer,
    repository: str,
    call: Call,
    skopeo: Skopeo,
    room: Path,
) -> None:
    """Both choose the same instance."""
    there = place(form, room, registry_plain, repository)
    skopeo("copy", "--all", *there.flags("dest"), f"oci:{platforms.layout}:{TAG}", there.name)
    switches = ["--override-os=linux", f"--override-arch={platform['architecture']}"]
    if "variant" in platform:
        switches.append(f"--override-variant={platform['variant']}")
    compare(call, skopeo, there, *switches)


@pytest.mark.parametrize("form", FORMS)
def test_inspect_of_debian_agrees(
    form: str,
    debian: Made,
    registry_plain: RegistryServer,
    repository: str,
    run_cli: RunCli,
    call: Call,
    skopeo: Skopeo,
    room: Path,
) -> None:
    """Of what we wrote."""
    there = place(form, room, registry_plain, repository)
    run_cli("copy", *there.flags("dest"), f"oci:{debian.layout}:{TAG}", there.name, check=True)
    compare(call, skopeo, there)


def test_list_tags_agrees(
    images_dir: Path,
    registry_plain: RegistryServer,
    registry_htpasswd: RegistryServer,
    registry_token: RegistryServer,
    preload: Preload,
    repository: str,
    call: Call,
    skopeo: Skopeo,
    room: Path,
) -> None:
    """Byte for byte, of registries and of archives."""
    for registry in (registry_plain, registry_htpasswd, registry_token):
        for tag in ("b", "C", "1.10", "1.9"):
            preload(registry, "zero-layers", f"{repository}:{tag}")
        place_of = Place(
            form="docker", name=f"docker://{registry.host}/{repository}", registry=registry
        )
        arguments = ("list-tags", *place_of.flags(), place_of.name)
        assert call(*arguments) == skopeo(*arguments).stdout
    archive = f"docker-archive:{room}/a.tar"
    more = [f"--additional-tag={name}" for name in ("example.com/x:2", "docker.io/library/y:3")]
    skopeo("copy", *more, f"dir:{images_dir}/dir/docker", f"{archive}:example.com/x:1")
    assert call("list-tags", archive) == skopeo("list-tags", archive).stdout

"""Copies of large layers take little memory, whatever the transports and the compression.

The layers are IMGTOOLS_E2E_MB large (default 200): memory that grew with them would show.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.debian import (
    TAG,
    Made,
    entry,
    finish,
    image,
    new_layout,
    write_tar,
)
from tests.e2e.forms import Place, check_equivalent, place
from tests.e2e.measured import peak_memory
from tests.rig import RegistryServer, RunCli

MEGABYTES = int(os.environ.get("IMGTOOLS_E2E_MB", "200"))
MOST = 80
"""MiB, of which the interpreter and its modules take about 30."""


def content(size: int, seed: int) -> bytes:
    """Bytes of which half can be compressed."""
    chooser = random.Random(seed)
    pool = [chooser.randbytes(65536) for _ in range(64)] + [bytes([n]) * 65536 for n in range(64)]
    return b"".join(chooser.choices(pool, k=size // 65536))


def make(directory: Path, layers: int) -> Made:
    """An image of so many layers with MEGABYTES in all."""
    directory.mkdir()
    size = MEGABYTES * 1024 * 1024 // layers
    tars = [
        write_tar(directory / f"{n}.tar", [entry(f"file-{n}", content(size, n))])
        for n in range(layers)
    ]
    layout = directory / "layout"
    platform = {"architecture": "amd64", "os": "linux"}
    return finish(directory, layout, image(new_layout(layout), tars, platform, "large"), tars)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[int, Made]]:
    """One image of one layer, one of four, one of eight."""
    directory = tmp_path_factory.mktemp("large")
    yield {layers: make(directory / f"of-{layers}", layers) for layers in (1, 4, 8)}
    shutil.rmtree(directory)


@pytest.fixture(scope="module")
def sources(
    large: dict[int, Made], registry_plain: RegistryServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Place]]:
    """The image of one layer, as it is to be read."""
    directory = tmp_path_factory.mktemp("sources")
    cli = RunCli(directory / "cli")
    layout = Place(form="oci", name=f"oci:{large[1].layout}:{TAG}")
    found = {"oci": layout, "dir": Place(form="dir", name=f"dir:{large[1].directory}")}
    for form in ("docker", "docker-archive"):
        found[form] = place(form, directory, registry_plain, "large/source")
        cli("copy", *found[form].flags("dest"), layout.name, found[form].name, check=True)
    yield found
    shutil.rmtree(directory)


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("docker", "docker"),
        ("docker", "oci"),
        ("oci", "docker"),
        ("dir", "oci-archive"),
        ("docker-archive", "docker"),
        ("docker", "docker-archive"),
    ],
)
def test_memory_of_a_copy(
    source: str,
    target: str,
    sources: dict[str, Place],
    registry_tls: RegistryServer,
    repository: str,
    run_cli: RunCli,
    room: Path,
) -> None:
    """Passing bytes on; to and from an archive of docker's also (de)compressing them."""
    first, there = sources[source], place(target, room, registry_tls, repository)
    command = run_cli.command(
        "copy", "-q", *first.flags("src"), *there.flags("dest"), first.name, there.name
    )
    peak = peak_memory(command, run_cli.env)
    print(f"\n{source} -> {target}, {MEGABYTES} MiB: peak {peak:.0f} MiB")
    assert peak < MOST


@pytest.mark.parametrize("compression", ["zstd", "gzip"])
@pytest.mark.parametrize("layers", [1, 4, 8])
def test_memory_of_recompression(
    layers: int, compression: str, large: dict[int, Made], run_cli: RunCli, room: Path
) -> None:
    """However many layers are recompressed, and the result is right."""
    first, there = f"oci:{large[layers].layout}:{TAG}", f"oci:{room}/layout:{TAG}"
    if compression == "gzip":
        # What is gzip already would be left as it is.
        zstd = f"oci:{room}/zstd:{TAG}"
        run_cli("copy", "--dest-compress-format", "zstd", first, zstd, check=True)
        first = zstd
    command = run_cli.command("copy", "-q", "--dest-compress-format", compression, first, there)
    peak = peak_memory(command, run_cli.env)
    print(f"\n{layers} layers -> {compression}, {MEGABYTES} MiB: peak {peak:.0f} MiB")
    assert peak < MOST
    run_cli("copy", "-q", there, f"docker-archive:{room}/a.tar", check=True)
    run_cli("copy", "-q", f"docker-archive:{room}/a.tar", f"dir:{room}/dir", check=True)
    check_equivalent(room / "dir", large[layers])

"""Fixtures of the tests with other programs: the programs, registries, images and imgtools."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from interop.rig import REGISTRIES, Image, Peer, Registry, kinds, make_peer, one_image
from interop.rig.peers import BIN
from tests.conftest import certificates, images_dir, repository, run_cli
from tests.rig import RunCli

__all__ = ["certificates", "images_dir", "repository", "run_cli"]

Imgtools = Callable[..., bytes]


def pytest_sessionstart() -> None:
    """Without the peers there is nothing to test."""
    if not (BIN.parent / "stamp").exists():
        raise pytest.UsageError("the peers are not built; run scripts/interop")


@pytest.fixture(scope="session", params=REGISTRIES)
def registry(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, certificates: Path
) -> Iterator[Registry]:
    """Every registry in turn."""
    directory = tmp_path_factory.mktemp(request.param)
    with Registry(request.param, directory, certificates) as server:
        yield server


@pytest.fixture(scope="session")
def any_registry(
    tmp_path_factory: pytest.TempPathFactory, certificates: Path
) -> Iterator[Registry]:
    """A registry that only carries images from one program to another."""
    with Registry("distribution", tmp_path_factory.mktemp("any"), certificates) as server:
        yield server


@pytest.fixture(scope="session")
def images(images_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Image]:
    """All test images, each in a layout of its own."""
    root = tmp_path_factory.mktemp("one-image")
    return {kind: one_image(images_dir, kind, root / kind) for kind in kinds()}


@pytest.fixture
def peer_named(tmp_path: Path) -> Callable[[str], Peer]:
    """peer_named("crane") is that client in a new home."""
    return lambda name: make_peer(name, tmp_path / "peers" / name)


@pytest.fixture
def imgtools(run_cli: RunCli) -> Imgtools:
    """imgtools("inspect", ...) has to succeed; what it printed on stdout.

    Registries are spoken to without TLS; flags for both sides of a copy are added.
    """

    def run(verb: str, *arguments: str | Path) -> bytes:
        insecure = {
            "copy": ["--src-tls-verify=false", "--dest-tls-verify=false"],
            "diff": ["--tls-verify=false"],
            "inspect": ["--tls-verify=false"],
            "list-tags": ["--tls-verify=false"],
            "manifest-digest": [],
        }
        return run_cli(verb, *insecure[verb], *arguments, check=True, timeout=30).stdout.encode()

    return run

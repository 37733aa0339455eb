"""Fixtures of several subjects of the engine; a test file may have others of the same name."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.layer_tools import DRIVERS, Store, working_directory
from tests.engine.rootfs_driver import new_bundle, unchanged_host


@pytest.fixture
def bundle() -> Iterator[Path]:
    """A directory that every user can reach, with an empty `rootfs` in it."""
    yield from new_bundle()


@pytest.fixture
def host_mounts_stay() -> Iterator[None]:
    """Nothing that is mounted in a container is ever seen on the host (n2)."""
    yield from unchanged_host()


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """A directory on which overlay works."""
    with working_directory(tmp_path) as path:
        yield path


@pytest.fixture(params=DRIVERS)
def store(request: pytest.FixtureRequest, root: Path) -> Store:
    """A store below `root`, with each driver in turn."""
    return Store(root / "store", request.param)


@pytest.fixture
def sleep() -> Iterator[subprocess.Popen[bytes]]:
    """A process that waits."""
    with subprocess.Popen(["sleep", "1000"]) as process:
        yield process
        process.kill()

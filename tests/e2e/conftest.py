"""Images for the end-to-end tests, made once for all workers of a run."""

from __future__ import annotations

import fcntl
import os
import pickle
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.debian import Made, make_debian, make_index


def once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], Made]) -> Made:
    """What `make` makes, by whichever worker asks first."""
    base = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    directory = base / f"e2e-{name}"
    with (base / f"e2e-{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = directory / "made"
        if not done.exists():
            shutil.rmtree(directory, ignore_errors=True)
            directory.mkdir()
            done.write_bytes(pickle.dumps(make(directory)))
        made: Made = pickle.loads(done.read_bytes())
    return made


@pytest.fixture(scope="session")
def debian(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Debian's essential packages and four layers above them."""
    return once(tmp_path_factory, "debian", make_debian)


@pytest.fixture(scope="session")
def platforms(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A small index of four platforms."""
    return once(tmp_path_factory, "platforms", make_index)


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Path]:
    """A directory whose files go at once: these images are large, and pytest keeps what it has."""
    directory = tmp_path / "room"
    directory.mkdir()
    yield directory
    shutil.rmtree(directory)

"""Fixtures of the pitfalls."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.pitfalls.kit import Box, Images, Victim


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    """A container to be; it is gone afterwards, whatever it did."""
    made = Box(tmp_path / "box")
    yield made
    made.delete()


@pytest.fixture
def victim(tmp_path: Path) -> Iterator[Victim]:
    """Files of the host that are checked at the end."""
    found = Victim(tmp_path / "victim")
    yield found
    found.check()


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Images:
    """A store with an image; what a test changes in its files it changes back."""
    return Images(tmp_path_factory.mktemp("images"))

"""The store that the tests of one module share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.build.features.kit import Kit, kit_in


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kit]:
    """Builds on a store of the module's."""
    with kit_in(tmp_path_factory.mktemp("features")) as made:
        yield made

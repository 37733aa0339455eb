"""A few hundred changed answers of a registry; `python -m tests.fuzz` changes more."""

from __future__ import annotations

import pytest

from tests.fuzz.run import run


@pytest.mark.parametrize("seed", [1, 2])
def test_changed_answers_end_in_results_or_typed_errors(seed: int) -> None:
    done = run(300, seed)
    assert done["answers"] >= 300  # type: ignore[operator]

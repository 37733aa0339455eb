"""A few hundred changes of every kind; `python -m tests.sign.fuzz N SEED` makes more."""

from __future__ import annotations

from tests.sign.fuzz.run import run


def test_nothing_that_is_changed_is_admitted_or_ends_in_other_errors() -> None:
    done = run(1200, 1)
    outcomes = done["outcomes"]
    assert isinstance(outcomes, dict)
    assert sum(outcomes.values()) == 1200
    # What proves nothing was changed in these, so that the judgement is not of nothing.
    assert outcomes["payload: admitted"]
    assert outcomes["manifest: admitted"]

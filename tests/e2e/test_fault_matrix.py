"""Every fault at every stage ends well or cleanly; `pytest -s` prints what came of each."""

from __future__ import annotations

import pytest

from tests.e2e.fault_matrix import SIDES, TENTHS, Case, blob_bytes, cases, run_all, table

CLEAN = {"ExchangeFailed", "RegistryError", "Denied", "Forbidden", "DigestMismatch"}
# Each interrupted request of an upload is followed by one that asks what arrived.
MOST_REQUESTS = 40
# A link that is cut again and again is used as long as something comes through.
MOST_ON_A_BAD_LINK = 100


def fatal(case: Case) -> bool:
    """Whether a single occurrence may be the end: the other side says, or is, something else."""
    if case.fault != "wrong digest":
        return False
    return case.stage in TENTHS if case.side == "source" else case.stage == "commit"


@pytest.mark.parametrize("side", SIDES)
def test_every_fault_ends_well_or_cleanly(side: str) -> None:
    outcomes = run_all([case for case in cases() if case.side == side])
    print(table(outcomes))
    assert len(outcomes) > 150
    for case, outcome in outcomes.items():
        assert not outcome.left, f"{case}: something is left: {outcome}"
        if case.often == "once" and not fatal(case):
            assert not outcome.error, f"{case}: {outcome.message}"
        if outcome.error:
            assert outcome.error in CLEAN, f"{case}: {outcome.message}"
            assert "\n" not in outcome.message
        else:
            # How often all is sent at the worst: once, and with each of three retries.
            assert outcome.moved <= 4 * blob_bytes(), f"{case}: {outcome}"
        bad_link = case.often == "always" and case.stage in TENTHS
        most = MOST_ON_A_BAD_LINK if bad_link else MOST_REQUESTS
        assert outcome.requests <= most, f"{case}: {outcome}"

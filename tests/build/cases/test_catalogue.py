"""Every case has a test, or a reason for having none."""

from __future__ import annotations

from tests.build.cases.catalogue import CASES, LATER, cases_with_tests, unknown_numbers


def test_every_case_has_a_test_or_a_reason() -> None:
    without = {number for number, ids in cases_with_tests().items() if not ids}
    assert without == set(LATER)
    assert set(LATER) <= set(CASES)


def test_no_test_has_a_number_that_means_nothing() -> None:
    assert unknown_numbers() == set()

"""Every case has a test."""

from __future__ import annotations

from tests.sign.cases.catalogue import CASES, cases_with_tests, unknown_numbers


def test_every_case_has_a_test() -> None:
    assert [number for number, ids in cases_with_tests().items() if not ids] == []
    assert list(CASES) == list(range(1, 71))


def test_no_test_has_a_number_that_means_nothing() -> None:
    assert unknown_numbers() == set()

"""No case without a test, no numbered test without a case."""

from __future__ import annotations

from tests.engine.pitfalls.catalogue import (
    CASES,
    cases_with_tests,
    others_that_are_gone,
)


def test_every_case_has_a_test_of_its_number() -> None:
    found = cases_with_tests()
    assert set(found) == set(CASES)
    assert [number for number, tests in found.items() if not tests] == []


def test_tests_of_other_names_exist() -> None:
    assert others_that_are_gone() == []

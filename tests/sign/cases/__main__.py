"""Prints every case with its tests."""

from __future__ import annotations

from tests.sign.cases.catalogue import CASES, cases_with_tests

for number, ids in cases_with_tests().items():
    ending, subject = CASES[number]
    print(f"{number:3} {ending} {subject}")
    for name in ids:
        print(f"        {name}")

"""Prints every case with its tests."""

from __future__ import annotations

from tests.edges.catalogue import CASES, cases_with_tests

for number, ids in cases_with_tests().items():
    print(f"{number:2} {CASES[number]}")
    for name in ids:
        print(f"     {name}")

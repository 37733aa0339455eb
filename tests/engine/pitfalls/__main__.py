"""Prints every case with its tests."""

from __future__ import annotations

from tests.engine.pitfalls.catalogue import CASES, cases_with_tests

for number, ids in cases_with_tests().items():
    print(f"{number:3} {CASES[number]}")
    for name in ids:
        print(f"      {name}")

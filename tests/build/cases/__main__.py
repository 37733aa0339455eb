"""Prints every case with its tests, or the reason why it has none yet."""

from __future__ import annotations

from tests.build.cases.catalogue import CASES, LATER, cases_with_tests

for number, ids in cases_with_tests().items():
    print(f"{number:3} {CASES[number]}")
    for name in ids:
        print(f"      {name}")
    if number in LATER:
        print(f"      not yet: {LATER[number]}")

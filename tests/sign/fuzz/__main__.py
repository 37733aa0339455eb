"""`python -m tests.sign.fuzz N SEED`: N changes; prints what became of them."""

from __future__ import annotations

import argparse
import json

from tests.sign.fuzz.run import run


def main() -> None:
    """Run, and print the counts as JSON."""
    parser = argparse.ArgumentParser(prog="python -m tests.sign.fuzz")
    parser.add_argument("number", type=int, nargs="?", default=10_000)
    parser.add_argument("seed", type=int, nargs="?", default=1)
    given = parser.parse_args()
    print(json.dumps(run(given.number, given.seed), indent=1))


if __name__ == "__main__":
    main()

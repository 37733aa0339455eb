"""Runs until so many answers were changed; prints counts, the largest memory and the time."""

from __future__ import annotations

import argparse
import json
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from tests.fuzz.run import run


def main() -> None:
    """Share the work out over processes, each with its own registry."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--answers", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2)
    given = parser.parse_args()
    each = -(-given.answers // given.jobs)
    begun = time.monotonic()
    seeds = [given.seed * 1000 + number for number in range(given.jobs)]
    with ProcessPoolExecutor(given.jobs, get_context("spawn")) as pool:
        for result in pool.map(run, [each] * given.jobs, seeds):
            print(json.dumps(result))
    print(f"{time.monotonic() - begun:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()

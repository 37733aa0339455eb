"""`python -m bench`: run the cases and print the table.

It makes its own images and registries on loopback and needs Debian's skopeo and
docker-registry; the cases of builds need buildah, busybox linked statically, and root, who
measures as a user too; that of apt a mirror and mmdebstrap. `--json FILE` also writes the
figures.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from bench import (
    build_cases,
    codec_cases,
    container_cases,
    copying_cases,
    registry_cases,
    storage_cases,
    sync_cases,
)
from bench.measure import Row
from bench.report import as_json, table
from bench.rig import Rig, rig

CASES: dict[str, Callable[[Rig, int], list[Row]]] = {
    "start": registry_cases.start,
    "inspect": registry_cases.inspect,
    "throughput": registry_cases.throughput,
    "cold": registry_cases.cold,
    "warm": registry_cases.warm,
    "same": registry_cases.same_registry,
    "push": registry_cases.push,
    "sync": sync_cases.sync,
    "tar": codec_cases.tar,
    "gzip": codec_cases.gzip,
    "unpack": storage_cases.unpack,
    "prepare": storage_cases.prepare,
    "copy": copying_cases.copy,
    "build-steps": build_cases.steps,
    "build-files": build_cases.files,
    "build-hashes": build_cases.hashes,
    "build-stages": build_cases.stages,
    "build-large": build_cases.large,
    "build-push": build_cases.push,
    "build-apt": build_cases.apt,
    "launch": container_cases.launch,
}


def main() -> None:
    """Parse arguments, run, report."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("cases", nargs="*", help=f"of {', '.join(CASES)}; all by default")
    parser.add_argument("-n", type=int, default=9, help="runs of each program per case")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    unknown = set(options.cases) - set(CASES)
    if unknown:
        parser.error(f"unknown case: {', '.join(sorted(unknown))}")
    rows: list[Row] = []
    with rig() as tools:
        for name in options.cases or CASES:
            print(f"running {name} ...", file=sys.stderr, flush=True)
            rows += CASES[name](tools, options.n)
    print(table(rows))
    if options.json:
        options.json.write_text(as_json(rows) + "\n")


if __name__ == "__main__":
    main()

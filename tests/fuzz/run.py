"""One process's share: commands against changed answers until there were enough of them."""

from __future__ import annotations

import collections
import faulthandler
import resource
import tempfile
import time
from pathlib import Path

from tests.fuzz.commands import Runner
from tests.fuzz.server import Server

HANG = 60
"""Seconds that one command may take before the run ends with the stacks of all threads."""


def run(answers: int, seed: int) -> dict[str, object]:
    """Change so many answers; what was run. Fails by AssertionError."""
    counts: collections.Counter[str] = collections.Counter()
    longest = 0.0
    with tempfile.TemporaryDirectory() as directory, Server(seed) as server:
        runner = Runner(server, Path(directory), seed)
        while server.changed < answers:
            if sum(counts.values()) % 5 == 4:
                server.refill()
            faulthandler.dump_traceback_later(HANG, exit=True)
            begun = time.monotonic()
            counts[runner.one()] += 1
            longest = max(longest, time.monotonic() - begun)
            faulthandler.cancel_dump_traceback_later()
    return {
        "answers": server.changed,
        "commands": sum(counts.values()),
        "endings": dict(sorted(counts.items())),
        "peak MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "longest command s": round(longest, 2),
    }

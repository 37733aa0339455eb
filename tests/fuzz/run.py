"""One process's share: commands against changed answers until there were enough of them."""

from __future__ import annotations

import collections
import faulthandler
import resource
import tempfile
import time
from pathlib import Path

from imgtools.testing.registry import ScriptedRegistry
from tests.fuzz.commands import Runner, fill
from tests.fuzz.proxy import MutatingProxy

HANG = 60
"""Seconds that one command may take before the run ends with the stacks of all threads."""


def run(answers: int, seed: int) -> dict[str, object]:
    """Change so many answers; what was run. Fails by AssertionError."""
    counts: collections.Counter[str] = collections.Counter()
    auth = "bearer" if seed % 2 else "none"
    longest = 0.0
    with (
        tempfile.TemporaryDirectory() as directory,
        ScriptedRegistry(auth=auth) as registry,  # type: ignore[arg-type]
        MutatingProxy(registry, seed) as proxy,
    ):
        runner = Runner(proxy, Path(directory), seed)
        while proxy.changed < answers:
            if sum(counts.values()) % 20 == 0:
                registry.store.content.clear()
                registry.store.uploads.clear()
                registry.forget_requests()
                fill(registry)
            faulthandler.dump_traceback_later(HANG, exit=True)
            begun = time.monotonic()
            counts[runner.one()] += 1
            longest = max(longest, time.monotonic() - begun)
            faulthandler.cancel_dump_traceback_later()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return {"answers": proxy.changed, "commands": dict(counts), "peak MiB": peak,
            "longest command s": round(longest, 2)}  # fmt: skip

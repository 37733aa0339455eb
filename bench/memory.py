"""The memory of a command and all processes below it, together: what they share counts once."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Mapping, Sequence

EVERY = 0.02


def peak(argv: Sequence[str], env: Mapping[str, str]) -> tuple[float, int]:
    """Run to the end: seconds, and the most bytes at one time (the kernel's proportional set
    size). A failing command ends the measurement."""
    began = time.perf_counter()
    with subprocess.Popen(
        argv, env=dict(env), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    ) as process:
        most = 0
        while process.poll() is None:
            most = max(most, sum(_own(pid) for pid in _tree(process.pid)))
            time.sleep(EVERY)
    if process.returncode:
        raise SystemExit(f"{' '.join(argv)} failed")
    return time.perf_counter() - began, most


def _tree(top: int) -> list[int]:
    found, ahead = [], [top]
    while ahead:
        pid = ahead.pop()
        found.append(pid)
        with contextlib.suppress(OSError):
            for thread in os.listdir(f"/proc/{pid}/task"):
                with open(f"/proc/{pid}/task/{thread}/children", encoding="ascii") as file:
                    ahead += [int(word) for word in file.read().split()]
    return found


def _own(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
            for line in file:
                if line.startswith("Pss:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        return 0
    return 0

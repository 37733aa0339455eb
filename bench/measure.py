"""Running commands and comparing them: wall time, processor time and memory of each run."""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

OURS = str(Path(sys.executable).with_name("imgtools"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One run: wall and processor seconds (of it and its children), peak memory in bytes."""

    wall: float
    cpu: float
    rss: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the report; `ratio` is ours to the peer's, `bar` what it should not exceed."""

    case: str
    what: str
    ours: float
    peer: float
    unit: str
    ratio: float
    bar: float | None = None
    peer_name: str = "skopeo"
    notes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def holds(self) -> bool | None:
        """Whether the bar holds; None without a bar."""
        return None if self.bar is None else self.ratio <= self.bar


def run(argv: Sequence[str], env: Mapping[str, str]) -> Sample:
    """Run to the end; a failing command ends the measurement with its message."""
    start = time.perf_counter()
    process = subprocess.Popen(
        argv,
        env=dict(env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    assert process.stderr is not None
    ended = threading.Event()
    peak = [0]
    watcher = threading.Thread(target=_watch, args=(process.pid, ended, peak))
    watcher.start()
    with process.stderr as stderr:
        message = stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    ended.set()
    watcher.join()
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"{' '.join(argv)}\nfailed: {message.decode(errors='replace')}")
    return Sample(wall=wall, cpu=usage.ru_utime + usage.ru_stime, rss=peak[0])


def _watch(pid: int, ended: threading.Event, peak: list[int]) -> None:
    """Note the highest resident size; getrusage's begins with that of the parent process."""
    pattern = re.compile(rb"VmHWM:\s+(\d+) kB")
    while not ended.wait(0.02):
        try:
            with open(f"/proc/{pid}/status", "rb") as file:
                found = pattern.search(file.read())
        except OSError:
            return
        if found is not None:
            peak[0] = max(peak[0], int(found[1]) * 1024)


def alternate(
    count: int,
    ours: Callable[[int], Sample],
    peer: Callable[[int], Sample],
) -> tuple[list[Sample], list[Sample]]:
    """`count` runs of each, in turns; each is given its number, 0 being a warm-up that is
    thrown away."""
    mine, theirs = [], []
    for number in range(count + 1):
        first, second = ours(number), peer(number)
        if number:
            mine.append(first)
            theirs.append(second)
    return mine, theirs


def compare(
    case: str,
    what: str,
    ours: Sequence[Sample],
    peer: Sequence[Sample],
    *,
    bar: float | None = None,
    of: str = "wall",
    peer_name: str = "skopeo",
    notes: Mapping[str, Any] | None = None,
) -> Row:
    """A row from neighbouring runs; `of` is the field of Sample that is compared."""
    mine = [getattr(s, of) for s in ours]
    theirs = [getattr(s, of) for s in peer]
    ratios = [a / b for a, b in zip(mine, theirs, strict=True)]
    return Row(
        case=case,
        what=what,
        ours=statistics.median(mine),
        peer=statistics.median(theirs),
        unit="s cpu" if of == "cpu" else "s",
        ratio=statistics.median(ratios),
        bar=bar,
        peer_name=peer_name,
        notes={
            "rss_mb": round(max(s.rss for s in ours) / 1e6, 1),
            "peer_rss_mb": round(max(s.rss for s in peer) / 1e6, 1),
            **(notes or {}),
        },
    )

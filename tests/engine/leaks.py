"""Counts what containers leave: `python -m tests.engine.leaks --runs 1000` at full size.

Runs one after the other over one launcher, by the command line, and many at a time, and compares
before and after: processes, mounts, descriptors and memory of launcher and client, cgroups,
session keyrings, and files of the store. The first runs are not counted; some things are
made once.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path

from engine.containers.engine import Engine
from engine.containers.options import RunOptions
from engine.containers.run import run_container
from engine.containers.steps import StepOptions, run_step
from imgtools.task import Task
from tests.engine.run_rig import IMAGE, Runs, engine_of, mounts

WARM_UP = 5
ID_LENGTH = 64
MEMORY = 8 << 20
"""Bytes by which allocators may grow."""


@dataclass(frozen=True, kw_only=True)
class Counts:
    """What there is. `keys` are keyrings of users that are alive, `memory` of launcher and
    client in bytes."""

    processes: int
    mounts: int
    descriptors: int
    cgroups: int
    keys: int
    files: int
    memory: int

    @classmethod
    def now(cls, runs: Runs, launcher: int = 0) -> Counts:
        """As it is now; `launcher` is a pid."""
        pids = [os.getpid(), *([launcher] if launcher else [])]
        return cls(
            processes=_descendants(),
            mounts=len(mounts(runs.root.parent)),
            descriptors=sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in pids),
            cgroups=_abandoned_cgroups(),
            keys=_keyrings(),
            files=sum(len(names) + len(below) for top in (runs.root, runs.runroot)
                      for _, below, names in os.walk(top)),
            memory=sum(_memory(pid) for pid in pids),
        )  # fmt: skip

    def since(self, before: Counts) -> dict[str, int]:
        """What there is more than `before`."""
        found = {}
        for field in fields(self):
            more = getattr(self, field.name) - getattr(before, field.name)
            if more > (MEMORY if field.name == "memory" else 0):
                found[field.name] = more
        return found


def _descendants() -> int:
    total, waiting = 0, [os.getpid()]
    while waiting:
        pid = waiting.pop()
        try:
            for task in os.listdir(f"/proc/{pid}/task"):
                text = Path(f"/proc/{pid}/task/{task}/children").read_text()
                waiting += map(int, text.split())
        except OSError:
            continue
        total += 1
    return total


def _abandoned_cgroups() -> int:
    """Cgroups of containers without a process: of one that runs, whoever's, there is one."""
    total = 0
    for top, names, _ in os.walk("/sys/fs/cgroup"):
        for name in names:
            if len(name) == ID_LENGTH:
                try:
                    total += not Path(top, name, "cgroup.procs").read_text()
                except OSError:
                    continue
    return total


def _keyrings() -> int:
    """Session keyrings of containers that somebody still has; dead ones go when the kernel
    finds time."""
    with open("/proc/keys", encoding="utf-8", errors="replace") as file:
        return sum(" _ses." in line and " keyring " in line for line in file)


def _memory(pid: int) -> int:
    with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith("RssAnon"))


def settled(runs: Runs, before: Counts, launcher: int = 0) -> dict[str, int]:
    """What is left, once what the kernel does later is done."""
    for _ in range(200):
        found = Counts.now(runs, launcher).since(before)
        if not found:
            break
        time.sleep(0.05)
    return found


def in_one_process(runs: Runs, engine: Engine, count: int) -> dict[str, int]:
    """Runs over one launcher, one after the other: what they leave."""
    image, _ = engine.store.find(IMAGE)
    options = RunOptions(command=("true",), network="none")
    launcher = engine.zygote._pid
    for number in range(WARM_UP + count):
        if number == WARM_UP:
            before = Counts.now(runs, launcher)
        assert run_container(engine, image, options, task=Task()) == 0
    return settled(runs, before, launcher)


def steps(runs: Runs, engine: Engine, count: int) -> dict[str, int]:
    """Builds' steps in one snapshot."""
    image, _ = engine.store.find(IMAGE)
    snapshot = engine.store.snapshots.prepare(image.chain_id, "leaks")
    options = StepOptions(args=("echo", "a"), network="none")
    launcher = engine.zygote._pid
    for number in range(WARM_UP + count):
        if number == WARM_UP:
            before = Counts.now(runs, launcher)
        seen: list[tuple[int, bytes]] = []
        output = partial(_note, seen)
        assert run_step(engine, snapshot, options, output=output, task=Task()) == 0
        assert seen == [(1, b"a\n")]
    found = settled(runs, before, launcher)
    engine.store.snapshots.remove("leaks")
    return found


def _note(seen: list[tuple[int, bytes]], number: int, line: bytes) -> None:
    seen.append((number, line))


def by_command_line(runs: Runs, count: int, at_once: int, network: str = "none") -> dict[str, int]:
    """Runs of the command, some at a time."""

    def one(number: int) -> int:
        return subprocess.run(
            runs.arguments(IMAGE, "sh", "-c", f"exit {number % 100}", network=network),
            env=runs.cli.env, stdin=subprocess.DEVNULL, check=False,
        ).returncode  # fmt: skip

    assert one(0) == 0
    before = Counts.now(runs)
    with ThreadPoolExecutor(at_once) as pool:
        assert list(pool.map(one, range(count))) == [n % 100 for n in range(count)]
    return settled(runs, before)


def main() -> int:
    """Run and report; 1 if anything is left."""
    parser = argparse.ArgumentParser(prog="leaks", description=__doc__)
    parser.add_argument("--runs", type=int, default=1000, help="runs in one process")
    parser.add_argument("--commands", type=int, default=100, help="runs of the command")
    parser.add_argument("--parallel", type=int, default=20, help="how many at a time")
    parser.add_argument("--network", default="none", help="network of the parallel runs")
    options = parser.parse_args()
    bad = 0
    with tempfile.TemporaryDirectory() as directory:
        runs = Runs(Path(directory))
        cases = (
            (f"{options.runs} runs over one launcher", in_one_process, options.runs),
            (f"{options.runs} steps over one launcher", steps, options.runs),
        )
        for name, case, count in cases:
            with engine_of(runs.location, f"{directory}/cache") as engine:
                bad += report(name, partial(case, runs, engine, count))
        for at_once, network in ((1, "none"), (options.parallel, options.network)):
            name = f"{options.commands} commands, {at_once} at a time, network {network}"
            bad += report(name, partial(by_command_line, runs, options.commands, at_once, network))
        left = runs.left()
        if left:
            print("left:", *left)
    return 1 if bad or left else 0


def report(name: str, case: Callable[[], dict[str, int]]) -> int:
    """Print what a case leaves and how long it took; whether it left anything."""
    began = time.monotonic()
    found = case()
    took = time.monotonic() - began
    what = ", ".join(f"{count} {kind}" for kind, count in found.items()) or "nothing left"
    print(f"{name}: {what} ({took:.1f} s)", flush=True)
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())

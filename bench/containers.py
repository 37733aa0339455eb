"""The programs that the cases of starting containers time from inside: launches over one launcher,
and builds' steps. Each prints milliseconds, one a line."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine.containers.engine import Engine
from engine.containers.steps import StepOptions, run_step
from engine.ids.model import IdOptions
from engine.ids.session import enter_user_namespace
from engine.network.survey import survey_network
from engine.probe.model import ProbeOptions
from engine.probe.survey import probe_host
from engine.runtime.zygote.client import Zygote
from engine.runtime.zygote.request import LaunchRequest
from engine.storage.options import StoreLocation
from engine.storage.store import Store
from imgtools.task import Task

WARM_UP = 3


def launches(bundle: str, count: int) -> None:
    """Containers of a bundle over one launcher, from asking to what is left being gone."""
    config: dict[str, Any] = json.loads(Path(bundle, "config.json").read_text())
    null = os.open(os.devnull, os.O_RDWR)
    state = os.path.join(bundle, "state")
    with Zygote.start(sys.executable) as zygote:

        def one(number: int) -> None:
            request = LaunchRequest(id=f"bench-{os.getpid()}", state_root=state, bundle=bundle)
            with zygote.launch(request, config, (null, null, null)) as running:
                assert running.wait() == 0

        _timed(one, count)


def steps(root: str, runroot: str, image: str, count: int) -> None:
    """Steps in one snapshot of an image of the store at `root`."""
    location = StoreLocation(root=root, runroot=runroot)
    report = probe_host(ProbeOptions(storage=root))
    session = enter_user_namespace(IdOptions())
    with Zygote.start(sys.executable) as zygote, Store.open(location) as store:
        engine = Engine(
            store=store,
            choice=report.choice,
            session=session,
            zygote=zygote,
            network=survey_network(()),
            runroot=runroot,
            cache=f"{root}/seccomp",
            warn=print,
        )
        found, _ = store.find(image)
        snapshot = store.snapshots.prepare(found.chain_id, "bench", volatile=True)
        options = StepOptions(args=("/bin/true",), network="none")

        def one(number: int) -> None:
            code = run_step(engine, snapshot, options, output=lambda *_: None, task=Task())
            assert code == 0

        _timed(one, count)
        store.snapshots.remove("bench")


def _timed(action: Callable[[int], None], count: int) -> None:
    for number in range(WARM_UP + count):
        began = time.perf_counter()
        action(number)
        if number >= WARM_UP:
            print((time.perf_counter() - began) * 1000)


if __name__ == "__main__":
    what, *arguments, times = sys.argv[1:]
    {"launches": launches, "steps": steps}[what](*arguments, int(times))  # type: ignore[operator]

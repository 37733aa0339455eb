"""What tests of mounts share: mounts made of few words, and steps that go on in the background."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from imgtools.build.protocols import MountSource, RunSpec, StepMount
from imgtools.errors import Cancelled
from imgtools.task import CancelToken, Task
from tests.engine.builds_rig import PATH, Build

SECONDS = 30.0


def make_context(top: Path) -> Path:
    """A build context with files, directories, and links that lead out of it."""
    context = top / "context"
    (context / "sub/deep").mkdir(parents=True)
    for name in ("plain", "sub/file", "sub/deep/file", "sub/secret"):
        (context / name).write_text(f"{name}\n")
    for name, target in (
        ("root", "/"),
        ("up", "../../.."),
        ("shadow", "/etc/shadow"),
        ("inside", "/sub/file"),
        ("proc", "/proc/self/root"),
    ):
        (context / name).symlink_to(target)
    return context


def bind(context: Path, path: str = "", **more: Any) -> StepMount:
    """A mount of the context at /m, read-only."""
    source = MountSource(directory=str(context), path=path, ignored=more.pop("ignored", None))
    return StepMount(kind="bind", source=source, **{"target": "/m", "read_only": True, **more})


def cache(target: str = "/c", **more: Any) -> StepMount:
    """A cache."""
    return StepMount(kind="cache", target=target, **{"cache": "shared", **more})


@contextmanager
def running(build: Build, mount: StepMount, script: str) -> Iterator[threading.Event]:
    """A step that has written something and ends with the block at the latest; the event says
    that it has ended."""
    token, begun, ended = CancelToken(), threading.Event(), threading.Event()
    working = build.store.prepare(build.base, task=Task())
    spec = RunSpec(args=("sh", "-c", script), env=(PATH,), network="none", mounts=(mount,))

    def run() -> None:
        task = Task(cancel=token)
        try:
            build.executor.run(working, spec, output=lambda n, line: begun.set(), task=task)
        except Cancelled:
            begun.set()
        ended.set()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert begun.wait(SECONDS)
        yield ended
    finally:
        token.cancel()
        thread.join()
        build.store.discard(working)

"""Caches that are lent to steps in a chroot: two steps that want the same ones never wait for
each other, and none waits for itself."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from engine.builds.lending import lent_mounts
from engine.builds.store import snapshot_of
from imgtools.build.protocols import StepMount
from imgtools.errors import Error, Unsupported
from imgtools.task import Task
from tests.engine.builds_mounts import cache
from tests.engine.builds_rig import Build, build_of
from tests.engine.layer_tools import working_directory


@pytest.fixture(name="build", scope="module")
def _build(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Build]:
    with (
        working_directory(tmp_path_factory.mktemp("lending")) as path,
        build_of(path, "flat") as build,
    ):
        yield build


def lend(build: Build, task: Task, *mounts: StepMount) -> None:
    """Lend the mounts to a tree of their own, and take them back."""
    working = build.store.prepare(build.base, task=task)
    try:
        snapshot, asking = snapshot_of(working), threading.Lock()
        with lent_mounts(build.engine, snapshot, mounts, asking, task=task):
            pass
    finally:
        build.store.discard(working)


def test_caches_are_locked_in_one_order_wherever_they_go(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    caches = build.engine.store.cache_mounts
    whole, order = caches.open, []

    def noted(name: str, *given: object, **more: object) -> object:
        order.append(name)
        return whole(name, *given, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(caches, "open", noted)
    lend(build, Task(), cache("/x", cache="one"), cache("/y/y", cache="two"))
    lend(build, Task(), cache("/x", cache="two"), cache("/y/y", cache="one"))
    assert order == ["one", "two"] * 2


def test_a_cache_in_two_places_is_refused_rather_than_waited_for(build: Build) -> None:
    task, errors = Task(), []

    def run() -> None:
        try:
            lend(build, task, cache("/x", cache="one"), cache("/y", cache="one"))
        except Error as e:
            errors.append(e)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(20)
    task.cancel.cancel()
    thread.join(20)
    assert isinstance(errors[0], Unsupported)
    assert "two places" in errors[0].message

"""Commands about working containers that are killed at any instant: no half container stays."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from engine.storage.containers import Use, this_process
from engine.storage.store import Store
from engine.working.create import CreateOptions, create_container, remove_container
from engine.working.registry import ContainerNotKnown, WorkingContainers
from imgtools.errors import StorageError
from imgtools.task import Task
from tests.build.working_rig import BASE, Scripts


@pytest.fixture
def shop(tmp_path: Path) -> Scripts:
    """A store with the image."""
    made = Scripts(tmp_path)
    made.fill()
    return made


@pytest.mark.parametrize("step", ["records", "snapshots", "settle"])
def test_from_that_fails_at_a_step_leaves_nothing(
    shop: Scripts, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise StorageError("the disk is full", path="x")

    with Store.open(shop.location) as store:
        image, name = store.find(BASE)
        target = {
            "records": ("engine.working.registry.Records.write", fail),
            "snapshots": ("engine.storage.snapshots.SnapshotStore.prepare", fail),
            "settle": ("engine.storage.containers.InUse.settle", fail),
        }[step]
        monkeypatch.setattr(*target)
        with pytest.raises(StorageError):
            create_container(store, image, name, CreateOptions(), task=Task())
    assert shop.names() == []
    assert shop.left() == []


def test_what_a_killed_from_left_is_no_container_and_is_swept(shop: Scripts) -> None:
    with Store.open(shop.location) as store:
        image, name = store.find(BASE)
        made = create_container(store, image, name, CreateOptions(name="half"), task=Task())
        use = store.parts.uses.get(made.id)
        assert use is not None
        dead = Use(
            id=use.id, kind=use.kind, image_id=use.image_id, layer=use.layer,
            owner=type(use.owner)(pid=this_process().pid, start=1, boot=use.owner.boot),
        )  # fmt: skip
        path = os.path.join(shop.location.root, "imgtools", "uses", f"{made.id}.json")
        os.unlink(path)
        store.parts.uses.begin(dead).detach()
        containers = WorkingContainers(store)
        assert containers.all() == ()
        with pytest.raises(ContainerNotKnown):
            containers.find("half")
        again = create_container(store, image, name, CreateOptions(name="half"), task=Task())
        assert containers.find("half").id == again.id
        assert [each.id for each in store.snapshots.list()] == [again.id]
        remove_container(store, "half", task=Task())
    assert shop.left() == []


def test_prune_removes_what_killed_commands_left(shop: Scripts) -> None:
    for delay in (0.02, 0.08, 0.12, 0.16, 0.2, 0.24, 0.3):
        process = shop.cli.start(
            "from", "--root", shop.location.root, "--runroot", shop.location.runroot, BASE
        )
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    whole = shop.names()
    with Store.open(shop.location) as store:
        for name in whole:
            snapshot = WorkingContainers(store).snapshot(WorkingContainers(store).find(name))
            assert os.path.isdir(snapshot.path)
    shop.lines("t rm -a >/dev/null; t prune --force >/dev/null")
    assert shop.left() == []
    assert shop.lines(f"t from {BASE}; t rm -a >/dev/null") == ["small-working-container"]


def test_rm_that_is_killed_is_finished_by_the_next(shop: Scripts) -> None:
    shop.lines(f"t from --name going {BASE}")
    with Store.open(shop.location) as store:
        containers = WorkingContainers(store)
        child = os.fork()
        if not child:
            with containers.held("going", task=Task()) as held:
                held.use.settle(persistent=False)
                os._exit(0)
        os.waitpid(child, 0)
        assert containers.all() == ()
        containers.sweep()
    assert shop.left() == []

"""A store survives kill -9 at any instant, several processes at once, and a loss of power."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.storage.store import Store
from imgtools.spec.platform import from_machine
from imgtools.task import Task
from imgtools.testing import images
from imgtools.testing.registry import ScriptedRegistry
from tests.engine.store_rig import left_over, location, publish, pull, verify

HOST = from_machine("linux", "x86_64")
TOP = Path(__file__).parents[2]


@pytest.fixture
def registry() -> Iterator[ScriptedRegistry]:
    with ScriptedRegistry() as opened:
        yield opened


@pytest.fixture
def names(registry: ScriptedRegistry) -> list[str]:
    """Four images that share layers."""
    base = [images.random_layer(f"base {n}", 40_000) for n in range(3)]
    own = [images.random_layer(f"own {n}", 40_000) for n in range(4)]
    return [
        publish(registry, f"r{n}", "1", images.image_of([*base[: n + 1], own[n]], n, platform=HOST))
        for n in range(3)
    ]


def worker(
    directory: Path, driver: str, seconds: float, seed: int, names: list[str]
) -> subprocess.Popen[str]:
    words = [str(directory), driver, str(seconds), str(seed), *names]
    return subprocess.Popen(
        [sys.executable, "-m", "tests.engine.store_worker", *words],
        cwd=TOP,
        stdout=subprocess.PIPE,
        text=True,
    )


def check(directory: Path, driver: str, names: list[str]) -> None:
    """The store is whole as it is, and usable; nothing stays that nobody needs."""
    with Store.open(location(directory, driver)) as store:
        verify(store)
        for name in names:
            pull(store, name, "always")
        verify(store)
        store.prune(list(store.images()), task=Task())
        assert store.images() == {}
        assert left_over(store) == ([], [])
        contents = store.contents()
        assert contents.blobs == frozenset()
        assert contents.known == contents.layers == {}


@pytest.mark.parametrize("driver", ["flat", "overlay"])
def test_killed_at_any_instant(
    driver: str, registry: ScriptedRegistry, names: list[str], tmp_path: Path
) -> None:
    chance = random.Random(driver)
    for round_ in range(5):
        process = worker(tmp_path, driver, 30, round_, names)
        time.sleep(0.35 + chance.random() * 0.3)
        process.kill()
        process.communicate()
        with Store.open(location(tmp_path, driver)) as store:
            verify(store)
    check(tmp_path, driver, names)


def test_processes_at_once(registry: ScriptedRegistry, names: list[str], tmp_path: Path) -> None:
    """Pulls, removals and prunes of the same images by four processes: none fails, and what
    one has pulled is never taken apart by another."""
    processes = [worker(tmp_path, "flat", 2, seed, names) for seed in range(4)]
    ended = [(process.communicate(timeout=60)[0], process.returncode) for process in processes]
    assert [code for _, code in ended] == [0, 0, 0, 0]
    assert all(out for out, _ in ended)
    check(tmp_path, "flat", names)


def test_two_processes_pull_an_image_once(registry: ScriptedRegistry, tmp_path: Path) -> None:
    name = publish(registry, "big", "1", images.random_image(1, layers=4, platform=HOST))
    registry.fail(method="GET", path="/blobs/", stall=0.3)
    script = (
        "import sys; from pathlib import Path; from engine.storage.store import Store;"
        "from tests.engine.store_rig import location, pull;"
        "store = Store.open(location(Path(sys.argv[1])));"
        "print(pull(store, sys.argv[2]).id); store.close()"
    )
    command = [sys.executable, "-c", script, str(tmp_path), name]
    processes = [
        subprocess.Popen(command, cwd=TOP, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    found = {process.communicate(timeout=60)[0] for process in processes}
    assert len(found) == 1
    assert registry.count("GET", "/blobs/") == 5
    with Store.open(location(tmp_path)) as store:
        verify(store)


def test_loss_of_power(registry: ScriptedRegistry, names: list[str], tmp_path: Path) -> None:
    """Copies of the directory taken under load, as a disk would be found: they open, are whole,
    and every image that was reported is there, if nothing was removed meanwhile."""
    store_dir = tmp_path / "live"
    # Seed 3 does not matter: each copy is taken at another instant of pulls and removals.
    process = worker(store_dir, "flat", 6, 3, names)
    copies = []
    for number in range(3):
        time.sleep(0.4)
        target = tmp_path / f"copy{number}"
        copies.append(target)
        subprocess.run(["cp", "-a", str(store_dir), str(target)], capture_output=True)
    process.kill()
    process.communicate()
    for target in copies:
        with Store.open(location(target)) as store:
            whole = store.parts.index.images()
            for image in list(whole.values()):
                # A copy that takes its time may have an image whose layers it came too late for.
                if any(not store.layers.has(layer.chain_id) for layer in image.layers):
                    store.parts.images.remove(image.id)
        check(target, "flat", names)
        shutil.rmtree(target)


def test_what_was_acknowledged_is_on_disk(
    registry: ScriptedRegistry, names: list[str], tmp_path: Path
) -> None:
    """Layers of an image that was pulled are trusted after another boot; those that were
    never written out are not, and are made again."""
    with Store.open(location(tmp_path)) as store:
        image = pull(store, names[2])
        marks = [Path(layer.path) / "boot" for layer in store.layers.list()]
        assert not any(mark.exists() for mark in marks)
        marks[0].write_text("another boot")
        assert len(list(store.layers.list())) == len(marks) - 1
        assert pull(store, names[2], "always") == image
        verify(store)

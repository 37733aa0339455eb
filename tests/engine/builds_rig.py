"""What tests of builds' engine share: a store with an image, and steps run in it."""

from __future__ import annotations

import io
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.builds.executor import BuildExecutor
from engine.builds.store import BuildStore
from engine.containers.engine import Engine
from engine.storage.options import StoreLocation
from engine.storage.store import Store
from imgtools.blob.tar import Entry, EntryType
from imgtools.build.protocols import CommitOptions, NewLayer, RunSpec, StepMount, Working
from imgtools.spec.digest import Digest
from imgtools.spec.identity import chain_id
from imgtools.task import Task
from imgtools.transport.table import Transports
from tests.engine.layer_tools import archive, entries
from tests.engine.run_rig import IMAGE, engine_of, fill, make_image

PATH = "PATH=/bin"


@dataclass(frozen=True)
class Build:
    """One build on a store with the image IMAGE."""

    engine: Engine
    store: BuildStore
    executor: BuildExecutor
    directory: Path

    @property
    def base(self) -> Digest:
        """The layer of the image."""
        found = self.store.look_up(IMAGE, None, "missing", task=Task())
        self.store.obtain(found, task=Task())
        top = chain_id(found.config.diff_ids)
        assert top is not None
        return top

    def layer(self, *members: tuple[Entry, bytes], on: Digest | None = None) -> Digest:
        """A layer of a tar made by hand, on the image or on another layer."""
        tar = archive(*members)
        parent = on or self.base
        made = self.store.apply(parent, Digest.of(tar), io.BytesIO(tar), len(tar), task=Task())
        return made.chain_id

    def run(self, working: Working, *args: str, task: Task | None = None, **more: Any) -> Ran:
        """Run a command in a tree."""
        lines: list[tuple[int, bytes]] = []
        env = more.pop("env", (PATH,))
        spec = RunSpec(args=args, env=env, **{"network": "none", **more})
        code = self.executor.run(
            working, spec, output=lambda n, line: lines.append((n, line)), task=task or Task()
        )
        return Ran(code, b"".join(line for _, line in lines).decode())

    def step(
        self, script: str, *mounts: StepMount, on: Digest | None = None, **more: Any
    ) -> Stepped:
        """Run a script in a new tree and commit what it changed."""
        working = self.store.prepare(on or self.base, task=Task())
        try:
            ran = self.run(working, "sh", "-ec", script, mounts=mounts, **more)
            made = self.store.commit(working, CommitOptions(), task=Task())
        finally:
            self.store.discard(working)
        return Stepped(ran.code, ran.text, made, self.tar(made.chain_id))

    def tar(self, layer: Digest) -> bytes:
        """The tar of a layer."""
        with self.store.open_layer(layer) as reader:
            return reader.read()


@dataclass(frozen=True)
class Ran:
    """How a command ended, and what it wrote."""

    code: int
    text: str


@dataclass(frozen=True)
class Stepped(Ran):
    """The layer that came of it as well."""

    layer: NewLayer
    tar: bytes

    @property
    def paths(self) -> list[str]:
        """What is in the layer."""
        return sorted(entries(self.tar))


@contextmanager
def build_of(directory: Path, driver: str) -> Iterator[Build]:
    """A build on a new store below `directory`, of which nothing is left in use at the end."""
    location = StoreLocation(
        root=str(directory / "store"), runroot=str(directory / "run"), driver=driver
    )
    with Store.open(location) as store:
        fill(store, make_image(directory))
    with (
        engine_of(location, str(directory / "cache")) as engine,
        Transports() as transports,
        BuildStore(engine.store, transports) as store,
    ):
        yield Build(engine, store, BuildExecutor(engine.choice, lambda: engine), directory)
    assert left_over(directory) == []


def left_over(directory: Path) -> list[str]:
    """What a build must not leave: trees, records of use, temporary and container's files."""
    found = []
    for name in ("store/imgtools/snapshots", "store/imgtools/uses", "store/imgtools/tmp",
                 "run/imgtools/containers", "run/imgtools/runtime"):  # fmt: skip
        if (directory / name).exists():
            found += [str(path) for path in (directory / name).iterdir()]
    return found


def members(tar: bytes) -> dict[str, tarfile.TarInfo]:
    """The members of a tar by name, as another reader sees them."""
    with tarfile.open(fileobj=io.BytesIO(tar)) as found:
        return {member.name: member for member in found}


def fifo(path: str) -> tuple[Entry, bytes]:
    """A FIFO."""
    return Entry(path=path, type=EntryType.FIFO, mode=0o600), b""


@contextmanager
def scratch() -> Iterator[Path]:
    """A directory for contexts."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)

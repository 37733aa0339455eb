"""Whole builds without an engine: a store in a directory, and an executor that knows a handful
of words instead of programs.

A line is commands with `;` in between: `write PATH TEXT` (TEXT with $NAME of its variables),
`mounted TARGET PATH` (what a mount shows, written to PATH), `say TEXT`, `exit CODE`, `wait`
(until the build is cancelled).
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from imgtools.build.contexts.options import FetchOptions
from imgtools.build.events import BuildEvent, StepFinished
from imgtools.build.execute.api import build
from imgtools.build.execute.environment import BuildEnvironment, BuildResult, StepCache
from imgtools.build.options import BuildOptions
from imgtools.build.outputs.model import BuiltImage
from imgtools.build.protocols import BaseImage, Isolation, Output, RunSpec, StepMount, Working
from imgtools.spec.config import Config
from imgtools.spec.digest import Digest
from imgtools.spec.manifest import RawManifest
from imgtools.spec.platform import Platform
from imgtools.spec.strict_json import dumps
from imgtools.task import Task
from tests.build.store_double import StoreDouble

HOST = Platform(os="linux", architecture="amd64")


@dataclass(slots=True)
class ExecutorDouble:
    """Runs the words of this module's language and remembers what it was given."""

    specs: list[RunSpec] = field(default_factory=list)
    running: int = 0
    most: int = 0
    meeting: threading.Barrier | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def isolation(self) -> Isolation:
        return Isolation(kind="double", reason="a test")

    def run(self, working: Working, spec: RunSpec, *, output: Output, task: Task) -> int:
        with self._lock:
            self.specs.append(spec)
            self.running += 1
            self.most = max(self.most, self.running)
        try:
            return self._run(Path(str(working.token)), spec, output, task)
        finally:
            with self._lock:
                self.running -= 1

    def _run(self, root: Path, spec: RunSpec, output: Output, task: Task) -> int:
        env = dict(item.partition("=")[::2] for item in spec.env)
        for line in spec.args[-1].split(";"):
            word, *words = line.split()
            if word == "write":
                path = root / words[0].lstrip("/")
                path.parent.mkdir(parents=True, exist_ok=True)
                text = re.sub(r"\$(\w+)", lambda m: env.get(m[1], ""), " ".join(words[1:]))
                path.write_text(text)
            elif word == "mounted":
                mount = next(m for m in spec.mounts if m.target == words[0])
                (root / words[1].lstrip("/")).write_bytes(_shown(mount))
            elif word == "say":
                output(1, f"{' '.join(words)}\n".encode())
            elif word == "exit":
                return int(words[0])
            elif word == "meet":
                assert self.meeting is not None
                self.meeting.wait(20)
            elif word == "wait":
                task.cancel.wait(30)
            else:
                raise AssertionError(f"the double has no {word}")
        return 0


def _shown(mount: StepMount) -> bytes:
    if mount.kind in ("secret", "file"):
        return mount.content
    assert mount.source is not None
    return Path(mount.source.directory, mount.source.path.lstrip("/")).read_bytes()


@dataclass(slots=True)
class BuildRig:
    """Builds in a directory of the test's, with a context that `write` fills."""

    directory: Path
    store: StoreDouble = field(init=False)
    executor: ExecutorDouble = field(default_factory=ExecutorDouble)
    events: list[BuildEvent] = field(default_factory=list)
    result: BuildResult = field(default_factory=BuildResult)
    cache: StepCache | None = None
    fetch: FetchOptions = field(default_factory=FetchOptions)

    def __post_init__(self) -> None:
        (self.directory / "store").mkdir()
        self.context.mkdir()
        self.store = StoreDouble(root=self.directory / "store")

    @property
    def context(self) -> Path:
        """The main context's directory."""
        return self.directory / "context"

    def write(self, **files: str) -> None:
        """Files of the context; `__` in a name is a slash, `_dot_` a dot."""
        for name, content in files.items():
            path = self.context / name.replace("__", "/").replace("_dot_", ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)

    def base(
        self, name: str, document: Mapping[str, Any] | None = None, *layers: bytes
    ) -> BaseImage:
        """An image that FROM finds."""
        diff_ids = [str(Digest.of(layer)) for layer in layers]
        whole = {
            "architecture": "amd64",
            "os": "linux",
            **(document or {}),
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        }
        manifest = RawManifest.of(
            dumps(
                {
                    "schemaVersion": 2,
                    "mediaType": "application/vnd.oci.image.manifest.v1+json",
                    "config": {
                        "mediaType": "application/vnd.oci.image.config.v1+json",
                        "digest": str(Digest.of(dumps(whole))),
                        "size": len(dumps(whole)),
                    },
                    "layers": [],
                }
            )
        )
        image = BaseImage(
            name=name,
            pinned="",
            platform=HOST,
            manifest=manifest,
            config=Config.from_json(whole),
        )
        return self.store.add_base(name, image, layers)

    def build(
        self,
        text: str,
        *,
        task: Task | None = None,
        dry: bool = False,
        on_event: Callable[[BuildEvent], object] | None = None,
        **options: Any,
    ) -> BuiltImage:
        """Build a Containerfile; the first image, an empty one of a dry run."""
        (self.directory / "Containerfile").write_text(text)
        asked = BuildOptions(
            context=str(self.context), files=(str(self.directory / "Containerfile"),), jobs=4
        )
        self.events.clear()
        self.executor.specs.clear()

        def report(event: BuildEvent) -> None:
            self.events.append(event)
            if on_event is not None:
                on_event(event)

        environment = BuildEnvironment(
            store=self.store,
            executor=lambda: self.executor,
            host=HOST,
            directory=str(self.directory),
            cache=self.cache,
            fetch=self.fetch,
            report=report,
        )
        self.result = build(replace(asked, **options), environment, task=task or Task(), dry=dry)
        if dry:
            return BuiltImage(platform=HOST, config=Config(platform=HOST), layers=(), base=None)
        return self.result.images[0]

    def files(self, image: BuiltImage | None = None) -> dict[str, str]:
        """The regular files of an image (the last one built), by path."""
        diff_ids = (image or self.result.images[0]).config.diff_ids
        return {path: content.decode() for path, content in self.store.content(diff_ids).items()}

    def cached(self) -> list[bool]:
        """Of all steps that made a layer or were found, whether they were found."""
        finished = [e for e in self.events if isinstance(e, StepFinished)]
        return [e.cached for e in finished if e.layer]

    @property
    def ran(self) -> int:
        """How many commands were executed."""
        return len(self.executor.specs)

"""What a build works with that is no option: the engine, where its caches are, how it reaches
the network. A command line, or whoever uses this as a library, puts it together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field
from typing import BinaryIO, Protocol

from imgtools.build.contexts.options import FetchOptions
from imgtools.build.events import Report, ignore
from imgtools.build.outputs.model import BuiltImage
from imgtools.build.outputs.provenance import BuildFacts
from imgtools.build.protocols import CacheRecord, Executor, NewLayer, SnapshotStore
from imgtools.frozen import dataclass
from imgtools.spec.platform import Platform
from imgtools.task import Task


class StepCache(Protocol):
    """Where results of steps are looked for; a SnapshotStore is one, a registry can be."""

    def find(self, key: str, *, task: Task) -> CacheRecord | None:
        """What is remembered of a step; its layer need not be in the store yet."""
        ...

    def remember(self, record: CacheRecord, *, task: Task) -> None:
        """Remember a step."""
        ...

    def obtain(self, record: CacheRecord, *, task: Task) -> None:
        """Have the record's layer in the store; the one below it is there already."""
        ...


class LocalCache:
    """The store's own memory of steps."""

    def __init__(self, store: SnapshotStore) -> None:
        self._store = store

    def find(self, key: str, *, task: Task) -> CacheRecord | None:
        """See StepCache."""
        return self._store.find_cached(key)

    def remember(self, record: CacheRecord, *, task: Task) -> None:
        """See StepCache."""
        self._store.remember(record)

    def obtain(self, record: CacheRecord, *, task: Task) -> None:
        """Nothing to do: what the store finds, it has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildEnvironment:
    """`executor` is asked for when the first step has to be run. `host` is the platform of
    this machine. `directory` is the current directory (for relative names), `hashes` the file
    that remembers digests of contexts' files, "" for none. `fetch` is how URLs and repositories
    are read, `stdin` what `-` means. `layer`
    hears of every layer of the target stage as soon as it is made."""

    store: SnapshotStore
    executor: Callable[[], Executor]
    host: Platform
    directory: str
    hashes: str = ""
    cache: StepCache | None = None
    fetch: FetchOptions = field(default_factory=FetchOptions)
    stdin: BinaryIO | None = None
    report: Report = ignore
    layer: Callable[[NewLayer], None] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedStep:
    """What --dry-run says of a step: its fate is "cached", "run", or "config" where only the
    config changes; `waits` says that its key is not known before steps in front have run."""

    stage: str
    number: int
    text: str
    fate: str
    key: str = ""
    platform: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildResult:
    """The images of a build, one per platform, in the order that was asked for, and what is
    known of how each was built; `stages` are images of other stages, if they are to be saved.
    `planned` is filled by a dry run instead."""

    images: tuple[BuiltImage, ...] = ()
    facts: tuple[BuildFacts, ...] = ()
    stages: tuple[BuiltImage, ...] = ()
    planned: tuple[PlannedStep, ...] = field(default_factory=tuple)
    warnings: tuple[str, ...] = ()

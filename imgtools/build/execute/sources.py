"""The trees that steps copy from and mount: contexts as they are named, stages, images.

What is opened stays open until the build ends; each once, whoever asks first."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from typing import TypeVar

from imgtools.build.contexts.context import Context, open_context
from imgtools.build.contexts.ignoring import with_ignore_file
from imgtools.build.contexts.options import ContextOptions, FetchOptions
from imgtools.build.execute.progress import StageRun
from imgtools.build.planning.model import (
    ContextRef,
    ImageRef,
    ScratchRef,
    SourceRef,
    StageRef,
)
from imgtools.build.protocols import BaseImage, SnapshotStore
from imgtools.build.tree import Tree
from imgtools.errors import InvalidInput
from imgtools.spec.digest import Digest
from imgtools.spec.identity import chain_id
from imgtools.task import Task

T = TypeVar("T")


class Sources:
    """What names of sources stand for in one platform's build."""

    def __init__(
        self,
        store: SnapshotStore,
        contexts: Contexts,
        images: Mapping[str, BaseImage],
        runs: Mapping[int, StageRun],
        undo: ExitStack,
    ) -> None:
        self._store = store
        self._contexts = contexts
        self._images = images
        self.runs = runs
        self._undo = undo
        self._lock = threading.Lock()
        self._trees: dict[Digest | None, Tree] = {}

    @property
    def fetch(self) -> FetchOptions:
        """How URLs and repositories are read."""
        return self._contexts.fetch

    def named_contexts(self) -> Mapping[str, Context]:
        """The contexts that were used, by what they are named by; not the main one."""
        return self._contexts.opened()

    def context(self, ref: SourceRef, task: Task) -> Context | None:
        """The context that `ref` means, opened; None for what is a tree of layers."""
        if not isinstance(ref, ContextRef) or self._image(ref) is not None:
            return None
        return self._contexts.open(ref.name, task)

    def chain(self, ref: SourceRef, task: Task) -> Digest | None:
        """The chain_id of the layers that `ref` means, waiting for a stage to be done."""
        if isinstance(ref, StageRef):
            run = self.runs[ref.index]
            run.wait(task)
            return run.chain_id
        if isinstance(ref, ScratchRef):
            return None
        image = self._image(ref)
        if image is None:
            raise InvalidInput(f"{self._name_of(ref)} has no layers")
        return chain_id(image.config.diff_ids)

    def tree(self, ref: SourceRef, task: Task) -> Tree:
        """The tree that `ref` means; layers are obtained."""
        context = self.context(ref, task)
        if context is not None:
            return context.tree
        chain = self.chain(ref, task)
        self.obtain(ref, task)
        return replace(self.tree_of(chain), name=self._name_of(ref))

    def obtain(self, ref: SourceRef, task: Task) -> None:
        """Have the layers of a stage or image in the store."""
        if isinstance(ref, StageRef):
            self.runs[ref.index].make_available(self.obtain_image, task)
            return
        image = self._image(ref)
        if image is not None:
            self.obtain_image(image, task)

    def obtain_image(self, image: BaseImage, task: Task) -> None:
        """Have all layers of an image in the store."""
        self._store.obtain(image, task=task)

    def enter(self, opened: AbstractContextManager[T]) -> T:
        """Keep what is opened open until the build ends."""
        with self._lock:
            return self._undo.enter_context(opened)

    def tree_of(self, chain: Digest | None) -> Tree:
        """The tree of layers that are in the store, open until the build ends."""
        with self._lock:
            found = self._trees.get(chain)
            if found is None:
                found = self._undo.enter_context(self._store.tree(chain))
                self._trees[chain] = found
            return found

    def _name_of(self, ref: SourceRef) -> str:
        """What a file calls the layers of `ref`."""
        if isinstance(ref, StageRef):
            return f"stage {self.runs[ref.index].plan.standing.stage.title}"
        return f"image {ref.name}" if isinstance(ref, ImageRef | ContextRef) else "scratch"

    def _image(self, ref: SourceRef) -> BaseImage | None:
        return self._images.get(ref.name) if isinstance(ref, ImageRef | ContextRef) else None


class Contexts:
    """The main context ("") and the named ones, each opened when it is first used, for all
    platforms."""

    def __init__(
        self,
        values: Mapping[str, str],
        options: ContextOptions,
        undo: ExitStack,
    ) -> None:
        """`values` are those of --build-context."""
        self._values = values
        self._options = options
        self.fetch = options.fetch
        self._undo = undo
        self._lock = threading.Lock()
        self._open: dict[str, Context] = {}

    def put(self, name: str, context: Context) -> None:
        """A context that is open already."""
        self._open[name] = context

    def open(self, name: str, task: Task) -> Context:
        """The context `name`; raises InvalidInput where there is none, and what opening it
        raises."""
        with self._lock:
            found = self._open.get(name)
            if found is None:
                if name not in self._values:
                    raise InvalidInput(
                        "there is no build context to copy from",
                        hint="name a directory, an archive or a repository",
                    )
                opened = open_context(self._values[name], self._options, task=task)
                found = with_ignore_file(self._undo.enter_context(opened))
                self._open[name] = found
            return found

    def opened(self) -> Mapping[str, Context]:
        """Those that are open, by what they are named by; not the main one."""
        with self._lock:
            return {self._values[name]: found for name, found in self._open.items() if name}

    def time_of(self, value: str, task: Task) -> int | None:
        """The time of what is at a URL or in a repository, which is opened for nothing else;
        raises what opening raises."""
        with open_context(value, self._options, task=task) as context:
            return context.epoch

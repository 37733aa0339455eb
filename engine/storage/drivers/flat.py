"""The flat driver: every layer and every snapshot is a whole tree of its own.

Works wherever files can be written. Costs a copy for each, which is cheap where the file
system shares blocks.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from engine.storage.drivers.base import fresh_root, keeps_owners, opened
from engine.storage.drivers.treecopy import copy_tree
from engine.storage.layout import TREE
from engine.storage.options import Ownership, RootMount
from imgtools.blob.files import storage_errors
from imgtools.frozen import dataclass


@dataclass(frozen=True, slots=True)
class FlatDriver:
    """See `Driver`."""

    ownership: Ownership
    name: str = "flat"
    content: str = TREE
    max_stack: int = 1
    userxattr: bool = False

    @contextmanager
    def new_layer(self, lower: tuple[str, ...], directory: str, whole: bool) -> Iterator[int]:
        """See `Driver.new_layer`; every layer is whole."""
        self.new_snapshot(lower, directory)
        with opened(os.path.join(directory, TREE)) as fd:
            yield fd

    def new_snapshot(self, lower: tuple[str, ...], directory: str) -> None:
        """See `Driver.new_snapshot`."""
        tree = os.path.join(directory, TREE)
        with storage_errors(tree):
            fresh_root(tree)
            if lower:
                with opened(lower[0]) as source, opened(tree) as target:
                    copy_tree(source, target, owner=keeps_owners(self.ownership))

    def root(
        self, lower: tuple[str, ...], directory: str, *, read_only: bool, volatile: bool
    ) -> RootMount:
        """See `Driver.root`."""
        tree = os.path.join(directory, TREE) if directory else lower[0]
        return RootMount(path=tree, read_only=read_only or not directory)

"""The overlay driver: a layer is what it changes, the kernel stacks them.

A layer is unpacked through an overlay mount of the layers below it, so that the kernel
itself writes whiteouts and opaque marks, and a tree is the same whichever driver made it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from engine.storage.drivers.base import fresh_root, keeps_owners, opened
from engine.storage.drivers.mounts import MAX_LOWER, open_root, overlay
from engine.storage.drivers.removal import remove_tree
from engine.storage.drivers.treecopy import copy_metadata, copy_tree
from engine.storage.layout import DIFF, UPPER, WORK
from engine.storage.options import Ownership, RootMount
from imgtools.blob.files import storage_errors
from imgtools.frozen import dataclass

EMPTY = "empty"
INCOMPAT = ("work", "incompat")
"""In the work directory: what a volatile mount leaves, and what forbids to mount it again."""


@dataclass(frozen=True, slots=True)
class OverlayDriver:
    """See `Driver`."""

    ownership: Ownership
    userxattr: bool
    max_stack: int = MAX_LOWER
    name: str = "overlay"
    content: str = DIFF

    @contextmanager
    def new_layer(self, lower: tuple[str, ...], directory: str, whole: bool) -> Iterator[int]:
        """See `Driver.new_layer`."""
        diff = os.path.join(directory, DIFF)
        with storage_errors(diff):
            self._root(lower, diff)
        if not lower or whole:
            with opened(diff) as fd:
                if lower:
                    with storage_errors(diff):
                        self._copy(lower, fd)
                yield fd
            return
        work = os.path.join(directory, WORK)
        with storage_errors(work):
            os.mkdir(work, 0o700)
        fd = open_root(overlay(lower, diff, work, userxattr=self.userxattr))
        try:
            yield fd
        finally:
            os.close(fd)
        with opened(directory) as at, storage_errors(work):
            remove_tree(os.fsencode(WORK), at)

    def new_snapshot(self, lower: tuple[str, ...], directory: str) -> None:
        """See `Driver.new_snapshot`: two directories, whatever the size of the tree."""
        with storage_errors(directory):
            self._root(lower, os.path.join(directory, UPPER))
            os.mkdir(os.path.join(directory, WORK), 0o700)
            if not lower:
                fresh_root(os.path.join(directory, EMPTY))

    def root(
        self, lower: tuple[str, ...], directory: str, *, read_only: bool, volatile: bool
    ) -> RootMount:
        """See `Driver.root`. Undoes what keeps a volatile mount from being mounted again."""
        if not directory:
            path = lower[0] if len(lower) == 1 else ""
            return RootMount(
                path=path,
                lower=() if path else lower,
                userxattr=self.userxattr and not path,
                read_only=True,
            )
        work = os.path.join(directory, WORK)
        if volatile:
            with opened(work) as at, storage_errors(work):
                _forget_volatile(at)
        return RootMount(
            lower=lower or (os.path.join(directory, EMPTY),),
            upper=os.path.join(directory, UPPER),
            work=work,
            userxattr=self.userxattr,
            volatile=volatile,
            read_only=read_only,
        )

    def _root(self, lower: tuple[str, ...], path: str) -> None:
        """The root directory of a difference: an overlay shows the metadata of the topmost."""
        fresh_root(path)
        if lower:
            with opened(lower[0]) as source, opened(path) as target:
                copy_metadata(source, target, owner=keeps_owners(self.ownership))

    def _copy(self, lower: tuple[str, ...], target: int) -> None:
        source = open_root(self.root(lower, "", read_only=True, volatile=False))
        try:
            copy_tree(source, target, owner=keeps_owners(self.ownership))
        finally:
            os.close(source)


def _forget_volatile(work: int) -> None:
    try:
        inner = os.open(INCOMPAT[0], os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=work)
    except FileNotFoundError:
        return
    try:
        remove_tree(INCOMPAT[1].encode(), inner)
    finally:
        os.close(inner)

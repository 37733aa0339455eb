"""What the mounts of a step show, opened: directories of the host, trees of layers, subtrees.

Everything is resolved inside its own root by openat2(2) and handed on as a descriptor of a
detached mount. A source that may be written to is covered by an overlay whose upper directory
is thrown away, and one of which parts are hidden by an overlay of whiteouts; where overlays do
not work both are copies.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace

from engine.builds.masking import masked_paths, write_mask
from engine.runtime.kernel import mounting
from engine.runtime.kernel.paths import O_PATH, open_in_root
from engine.storage.drivers.base import DIR_FLAGS, keeps_owners
from engine.storage.drivers.mounts import mount_overlay
from engine.storage.drivers.treecopy import copy_metadata, copy_tree
from engine.storage.options import RootMount
from engine.storage.store import Store
from imgtools.blob.files import storage_error, storage_errors
from imgtools.build.protocols import MountSource
from imgtools.errors import NotFound, StorageError

NOBODY = 65534
"""Whom files seem to belong to whose owner is not mapped (/proc/sys/kernel/overflowuid)."""


class Sources:
    """Opens the sources of one step's mounts, in a thread that has a mount namespace of its
    own; `place` is a new directory of the store for what has to be made, `undo` closes."""

    def __init__(self, store: Store, place: str, undo: ExitStack, asking: threading.Lock) -> None:
        """`asking` is held while what is ignored is asked for."""
        self._layers = store.layers
        self._disk = store.layers.disk
        self._place = place
        self._undo = undo
        self._asking = asking
        self._number = 0

    def open(self, source: MountSource, *, writable: bool) -> int:
        """A descriptor of a detached mount of what `source` names; what is written there, if
        it may be, is gone afterwards. The caller closes it. Raises NotFound, StorageError,
        LimitExceeded."""
        root = self._root(source)
        at = self._opened(root, source)
        try:
            hidden = self._hidden(root, at, source)
            if hidden or writable:
                return self._covered(root, at, source, hidden, writable)
            with storage_errors(_name(source)):
                return mounting.clone_mount(at, recursive=bool(source.directory))
        finally:
            os.close(at)

    def copy(self, source: MountSource, target: int) -> None:
        """Copy the directory that `source` names into the empty one `target`. Raises as
        `open`, and NotFound for what is no directory."""
        root = self._root(source)
        at = self._opened(root, source)
        try:
            hidden = self._hidden(root, at, source)
            with storage_errors(_name(source)):
                self._copy(root, at, target, source, hidden)
        finally:
            os.close(at)

    def copied(self, source: MountSource) -> str:
        """The path of a copy of what `source` names, a directory or a file, on the store's
        disk. Raises as `open`."""
        root = self._root(source)
        at = self._opened(root, source)
        try:
            hidden = self._hidden(root, at, source)
            with storage_errors(_name(source)):
                return self._copied(root, at, source, hidden)
        finally:
            os.close(at)

    def directory(self) -> str:
        """A new empty directory on the store's disk."""
        self._number += 1
        path = os.path.join(self._place, str(self._number))
        with storage_errors(path):
            os.mkdir(path, 0o700)
        return path

    def attached(self, mount: int) -> None:
        """Attach a detached mount in this thread's namespace: only what is attached can be
        cloned in parts. Raises OSError."""
        path = self.directory()
        at = os.open(path, O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            mounting.move_mount(mount, at)
        finally:
            os.close(at)

    def _root(self, source: MountSource) -> int:
        """The root that paths of `source` are resolved in; closed by `undo`."""
        if source.directory:
            with storage_errors(source.directory):
                return self._closing(os.open(source.directory, os.O_RDONLY | os.O_DIRECTORY
                                             | os.O_CLOEXEC))  # fmt: skip
        return self._mounted(self._view(source))

    def _view(self, source: MountSource) -> RootMount:
        if source.directory:
            return RootMount(path=source.directory)
        if source.chain_id is None:
            path = self.directory()
            os.chmod(path, 0o755)
            return RootMount(path=path)
        return self._layers.view(source.chain_id)

    def _mounted(self, mount: RootMount) -> int:
        """The root of a tree, attached where only this thread sees it; closed by `undo`."""
        if mount.path:
            with storage_errors(mount.path):
                return self._closing(os.open(mount.path, DIR_FLAGS))
        try:
            fd = mount_overlay(mount)
        except OSError as e:
            raise StorageError(f"cannot mount layers: {e.strerror}", path=self._place) from e
        try:
            self.attached(fd)
            return self._closing(os.open(b".", DIR_FLAGS, dir_fd=fd))
        finally:
            os.close(fd)

    def _closing(self, fd: int) -> int:
        self._undo.callback(os.close, fd)
        return fd

    def _opened(self, root: int, source: MountSource) -> int:
        try:
            return open_in_root(root, os.fsencode(source.path) or b".", O_PATH)
        except OSError as e:
            if e.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                raise NotFound(f"{_name(source)}: {(e.strerror or '').lower()}") from e
            raise storage_error(e, _name(source)) from e

    def _hidden(self, root: int, at: int, source: MountSource) -> frozenset[bytes]:
        """What the ignore file hides of the source; raises NotFound if that is all of it."""
        if source.ignored is None:
            return frozenset()
        prefix = _below(root, at)
        with self._asking:
            if stat.S_ISDIR(os.fstat(at).st_mode):
                top = os.open(b".", DIR_FLAGS, dir_fd=at)
                try:
                    hidden, shown = masked_paths(
                        top, prefix + b"/" if prefix else b"", source.ignored
                    )
                finally:
                    os.close(top)
            else:
                hidden, shown = frozenset(), not source.ignored(os.fsdecode(prefix))
        if not shown:
            raise NotFound(f"{_name(source)} is excluded by the ignore file")
        return hidden

    def _covered(
        self, root: int, at: int, source: MountSource, hidden: frozenset[bytes], writable: bool
    ) -> int:
        """A view of the source that hides what is hidden and takes writes."""
        if self._disk.choice.name == "overlay" and not (writable and self._foreign(at)):
            try:
                return self._overlaid(root, at, source, hidden, writable)
            except (OSError, StorageError) as e:
                # Not every file system can lie below an overlay, nor any number of overlays.
                if isinstance(e, StorageError) and not isinstance(e.__cause__, OSError):
                    raise
        with storage_errors(_name(source)):
            path = os.fsencode(self._copied(root, at, source, hidden))
            return mounting.open_tree(mounting.AT_FDCWD, path, mounting.OPEN_TREE_CLONE)

    def _overlaid(
        self, root: int, at: int, source: MountSource, hidden: frozenset[bytes], writable: bool
    ) -> int:
        mount = self._view(source)
        lower = mount.lower or (mount.path,)
        if hidden:
            mask = self.directory()
            fd = os.open(mask, DIR_FLAGS)
            try:
                write_mask(root, fd, hidden)
            finally:
                os.close(fd)
            lower = (mask, *lower)
        mount = RootMount(lower=lower, userxattr=self._disk.choice.userxattr, read_only=True)
        if writable or len(lower) == 1:
            upper, work = self.directory(), self.directory()
            fd = os.open(upper, DIR_FLAGS)
            try:
                copy_metadata_of(root, fd)
            finally:
                os.close(fd)
            mount = replace(mount, upper=upper, work=work, volatile=True, read_only=False)
        inner = self._mounted(mount)
        path = _below(root, at)
        fd = open_in_root(inner, path or b".", O_PATH | os.O_NOFOLLOW)
        try:
            return mounting.clone_mount(fd)
        finally:
            os.close(fd)

    def _foreign(self, at: int) -> bool:
        """Whether files are of somebody who does not exist here: not even root may write to
        them, and to a copy it may."""
        return not self._disk.ids.initial and os.fstat(at).st_uid == NOBODY

    def _copied(self, root: int, at: int, source: MountSource, hidden: frozenset[bytes]) -> str:
        directory = self.directory()
        target = os.open(directory, DIR_FLAGS)
        try:
            if stat.S_ISDIR(os.fstat(at).st_mode):
                self._copy(root, at, target, source, hidden)
                return directory
            # Copied with nothing but itself: the directory that it is in, all else left out.
            parent, _, name = _below(root, at).rpartition(b"/")
            above = os.open(parent or b".", DIR_FLAGS, dir_fd=root)
            try:
                copy_tree(above, target, owner=self._owners(source), skip=lambda each: each != name)
            finally:
                os.close(above)
            return os.path.join(directory, os.fsdecode(name))
        finally:
            os.close(target)

    def _copy(
        self, root: int, at: int, target: int, source: MountSource, hidden: frozenset[bytes]
    ) -> None:
        prefix = _below(root, at) + b"/" if hidden and _below(root, at) else b""
        top = os.open(b".", DIR_FLAGS, dir_fd=at)
        try:
            skip: Callable[[bytes], bool] | None = None
            if hidden:
                skip = lambda each: prefix + each in hidden  # noqa: E731
            copy_tree(top, target, owner=self._owners(source), skip=skip)
        finally:
            os.close(top)

    def _owners(self, source: MountSource) -> bool:
        """Whether a copy keeps owners: those of the host mean nothing in a user namespace."""
        ours = not source.directory or self._disk.ids.initial
        return keeps_owners(self._disk.ownership) and ours


def copy_metadata_of(source: int, target: int) -> None:
    """Give one open directory the mode, owner, times and attributes of another, as far as
    that can be done here. Raises OSError."""
    copy_metadata(source, target, owner=os.geteuid() == 0)


def _below(root: int, at: int) -> bytes:
    """The path of `at` from the directory `root`, in which it was found; b"" for itself.
    Raises NotFound if it was moved out of it meanwhile."""
    top = os.readlink(b"/proc/self/fd/%d" % root).rstrip(b"/")
    path = os.readlink(b"/proc/self/fd/%d" % at).rstrip(b"/")
    if path == top:
        return b""
    if not path.startswith(top + b"/"):
        raise NotFound("the source of a mount was moved while it was opened")
    return path[len(top) + 1 :]


def _name(source: MountSource) -> str:
    """What errors call a source."""
    where = "the build context" if source.directory else "the image or stage"
    return f"{source.path or '/'} in {where}"

"""What of a build context a mount must not show: the paths that the ignore file excludes.

A directory is hidden as a whole if it is excluded and nothing in it is taken back in; else
each of its excluded files is.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable

from engine.storage.drivers.base import DIR_FLAGS
from engine.storage.drivers.treecopy import copy_metadata
from imgtools.blob.files import storage_errors
from imgtools.errors import LimitExceeded

MAX_DEPTH = 512
WHITEOUT = os.makedev(0, 0)


def masked_paths(
    top: int, prefix: bytes, ignored: Callable[[str], bool]
) -> tuple[frozenset[bytes], bool]:
    """The paths below the directory `top`, which `prefix` names from the root of the context
    (b"" or ending in a slash), that are hidden with all below them, from that root too; and
    whether anything is left. Nothing is followed. Raises LimitExceeded, StorageError."""
    hidden: set[bytes] = set()
    kept: dict[bytes, bool] = {}
    with storage_errors("build context"):
        for path, dirs, files, _ in os.fwalk(b".", topdown=False, dir_fd=top):
            if path.count(b"/") > MAX_DEPTH:
                raise LimitExceeded("depth of the build context", MAX_DEPTH, unit="directories")
            here = prefix + (path[2:] + b"/" if path != b"." else b"")
            kept[here] = _look(here, (*dirs, *files), kept, hidden, ignored)
    whole = not kept[prefix] and bool(prefix) and ignored(os.fsdecode(prefix[:-1]))
    return frozenset(hidden), not whole


def _look(
    here: bytes,
    names: tuple[bytes, ...],
    kept: dict[bytes, bool],
    hidden: set[bytes],
    ignored: Callable[[str], bool],
) -> bool:
    """Note what is hidden in one directory; whether anything of it is shown."""
    shown = False
    below: set[bytes] = set()
    for name in names:
        each = here + name
        inside = kept.pop(each + b"/", False)
        if inside or not ignored(os.fsdecode(each)):
            shown = True
        else:
            below.add(each)
    if below and not shown and here and ignored(os.fsdecode(here[:-1])):
        return False  # It is hidden as a whole, and nothing in it needs to be.
    hidden.update(below)
    return shown


def write_mask(root: int, mask: int, hidden: frozenset[bytes]) -> None:
    """Fill the empty directory `mask` with overlay's whiteouts of `hidden`, paths below the
    directory `root`; directories above them look as they do there. Raises OSError."""
    parents: dict[bytes, None] = {b"": None}
    for path in sorted(hidden):
        parts = path.split(b"/")[:-1]
        for depth in range(1, len(parts) + 1):
            above = b"/".join(parts[:depth])
            if above not in parents:
                os.mkdir(above, 0o700, dir_fd=mask)
                parents[above] = None
        os.mknod(path, stat.S_IFCHR, WHITEOUT, dir_fd=mask)
    for above in sorted(parents, reverse=True):
        source = os.open(above or b".", DIR_FLAGS, dir_fd=root)
        try:
            target = os.open(above or b".", DIR_FLAGS, dir_fd=mask)
            try:
                copy_metadata(source, target, owner=os.geteuid() == 0)
            finally:
                os.close(target)
        finally:
            os.close(source)

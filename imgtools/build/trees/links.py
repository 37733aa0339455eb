"""Where a path leads: symbolic links followed as a process would whose root is the tree's.

Absolute links begin at the root, `..` at the root stays there, and a loop is an error. What
does not exist is no error: a path may be about to be made.
"""

from __future__ import annotations

import os

from imgtools.build.tree import Tree
from imgtools.build.trees.read import readlink, stat_of
from imgtools.errors import UnsafePath

MAX_LINKS = 40
"""As in the kernel (path_resolution(7))."""
_MAX_PENDING = 4096
"""Components that links may add up to: forty links of a kilobyte would be many more."""


def resolve(tree: Tree, path: bytes, *, last: bool) -> bytes:
    """The path without links that `path` is; `last` false leaves a link at its end alone.

    Slashes, `.` and `..` are taken out. From the first component on that does not exist, or
    is no directory, the rest is kept as it is written. Raises UnsafePath for a loop of links.
    """
    pending = _components(path)
    done: list[bytes] = []
    missing = len(done)
    exists = True
    followed = 0
    while pending:
        name = pending.pop()
        if name == b"..":
            del done[-1:]
            if len(done) < missing:
                exists = True
            continue
        here = b"/".join((*done, name))
        node = stat_of(tree, here) if exists else None
        if node is not None and node.is_link and (last or pending):
            followed += 1
            target = readlink(tree, here)
            more = _components(target)
            if followed > MAX_LINKS or len(pending) + len(more) > _MAX_PENDING:
                raise UnsafePath(os.fsdecode(path), f"a loop of symbolic links in {tree.name}")
            if target.startswith(b"/"):
                done.clear()
            pending += more
            continue
        done.append(name)
        if exists and (node is None or not node.is_dir):
            exists, missing = False, len(done)
    return b"/".join(done)


def _components(path: bytes) -> list[bytes]:
    """Components from the last to the first."""
    return [part for part in reversed(path.split(b"/")) if part not in (b"", b".")]

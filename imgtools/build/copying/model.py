"""What a COPY or ADD is given once everything about it is resolved, as frozen data.

`survey` walks the sources and the destination's tree, `plan` decides member by member, `write`
writes the layer; the digest of a plan's content is what cache keys are made of.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from imgtools.build.tree import Tree


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeFiles:
    """Sources in a tree: `patterns` are COPY's words, expanded, relative to the root of `tree`
    (a leading slash and `..` stay within it). `ignored` says of a path ("a/b") whether the
    context's ignore file leaves it out; None for trees without one."""

    tree: Tree
    patterns: tuple[str, ...]
    ignored: Callable[[str], bool] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class InlineFile:
    """A here-document: a file `name` (or the destination's own name) with `content`."""

    name: str
    content: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchedFile:
    """A file that ADD got from a URL: kept at `path` of the host, called `name`, with the
    server's time in seconds since the epoch (None: none was said)."""

    name: str
    path: str
    mtime: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WholeTree:
    """All that is in `tree` (a git checkout): its content goes to the destination."""

    tree: Tree


CopySource = TreeFiles | InlineFile | FetchedFile | WholeTree


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyRequest:
    """One COPY or ADD.

    `destination` is absolute, with its slash at the end if it was written with one. `base` is
    the tree that the layer goes on top of, None for --link. `owner` is (uid, gid), None to
    keep the source's owner where `keep_owner` is true (COPY --from), else 0:0. `chmod` is as
    written, octal or symbolic, "" for none. `unpack` None: ADD's rule (local archives are
    unpacked), False never, True also what was fetched. `add` tells ADD from COPY.
    `mtime`, `mtime_clamp`: see CommitOptions. `now` is the time of directories that are made,
    in seconds since the epoch.
    """

    sources: tuple[CopySource, ...]
    destination: str
    base: Tree | None
    add: bool = False
    owner: tuple[int, int] | None = None
    keep_owner: bool = False
    chmod: str = ""
    link: bool = False
    parents: bool = False
    exclude: tuple[str, ...] = ()
    unpack: bool | None = None
    mtime: int | None = None
    mtime_clamp: int | None = None
    now: int = 0

"""What a COPY or ADD is given once everything about it is resolved, and what becomes of it.

`plan_copy` walks the sources, never the tree below (that may not be here as long as everything
is cached); the digest of a plan's content is what cache keys are made of. `write_copy` decides
member by member where things go on the tree below, and writes the layer.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import field
from types import MappingProxyType

from imgtools.blob.tar import EntryType
from imgtools.build.tree import Tree
from imgtools.build.trees import Node
from imgtools.frozen import dataclass

NO_XATTRS: Mapping[str, bytes] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeFiles:
    """Sources in a tree: `patterns` are COPY's words, expanded, relative to the root of `tree`
    (a leading slash and `..` stay within it). `ignored` says of a path ("a/b") whether the
    context's ignore file leaves it out; None for trees without one. `may_keep` says of an
    ignored directory whether something below may not be ignored; None: every one is looked
    into."""

    tree: Tree
    patterns: tuple[str, ...]
    ignored: Callable[[str], bool] | None = None
    may_keep: Callable[[str], bool] | None = None


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


@dataclass(slots=True, kw_only=True, eq=False)
class Member:
    """A file, directory or link as it is to be in the layer. Treated as a value.

    `path` is relative to its origin, b"" for the top. `mode` has no type. `implied` says of a
    directory that it is only there for what is below: where it exists it keeps what it has.
    `same_as` is the member of which this is another name, `node` what was seen in the tree
    (None where the origin is none), `index` the number of a member of an archive.
    """

    path: bytes
    type: EntryType
    mode: int
    uid: int = 0
    gid: int = 0
    size: int = 0
    mtime_ns: int = 0
    linkname: bytes = b""
    device: tuple[int, int] = (0, 0)
    xattrs: Mapping[str, bytes] = field(default_factory=lambda: NO_XATTRS)
    implied: bool = False
    same_as: Member | None = None
    node: Node | None = None
    index: int = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeOrigin:
    """Members lie below the real path `path` (free of links) of `tree`."""

    tree: Tree
    path: bytes

    def path_of(self, member: Member) -> bytes:
        """Where in the tree a member is."""
        if not member.path:
            return self.path
        return self.path + b"/" + member.path if self.path else member.path

    def shown(self, member: Member) -> str:
        """What messages call a member."""
        return f"{os.fsdecode(self.path_of(member)) or '.'} in {self.tree.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class BytesOrigin:
    """The one member's content is here."""

    content: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class HostOrigin:
    """The one member's content is the file `path` of the host, which was fetched as `name`."""

    path: str
    name: str

    def shown(self, member: Member) -> str:
        """What messages call its member: not the path, which is one of ours."""
        return f"{self.name} as it was fetched"


Origin = TreeOrigin | BytesOrigin | HostOrigin


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One thing that a source turned out to be: a file with its `name`, or a directory whose
    content is copied, top first and every directory in front of what is in it. `archive` says
    that the one file is a tar (compressed or not) whose members are copied."""

    name: bytes
    origin: Origin
    members: tuple[Member, ...]
    archive: bool = False

    @property
    def is_dir(self) -> bool:
        """Whether its content is copied rather than itself."""
        return self.members[0].type is EntryType.DIR


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyPlan:
    """What a request found. Sockets are left out, `sockets` counts them."""

    request: CopyRequest
    found: tuple[Found, ...]
    sockets: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyResult:
    """A layer: `entries` members, `size` bytes of tar."""

    entries: int
    size: int


def sockets_left_out(count: int) -> str:
    """What people are told of the sockets of a plan."""
    what = "1 socket is" if count == 1 else f"{count} sockets are"
    return f"{what} left out: no layer can have one"

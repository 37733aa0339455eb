"""What the sources of a COPY or ADD are: words to files, directories walked, links at the top
followed, everything that is ignored or excluded left out.

Reads trees and never the tree that is copied to. Rules are BuildKit's; where its documentation
and its doing differ for --exclude of single files, the documentation is followed.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from imgtools.blob.files import storage_errors
from imgtools.blob.tar import EntryType
from imgtools.build.copying import sniffing
from imgtools.build.copying.members import MemberMaker
from imgtools.build.copying.model import (
    BytesOrigin,
    CopyPlan,
    CopyRequest,
    FetchedFile,
    Found,
    HostOrigin,
    InlineFile,
    Member,
    TreeFiles,
    TreeOrigin,
    WholeTree,
)
from imgtools.build.copying.parents import ParentsFilter
from imgtools.build.copying.words import nearest, parents_word, source_word, unescaped
from imgtools.build.ignore.gomatch import compile_pattern, has_wildcards
from imgtools.build.ignore.matcher import Matcher
from imgtools.build.tree import Tree
from imgtools.build.trees import Node, list_names, resolve, stat_of, walk
from imgtools.errors import InvalidInput, NotFound
from imgtools.task import Task

CHECK_EVERY = 512
FETCHED_MODE = 0o600
INLINE_MODE = 0o644


def plan_copy(request: CopyRequest, *, task: Task) -> CopyPlan:
    """Find all that `request` copies, in the order of its words.

    A pattern that matches nothing finds nothing. Raises NotFound for a word without wildcards
    that names nothing (or something that is ignored), InvalidInput for malformed patterns,
    modes and archives nobody can open, StorageError, UnsafePath for a loop of links, Cancelled.
    """
    survey = _Survey(request, task)
    try:
        return survey.run()
    finally:
        survey.close()


class _Survey:
    def __init__(self, request: CopyRequest, task: Task) -> None:
        self._request = request
        self._task = task
        self._make = MemberMaker(request)
        self._exclude = Matcher(request.exclude)
        self._found: list[Found] = []

    def close(self) -> None:
        self._make.close()

    def run(self) -> CopyPlan:
        request = self._request
        for source in request.sources:
            if isinstance(source, TreeFiles):
                for word in source.patterns:
                    if request.parents:
                        self._parents(source, word)
                    else:
                        self._word(source, word)
            elif isinstance(source, WholeTree):
                self._path(TreeFiles(tree=source.tree, patterns=()), "", "/")
            elif isinstance(source, InlineFile):
                member = self._make.apart(INLINE_MODE, len(source.content), request.now)
                self._file(source.name, BytesOrigin(content=source.content), member)
            else:
                self._fetched(source)
        return CopyPlan(request=request, found=tuple(self._found), sockets=self._make.sockets)

    def _file(self, name: str, origin: BytesOrigin | HostOrigin, member: Member) -> None:
        archive = False
        if self._request.unpack and isinstance(origin, HostOrigin):
            archive = sniffing.is_archive_at(origin.path)
        found = Found(name=os.fsencode(name), origin=origin, members=(member,), archive=archive)
        self._found.append(found)

    def _fetched(self, source: FetchedFile) -> None:
        with storage_errors(source.path):
            size = os.stat(source.path).st_size
        member = self._make.apart(FETCHED_MODE, size, source.mtime or 0)
        self._file(source.name, HostOrigin(path=source.path, name=source.name), member)

    def _word(self, source: TreeFiles, text: str) -> None:
        word = source_word(text)
        literal = self._written(source.tree, "/".join(word.literal))
        if not word.pattern:
            self._path(source, literal, text)
            return
        base = self._resolved(source.tree, literal)
        node = stat_of(source.tree, base)
        if node is None or not node.is_dir:
            raise self._missing(source, literal, text)
        for path in _matches(source, literal, base, word.pattern):
            self._path(source, path, text, optional=True)

    def _path(self, source: TreeFiles, path: str, word: str, *, optional: bool = False) -> None:
        """What is at `path`; where nothing is, an error unless `optional`."""
        tree = source.tree
        real = self._resolved(tree, path)
        node = stat_of(tree, real)
        kept = node is not None and (
            _wanted(source, path, node) and _wanted(source, os.fsdecode(real), node)
        )
        if node is None or not kept:
            if optional and node is not None:
                return
            raise self._missing(source, path, word)
        name = path.rpartition("/")[2]
        if node.is_dir:
            members = (self._make.top(tree, real, node), *self._below(source, real))
            if source.ignored is not None and source.ignored(path) and len(members) == 1:
                if optional:
                    return
                raise self._missing(source, path, word)
        elif self._exclude.ignored(name):
            return
        else:
            members = (self._make.top(tree, real, node),)
        if stat.S_ISSOCK(node.mode):
            raise InvalidInput(f"{word!r} is a socket, which no layer can have")
        archive = False
        if self._unpacks() and node.is_file:
            archive = sniffing.is_archive_in(tree, real)
        origin = TreeOrigin(tree=tree, path=real)
        self._found.append(
            Found(name=os.fsencode(name), origin=origin, members=members, archive=archive)
        )

    def _unpacks(self) -> bool:
        unpack = self._request.unpack
        return self._request.add if unpack is None else unpack

    def _below(self, source: TreeFiles, top: bytes) -> list[Member]:
        """All that is copied from below the directory `top`, parents first.

        A directory that is ignored or excluded itself is there only if something below is not.
        """
        ignored, exclude = source.ignored, self._exclude if self._request.exclude else None
        start = len(top) + 1 if top else 0

        def skip(path: bytes, node: Node) -> bool:
            if not _wanted(source, os.fsdecode(path), node):
                return True
            if exclude is not None and exclude.ignored(text := os.fsdecode(path[start:])):
                return not (node.is_dir and exclude.could_contain(text))
            return False

        plain = ignored is None and exclude is None
        members: list[Member] = []
        waiting: list[Member] = []
        for count, (path, node) in enumerate(walk(source.tree, top, None if plain else skip)):
            if not count % CHECK_EVERY:
                self._task.cancel.check()
            member = self._make.member(source.tree, path, path[start:], node)
            if member is None:
                continue
            if not plain and member.type is EntryType.DIR:
                is_excluded = exclude is not None and exclude.ignored(os.fsdecode(member.path))
                if is_excluded or (ignored is not None and ignored(os.fsdecode(path))):
                    member.implied = is_excluded
                    _admit(members, waiting, member, False)
                    continue
            _admit(members, waiting, member, True)
        return members

    def _parents(self, source: TreeFiles, text: str) -> None:
        word = parents_word(text)
        wild = next((i for i, part in enumerate(word.pivot) if has_wildcards(part)), None)
        pivot = "/".join(word.pivot[:wild])
        top = self._resolved(source.tree, pivot)
        node = stat_of(source.tree, top)
        if node is None or not node.is_dir:
            raise self._missing(source, pivot, text)
        if wild is None:
            if not self._from_pivot(source, top, node, word.pattern):
                raise self._missing(source, "/".join((*word.pivot, word.pattern)), text)
            return
        for path in _matches(source, pivot, top, word.pivot[wild:]):
            real = self._resolved(source.tree, path)
            found = stat_of(source.tree, real)
            if found is not None and found.is_dir:
                self._from_pivot(source, real, found, word.pattern)

    def _from_pivot(self, source: TreeFiles, top: bytes, node: Node, pattern: str) -> bool:
        """What `pattern` takes from below the directory `top`; False if that is nothing, and
        something had to be there."""
        wanted = ParentsFilter(pattern)
        members = [self._make.top(source.tree, top, node)]
        start = len(top) + 1 if top else 0

        def skip(path: bytes, found: Node) -> bool:
            below = os.fsdecode(path[start:])
            if not found.is_dir:
                return not self._takes(source, wanted, path, below)
            return not wanted.may_contain(below) or (
                self._exclude.ignored(below) and not self._exclude.could_contain(below)
            )

        waiting: list[Member] = []
        for path, found in walk(source.tree, top, skip):
            below = path[start:]
            member = self._make.member(source.tree, path, below, found)
            if member is not None:
                own = not found.is_dir or self._takes(source, wanted, path, os.fsdecode(below))
                member.implied = not own
                _admit(members, waiting, member, own)
        if len(members) == 1 and pattern and not has_wildcards(pattern):
            return False
        origin = TreeOrigin(tree=source.tree, path=top)
        self._found.append(Found(name=b"", origin=origin, members=tuple(members)))
        return True

    def _takes(self, source: TreeFiles, wanted: ParentsFilter, path: bytes, below: str) -> bool:
        """Whether --parents copies a path for itself, not only for what is below it."""
        if source.ignored is not None and source.ignored(os.fsdecode(path)):
            return False
        return wanted.includes(below) and not self._exclude.ignored(below)

    def _written(self, tree: Tree, path: str) -> str:
        """`path`, or what it is without its escapes if only that is there."""
        other = unescaped(path)
        if other is None or stat_of(tree, self._resolved(tree, path)) is not None:
            return path
        return other if stat_of(tree, self._resolved(tree, other)) is not None else path

    def _resolved(self, tree: Tree, path: str) -> bytes:
        return resolve(tree, os.fsencode(path), last=True)

    def _missing(self, source: TreeFiles, path: str, word: str) -> NotFound:
        """The error for a word that names nothing, with the name that was meant, perhaps."""
        tree = source.tree
        there = self._resolved(tree, path)
        if source.ignored is not None and stat_of(tree, there) is not None:
            return NotFound(
                f"{word!r} is not copied from {tree.name}: the ignore file leaves it out",
                hint="add a line to the ignore file that begins with ! and names it",
            )
        upper = path.rpartition("/")[0]
        parent = stat_of(tree, self._resolved(tree, upper))
        hint = None
        if parent is not None and parent.is_dir:
            name = path.rpartition("/")[2]
            names = [*map(os.fsdecode, list_names(tree, self._resolved(tree, upper)))]
            meant = None if name in names else nearest(name, names)
            if name in names:
                hint = f"{path!r} is a link to what is not in {tree.name}"
            elif meant is not None:
                meant = f"{upper}/{meant}" if upper else meant
                hint = f"there is {meant!r}; did you mean that?"
        else:
            hint = f"there is no directory {upper!r} either"
        return NotFound(f"{word!r} is not in {tree.name}", hint=hint)


def _admit(members: list[Member], waiting: list[Member], member: Member, own: bool) -> None:
    """Take `member`, with the directories above it that `waiting` has; one that is not wanted
    of its `own` account waits for something below it."""
    while waiting and not member.path.startswith(waiting[-1].path + b"/"):
        waiting.pop()
    if not own:
        waiting.append(member)
        return
    members += waiting
    waiting.clear()
    members.append(member)


def _wanted(source: TreeFiles, path: str, node: Node) -> bool:
    """Whether the ignore file lets `path` through, or (for a directory) something below it."""
    if source.ignored is None or not path or not source.ignored(path):
        return True
    return node.is_dir and (source.may_keep is None or source.may_keep(path))


def _matches(
    source: TreeFiles, literal: str, base: bytes, pattern: tuple[str, ...]
) -> Iterator[str]:
    """Paths that `pattern` matches below the real directory `base`, by their bytes; links on the
    way are not followed. They are told with `literal`, the way to `base` as it was written."""
    expressions = [compile_pattern(element) for element in pattern]
    pending = [(literal, base, 0)]
    while pending:
        path, real, depth = pending.pop()
        if depth == len(expressions):
            yield path
            continue
        node = stat_of(source.tree, real)
        if node is None or not node.is_dir:
            continue
        below = []
        for name in list_names(source.tree, real):
            text = os.fsdecode(name)
            if expressions[depth].fullmatch(text):
                child = f"{path}/{text}" if path else text
                below.append((child, real + b"/" + name if real else name, depth + 1))
        pending += reversed(below)

"""A context without what its ignore file leaves out.

The order of ignore files is in `ignore.files`. They, and Containerfiles, are read straight from
the tree, so that both may be ignored themselves.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from dataclasses import replace

from imgtools.blob.files import storage_errors
from imgtools.build.contexts.containerfiles import ContainerfileText, sibling
from imgtools.build.contexts.context import Context
from imgtools.build.ignore.files import Candidate, candidates, parse_ignore
from imgtools.build.ignore.matcher import Matcher
from imgtools.build.trees import read_small, resolve
from imgtools.errors import LimitExceeded

IGNORE_LIMIT = 16 << 20


def with_ignore_file(
    context: Context,
    containerfile: ContainerfileText | None = None,
    *,
    ignore_file: str = "",
    directory: str = ".",
) -> Context:
    """`context` with the first ignore file there is applied: the one of --ignorefile (relative
    to `directory`), of the Containerfile, or of the context's root.

    Raises NotFound (the named one is missing), InvalidInput (a bad pattern), LimitExceeded,
    StorageError.
    """
    path = containerfile.path if containerfile is not None else ""
    for candidate in candidates(path or None, ignore_file or None):
        content = _read(candidate, context, containerfile, directory)
        if content is not None:
            patterns = parse_ignore(content, name=candidate.name)
            return with_patterns(context, patterns)
    return context


def with_patterns(context: Context, patterns: Iterable[str]) -> Context:
    """`context` without what `patterns` leave out."""
    patterns = tuple(patterns)
    matcher = Matcher(patterns)
    if not matcher.patterns:
        return context
    shared = _Shared(matcher)
    return replace(context, ignored=shared.ignored, may_keep=shared.may_keep, patterns=patterns)


class _Shared:
    """A matcher for several threads; it remembers directories, so one asks at a time."""

    def __init__(self, matcher: Matcher) -> None:
        self._matcher = matcher
        self._lock = threading.Lock()

    def ignored(self, path: str) -> bool:
        """Whether `path` is left out."""
        with self._lock:
            return self._matcher.ignored(path)

    def may_keep(self, path: str) -> bool:
        """Whether something below the directory `path` may not be left out."""
        with self._lock:
            return self._matcher.could_contain(path)


def _read(
    candidate: Candidate,
    context: Context,
    containerfile: ContainerfileText | None,
    directory: str,
) -> bytes | None:
    if candidate.place == "caller":
        path = os.path.join(directory, candidate.name)
        with storage_errors(f"ignore file {candidate.name}"), open(path, "rb") as file:
            content = file.read(IGNORE_LIMIT + 1)
        if len(content) > IGNORE_LIMIT:
            raise LimitExceeded(f"ignore file {candidate.name}", IGNORE_LIMIT)
        return content
    if candidate.place == "containerfile" and containerfile is not None:
        return sibling(containerfile, candidate.name, context.tree)
    inside = resolve(context.tree, os.fsencode(candidate.name), last=True)
    return read_small(context.tree, inside, IGNORE_LIMIT)

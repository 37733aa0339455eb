"""Repositories in scratch directories: what contexts and ADD share of fetching them."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from imgtools.blob.files import storage_errors
from imgtools.build.contexts.git_fetch import Pinned, check_out, pin
from imgtools.build.contexts.git_run import Git, missing
from imgtools.build.contexts.git_source import GitSource
from imgtools.build.contexts.options import FetchOptions
from imgtools.build.tree import Tree
from imgtools.build.trees import resolve, stat_of
from imgtools.frozen import dataclass
from imgtools.task import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkout:
    """The files of `commit` that were asked for, in `directory`; `time` of the commit in
    seconds since the epoch."""

    directory: str
    commit: str
    time: int


def check_out_in(
    source: GitSource, options: FetchOptions, scratch: str, *, commit: str = "", task: Task
) -> Checkout:
    """Fetch into the private directory `scratch`, which the caller removes; the `commit` that
    was pinned before, or else what is meant now.

    Raises NotFound, Unsupported, DigestMismatch, GitFailed, StorageError, Cancelled.
    """
    directory = os.path.join(scratch, "root")
    with _git(source, options, scratch, task) as git:
        pinned = Pinned(commit=commit) if commit else pin(git, source)
        time = check_out(git, source, pinned, directory, options.git)
    return Checkout(directory=_below(source, directory), commit=pinned.commit, time=time)


def pin_in(source: GitSource, options: FetchOptions, scratch: str, *, task: Task) -> Pinned:
    """The commit that is meant; nothing is fetched, and nothing stays in `scratch`."""
    if source.commit and not source.checksum:
        return Pinned(commit=source.commit)
    with _git(source, options, scratch, task) as git:
        return pin(git, source)


@contextmanager
def _git(source: GitSource, options: FetchOptions, scratch: str, task: Task) -> Iterator[Git]:
    """git, with its configuration for as long as the block."""
    with storage_errors(scratch), tempfile.TemporaryDirectory(prefix="git-", dir=scratch) as home:
        yield Git(source, options, home, task=task)


def _below(source: GitSource, directory: str) -> str:
    """The directory that the repository's subdirectory is, never outside of the checkout."""
    if not source.subdir:
        return directory
    with storage_errors(directory):
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        tree = Tree(fd=fd, name=source.name)
        real = resolve(tree, os.fsencode(source.subdir), last=True)
        node = stat_of(tree, real)
    finally:
        os.close(fd)
    if node is None or not stat.S_ISDIR(node.mode):
        raise missing(source, f"there is no directory {source.subdir!r}")
    return os.path.join(directory, os.fsdecode(real)) if real else directory

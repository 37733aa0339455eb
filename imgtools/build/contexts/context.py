"""Build contexts, opened: whatever they are named by, a tree of files for as long as a block.

Directories are read in place and never copied. Archives, repositories and what came from a
URL are put into a scratch directory first, which goes when the context is closed.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import BinaryIO

from imgtools.blob.files import storage_error, storage_errors, write_all
from imgtools.blob.reader import CHUNK, Readable
from imgtools.build.contexts import archive
from imgtools.build.contexts.classify import ContextKind, classify
from imgtools.build.contexts.git_source import GitSource, parse_git
from imgtools.build.contexts.options import ContextOptions, FetchOptions
from imgtools.build.tree import Tree
from imgtools.errors import InvalidInput, LimitExceeded, NotFound
from imgtools.frozen import dataclass
from imgtools.task import Task

CONTAINERFILE_LIMIT = 32 << 20
"""Bytes of a Containerfile, and of a context that is one."""
DEFAULT_NAMES = ("Containerfile", "Dockerfile")
_ROOT_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """A context that is open: its `tree`, and `directory`, the same as a path of the host.

    `name` is what messages call it. `remote` says that it is not of this machine. `revision`
    is the commit that a repository was found at, or the digest of what a URL had.
    `containerfile` is the path in the tree of what was no archive but a Containerfile.
    `ignored` says of a path ("a/b") whether the ignore file leaves it out, `may_keep` of an
    ignored directory whether something below may be kept; both may be called from several
    threads, and are None without an ignore file, which has the `patterns`.
    `epoch` is the time of all of it (a commit's, a file's on a server, the newest in an
    archive) in seconds since 1970, None where there is none.
    """

    tree: Tree
    kind: ContextKind
    name: str
    directory: str
    remote: bool = False
    revision: str = ""
    containerfile: str = ""
    ignored: Callable[[str], bool] | None = None
    may_keep: Callable[[str], bool] | None = None
    patterns: tuple[str, ...] = ()
    epoch: int | None = None


@contextmanager
def open_context(value: str, options: ContextOptions, *, task: Task) -> Iterator[Context]:
    """The context that `value` names, for the block. No ignore file is applied: see `ignoring`.

    Raises NotFound, InvalidInput (what names an image, too), InvalidArchive, UnsafePath,
    LimitExceeded, StorageError, and what fetching raises.
    """
    kind = classify(value)
    if kind in (ContextKind.IMAGE, ContextKind.LAYOUT):
        raise InvalidInput(f"{value} is an image, not a directory of files")
    path = os.path.join(options.directory, value)
    if kind is ContextKind.GIT and "://" not in value and os.path.isdir(path):
        kind = ContextKind.LOCAL
    if kind is ContextKind.LOCAL and (os.path.isdir(path) or not os.path.exists(path)):
        with _local_directory(value, path) as context:
            yield context
        return
    with _scratch(options.scratch) as scratch:
        if kind is ContextKind.GIT:
            made = _repository(parse_git(value), options.fetch, scratch, task)
        elif kind is ContextKind.HTTP:
            made = _from_url(value, options.fetch, scratch, task)
        elif kind is ContextKind.STDIN:
            if options.stdin is None:
                raise InvalidInput("there is no standard input to read a context from")
            made = _from_stream(options.stdin, kind, "standard input", scratch, options.fetch)
        elif kind is ContextKind.LOCAL:
            with storage_errors(path), open(path, "rb", buffering=0) as file:
                made = _from_stream(file, kind, value, scratch, options.fetch)
        else:
            made = _Made(kind=kind, name="(none)", directory=_directory(scratch))
        with _opened(made) as context:
            yield context


@dataclass(frozen=True, slots=True, kw_only=True)
class _Made:
    """A context that is in a scratch directory."""

    kind: ContextKind
    name: str
    directory: str
    remote: bool = False
    revision: str = ""
    containerfile: str = ""
    epoch: int | None = None
    records: archive.UnpackRecords | None = None


@contextmanager
def _opened(made: _Made) -> Iterator[Context]:
    with storage_errors(made.name):
        fd = os.open(made.directory, _ROOT_FLAGS)
    try:
        tree = Tree(fd=fd, name=made.name, recorded_owners=True)
        if made.records is not None:
            tree = replace(tree, records=made.records)
        yield Context(
            tree=tree,
            kind=made.kind,
            name=made.name,
            directory=made.directory,
            remote=made.remote,
            revision=made.revision,
            containerfile=made.containerfile,
            epoch=made.epoch,
        )
    finally:
        os.close(fd)


@contextmanager
def _local_directory(value: str, path: str) -> Iterator[Context]:
    """A directory of this machine; links in its own name are followed."""
    try:
        real = os.path.realpath(path, strict=True)
        fd = os.open(real, _ROOT_FLAGS)
    except NotADirectoryError as e:
        raise InvalidInput(
            f"context {value} is no directory",
            hint="a context is a directory, an archive, a repository or a URL",
        ) from e
    except OSError as e:
        error = storage_error(e, f"context {value}")
        if isinstance(error, NotFound):
            error.hint = "name a directory, an archive, a repository or a URL"
        raise error from e
    try:
        tree = Tree(fd=fd, name=value, identity=f"directory {real}")
        yield Context(tree=tree, kind=ContextKind.LOCAL, name=value, directory=real)
    finally:
        os.close(fd)


@contextmanager
def _scratch(parent: str) -> Iterator[str]:
    with storage_errors(parent):
        path = tempfile.mkdtemp(prefix="context-", dir=parent)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _directory(scratch: str) -> str:
    """The empty directory that becomes the context's root; scratch itself stays private."""
    path = os.path.join(scratch, "root")
    with storage_errors(path):
        os.mkdir(path, 0o755)
        os.chmod(path, 0o755)
    return path


def _repository(source: GitSource, fetch: FetchOptions, scratch: str, task: Task) -> _Made:
    from imgtools.build.contexts.repository import check_out_in

    checkout = check_out_in(source, fetch, scratch, task=task)
    return _Made(
        kind=ContextKind.GIT,
        name=source.name,
        directory=checkout.directory,
        remote=True,
        revision=checkout.commit,
        epoch=checkout.time,
    )


def _from_url(url: str, fetch: FetchOptions, scratch: str, task: Task) -> _Made:
    from imgtools.build.contexts.urls import fetch_to, shown

    path = os.path.join(scratch, "fetched")
    fetched = fetch_to(url, path, fetch, task=task)
    with storage_errors(path), open(path, "rb", buffering=0) as file:
        made = _from_stream(file, ContextKind.HTTP, shown(url), scratch, fetch)
    with storage_errors(path):
        os.unlink(path)
    epoch = fetched.mtime if fetched.mtime is not None else made.epoch
    return replace(made, remote=True, revision=str(fetched.digest or ""), epoch=epoch)


def _from_stream(
    stream: BinaryIO, kind: ContextKind, name: str, scratch: str, fetch: FetchOptions
) -> _Made:
    """An archive unpacked, or the only file of a context: a Containerfile."""
    directory = _directory(scratch)
    start = archive.read_start(stream)
    source: Readable = archive.Rejoined(start, stream)
    if archive.is_archive(start):
        records = archive.unpack_context(source, directory, name)
        epoch = records.newest // 1_000_000_000 if records.newest else None
        return _Made(kind=kind, name=name, directory=directory, epoch=epoch, records=records)
    if kind is ContextKind.LOCAL:
        raise InvalidInput(
            f"context {name} is neither a directory nor an archive",
            hint="a Containerfile is named with --file",
        )
    if not start:
        raise InvalidInput(f"{name}: nothing came", hint="expected an archive or a Containerfile")
    path = os.path.join(directory, DEFAULT_NAMES[1])
    size = 0
    with storage_errors(path), open(path, "xb", buffering=0) as file:
        while data := source.read(CHUNK):
            size += len(data)
            if size > CONTAINERFILE_LIMIT:
                raise LimitExceeded(f"the Containerfile from {name}", CONTAINERFILE_LIMIT)
            write_all(file, data)
    return _Made(kind=kind, name=name, directory=directory, containerfile=os.path.basename(path))

"""What ADD fetches: a file from a URL, the files of a repository, and the state of either, by
which a build tells that nothing changed without fetching anything."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from imgtools.blob.files import storage_errors
from imgtools.build.contexts.git_source import GitSource, check_checksum, is_git, parse_git
from imgtools.build.contexts.options import FetchOptions
from imgtools.build.contexts.repository import check_out_in, pin_in
from imgtools.build.contexts.url_memory import Remembered, UrlMemory
from imgtools.build.contexts.urls import Fetched, fetch_to, file_name
from imgtools.build.copying.model import FetchedFile
from imgtools.build.tree import Tree
from imgtools.errors import InvalidInput
from imgtools.spec.digest import Digest
from imgtools.task import Task
from imgtools.transport.registry.wire.url import redact


def fetch_url(
    url: str, scratch: str, checksum: str = "", *, options: FetchOptions, task: Task
) -> FetchedFile:
    """The file at `url`, in a directory of its own below `scratch`, which the caller removes.

    `checksum` ("" for none) is the digest it has to have. Raises InvalidInput, NotFound,
    Denied, RegistryError (other statuses), ConnectionFailed, DigestMismatch, LimitExceeded,
    StorageError, Cancelled.
    """
    name = file_name(url)
    directory = _new_directory(scratch)
    path = os.path.join(directory, "content")
    fetched = fetch_to(url, path, options, task=task, checksum=checksum)
    _remember(url, fetched, options)
    return FetchedFile(name=name, path=path, mtime=fetched.mtime)


def url_state(
    url: str, scratch: str, *, options: FetchOptions, task: Task
) -> tuple[str, FetchedFile | None]:
    """What says which content `url` has now, and the file if it had to be fetched to know that.

    Where the server says that it is what was fetched in an earlier build, nothing is. Raises
    what `fetch_url` raises.
    """
    name = file_name(url)
    known = UrlMemory(options.memory).get(url)
    if known is None:
        fetched = None
    else:
        path = os.path.join(_new_directory(scratch), "content")
        fetched = fetch_to(url, path, options, task=task, headers=_condition(known))
        if not fetched.modified:
            shutil.rmtree(os.path.dirname(path))
            return _state(known.digest, known.mtime), None
    if fetched is None:
        path = os.path.join(_new_directory(scratch), "content")
        fetched = fetch_to(url, path, options, task=task)
    _remember(url, fetched, options)
    file = FetchedFile(name=name, path=fetched.path, mtime=fetched.mtime)
    return _state(fetched.digest, fetched.mtime), file


@contextmanager
def fetch_git(
    url: str,
    scratch: str,
    *,
    keep_git_dir: bool | None = None,
    checksum: str = "",
    commit: str = "",
    ssh_socket: str = "",
    options: FetchOptions,
    task: Task,
) -> Iterator[Tree]:
    """The files of the repository that `url` names, for the block: modes 0644 and 0755, owned
    by 0:0. `keep_git_dir` None is what the URL or `options` say. `commit` is the one that
    `remote_state` found, so that what is fetched is what it spoke of; "" asks again.

    Raises InvalidInput, NotFound, Unsupported, DigestMismatch, GitFailed, StorageError,
    Cancelled.
    """
    source = _wanted(url, checksum, keep_git_dir)
    directory = _new_directory(scratch)
    try:
        agent = _with_agent(options, ssh_socket)
        checkout = check_out_in(source, agent, directory, commit=commit, task=task)
        with storage_errors(checkout.directory):
            fd = os.open(checkout.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield Tree(fd=fd, name=source.name, recorded_owners=True)
        finally:
            os.close(fd)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def remote_state(
    url: str,
    scratch: str,
    *,
    checksum: str = "",
    ssh_socket: str = "",
    options: FetchOptions,
    task: Task,
) -> str:
    """What says which files `fetch_git` would give now (the commit and the directory in it), at
    the price of at most one question to the server; it begins with the commit and a colon.
    Raises what `fetch_git` raises."""
    source = _wanted(url, checksum, None)
    pinned = pin_in(source, _with_agent(options, ssh_socket), scratch, task=task)
    submodules = options.git.submodules if source.submodules is None else source.submodules
    return f"{pinned.commit}:{source.subdir}:{submodules:d}:{source.commit_time:d}"


def _wanted(url: str, checksum: str, keep_git_dir: bool | None) -> GitSource:
    if not is_git(url):
        raise InvalidInput(f"{redact(url)} is no git repository")
    source = parse_git(url)
    if checksum:
        checksum = check_checksum(checksum, source.name)
        if source.checksum and source.checksum != checksum:
            raise InvalidInput(f"{source.name}: two checksums: {checksum}, {source.checksum}")
        source = replace(source, checksum=checksum)
    return source if keep_git_dir is None else replace(source, keep_git_dir=keep_git_dir)


def _with_agent(options: FetchOptions, socket: str) -> FetchOptions:
    return replace(options, git=replace(options.git, ssh_socket=socket)) if socket else options


def _new_directory(scratch: str) -> str:
    with storage_errors(scratch):
        return tempfile.mkdtemp(prefix="fetched-", dir=scratch)


def _condition(known: Remembered) -> dict[str, str]:
    """The headers of a request for what changed only (RFC 9110 section 13.1)."""
    if known.etag:
        return {"If-None-Match": known.etag}
    return {"If-Modified-Since": known.last_modified}


def _remember(url: str, fetched: Fetched, options: FetchOptions) -> None:
    if fetched.digest is not None and (fetched.etag or fetched.last_modified):
        remembered = Remembered(
            digest=fetched.digest,
            etag=fetched.etag,
            last_modified=fetched.last_modified,
            mtime=fetched.mtime,
        )
        UrlMemory(options.memory).put(url, remembered)


def _state(digest: Digest | None, mtime: int | None) -> str:
    return f"{digest} {mtime}"

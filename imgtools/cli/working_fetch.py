"""Sources of `add` and `copy` that are fetched: files of URLs and git repositories."""

from __future__ import annotations

import os
from contextlib import ExitStack

from imgtools.build.contexts.fetch import fetch_git, fetch_url
from imgtools.build.contexts.git_source import is_git
from imgtools.build.contexts.options import FetchOptions, GitOptions
from imgtools.build.copying.model import CopySource, WholeTree
from imgtools.task import Task
from imgtools.transport.options import RegistryOptions


def fetched(
    url: str,
    directory: str,
    registry: RegistryOptions,
    *,
    checksum: str,
    undo: ExitStack,
    task: Task,
) -> CopySource:
    """What is at `url`, put into `directory`; closed with `undo`. Raises as `fetch_url` and
    `fetch_git`."""
    git = GitOptions(environment=dict(os.environ), ssh_socket=os.environ.get("SSH_AUTH_SOCK", ""))
    options = FetchOptions(registry=registry, git=git)
    if is_git(url):
        tree = fetch_git(url, directory, checksum=checksum, options=options, task=task)
        return WholeTree(tree=undo.enter_context(tree))
    return fetch_url(url, directory, checksum, options=options, task=task)

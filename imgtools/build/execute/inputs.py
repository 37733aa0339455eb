"""What a build is given to read: its context, its Containerfile, and what is fetched how."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace

from imgtools.build.contexts.containerfiles import read_containerfiles
from imgtools.build.contexts.context import Context, open_context
from imgtools.build.contexts.ignoring import with_ignore_file
from imgtools.build.contexts.options import ContextOptions, FetchOptions
from imgtools.build.execute.environment import BuildEnvironment
from imgtools.build.execute.mounts import secret_content
from imgtools.build.options import BuildOptions
from imgtools.frozen import dataclass
from imgtools.task import Task

KEEP_GIT_DIR = "BUILDKIT_CONTEXT_KEEP_GIT_DIR"
TRUE = ("1", "t", "T", "TRUE", "true", "True")
"""As strconv.ParseBool reads them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """The main `context`, with its ignore file applied, the Containerfile's content and name,
    and how further contexts are opened."""

    context: Context
    containerfile: bytes
    name: str
    options: ContextOptions


def open_inputs(
    options: BuildOptions,
    environment: BuildEnvironment,
    scratch: str,
    undo: ExitStack,
    *,
    task: Task,
) -> Inputs:
    """Open the context and read the Containerfiles, which are put one after the other. What is
    opened is closed by `undo`. Raises what `open_context` and `read_containerfiles` raise."""
    opening = ContextOptions(
        scratch=scratch,
        directory=environment.directory,
        stdin=environment.stdin,
        cpp_flags=options.cpp_flags,
        fetch=fetch_options(options, environment.fetch),
    )
    # The argument is for the main context, not for what ADD fetches.
    keep = options.build_args.get(KEEP_GIT_DIR) in TRUE
    git = replace(opening.fetch.git, keep_git_dir=opening.fetch.git.keep_git_dir or keep)
    main = replace(opening, fetch=replace(opening.fetch, git=git))
    context = undo.enter_context(open_context(options.context, main, task=task))
    texts = read_containerfiles(context, options.files, opening, task=task)
    context = with_ignore_file(
        context, texts[0], ignore_file=options.ignore_file, directory=environment.directory
    )
    content = b"".join(
        text.content if text.content.endswith(b"\n") else text.content + b"\n" for text in texts
    )
    return Inputs(context=context, containerfile=content, name=texts[0].name, options=opening)


def fetch_options(options: BuildOptions, fetch: FetchOptions) -> FetchOptions:
    """How sources are fetched, with the build's secrets and its agent for ssh."""
    secrets = {secret.id: secret for secret in options.secrets}

    def secret(name: str) -> bytes | None:
        found = secrets.get(name)
        return secret_content(found) if found is not None else fetch.secret(name)

    agent = next((s.socket for s in options.ssh if s.id == "default" and s.socket), "")
    git = replace(fetch.git, ssh_socket=agent) if agent else fetch.git
    return replace(fetch, secret=secret, git=git)

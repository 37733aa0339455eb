"""The Containerfiles of a build: found, read, and preprocessed where their name ends in .in.

A name given with --file is looked for in the current directory, then in the context, as buildah
does. What is looked for in a context stays in it, whatever is a link there.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from typing import BinaryIO

from imgtools.blob.files import storage_errors
from imgtools.build.contexts.context import CONTAINERFILE_LIMIT, DEFAULT_NAMES, Context
from imgtools.build.contexts.options import ContextOptions
from imgtools.build.tree import Tree
from imgtools.build.trees import read_small, resolve, stat_of
from imgtools.errors import Error, InvalidInput, LimitExceeded, NotFound, Unsupported
from imgtools.frozen import dataclass
from imgtools.task import Task
from imgtools.transport.registry.wire.url import clean

_CPP_TIMEOUT = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerfileText:
    """A Containerfile as it was read. `name` is for messages.

    `path` is where it is, "" for one that came through a pipe or from a URL: a path of the
    host, or one in the context's tree if `in_context`.
    """

    name: str
    content: bytes
    path: str = ""
    in_context: bool = False


def read_containerfiles(
    context: Context, files: Sequence[str], options: ContextOptions, *, task: Task
) -> tuple[ContainerfileText, ...]:
    """The Containerfiles of a build in the order they are put together: `files` of --file
    (names, URLs, `-`), or what the context is or has.

    Raises NotFound, InvalidInput (a directory; standard input asked for twice), LimitExceeded,
    Unsupported (.in without cpp), StorageError, and what fetching raises.
    """
    if not files:
        return (_default(context),)
    found: list[ContainerfileText] = []
    for name in files:
        if name == "-":
            text = _from_stdin(context, found, options)
        elif name.lower().startswith(("http://", "https://")):
            text = _from_url(name, options, task)
        else:
            text = _named(context, name, options)
        if name.endswith(".in"):
            text = _preprocessed(text, context, options, task)
        found.append(text)
    return tuple(found)


def _default(context: Context) -> ContainerfileText:
    names = (context.containerfile,) if context.containerfile else DEFAULT_NAMES
    for name in names:
        text = _in_context(context, name)
        if text is not None:
            return text
    raise NotFound(
        f"context {context.name}: there is no Containerfile and no Dockerfile in it",
        hint="name one with --file",
    )


def _named(context: Context, name: str, options: ContextOptions) -> ContainerfileText:
    path = os.path.join(options.directory, name)
    if os.path.exists(path):
        return ContainerfileText(name=name, content=_read_host(path, name), path=path)
    text = None if os.path.isabs(name) else _in_context(context, name)
    if text is None:
        raise NotFound(
            f"Containerfile {name}: there is no such file in the current directory or in"
            f" context {context.name}",
            hint="check the name given with --file",
        )
    return text


def _in_context(context: Context, name: str) -> ContainerfileText | None:
    """The file `name` of the context; None where there is none."""
    tree = context.tree
    path = resolve(tree, os.fsencode(name), last=True)
    node = stat_of(tree, path)
    if node is None:
        return None
    if node.is_dir:
        raise InvalidInput(f"Containerfile {name} is a directory of context {context.name}")
    content = read_small(tree, path, CONTAINERFILE_LIMIT)
    if content is None:
        raise InvalidInput(f"Containerfile {name} in context {context.name} is no regular file")
    return ContainerfileText(name=name, content=content, path=os.fsdecode(path), in_context=True)


def _read_host(path: str, name: str) -> bytes:
    if os.path.isdir(path):
        raise InvalidInput(f"Containerfile {name} is a directory")
    with storage_errors(f"Containerfile {name}"), open(path, "rb") as file:
        return _bounded(file, name)


def _bounded(file: BinaryIO, name: str) -> bytes:
    content = file.read(CONTAINERFILE_LIMIT + 1)
    if len(content) > CONTAINERFILE_LIMIT:
        raise LimitExceeded(f"Containerfile {name}", CONTAINERFILE_LIMIT)
    return content


def _from_stdin(
    context: Context, found: Sequence[ContainerfileText], options: ContextOptions
) -> ContainerfileText:
    name = "(standard input)"
    if context.name == "standard input" or any(text.name == name for text in found):
        raise InvalidInput("standard input was named twice, and can be read only once")
    if options.stdin is None:
        raise InvalidInput("there is no standard input to read a Containerfile from")
    return ContainerfileText(name=name, content=_bounded(options.stdin, name))


def _from_url(url: str, options: ContextOptions, task: Task) -> ContainerfileText:
    from imgtools.build.contexts.urls import fetch_to, shown

    fetch = replace(options.fetch, limit=CONTAINERFILE_LIMIT)
    with tempfile.TemporaryDirectory(prefix="containerfile-", dir=options.scratch) as directory:
        path = os.path.join(directory, "fetched")
        fetch_to(url, path, fetch, task=task)
        return ContainerfileText(name=shown(url), content=_read_host(path, shown(url)))


def _preprocessed(
    text: ContainerfileText, context: Context, options: ContextOptions, task: Task
) -> ContainerfileText:
    """What cpp makes of it, given the arguments that buildah gives."""
    path = options.fetch.git.environment.get("PATH", os.defpath)
    program = shutil.which("cpp", path=path)
    if program is None:
        raise Unsupported(
            f"Containerfile {text.name}: a name that ends in .in asks for the C preprocessor,"
            " and there is no cpp here",
            hint="install cpp, or preprocess the file yourself and name the result",
        )
    arguments = ["-E", "-iquote", context.directory, "-traditional", "-undef", "-"]
    try:
        done = subprocess.run(
            [program, *arguments, *options.cpp_flags],
            input=text.content,
            capture_output=True,
            timeout=_CPP_TIMEOUT,
            env={"PATH": path, "LC_ALL": "C"},
            check=False,
            start_new_session=True,
        )
    except subprocess.TimeoutExpired as e:
        raise _cpp_failed(text, f"it did not end within {_CPP_TIMEOUT:g} s") from e
    said = clean(done.stderr.decode("utf-8", "replace"))
    if done.returncode and not done.stdout.strip():
        raise _cpp_failed(text, said)
    if done.returncode:
        # As buildah: what is left of a text that is not quite C is still worth a try.
        task.warn(f"Containerfile {text.name}: cpp: {said}")
    return replace(text, content=done.stdout)


def _cpp_failed(text: ContainerfileText, said: str) -> Error:
    return InvalidInput(f"Containerfile {text.name}: cpp: {said}")


def sibling(text: ContainerfileText, name: str, tree: Tree) -> bytes | None:
    """The content of the file `name` beside a Containerfile, None where there is none."""
    if not text.path:
        return None
    directory = os.path.dirname(text.path)
    if text.in_context:
        inside = resolve(tree, os.fsencode(os.path.join(directory, name)), last=True)
        return read_small(tree, inside, CONTAINERFILE_LIMIT)
    path = os.path.join(directory, name)
    return _read_host(path, path) if os.path.isfile(path) else None

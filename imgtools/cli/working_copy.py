"""`imgtools copy CONTAINER` and `imgtools add CONTAINER`: files, directories, URLs and archives
into a working container."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import click

from imgtools.cli.build_flags import many, text, together
from imgtools.cli.build_values import read_text, seconds, words
from imgtools.cli.command import go_bool
from imgtools.cli.options import registry_options
from imgtools.cli.output import flush, notes, write_text
from imgtools.cli.state import Cli
from imgtools.cli.store_options import StoreAccess, store_flags
from imgtools.cli.working_command import working_verb
from imgtools.cli.working_flags import Puller, history_flag, pull_flags, refuse, wants_history
from imgtools.errors import InvalidInput, Unsupported

if TYPE_CHECKING:
    from engine.working.copying import AddOptions
    from engine.working.registry import WorkingContainers
    from imgtools.build.copying.model import CopySource
    from imgtools.build.tree import Tree
    from imgtools.task import Task
    from imgtools.transport.options import RegistryOptions

_URL = re.compile(r"(?:https?|git|ssh)://|git@", re.IGNORECASE)
_WILD = re.compile(r"([*?\[\\])")


def _flags(function: Any) -> Any:
    return together((
        text("--chown", metavar="USER[:GROUP]", help="Owner of all files (default: root)."),
        text("--chmod", metavar="MODE", help="Permissions of all files, octal or symbolic."),
        text("--from", "from_", metavar="NAME",
             help="Copy from this working container or image, instead of from the host."),
        text("--contextdir", metavar="DIR", help="The directory that SOURCE is below."),
        text("--ignorefile", metavar="FILE", help="With --contextdir: what is left out."),
        many("--exclude", metavar="PATTERN", help="Leave out what matches."),
        text("--checksum", metavar="DIGEST", help="Digest that what is fetched has."),
        text("--timestamp", metavar="SECONDS", help="Time of all files."),
        go_bool("--link", help="Replace links at the destination instead of following them."),
        go_bool("--no-follow-symlinks", hidden=True, help="Refused when true."),
        go_bool("--allow-wildcard", default=True, help="Take *, ? and [ as patterns (default)."),
        go_bool("--allow-empty-wildcard", help="A pattern may match nothing."),
        go_bool("--quiet", "-q", help="Do not print the digest."),
        history_flag,
    ))(function)  # fmt: skip


def _command(name: str, note: str, more: str) -> click.Command:
    """The verb `name`, which says `note` of itself in lists and `more` in its help."""

    @working_verb(name, program=True, short_help=note)
    @click.argument("words_", nargs=-1, metavar="CONTAINER SOURCE... [DESTINATION]")
    @_flags
    @go_bool("--parents", help="Keep the directories that lead to SOURCE.", hidden=name == "add")
    @pull_flags
    @store_flags
    @click.pass_obj
    def verb(cli: Cli, /, words_: tuple[str, ...], **kwargs: Any) -> None:
        _copy(cli, words_, kwargs, add=name == "add")

    verb.help = more
    return verb


command = _command(
    "copy",
    "Copy files into a working container.",
    "Copy every SOURCE, a file or directory, into the working CONTAINER: to DESTINATION, which "
    "is relative to its working directory, or to that itself. The digest of what was copied is "
    "printed.",
)
add = _command(
    "add",
    "Add files, URLs and archives to a working container.",
    "As imgtools copy, but archives of the host are unpacked.",
)


def _copy(cli: Cli, words_: tuple[str, ...], kwargs: dict[str, Any], *, add: bool) -> None:
    if not words_:
        raise InvalidInput("container ID must be specified")
    if len(words_) < 2:
        raise InvalidInput("src must be specified")
    if kwargs["no_follow_symlinks"]:
        raise Unsupported("--no-follow-symlinks: links that are named as SOURCE are followed")
    refuse(kwargs)
    access = StoreAccess(cli, kwargs)
    registry = registry_options(cli, "", kwargs)
    puller = Puller(cli, access, registry, kwargs)
    history = wants_history(kwargs)
    sources = words_[1:-1] if len(words_) > 2 else words_[1:]
    options = _options(kwargs, words_[-1] if len(words_) > 2 else "", add=add)
    task = cli.task(notes)
    import time

    from engine.working.copying import copy_into, noted
    from engine.working.registry import WorkingContainers
    from engine.working.times import rfc3339

    with access.open() as store, ExitStack() as undo:
        containers = WorkingContainers(store)
        opener = _Sources(containers, puller, registry, undo, kwargs, task)
        if kwargs["from_"]:
            opener.prepare(kwargs["from_"], words_[0])
        with containers.held(words_[0], task=task) as held:
            added = copy_into(
                store, held.container, lambda: opener.opened(sources), options, task=task
            )
            if history:
                now = rfc3339(time.time_ns())
                held.change(noted(held.container, added, add=add, now=now))
    if not kwargs["quiet"]:
        write_text(f"{added.digest}\n")
        flush()


def _options(kwargs: dict[str, Any], destination: str, *, add: bool) -> AddOptions:
    from engine.working.copying import AddOptions

    stamp = kwargs["timestamp"]
    return AddOptions(
        destination=destination,
        add=add,
        chown=kwargs["chown"],
        chmod=kwargs["chmod"],
        keep_owner=bool(kwargs["from_"]),
        parents=kwargs["parents"],
        link=kwargs["link"],
        exclude=words(kwargs["exclude"]),
        mtime=seconds(stamp, "--timestamp") if stamp else None,
        allow_empty=kwargs["allow_empty_wildcard"],
    )


class _Sources:
    """Opens what is copied from; all of it is closed with `undo`."""

    def __init__(
        self,
        containers: WorkingContainers,
        puller: Puller,
        registry: RegistryOptions,
        undo: ExitStack,
        kwargs: dict[str, Any],
        task: Task,
    ) -> None:
        self._containers = containers
        self._puller = puller
        self._registry = registry
        self._undo = undo
        self._kwargs = kwargs
        self._task = task
        self._from: Callable[[], Tree] | None = None

    def prepare(self, name: str, target: str) -> None:
        """Find the container or image that is copied from, before the target is locked."""
        from engine.working.content import container_tree
        from engine.working.registry import ContainerNotKnown

        store = self._containers.store
        try:
            found = self._containers.find(name)
        except ContainerNotKnown:
            image = self._puller(store, name, policy="missing", quiet=self._kwargs["quiet"])
            from engine.builds.trees import layer_tree

            tree = layer_tree(store.layers, image.chain_id, f"image {name}")
            self._from = lambda: self._undo.enter_context(tree)
            return
        if found.id != self._containers.find(target).id:
            self._undo.enter_context(self._containers.held(name, task=self._task))
        snapshot = self._containers.snapshot(found)
        shown = container_tree(store, snapshot, f"container {found.name}")
        self._from = lambda: self._undo.enter_context(shown)

    def opened(self, names: tuple[str, ...]) -> tuple[CopySource, ...]:
        """The sources, in order."""
        from imgtools.build.copying.model import TreeFiles

        if self._from is not None:
            patterns = tuple(self._pattern(name) for name in names)
            return (TreeFiles(tree=self._from(), patterns=patterns),)
        return tuple(self._one(name) for name in names)

    def _one(self, name: str) -> CopySource:
        if _URL.match(name):
            return self._fetched(name)
        if self._kwargs["checksum"]:
            raise InvalidInput(f"--checksum is for what is fetched, not for {name}")
        return self._local(name)

    def _local(self, name: str) -> CopySource:
        from imgtools.build.copying.model import TreeFiles

        directory = self._kwargs["contextdir"]
        if self._kwargs["ignorefile"] and not directory:
            raise InvalidInput(
                "--ignorefile option requires that you specify a context dir using --contextdir"
            )
        if directory:
            tree = self._undo.enter_context(host_tree(directory))
            ignored, may_keep = self._ignored()
            return TreeFiles(
                tree=tree, patterns=(self._pattern(name),), ignored=ignored, may_keep=may_keep
            )
        pattern = self._pattern(name)
        if not name.startswith("/"):
            slash = "/" if name.endswith("/") else ""
            here = _WILD.sub(r"\\\1", os.getcwd())
            pattern = os.path.normpath(f"{here}/{pattern}") + slash
        return TreeFiles(tree=self._undo.enter_context(host_tree("/")), patterns=(pattern,))

    def _pattern(self, name: str) -> str:
        return name if self._kwargs["allow_wildcard"] else _WILD.sub(r"\\\1", name)

    def _ignored(self) -> tuple[Callable[[str], bool] | None, Callable[[str], bool] | None]:
        """What the ignore file leaves out: the one that was named, else that of the context."""
        from imgtools.build.ignore.files import candidates, parse_ignore
        from imgtools.build.ignore.matcher import Matcher

        named = self._kwargs["ignorefile"]
        for each in candidates(None, named or None):
            path = named or os.path.join(self._kwargs["contextdir"], each.name)
            if named or os.path.exists(path):
                content = read_text(path, "--ignorefile").encode("utf-8", "surrogateescape")
                matcher = Matcher(parse_ignore(content, name=path))
                return matcher.ignored, matcher.could_contain
        return None, None

    def _fetched(self, url: str) -> CopySource:
        from imgtools.cli.working_fetch import fetched

        directory = self._undo.enter_context(
            self._containers.store.layers.disk.workspace.directory()
        )
        return fetched(
            url,
            directory,
            self._registry,
            checksum=self._kwargs["checksum"],
            undo=self._undo,
            task=self._task,
        )


@contextmanager
def host_tree(path: str) -> Iterator[Tree]:
    """A directory of the host as a tree, for the block."""
    from imgtools.blob.files import storage_errors
    from imgtools.build.tree import Tree

    with storage_errors(path):
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield Tree(fd=fd, name="the host" if path == "/" else path)
    finally:
        os.close(fd)

"""Verbs that two families share: `copy`, `run`, `inspect` and `config` of images and registries,
and those of buildah. Who names a working container gets the latter.

Nothing of a container is looked for where the command line cannot name one, so that a copy from
a registry starts as quickly as without.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from typing import Any

import click

from imgtools.cli.command import GoBool, VerbCommand
from imgtools.cli.passthrough import PassThroughCommand
from imgtools.cli.store_options import StoreAccess
from imgtools.errors import ImageNotFound
from imgtools.transport.table import TRANSPORTS

_STORE = ("root", "runroot", "storage_driver", "storage_opt")


class EitherCommand(VerbCommand):
    """A verb whose arguments may be a working container's; `other` (module:name) is the command
    that those are for."""

    other = ""
    images = False
    """Whether the other command is also for images of the store, by a name without transport."""

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        """The context of this command, or of the other."""
        if first_may_be_container(self, args):
            found = container_context(self.other, info_name, args, parent, images=self.images)
            if found is not None:
                return found
        return super().make_context(info_name, args, parent, **extra)


def first_may_be_container(command: click.Command, args: Sequence[str]) -> bool:
    """Whether the first argument has no transport in front of it, or cannot be told because
    of an option that `command` does not have."""
    by_name = {
        name: option
        for option in command.params
        if isinstance(option, click.Option)
        for name in option.opts
    }
    position = 0
    while position < len(args):
        word = args[position]
        position += 1
        if word == "--" or word == "-" or not word.startswith("-"):
            word = args[position] if word == "--" and position < len(args) else word
            return not has_transport(word)
        if word in ("-h", "--help"):
            return False
        name = word.partition("=")[0] if word.startswith("--") else word[:2]
        option = by_name.get(name)
        if option is None:
            return True
        if not isinstance(option, GoBool) and not option.is_flag and word == name:
            position += 1
    return False


def has_transport(word: str) -> bool:
    """Whether a word is `transport:reference`."""
    transport, colon, rest = word.partition(":")
    return bool(colon) and (
        transport in TRANSPORTS or transport == "containers-storage" or rest.startswith("//")
    )


def container_context(
    target: str,
    info_name: str | None,
    args: list[str],
    parent: click.Context | None,
    *,
    images: bool = False,
) -> click.Context | None:
    """The context of the command `target`, if `args` are its and name a container that is
    there, or (`images`) an image of the store; else None."""
    command = loaded(target)
    assert isinstance(command, PassThroughCommand)
    word = command.first_argument(args)
    if word is None or parent is None or has_transport(word):
        return None
    access = _access(parent, args, word)
    if not _is_container(access, word) and not (images and _is_image(access, word)):
        return None
    return command.make_context(info_name, list(args), parent)


def loaded(target: str) -> click.Command:
    """The command `module:name` of this package."""
    module, _, name = target.partition(":")
    command: click.Command = getattr(importlib.import_module(f"imgtools.cli.{module}"), name)
    return command


def _access(parent: click.Context, args: Sequence[str], word: str) -> StoreAccess:
    """The store that the options of the command line name."""
    values: dict[str, Any] = {**dict.fromkeys(_STORE), "storage_opt": ()}
    for name in ("--root", "--runroot", "--storage-driver"):
        found = _given(args, name, word)
        if found:
            values[name[2:].replace("-", "_")] = found
    return StoreAccess(parent.obj, values)


def _is_container(access: StoreAccess, word: str) -> bool:
    """Whether the store has a container `word`; without any it is not opened."""
    from engine.storage.layout import Layout

    directory = os.path.join(Layout(access.location.root).base, "working")
    try:
        if ":" in word or "/" in word or not os.listdir(directory):
            return False
    except OSError:
        return False
    from engine.working.registry import ContainerNotKnown, WorkingContainers

    with access.look() as store:
        try:
            WorkingContainers(store).find(word)
        except ContainerNotKnown:
            return False
    return True


def _is_image(access: StoreAccess, word: str) -> bool:
    """Whether the store has an image `word`; one that is not there is not made."""
    from engine.storage.layout import Layout

    if not os.path.exists(Layout(access.location.root).store_file):
        return False
    with access.look() as store:
        try:
            store.find(word)
        except ImageNotFound:
            return False
    return True


def _given(args: Sequence[str], name: str, end: str) -> str:
    """The value of an option in front of the argument `end`, or anywhere with `=`."""
    found = ""
    for position, word in enumerate(args):
        if word.startswith(f"{name}="):
            found = word.partition("=")[2]
        elif word == name and position + 1 < len(args):
            found = args[position + 1]
        elif word in (end, "--"):
            break
    return found

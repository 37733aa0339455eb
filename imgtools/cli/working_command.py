"""Verbs of working containers: buildah's exit code for what goes wrong, its options in front of
its arguments, and the containers of the store that the options name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from imgtools.cli.output import complain
from imgtools.cli.own_errors import OUR_FAULT, OwnErrors
from imgtools.cli.passthrough import PassThroughCommand
from imgtools.cli.state import Cli
from imgtools.cli.store_options import StoreAccess
from imgtools.errors import Cancelled, Error

if TYPE_CHECKING:
    from engine.working.registry import WorkingContainers


class WorkingCommand(OwnErrors):
    """A verb that exits with 125 where buildah does: for every failure of its own."""


class WorkingProgram(WorkingCommand, PassThroughCommand):
    """A verb whose arguments end its options: what follows is left as it is."""


def working_verb(
    name: str, *, program: bool = False, **kwargs: Any
) -> Callable[[Callable[..., Any]], click.Command]:
    """A decorator that makes a verb; keyword arguments are those of click.command. The options
    of a `program` stand in front of its first argument."""
    return click.command(
        name,
        cls=WorkingProgram if program else WorkingCommand,
        context_settings={"help_option_names": ["-h", "--help"]},
        **kwargs,
    )


@contextmanager
def containers_of(cli: Cli, kwargs: dict[str, Any]) -> Iterator[WorkingContainers]:
    """The containers of the store that the options of a verb name, for the block; takes these
    options out of `kwargs`. For verbs that handle files: the ids of the store are entered."""
    from engine.working.registry import WorkingContainers

    with StoreAccess(cli, kwargs).open() as store:
        yield WorkingContainers(store)


@contextmanager
def records_of(cli: Cli, kwargs: dict[str, Any]) -> Iterator[WorkingContainers]:
    """The same for verbs that only read and write records."""
    from engine.working.registry import WorkingContainers

    with StoreAccess(cli, kwargs).look() as store:
        yield WorkingContainers(store)


def for_each(names: tuple[str, ...], act: Callable[[str], object]) -> int:
    """Do something to each of several containers, whatever becomes of the others; the exit
    code."""
    code = 0
    for name in names:
        try:
            act(name)
        except Cancelled:
            raise
        except Error as e:
            complain(e.message + (f" ({e.hint})" if e.hint else ""))
            code = OUR_FAULT
    return code

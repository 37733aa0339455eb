"""`imgtools rm`: remove working containers."""

from __future__ import annotations

from typing import Any

import click

from imgtools.cli.command import go_bool
from imgtools.cli.output import flush, notes, write_text
from imgtools.cli.state import Cli
from imgtools.cli.store_options import store_flags
from imgtools.cli.working_command import containers_of, for_each, working_verb
from imgtools.errors import InvalidInput


@working_verb("rm", short_help="Remove working containers.")
@click.argument("names", nargs=-1, metavar="CONTAINER...")
@go_bool("--all", "-a", "every", help="Remove all working containers.")
@store_flags
@click.pass_obj
def command(cli: Cli, /, names: tuple[str, ...], every: bool, **kwargs: Any) -> int:
    """Remove every working CONTAINER with all that was written in it; one that is mounted is
    unmounted first. The id of each is printed."""
    if names and every:
        raise InvalidInput(
            "when using the --all switch, you may not pass any containers names or IDs"
        )
    if not names and not every:
        raise InvalidInput("container ID must be specified")
    from engine.working.create import remove_container

    task = cli.task(notes)
    with containers_of(cli, kwargs) as containers:

        def remove(name: str) -> None:
            removed = remove_container(containers.store, name, task=task)
            write_text(f"{removed.id}\n")
            flush()

        if every:
            names = tuple(container.id for container in containers.all())
        return for_each(names, remove)

"""`imgtools umount`: end what `imgtools mount` began."""

from __future__ import annotations

from typing import Any

import click

from imgtools.cli.command import go_bool
from imgtools.cli.output import flush, notes, write_text
from imgtools.cli.state import Cli
from imgtools.cli.store_options import store_flags
from imgtools.cli.working_command import containers_of, for_each, working_verb
from imgtools.errors import InvalidInput


@working_verb("umount", short_help="Show the files of a working container no more.")
@click.argument("names", nargs=-1, metavar="CONTAINER...")
@go_bool("--all", "-a", "every", help="Unmount all working containers.")
@store_flags
@click.pass_obj
def command(cli: Cli, /, names: tuple[str, ...], every: bool, **kwargs: Any) -> int:
    """Unmount the files of every working CONTAINER, whose id is printed if
    they were mounted. The files stay."""
    if names and every:
        raise InvalidInput(
            "when using the --all switch, you may not pass any container names or IDs"
        )
    if not names and not every:
        raise InvalidInput("at least one container ID must be specified")
    from engine.working.show import hide, shown_at

    task = cli.task(notes)
    with containers_of(cli, kwargs) as containers:

        def unmount(name: str) -> None:
            with containers.held(name, task=task) as held:
                if hide(containers.store, held):
                    write_text(f"{held.container.id}\n")
                    flush()

        if every:
            mounted = (c for c in containers.all() if shown_at(containers.store, c))
            names = tuple(container.id for container in mounted)
        return for_each(names, unmount)

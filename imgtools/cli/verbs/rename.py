"""`imgtools rename`: give a working container another name."""

from __future__ import annotations

from typing import Any

import click

from imgtools.cli.output import notes
from imgtools.cli.state import Cli
from imgtools.cli.store_options import store_flags
from imgtools.cli.working_command import records_of, working_verb


@working_verb("rename", short_help="Give a working container another name.")
@click.argument("container", metavar="CONTAINER")
@click.argument("name", metavar="NAME")
@store_flags
@click.pass_obj
def command(cli: Cli, /, container: str, name: str, **kwargs: Any) -> None:
    """Call the working CONTAINER by NAME from now on."""
    with records_of(cli, kwargs) as containers:
        containers.rename(container, name, task=cli.task(notes))

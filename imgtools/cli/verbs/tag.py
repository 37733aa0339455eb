"""`imgtools tag`: give an image of the store more names."""

from __future__ import annotations

from typing import Any

import click

from imgtools.cli.command import verb
from imgtools.cli.output import notes
from imgtools.cli.state import Cli
from imgtools.cli.store_options import StoreAccess, store_flags


@verb("tag", short_help="Give an image of the store another name.")
@click.argument("image", metavar="IMAGE")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@store_flags
@click.pass_obj
def command(cli: Cli, /, image: str, names: tuple[str, ...], **kwargs: Any) -> None:
    """Give IMAGE every NAME. A name without a registry is one of localhost, one without a tag
    gets the tag latest; another image that had a name loses it."""
    with StoreAccess(cli, kwargs).look() as store:
        store.tag(image, names, task=cli.task(notes))

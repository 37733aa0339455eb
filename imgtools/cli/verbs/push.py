"""`imgtools push`: copy an image, or an index, of the store to somewhere else."""

from __future__ import annotations

from typing import Any

import click

from imgtools.cli.build_flags import many, text, together
from imgtools.cli.command import go_bool
from imgtools.cli.options import registry_flags, registry_options
from imgtools.cli.sign_flags import sign_flags
from imgtools.cli.state import Cli
from imgtools.cli.store_options import StoreAccess, store_flags
from imgtools.cli.working_command import working_verb
from imgtools.cli.working_flags import refuse, refused_flags, retry_flags
from imgtools.cli.working_push import push_image
from imgtools.errors import InvalidInput


def push_flags(function: Any) -> Any:
    """A decorator that adds the options that pushing images and indexes have in common."""
    return together((
        click.option("--digestfile", type=click.Path(), metavar="FILE",
                     help="Write the digest of what was pushed to FILE."),
        text("--format", "-f", metavar="FORMAT", help="oci or v2s2 (default: as it is)."),
        text("--compression-format", metavar="FORMAT", help="gzip (default) or zstd."),
        click.option("--compression-level", type=int, metavar="N", help="How hard is tried."),
        go_bool("--force-compression", help="Compress anew what is compressed otherwise."),
        go_bool("--remove-signatures", help="Do not copy signatures."),
        go_bool("--rm", "--purge", "remove", help="Remove a pushed index from the store."),
        go_bool("--quiet", "-q", help="Show no progress."),
        many("--add-compression", metavar="FORMAT", hidden=True, help="Refused."),
        registry_flags(),
        retry_flags,
        sign_flags,
        refused_flags("--encrypt-layer", "--encryption-key", "--blob-cache"),
    ))(function)  # fmt: skip


@working_verb("push", short_help="Push an image of the store.")
@click.argument("words", nargs=-1, metavar="IMAGE [DESTINATION]")
@go_bool("--all", help="Of an index push all images (the default).", default=None)
@go_bool("--disable-compression", "-D", help="Leave layers uncompressed.")
@push_flags
@store_flags
@click.pass_obj
def command(cli: Cli, /, words: tuple[str, ...], **kwargs: Any) -> None:
    """Copy IMAGE of the store, or an index of it, to DESTINATION: transport:reference, or the
    name of a place in a registry. Without it the name of IMAGE says where."""
    if not 1 <= len(words) <= 2:
        raise InvalidInput(
            "Only two arguments are necessary to push: source and destination"
            if words else "source and destination image IDs must be specified"
        )  # fmt: skip
    refuse(kwargs)
    access = StoreAccess(cli, kwargs)
    registry = registry_options(cli, "", kwargs)
    push_image(cli, access, registry, words[0], words[1] if len(words) == 2 else "", kwargs)

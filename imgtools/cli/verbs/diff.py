"""`imgtools diff`: show what differs between two images."""

from __future__ import annotations

from typing import Any

import click

from imgtools.cli.command import go_bool, verb
from imgtools.cli.options import registry_flags, registry_options, source_options
from imgtools.cli.output import flush, notes, warn, write_lines, write_text
from imgtools.cli.retrying import retry_flags, retrying
from imgtools.cli.state import Cli
from imgtools.cli.store_options import StoreAccess, store_flags
from imgtools.errors import InvalidInput
from imgtools.spec.platform import Platform
from imgtools.transport.table import parse_name


@verb("diff", short_help="Show what differs between two images.")
@click.argument("image_a", metavar="IMAGE-A")
@click.argument("image_b", metavar="IMAGE-B")
@go_bool("--no-files", help="Compare configs and layers only; no layer is read.")
@go_bool(
    "--read-shared",
    help="Read the layers that both images have at their bottom too, to tell added files from "
    "changed ones.",
)
@click.option("--platform-a", metavar="OS/ARCH", help="Platform of IMAGE-A (default: the host's).")
@click.option(
    "--platform-b", metavar="OS/ARCH", help="Platform of IMAGE-B (default: that of IMAGE-A)."
)
@go_bool("--json", help="Print the comparison as JSON.")
@go_bool("--exit-code", help="Exit with 1 when the images differ, as git diff does.")
@registry_flags()
@store_flags
@retry_flags
@click.pass_obj
def command(cli: Cli, /, image_a: str, image_b: str, **kwargs: Any) -> int:
    """Show how IMAGE-B differs from IMAGE-A: config, layers and files.

    Files are compared by type, mode, owner, size, link target, device, extended attributes
    and content. Layers that both images have at their bottom are not read; a file that only
    one image's own layers write is then marked < (A) or > (B), since a shared layer may have
    an older version of it. The exit code is 0 unless --exit-code is given.
    """
    if kwargs["no_files"] and kwargs["read_shared"]:
        raise InvalidInput("--no-files and --read-shared cannot be given together")
    store = StoreAccess(cli, kwargs)
    retry = retrying(cli, kwargs)
    options = source_options(cli, registry_options(cli, "", kwargs))
    names = parse_name(image_a), parse_name(image_b)
    platforms = _platforms(cli, kwargs["platform_a"], kwargs["platform_b"])
    from imgtools.inspect.diff import Difference, DiffOptions, diff
    from imgtools.inspect.diff_text import diff_lines, diff_object

    chosen = DiffOptions(
        files=not kwargs["no_files"], read_shared=kwargs["read_shared"], tmpdir=cli.tmpdir
    )

    def compare() -> Difference:
        with (
            store.transports(warn=warn) as transports,
            transports.open_source(names[0], options) as a,
            transports.open_source(names[1], options) as b,
        ):
            return diff(a, b, platforms, task=cli.task(notes), options=chosen)

    difference = retry(compare)
    if kwargs["json"]:
        from imgtools.inspect.text import json_text

        write_text(json_text(diff_object(difference, (image_a, image_b))) + "\n")
        flush()
    else:
        write_lines(diff_lines(difference, (image_a, image_b)))
    return 1 if kwargs["exit_code"] and difference.any else 0


def _platforms(cli: Cli, a: str | None, b: str | None) -> tuple[Platform, Platform]:
    first = cli.platform() if a is None else Platform.parse(a)
    return first, first if b is None else Platform.parse(b)

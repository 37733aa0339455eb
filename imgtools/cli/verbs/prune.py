"""`imgtools prune`: remove images that nobody needs, and what killed commands left."""

from __future__ import annotations

import math
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from imgtools.cli.command import go_bool, verb
from imgtools.cli.images_view import Row, filtered, human_bytes, rows_of, until
from imgtools.cli.output import flush, notes, write_text
from imgtools.cli.state import Cli
from imgtools.cli.store_options import StoreAccess, store_flags
from imgtools.errors import InvalidInput

if TYPE_CHECKING:
    from engine.storage.store import Store

_FILTERS = ("until", "label", "label!")


@verb("prune", short_help="Remove unused images and left-overs.")
@go_bool("--all", "-a", "every", help="Remove all images that no container uses.")
@go_bool("--build-cache", help="Forget what builds remember of their steps as well.")
@click.option("--filter", "filters", multiple=True, metavar="KEY=VALUE",
              help="Only images that pass: until=, label=, label!=.")  # fmt: skip
@go_bool("--force", "-f", help="Do not ask.")
@store_flags
@click.pass_obj
def command(
    cli: Cli,
    /,
    every: bool,
    build_cache: bool,
    filters: tuple[str, ...],
    force: bool,
    **kwargs: Any,
) -> None:
    """Remove images without a name that no container uses, with --all those with names too.

    Layers of interrupted pulls, and snapshots and temporary files of processes that are gone,
    are removed as well. With --build-cache so are the layers of earlier builds' steps, and the
    directories of their cache mounts, as far as they were last used before until= of --filter.
    On a terminal it is asked first.
    """
    for text in filters:
        if text.partition("=")[0] not in _FILTERS:
            raise InvalidInput(f"unsupported filter {text!r}: use {'=, '.join(_FILTERS)}=")
    if not force and sys.stdin.isatty() and not _agreed(every=every):
        return
    from engine.containers.directory import sweep
    from engine.working.registry import WorkingContainers

    access = StoreAccess(cli, kwargs)
    with access.open() as store:
        sweep(store, access.location.runroot)
        WorkingContainers(store).sweep()
        chosen = _chosen(store, filters, every=every)
        before = _moment(filters) if build_cache else None
        removal = store.prune(chosen, cache_before=before, task=cli.task(notes))
    for image in removal.images:
        write_text(f"{image}\n")
    write_text(f"Total reclaimed space: {human_bytes(removal.size)}\n")
    flush()


def _moment(filters: tuple[str, ...]) -> float:
    """Before when something was last used that goes: the earliest that the filters name."""
    moments = [text.partition("=")[2] for text in filters if text.startswith("until=")]
    return min((until(text, time.time()) for text in moments), default=math.inf)


def _agreed(*, every: bool) -> bool:
    what = (
        "all images without at least one container associated with them"
        if every
        else "all dangling images"
    )
    click.echo(f"WARNING! This command removes {what}.", err=True)
    return click.confirm("Are you sure you want to continue?", err=True)


def _chosen(store: Store, filters: tuple[str, ...], *, every: bool) -> list[str]:
    rows: list[Row] = rows_of(store.images().values(), store.names().values(), {})
    if not every:
        rows = [row for row in rows if not row.name]
    passed = filtered(rows, filters, find=store.find, now=time.time())
    return list(dict.fromkeys(row.image.id for row in passed))

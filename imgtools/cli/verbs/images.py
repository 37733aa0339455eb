"""`imgtools images`: list the images of the store."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from imgtools.cli.command import go_bool, verb
from imgtools.cli.images_relations import index_rows, with_relations
from imgtools.cli.images_view import (
    HEADERS,
    columns,
    document,
    fields,
    filtered,
    rows_of,
    sorted_rows,
)
from imgtools.cli.output import flush, write_lines, write_text
from imgtools.cli.state import Cli
from imgtools.cli.store_options import StoreAccess, store_flags

if TYPE_CHECKING:
    from engine.storage.store import Store
    from imgtools.cli.images_view import Row

_TABLE = "table {{.Repository}} {{.Tag}} {{.ID}} {{.Created}} {{.Size}}"
_DIGESTS = "table {{.Repository}} {{.Tag}} {{.Digest}} {{.ID}} {{.Created}} {{.Size}}"


@verb("images", short_help="List the images of the store.")
@click.argument("name", required=False, metavar="[IMAGE]")
@go_bool("--all", "-a", help="Show images without a name that others were made from, too.")
@go_bool("--digests", help="Show the digests of manifests too.")
@click.option("--filter", "-f", "filters", multiple=True, metavar="KEY=VALUE",
              help="Only images that pass: reference=, dangling=, before=, since=, until=, "
              "label=, label!=, id=, intermediate=, manifest=.")  # fmt: skip
@click.option("--format", "template", metavar="FORMAT",
              help='"json", or a Go template for each image.')  # fmt: skip
@go_bool("--json", "as_json", help="The same as --format json.")
@go_bool("--noheading", "-n", help="Print no line of headings.")
@go_bool("--no-trunc", help="Print ids in full.")
@go_bool("--quiet", "-q", help="Print only ids.")
@click.option("--sort", "key", default="created", metavar="KEY",
              help="Sort by created, id, repository, size or tag.")  # fmt: skip
@store_flags
@click.pass_obj
def command(cli: Cli, /, **kwargs: Any) -> None:
    """List the images and indexes of the store, or those with the name IMAGE, newest first.

    An image is listed once for each of its names. Nothing is locked or waited for, whatever
    is being pulled or removed.
    """
    store = StoreAccess(cli, kwargs)
    with store.look() as opened:
        rows = _rows(opened, kwargs)
    template = "json" if kwargs["as_json"] else kwargs["template"]
    if kwargs["quiet"]:
        ids = dict.fromkeys(
            f"sha256:{r.image.id}" if kwargs["no_trunc"] else r.image.id[:12] for r in rows
        )
        write_lines(ids)
    elif template is not None and template.strip() in ("json", "{{json .}}"):
        _print_json(rows)
    else:
        _print_rows(rows, template, kwargs)


def _rows(store: Store, kwargs: dict[str, Any]) -> list[Row]:
    contents = store.images(), store.names()
    users: dict[str, int] = {}
    for use, there in store.parts.uses.all().items():
        users[use.image_id] = users.get(use.image_id, 0) + there
    rows = with_relations(store, rows_of(contents[0].values(), contents[1].values(), users))
    rows += index_rows(store)
    filters = [*kwargs["filters"]]
    if not kwargs["all"] and not any(text.startswith("intermediate=") for text in filters):
        filters.append("intermediate=false")
    if kwargs["name"]:
        filters.append(f"reference={kwargs['name']}")
    rows = filtered(rows, filters, find=store.find, now=time.time())
    return sorted_rows(rows, kwargs["key"])


def _print_json(rows: list[Row]) -> None:
    from imgtools.inspect.text import json_text

    by_image = {row.image.id: row for row in rows}
    write_text(json_text([document(row) for row in by_image.values()]) + "\n")
    flush()


def _print_rows(rows: list[Row], template: str | None, kwargs: dict[str, Any]) -> None:
    from imgtools.cli.gotemplate import Struct, render
    from imgtools.inspect.text import printable

    text = template or (_DIGESTS if kwargs["digests"] else _TABLE)
    is_table = text.startswith("table ")
    body = text.removeprefix("table ") if is_table else text
    body = body.replace("\\t", "\t").replace("\\n", "\n")
    now = time.time()
    shown: list[dict[str, Any]] = [fields(row, now, full=kwargs["no_trunc"]) for row in rows]
    if is_table and not kwargs["noheading"]:
        shown.insert(0, dict(HEADERS))
    separator = "\t" if is_table else None
    lines = [
        render(_cells(body, separator), Struct("images.imageReporter", each), name="list images")
        for each in shown
    ]
    if is_table:
        split = [[printable(cell) for cell in line.split("\t")] for line in lines]
        write_lines(columns(split) if split else [])
    else:
        write_lines("\n".join(map(printable, line.split("\n"))) for line in lines)


def _cells(body: str, separator: str | None) -> str:
    """The template with spaces outside of {{ }} made separators of columns."""
    if separator is None:
        return body
    import re

    parts = re.split(r"(\{\{.*?\}\})", body, flags=re.DOTALL)
    return "".join(p if n % 2 else p.replace(" ", separator) for n, p in enumerate(parts))

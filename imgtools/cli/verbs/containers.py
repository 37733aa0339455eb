"""`imgtools containers`: list working containers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from imgtools.cli.command import go_bool
from imgtools.cli.output import flush, write_lines, write_text
from imgtools.cli.state import Cli
from imgtools.cli.store_options import store_flags
from imgtools.cli.working_command import records_of, working_verb
from imgtools.errors import InvalidInput

if TYPE_CHECKING:
    from engine.storage.store import Store
    from engine.working.model import WorkingContainer

SCRATCH = "scratch"
_HEADINGS = {
    "ContainerID": "CONTAINER ID",
    "Builder": "BUILDER",
    "ImageID": "IMAGE ID",
    "ImageName": "IMAGE NAME",
    "ContainerName": "CONTAINER NAME",
}
_LONGEST = 32


@working_verb("containers", short_help="List working containers.")
@go_bool("--all", "-a", "every", help="List containers of other tools too (the store has none).")
@click.option("--filter", "-f", "condition", metavar="KEY=VALUE,...",
              help="Only containers that pass: id=, name=, ancestor=.")  # fmt: skip
@click.option("--format", "template", metavar="FORMAT", help="A Go template for each container.")
@go_bool("--json", "as_json", help="Print JSON.")
@go_bool("--noheading", "-n", help="Print no line of headings.")
@go_bool("--notruncate", help="Print ids and names in full.")
@go_bool("--quiet", "-q", help="Print only ids.")
@store_flags
@click.pass_obj
def command(cli: Cli, /, every: bool, condition: str | None, **kwargs: Any) -> None:
    """List working containers, oldest first, with the images that they were made from."""
    if kwargs["quiet"] and kwargs["template"] is not None:
        raise InvalidInput("quiet and format are mutually exclusive")
    tests = _conditions(condition)
    with records_of(cli, kwargs) as containers:
        names = _image_names(containers.store)
        rows = [_row(each, names) for each in containers.all()]
    rows = [row for row in rows if _passes(row, tests)]
    if kwargs["as_json"]:
        _print_json(rows)
    elif kwargs["quiet"]:
        write_lines(row["ContainerID"] for row in rows)
    elif kwargs["template"] is not None:
        _print_template(rows, kwargs["template"])
    else:
        _print_table(rows, full=kwargs["notruncate"], headings=not kwargs["noheading"])


def _image_names(store: Store) -> dict[str, str]:
    """A name of every image that has one, by id: the one that it was given first."""
    found: dict[str, str] = {}
    for name in sorted(store.names().values(), key=lambda n: (n.given, n.name)):
        found.setdefault(name.image_id, name.name)
    return found


def _row(container: WorkingContainer, names: dict[str, str]) -> dict[str, str]:
    image = container.image_id
    return {
        "ContainerID": container.id,
        "Builder": "   *",
        "ImageID": image,
        "ImageName": names.get(image, "") if image else SCRATCH,
        "ContainerName": container.name,
    }


def _conditions(text: str | None) -> dict[str, str]:
    found = {}
    for part in text.split(",") if text is not None else ():
        key, sign, value = part.partition("=")
        if not sign:
            raise InvalidInput(f"incorrect filter value {part!r}, should be of form filter=value")
        if key.strip() not in ("id", "name", "ancestor"):
            raise InvalidInput(f"invalid filter {key!r}")
        found[key.strip()] = value
    return found


def _passes(row: dict[str, str], tests: dict[str, str]) -> bool:
    if "id" in tests and not row["ContainerID"].startswith(tests["id"]):
        return False
    if "name" in tests and tests["name"] not in row["ContainerName"]:
        return False
    ancestor = tests.get("ancestor")
    if ancestor is None:
        return True
    name = row["ImageName"]
    untagged = name.rpartition(":")[0]
    known = (name, untagged, name.rpartition("/")[2], untagged.rpartition("/")[2])
    return ancestor in known or (bool(row["ImageID"]) and row["ImageID"].startswith(ancestor))


def _print_json(rows: list[dict[str, str]]) -> None:
    from imgtools.inspect.text import json_text

    document = [
        {
            "id": row["ContainerID"],
            "builder": True,
            "imageid": row["ImageID"],
            "imagename": row["ImageName"],
            "containername": row["ContainerName"],
        }
        for row in rows
    ]
    write_text((json_text(document) if document else "null") + "\n")
    flush()


def _print_template(rows: list[dict[str, str]], template: str) -> None:
    from imgtools.cli.gotemplate import Struct, render

    is_table = template.startswith("table ")
    body = template.removeprefix("table ").replace("\\t", "\t").replace("\\n", "\n")
    shown = [dict(_HEADINGS), *rows] if is_table else rows
    write_lines(
        render(body, Struct("main.containerOutputParams", dict(row)), name="list containers")
        for row in shown
    )


def _print_table(rows: list[dict[str, str]], *, full: bool, headings: bool) -> None:
    from imgtools.inspect.text import printable

    width = 64 if full else 12
    gap = " " if full else "  "

    def line(row: dict[str, str]) -> str:
        name = row["ImageName"]
        if not full:
            name = name if len(name) <= _LONGEST else name[: _LONGEST - 3] + "..."
        own, image = (row[key] if full else row[key][:12] for key in ("ContainerID", "ImageID"))
        text = f"{own:<{width}}{gap}{row['Builder']:<8} {image:<{width}} {name:<32} "
        return printable(text + row["ContainerName"])

    write_lines(line(row) for row in ([_HEADINGS] if headings else []) + rows)

"""`imgtools mount`: show the files of working containers as a directory of the host."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from imgtools.cli.command import go_bool
from imgtools.cli.output import flush, notes, write_text
from imgtools.cli.state import Cli
from imgtools.cli.store_options import StoreAccess, store_flags
from imgtools.cli.working_command import for_each, working_verb
from imgtools.errors import Unsupported

if TYPE_CHECKING:
    from engine.working.registry import WorkingContainers


@working_verb("mount", short_help="Show the files of a working container.")
@click.argument("names", nargs=-1, metavar="[CONTAINER...]")
@go_bool("--json", "as_json", help="Print JSON.")
@go_bool("--notruncate", help="The same output: nothing is cut.", hidden=True)
@store_flags
@click.pass_obj
def command(
    cli: Cli, /, names: tuple[str, ...], as_json: bool, notruncate: bool, **kwargs: Any
) -> int:
    """Mount the files of every working CONTAINER and print the directory, to be read and
    changed; without CONTAINER list what is mounted.

    It stays until `imgtools umount` or `imgtools rm`. Whoever is not root does this within
    `imgtools unshare`.
    """
    from engine.working.registry import WorkingContainers

    access = StoreAccess(cli, kwargs)
    outside = os.geteuid() != 0
    with access.look() if outside or not names else access.open() as store:
        containers = WorkingContainers(store)
        if not names:
            _print(_mounted(containers), named=True, as_json=as_json)
            return 0
        if outside and store.driver != "flat":
            raise Unsupported(
                f"cannot mount using driver {store.driver} in rootless mode",
                hint="you need to run it in an `imgtools unshare` session",
            )
        found: list[tuple[str, str]] = []
        task = cli.task(notes)
        from engine.working.show import show

        def mount(name: str) -> None:
            with containers.held(name, task=task) as held:
                found.append((name, show(store, held)))

        code = for_each(names, mount)
    _print(found, named=len(names) > 1, as_json=as_json)
    return code


def _mounted(containers: WorkingContainers) -> list[tuple[str, str]]:
    from engine.working.show import shown_at

    found = ((each.name, shown_at(containers.store, each)) for each in containers.all())
    return [(name, path) for name, path in found if path]


def _print(found: list[tuple[str, str]], *, named: bool, as_json: bool) -> None:
    """Names and directories; a single one, that was asked for, is printed alone."""
    if as_json:
        from imgtools.inspect.text import json_text

        document = [
            {**({"container": name} if named else {}), "mountPoint": path} for name, path in found
        ]
        write_text(json_text(document) + "\n")
    else:
        for name, path in found:
            write_text(f"{name} {path}\n" if named else f"{path}\n")
    flush()

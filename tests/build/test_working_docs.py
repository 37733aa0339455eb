"""docs/working-containers.md has the options of every verb about working containers, and no
other ones."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from imgtools.cli import working_config, working_copy, working_inspect, working_run
from imgtools.cli.verbs import (
    commit,
    containers,
    from_,
    manifest,
    mount,
    pull,
    push,
    rename,
    rm,
    umount,
)

PAGE = Path(__file__).parents[2] / "docs/working-containers.md"
MODULES = (
    commit, containers, from_, mount, pull, push, rename, rm, umount,
    working_config, working_copy, working_inspect, working_run,
)  # fmt: skip
ELSEWHERE = {
    "--root", "--runroot", "--storage-driver", "--storage-opt", "--authfile", "--creds",
    "--username", "--password", "--registry-token", "--no-creds", "--cert-dir", "--tls-verify",
}  # fmt: skip
"""Options of the store and of registries, which have pages of their own."""


def verbs() -> dict[str, click.Command]:
    """Every verb by its name."""
    found: dict[str, click.Command] = {}
    for module in MODULES:
        for value in vars(module).values():
            if isinstance(value, click.Command):
                found[str(value.name)] = value
    for name, command in manifest.command.commands.items():
        found[f"manifest {name}"] = command
    return found


def documented() -> dict[str, set[str]]:
    """The options that the page names, by verb."""
    table = PAGE.read_text("utf-8").partition("## Options")[2].partition("\n## ")[0]
    found: dict[str, set[str]] = {}
    for line in table.splitlines():
        if line.startswith("| `"):
            names, options = line.strip("|").split("|", 1)
            for name in re.findall(r"`([^`]+)`", names):
                found[name] = set(re.findall(r"--[a-z-]+", options))
    return found


@pytest.mark.parametrize("verb", sorted(verbs()))
def test_the_page_names_every_option(verb: str) -> None:
    options = {
        p.opts[0]
        for p in verbs()[verb].params
        if isinstance(p, click.Option) and not p.hidden and p.opts[0] not in ELSEWHERE
    }
    assert documented()[verb] == options


def test_the_page_knows_no_other_verbs() -> None:
    assert set(documented()) == set(verbs())

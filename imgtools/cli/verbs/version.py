"""`imgtools version`: what this is."""

from __future__ import annotations

import os
import platform
from typing import Any

import click

from imgtools.cli.command import go_bool, verb
from imgtools.cli.output import flush, write_text
from imgtools.cli.state import Cli
from imgtools.cli.store_options import store_flags


@verb("version", short_help="Show the version of this program.")
@go_bool("--json", "as_json", help="Print JSON.")
@store_flags
@click.pass_obj
def command(cli: Cli, /, as_json: bool, **kwargs: Any) -> None:
    """Show the version of imgtools, and of the specifications that it follows."""
    from engine.runtime.spec.version import NEWEST
    from imgtools import __version__

    host = cli.settings.host
    found = {
        "version": __version__,
        "pythonVersion": platform.python_version(),
        "imageSpec": "1.1.1",
        "runtimeSpec": NEWEST,
        "osArch": f"{host.os}/{host.architecture}",
        "kernel": os.uname().release,
    }
    if as_json:
        from imgtools.inspect.text import json_text

        write_text(json_text(found) + "\n")
    else:
        names = ("Version", "Python version", "Image spec", "Runtime spec", "OS/Arch", "Kernel")
        lines = zip(names, found.values(), strict=True)
        write_text("".join(f"{name + ':':16}{value}\n" for name, value in lines))
    flush()

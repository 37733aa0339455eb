"""The options that buildah and podman have in front of the verb: where the store is, and a few
that say nothing here. Scripts write them there, so they may stand there with every verb."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from imgtools.errors import InvalidInput, Unsupported

_LEVELS = ("trace", "debug", "info", "warn", "warning", "error", "fatal", "panic")
_MANAGERS = ("", "cgroupfs", "systemd")


def leading_options() -> list[click.Option]:
    """The options, made anew on each call; not in --help but for those of the store."""
    text = click.Option
    return [
        text(["--root"], type=click.Path(), metavar="DIR",
             help="The store of images, for verbs that use it."),
        text(["--runroot"], type=click.Path(), metavar="DIR",
             help="What of the store is lost with a reboot."),
        text(["--storage-driver"], metavar="DRIVER", help="overlay or vfs."),
        text(["--storage-opt"], multiple=True, metavar="NAME=VALUE",
             help="An option of the store."),
        text(["--registries-conf-dir"], type=click.Path(), metavar="DIR", hidden=True),
        text(["--short-name-alias-conf"], type=click.Path(), metavar="PATH", hidden=True),
        text(["--cgroup-manager"], metavar="MANAGER", hidden=True),
        text(["--userns-uid-map"], multiple=True, hidden=True),
        text(["--userns-gid-map"], multiple=True, hidden=True),
    ]  # fmt: skip


def leading_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values that were given, for `Cli.values`: a log level from debug on is --debug.

    Raises InvalidInput for a wrong one, Unsupported for ids that are mapped by hand.
    """
    levelled = with_log_level(values)
    found = {name: value for name, value in levelled.items() if value not in (None, False, ())}
    manager = found.pop("cgroup_manager", "")
    if manager not in _MANAGERS:
        raise InvalidInput(f"--cgroup-manager {manager}: expected cgroupfs or systemd")
    for option in ("userns_uid_map", "userns_gid_map"):
        if found.pop(option, ()):
            name = option.replace("_", "-")
            raise Unsupported(
                f"--{name} is not supported", hint="ids come from /etc/subuid and /etc/subgid"
            )
    return found


def with_log_level(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values of global options with --debug in the place of --log-level: on from debug on.
    Raises InvalidInput for an unknown level."""
    found = dict(values)
    level = found.pop("log_level", None)
    if level is None:
        return found
    if level.lower() not in _LEVELS:
        raise InvalidInput(f"--log-level {level}: expected one of {', '.join(_LEVELS)}")
    found["debug"] = bool(found.get("debug")) or level.lower() in ("trace", "debug")
    return found

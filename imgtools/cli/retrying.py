"""--retry-times and --retry-delay: a whole operation tried again, as in skopeo.

Single requests are repeated by the registry client anyway; this is for users who want to
wait longer for a registry that is down.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from imgtools.cli.command import Duration
from imgtools.cli.state import Cli
from imgtools.errors import ConnectionFailed, Error, RegistryError, SeveralErrors

T = TypeVar("T")

_LONGEST = 60.0


def retry_flags(function: Any) -> Any:
    """A decorator that adds the two options to a verb."""
    for decorator in (
        click.option(
            "--retry-delay",
            type=Duration(),
            metavar="DURATION",
            help="Time between tries (default: doubling from one second).",
        ),
        click.option(
            "--retry-times",
            type=click.IntRange(0),
            default=0,
            metavar="N",
            help="How often to try the whole operation again when the registry is in trouble.",
        ),
    ):
        function = decorator(function)
    return function


def retrying(cli: Cli, kwargs: dict[str, Any]) -> Callable[[Callable[[], T]], T]:
    """Take the values of `retry_flags` out of `kwargs`; what comes back runs an action.

    The action is called again after trouble that may pass; it raises what the last try did.
    """
    times: int = kwargs.pop("retry_times")
    delay: float | None = kwargs.pop("retry_delay")

    def run(action: Callable[[], T]) -> T:
        for tried in range(times):
            try:
                return action()
            except Error as e:
                if not _may_pass(e):
                    raise
            cli.cancel.wait(min(_LONGEST, 2.0**tried) if delay is None else delay)
        return action()

    return run


def _may_pass(error: Error) -> bool:
    if isinstance(error, RegistryError):
        return error.status == 429 or error.status >= 500
    if isinstance(error, SeveralErrors):
        return all(_may_pass(each) for each in error.errors)
    return isinstance(error, ConnectionFailed)

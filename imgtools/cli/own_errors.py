"""Exit codes of verbs that run somebody else's command: podman's and buildah's.

125 is for whatever went wrong before that command ran, wrong usage included; an error that has
a `code` is about the command, and the code is passed on.
"""

from __future__ import annotations

from typing import Any

import click

from imgtools.cli.command import VerbCommand
from imgtools.cli.output import complain
from imgtools.errors import Cancelled, Error, SeveralErrors

OUR_FAULT = 125


class OwnErrors(VerbCommand):
    """A verb that says what is wrong itself, and exits with 125 or the code of the error."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As VerbCommand."""
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as e:
            complain(e.format_message())
            raise click.exceptions.Exit(OUR_FAULT) from e

    def invoke(self, ctx: click.Context) -> Any:
        """Run the verb; the exit code."""
        try:
            return super().invoke(ctx)
        except Cancelled:
            raise
        except Error as e:
            self.tell(e)
            return getattr(e, "code", OUR_FAULT)

    def tell(self, error: Error) -> None:
        """Say what is wrong, on standard error."""
        for each in error.errors if isinstance(error, SeveralErrors) else (error,):
            complain(each.message + (f" ({each.hint})" if each.hint else ""))

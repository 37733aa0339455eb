"""A verb with verbs of its own, such as `imgtools config show`."""

from __future__ import annotations

from typing import Any

import click

from imgtools.cli.command import global_options, normalise_args
from imgtools.cli.leading import with_log_level


class Family(click.Group):
    """Verbs under one name; global options may stand before and after each of the words."""

    def __init__(self, name: str, **kwargs: Any) -> None:
        """`kwargs` are those of click.Group."""
        hidden = global_options()
        for option in hidden:
            option.hidden = True
        super().__init__(
            name,
            params=list(hidden),
            callback=click.pass_context(_start),
            context_settings={"help_option_names": ["-h", "--help"]},
            **kwargs,
        )

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Click's parsing after the arguments were put in its terms."""
        if not args:
            raise click.UsageError(f"missing command; try '{ctx.command_path} --help'")
        return super().parse_args(ctx, normalise_args(self.get_params(ctx), args))


def _start(ctx: click.Context, **values: Any) -> None:
    if ctx.obj is not None:
        given = click.core.ParameterSource.COMMANDLINE
        found = {k: v for k, v in values.items() if ctx.get_parameter_source(k) is given}
        ctx.obj = ctx.obj.with_globals(with_log_level(found))

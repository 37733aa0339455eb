"""Verbs whose last argument is a command line of somebody else: what follows the first word
that is no option belongs to it, options included."""

from __future__ import annotations

import click

from imgtools.cli.command import GoBool, VerbCommand


class PassThroughCommand(VerbCommand):
    """A verb that ends where the user's own command begins."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As VerbCommand, with nothing after the first word touched."""
        position = self._first_word(self.get_params(ctx), args)
        rest = args[position:]
        if rest[:1] != ["--"]:
            rest = ["--", *rest]
        return super().parse_args(ctx, args[:position] + rest)

    def first_argument(self, args: list[str]) -> str | None:
        """The first word that is neither an option nor an option's value, None without one."""
        rest = args[self._first_word(self.params, args) :]
        rest = rest[1:] if rest[:1] == ["--"] else rest
        return rest[0] if rest else None

    def _first_word(self, params: list[click.Parameter], args: list[str]) -> int:
        options = [p for p in params if isinstance(p, click.Option)]
        by_name = {name: option for option in options for name in option.opts}
        position = 0
        while position < len(args) and args[position].startswith("-") and args[position] != "-":
            word = args[position]
            if word == "--":
                break
            if word.startswith("--"):
                takes_next = _takes_value(by_name.get(word))
            else:
                takes_next = _cluster_takes_next(word[1:], by_name)
            position += 2 if takes_next else 1
        return min(position, len(args))


def _takes_value(option: click.Option | None) -> bool:
    return option is not None and not option.is_flag and not isinstance(option, GoBool)


def _cluster_takes_next(letters: str, by_name: dict[str, click.Option]) -> bool:
    """Whether the value of the last of `-itv` is the next word; in `-ite=x` it is not."""
    for index, letter in enumerate(letters):
        option = by_name.get(f"-{letter}")
        if option is None:
            return False
        if _takes_value(option):
            return index == len(letters) - 1
    return False

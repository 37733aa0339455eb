"""The texts of --help, made from the tables that the parser reads."""

from __future__ import annotations

from engine.cli.arguments import Option, Syntax

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

WIDTH = 30


def overview(syntax: Syntax, commands: Mapping[str, str]) -> str:
    """The help of the program."""
    lines = [f"Usage: imgtools-runtime {syntax.usage}", "", syntax.description, "", "Commands:"]
    lines += [f"  {name:10}{summary}" for name, summary in commands.items()]
    lines += ["", "Global options:", *_options(syntax.options)]
    lines += ["", "imgtools-runtime COMMAND --help tells more about a command."]
    return "\n".join(lines) + "\n"


def command_help(name: str, syntax: Syntax) -> str:
    """The help of one command."""
    lines = [f"Usage: imgtools-runtime [global options] {syntax.usage}", "", syntax.description]
    if syntax.options:
        lines += ["", f"Options of {name}:", *_options(syntax.options)]
    return "\n".join(lines) + "\n"


def _options(options: tuple[Option, ...]) -> list[str]:
    lines = []
    for option in (*options, Option(name="help", letter="h", help="print this and end")):
        names = f"-{option.letter}, " if option.letter else "    "
        names += f"--{option.name}" + (f" {option.value}" if option.value else "")
        text = f"not supported: {option.refusal}" if option.refusal else option.help
        separator = "" if len(names) < WIDTH else "\n  " + " " * WIDTH
        lines.append(f"  {names:{WIDTH}}{separator}{text}")
    return lines

"""How a failed build is told: the error in one line, below it the place in the Containerfile
with a caret, or the last lines of the command that failed. Pure."""

from __future__ import annotations

from imgtools.build.execute.errors import CommandFailed
from imgtools.build.language.errors import ContainerfileError
from imgtools.build.masking import without_credentials
from imgtools.cli.build_frame import plain_text
from imgtools.cli.own_errors import OUR_FAULT
from imgtools.cli.text import escaped, one_line
from imgtools.errors import Error, SeveralErrors

MOST_LINES = 20


def failure_lines(error: Error, *, output_shown: bool) -> list[str]:
    """The lines to print. With `output_shown` people have seen what the command wrote."""
    return [line for each in _each(error) for line in _lines(each, output_shown)]


def exit_code(error: Error) -> int:
    """What to exit with: the code of the first command that failed, else 125."""
    codes = [each.code for each in _each(error) if isinstance(each, CommandFailed)]
    return codes[0] if codes else getattr(error, "code", OUR_FAULT)


def _each(error: Error) -> tuple[Error, ...]:
    return error.errors if isinstance(error, SeveralErrors) else (error,)


def _lines(error: Error, output_shown: bool) -> list[str]:
    hint = f" ({error.hint})" if error.hint else ""
    lines = [one_line(f"imgtools: {error.message}{hint}")]
    if isinstance(error, ContainerfileError) and error.excerpt:
        return lines + excerpt(error.excerpt, error.location.first, error.column)
    if isinstance(error, CommandFailed) and error.tail and not output_shown:
        tail = [plain_text(line) for line in error.tail[-MOST_LINES:]]
        return [*lines, "its last lines were:", *(f"  | {line}" for line in tail)]
    return lines


def excerpt(line: str, number: int, column: int) -> list[str]:
    """The line with its number, and a caret under `column`, which counts from 1; 0 for none."""
    margin = f"{number:>5} | "
    text = without_credentials(line.rstrip("\r\n").expandtabs(1))
    lines = [margin + escaped(text)]
    # Where something is hidden, the place in the line is another one.
    if column and len(text) == len(line.rstrip("\r\n")):
        before = escaped(text[: column - 1])
        lines.append(" " * (len(margin) - 2) + "| " + " " * len(before) + "^")
    return lines

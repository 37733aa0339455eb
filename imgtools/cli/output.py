"""Standard output and the notes beside it, for verbs that print documents.

What cannot be written is an error of ours; a reader that went away is not.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import click

from imgtools.blob.files import storage_error
from imgtools.cli.text import escaped, one_line
from imgtools.task import Event, Note, Progress


def write_bytes(data: bytes) -> None:
    """Write bytes as they are; raises StorageError, or BrokenPipeError for a closed pipe."""
    try:
        sys.stdout.buffer.write(data)
    except BrokenPipeError:
        raise
    except OSError as e:
        raise storage_error(e, "standard output") from e


def write_text(text: str) -> None:
    """Write text as UTF-8, whatever the locale; raises as `write_bytes`."""
    write_bytes(text.encode("utf-8", "replace"))


def write_lines(lines: Iterable[str]) -> None:
    """Write lines, each with its end; raises as `write_bytes`."""
    for line in lines:
        write_text(line + "\n")
    flush()


def write_json(value: object) -> None:
    """A line of JSON; raises as `write_bytes`."""
    import json

    write_lines([json.dumps(value)])


def flush() -> None:
    """Have everything written by now really written; raises as `write_bytes`."""
    try:
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        raise
    except OSError as e:
        raise storage_error(e, "standard output") from e


def notes(event: Event) -> None:
    """A listener that shows notes on stderr, one line each, and ignores progress."""
    if isinstance(event, Note):
        complain(f"{event.level}: {event.text}")


def complain(text: str) -> None:
    """One line on standard error with our name before it; raises as `say`."""
    say(f"imgtools: {text}")


def say(text: str) -> None:
    """One line on standard error; control characters cannot reach the terminal.

    Where it cannot be written, on a full disk or a terminal that is gone, nobody can be told
    so, and the work goes on. Raises BrokenPipeError when a reader went away.
    """
    try:
        click.echo(one_line(text), err=True)
    except BrokenPipeError:
        raise
    except OSError:
        return


def say_lines(lines: Iterable[str]) -> None:
    """Lines on standard error as they are, but for control characters; as `say`."""
    for line in lines:
        try:
            click.echo(escaped(line), err=True)
        except BrokenPipeError:
            raise
        except OSError:
            return


def warn(text: str) -> None:
    """Show a warning as `notes` does."""
    notes(Note("warning", text))


class Warnings:
    """Shows warnings by `notes`, or by the listener that has the screen just now."""

    def __init__(self) -> None:
        self._show: Progress = notes

    def __call__(self, text: str) -> None:
        """Show a warning; safe from any thread."""
        self._show(Note("warning", text))

    @contextmanager
    def shown_by(self, show: Progress) -> Iterator[None]:
        """Hand warnings to another listener until the block ends."""
        before, self._show = self._show, show
        try:
            yield
        finally:
            self._show = before

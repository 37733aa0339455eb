"""What every command of imgtools-runtime is given, and how it prints."""

from __future__ import annotations

import os

from engine.cli.arguments import Arguments
from engine.cli.log import Log
from engine.runtime.container.options import RuntimeOptions
from engine.runtime.kernel.files import write_all
from engine.runtime.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

STDOUT = 1


class Context(Record):
    """One invocation: the options before the command, and those after it."""

    runtime: RuntimeOptions
    log: Log
    environ: Mapping[str, str]
    arguments: Arguments

    @property
    def id(self) -> str:
        """The first argument, which for most commands is the container's id."""
        return self.arguments.positional[0]


def output(text: str) -> None:
    """Write to standard output; raises OSError."""
    write_all(STDOUT, text.encode("utf-8", "surrogateescape"))


def absolute(path: str) -> str:
    """A path that stays right when the directory changes, links in it left as they are; an
    empty one stays empty."""
    if not path or path.startswith("/"):
        return path
    return os.path.join(os.getcwd(), path)

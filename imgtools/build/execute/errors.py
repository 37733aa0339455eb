"""How a step fails: with the command, its exit code and the last lines that it wrote."""

from __future__ import annotations

from imgtools.build.language.model import Location
from imgtools.errors import Error

SHOWN = 200


class CommandFailed(Error):
    """A RUN ended with another exit code than 0; `code` is that, `tail` are its last lines."""

    def __init__(
        self, text: str, code: int, location: Location, tail: tuple[bytes, ...] = ()
    ) -> None:
        shown = " ".join(text.split())
        if len(shown) > SHOWN:
            shown = shown[:SHOWN] + "..."
        super().__init__(f"{location.file}:{location.first}: {shown}: exit code {code}")
        self.text = text
        self.code = code
        self.location = location
        self.tail = tail

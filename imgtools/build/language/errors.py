"""How a Containerfile is refused: the place, the line with a caret, and what to do."""

from __future__ import annotations

from imgtools.build.language.model import Location
from imgtools.errors import InvalidInput


class ContainerfileError(InvalidInput):
    """Something in a Containerfile is wrong.

    The message starts with file:line; `excerpt` is the line itself, and `column` (counted from
    1, 0 for none) is where in it a caret goes. Command lines print both below the message.
    """

    def __init__(
        self,
        reason: str,
        location: Location,
        *,
        excerpt: str = "",
        column: int = 0,
        hint: str | None = None,
    ) -> None:
        super().__init__(f"{location.file}:{location.first}: {reason}", hint=hint)
        self.reason = reason
        self.location = location
        self.excerpt = excerpt
        self.column = column

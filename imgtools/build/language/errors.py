"""How a Containerfile is refused: the place, the line with a caret, and what to do."""

from __future__ import annotations

from imgtools.build.language.model import Location
from imgtools.errors import InvalidInput

_WIDTH = 100
_INDENT = "  "


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


def render(error: ContainerfileError) -> str:
    """An error for a terminal: message, the line, a caret below it, and the hint, without a
    newline at the end. Of a long line the part around the caret is shown, and no character
    that would steer the terminal."""
    shown = [error.message]
    if error.excerpt.strip():
        start = max(0, error.column - 1 - _WIDTH // 2) if len(error.excerpt) > _WIDTH else 0
        part = printable(error.excerpt[start : start + _WIDTH])
        before = "…" if start else ""
        after = "…" if start + _WIDTH < len(error.excerpt) else ""
        shown.append(f"{_INDENT}{before}{part}{after}")
        if error.column:
            shown.append(_INDENT + before + " " * _cells(part[: error.column - 1 - start]) + "^")
            shown[-1] = shown[-1].replace("…", " ")
    if error.hint:
        shown.append(f"{_INDENT}hint: {error.hint}")
    return "\n".join(shown)


def printable(text: str) -> str:
    """`text` with one blank for a tab, and U+FFFD for whatever else does not print."""
    return "".join(
        c if c.isprintable() else " " if c == "\t" else "\N{REPLACEMENT CHARACTER}" for c in text
    )


def brief(text: str) -> str:
    """What a message quotes of a file: at most 80 characters, all of which print."""
    return printable(text if len(text) <= 80 else text[:79] + "…")


def _cells(text: str) -> int:
    """How many columns of a terminal a text takes."""
    if text.isascii():
        return len(text)
    from unicodedata import combining, east_asian_width

    return sum(0 if combining(c) else 2 if east_asian_width(c) in ("W", "F") else 1 for c in text)

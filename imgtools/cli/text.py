"""Text that is safe on a terminal: no name or message from elsewhere can steer it."""

from __future__ import annotations


def escaped(text: str) -> str:
    """`text` with an escape in place of every character that is not visible on a line."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def one_line(text: str) -> str:
    """`text` on one line, runs of white space as one space, and escaped."""
    return escaped(" ".join(text.split()))

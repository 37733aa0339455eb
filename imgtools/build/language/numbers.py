"""Stages called by their number, in --from and --target: words of any length, since files are
somebody else's."""

from __future__ import annotations

MANY = 1 << 62
"""What a number with too many digits is read as: more than there are of anything."""
_DIGITS = 18


def stage_number(word: str) -> int | None:
    """The number that `word` is, if it is nothing but ASCII digits; None for any other."""
    if not word.isascii() or not word.isdigit():
        return None
    # Python refuses to read numbers of thousands of digits.
    return MANY if word[:-_DIGITS].strip("0") else int(word[-_DIGITS:])

"""The files of the journals of unfinished transfers: only our own are believed, for a week.

A journal tells a later process what to send requests to and what to remove. So nothing is
read that somebody else can have written, and reading waits for nobody, whatever the file is.
"""

from __future__ import annotations

import os
import stat

KEPT_SECONDS = 7 * 86400.0
"""How long an unfinished transfer waits for another run."""

_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY


def is_expired(modified: float, now: float) -> bool:
    """Whether what was last written at `modified` has waited for too long at `now`, both in
    seconds since the epoch. A time that is as far ahead is of a clock that was wrong."""
    return abs(now - modified) > KEPT_SECONDS


def is_ours(info: os.stat_result, *, private: bool) -> bool:
    """Whether only we can have written it and, with `private`, only we can read it."""
    forbidden = 0o077 if private else 0o022
    return info.st_uid == os.geteuid() and not info.st_mode & forbidden


def read_private(path: str, limit: int) -> tuple[bytes, float]:
    """At most `limit` + 1 bytes of a regular file that is ours alone, and when it was written.

    Raises OSError, and ValueError when others can read or write it.
    """
    with open(os.open(path, _READ), "rb") as file:
        info = os.fstat(file.fileno())
        if not stat.S_ISREG(info.st_mode) or not is_ours(info, private=True):
            raise ValueError("it can be read or written by others")
        return file.read(limit + 1), info.st_mtime

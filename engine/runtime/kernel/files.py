"""Small files read with a bound, such as those of procfs, and descriptors written in full.

What is read may be anybody's: no read here waits for a writer or takes more than it was told.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

CHUNK = 1 << 16
_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK


def read_all(fd: int, limit: int) -> bytes:
    """What `fd` gives up to its end, at most `limit` bytes; raises OSError."""
    parts: list[bytes] = []
    while limit > 0 and (part := os.read(fd, min(limit, CHUNK))):
        parts.append(part)
        limit -= len(part)
    return b"".join(parts)


def read_file(path: str | bytes, limit: int, dir_fd: int | None = None) -> bytes:
    """The first `limit` bytes of a file; raises OSError."""
    fd = os.open(path, _READ, dir_fd=dir_fd)
    try:
        return read_all(fd, limit)
    finally:
        os.close(fd)


def read_if_there(path: str | bytes, limit: int, dir_fd: int | None = None) -> bytes:
    """The first `limit` bytes of a file; nothing where it cannot be read."""
    try:
        return read_file(path, limit, dir_fd)
    except (OSError, ValueError):  # ValueError: a NUL in the path
        return b""


def text_if_there(path: str, limit: int = 1 << 20) -> str:
    """The same as text; bytes that are no UTF-8 are replaced."""
    return read_if_there(path, limit).decode("utf-8", "replace")


def find_program(name: str, directories: Iterable[str]) -> str:
    """The first executable file `name` in those of `directories` that are absolute, or ""."""
    for directory in directories:
        path = os.path.join(directory, name)
        if directory.startswith("/") and os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    return ""


def write_all(fd: int, content: bytes) -> None:
    """Write `content` to `fd`, in as many pieces as it takes; raises OSError."""
    view = memoryview(content)
    while view:
        view = view[os.write(fd, view) :]


def close_all(fds: Iterable[int]) -> None:
    """Close the descriptors out of `fds` that are one: a negative number stands for none."""
    for fd in fds:
        if fd >= 0:
            os.close(fd)


def open_missing_stdio() -> None:
    """Open /dev/null as those of descriptors 0 to 2 that are closed.

    Called before anything else is opened: the next descriptor would become the program's
    standard input. Raises OSError.
    """
    fd = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    while fd < 3:
        os.set_inheritable(fd, True)
        fd = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    os.close(fd)

"""Files of the verbs that sign and verify without a registry: manifest, signature, keys."""

from __future__ import annotations

from imgtools.blob.files import storage_errors
from imgtools.errors import LimitExceeded


def read_file(path: str, what: str, limit: int) -> bytes:
    """The content of `path`, which may be a pipe; raises NotFound, StorageError, and
    LimitExceeded (naming `what`) for more than `limit` bytes."""
    with storage_errors(path), open(path, "rb") as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise LimitExceeded(f"{what} {path}", limit)
    return content


def read_input(path: str, what: str, limit: int) -> bytes:
    """The content of `path`, of standard input where it is "-"; raises as `read_file`."""
    if path != "-":
        return read_file(path, what, limit)
    import sys

    content = sys.stdin.buffer.read(limit + 1)
    if len(content) > limit:
        raise LimitExceeded(f"{what} on standard input", limit)
    return content


def write_output(path: str, content: bytes) -> None:
    """Write `content` to `path`: a file appears whole, a device or pipe is written to.

    Raises NotFound, StorageError.
    """
    import os

    from imgtools.blob.files import write_file

    if os.path.exists(path) and not os.path.isfile(path):
        with storage_errors(path), open(path, "wb") as file:
            file.write(content)
    else:
        write_file(os.path.realpath(path), content)

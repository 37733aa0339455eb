"""Where the passphrase of a private key comes from, as far as files go.

Prompts and the environment belong to the command line; it hands what it finds to
`load_private_key`.
"""

from __future__ import annotations

from imgtools.blob.files import storage_errors
from imgtools.errors import LimitExceeded

VARIABLE = "COSIGN_PASSWORD"
"""The variable in which cosign looks for the passphrase; empty means an empty one."""

_LIMIT = 64 * 1024


def first_line(content: bytes) -> bytes:
    """The passphrase in a file: its first line without the newline, and nothing else off it.

    A blank line, or an empty file, is an empty passphrase, as it is to skopeo.
    """
    return content.partition(b"\n")[0]


def read_passphrase_file(path: str) -> bytes:
    """The passphrase in the file `path`; raises NotFound, StorageError or LimitExceeded."""
    with storage_errors(path), open(path, "rb") as file:
        line = file.readline(_LIMIT + 1)
    if len(line) > _LIMIT:
        raise LimitExceeded(f"the first line of {path}", _LIMIT)
    return first_line(line)

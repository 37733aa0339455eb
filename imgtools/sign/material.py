"""Key files and trust roots: the bytes that policies and command lines name, read bounded."""

from __future__ import annotations

from imgtools.blob.files import storage_errors
from imgtools.errors import InvalidKey, LimitExceeded

MATERIAL_LIMIT = 8 * 1024 * 1024
"""Bytes of one key, key ring, certificate bundle or trusted_root.json."""


def read_material(path: str) -> bytes:
    """The content of the file `path`. Raises InvalidKey when there is none, StorageError when
    it cannot be read, LimitExceeded."""
    with storage_errors(path):
        try:
            with open(path, "rb") as file:
                content = file.read(MATERIAL_LIMIT + 1)
        except FileNotFoundError as e:
            raise InvalidKey(f"there is no key file {path}") from e
    if len(content) > MATERIAL_LIMIT:
        raise LimitExceeded(f"the key file {path}", MATERIAL_LIMIT)
    return content

"""The files of an OCI image layout, wherever they are: in a directory or in a tar archive.

Names of blobs come from validated digests only. Both forms answer the same three questions,
so that reading a layout is written once.
"""

from __future__ import annotations

from typing import Protocol

from imgtools.blob.files import storage_errors
from imgtools.errors import NotFound
from imgtools.spec.digest import Digest
from imgtools.transport.folder import Folder, Region


class LayoutFiles(Protocol):
    """Reads the files of one layout; methods may be called from several threads."""

    path: str

    def document(self, name: str, limit: int) -> bytes | None:
        """A file beside `blobs`, None when it is not there; raises LimitExceeded."""
        ...

    def blob(self, digest: Digest) -> Region | None:
        """The blob's file, None when it is not there."""
        ...

    def close(self) -> None:
        """Release files; safe to call twice."""
        ...


class LayoutFolder:
    """A layout in a directory; `shared` is a directory that has the blobs instead."""

    def __init__(self, path: str, shared: str | None = None) -> None:
        """Opens the directory; raises NotFound or StorageError."""
        self.path = path
        self._shared = shared
        self._root = Folder.open(path)

    def document(self, name: str, limit: int) -> bytes | None:
        """See LayoutFiles."""
        return self._root.read_if_there(name, limit)

    def blob(self, digest: Digest) -> Region | None:
        """See LayoutFiles."""
        try:
            with (
                Folder.open(self._shared) if self._shared else self._root.folder("blobs") as blobs,
                blobs.folder(digest.algorithm) as folder,
            ):
                return folder.file(digest.hex)
        except NotFound:
            return None

    def close(self) -> None:
        """See LayoutFiles."""
        with storage_errors(self.path):
            self._root.close()

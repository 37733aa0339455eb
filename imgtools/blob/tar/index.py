"""Where everything is in an archive that can be seeked.

Lists the members of archives that are used in place, such as docker-archive and oci-archive.
"""

from __future__ import annotations

from typing import Protocol

from imgtools.blob.tar.data import Readable
from imgtools.blob.tar.entry import Entry, TarLimits
from imgtools.blob.tar.reader import TarReader
from imgtools.errors import InvalidArchive, StorageError

INDEX_CHUNK = 32 * 1024


class Seekable(Readable, Protocol):
    """A readable that can be positioned, such as an open file."""

    def seek(self, offset: int, whence: int = 0, /) -> int: ...


def index_tar(file: Seekable, *, limits: TarLimits | None = None) -> list[tuple[Entry, int]]:
    """All members of the archive in `file` with the offsets of their stored data.

    Seeks over data, so the time depends on the number of members only. The offset counts from
    the start of `file`, which is left at an unspecified position. Raises as TarReader does,
    InvalidArchive too when the data of a member would lie past the end of the file, and
    StorageError when reading fails.
    """
    try:
        total = file.seek(0, 2)
        file.seek(0)
        reader = TarReader(file, limits=limits, chunk=INDEX_CHUNK, seek=file.seek)
        found = []
        while (entry := reader.next()) is not None:
            if entry.data_offset + entry.stored_size > total:
                raise InvalidArchive(f"tar archive is cut within the data of {entry.path!r}")
            found.append((entry, entry.data_offset))
    except OSError as e:
        path = str(getattr(file, "name", "archive"))
        raise StorageError(f"cannot read {path}: {e.strerror or e}", path=path) from e
    return found

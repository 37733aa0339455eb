"""A tar archive as a place to read files from: an index of offsets, never unpacked.

Compressed archives and input that cannot be positioned are spooled once into a nameless
temporary file. Links inside an archive lead to members of the archive only.
"""

from __future__ import annotations

import os
import stat
from typing import Self

from imgtools.blob.files import storage_errors
from imgtools.blob.tar import Entry, EntryType, TarLimits, index_tar
from imgtools.errors import ImageNotFound, InvalidArchive, NotFound, StorageError, Unsupported
from imgtools.transport.folder import Region, write_all

_CHUNK = 256 * 1024
_LIMITS = TarLimits(entries=200_000)
_UNPACKED_LIMIT = 1 << 42
_LINKS = 16
# Where skopeo puts files that may be too large for a /tmp in memory.
_SPOOL = "/var/tmp"


class Archive:
    """An open archive; its members are found by normalised name, the last of a name wins."""

    def __init__(self, fd: int, path: str) -> None:
        """Takes over `fd`, an uncompressed tar archive; raises InvalidArchive."""
        self.path = path
        self._fd = fd
        self._members: dict[str, Entry] = {}
        with storage_errors(path):
            size = os.fstat(fd).st_size
        try:
            found = index_tar(_File(fd, size, path), limits=_LIMITS)
        except InvalidArchive as e:
            e.with_context(path)
            raise
        for entry, _offset in found:
            self._members[normalised(entry.path)] = entry

    @classmethod
    def open(cls, path: str, *, tmpdir: str | None = None, spool: bool = True) -> Self:
        """The archive at `path` ("-" is standard input), spooled to `tmpdir` where needed.

        Raises ImageNotFound, InvalidArchive, LimitExceeded and StorageError, and Unsupported
        when it would have to be spooled and `spool` is False.
        """
        fd = open_input(path)
        try:
            if not can_read_in_place(fd, path):
                if not spool:
                    raise Unsupported(f"{path} cannot be read in place")
                fd = spooled(fd, path, tmpdir)
            return cls(fd, path)
        except BaseException:
            os.close(fd)
            raise

    def __contains__(self, name: str) -> bool:
        return normalised(name) in self._members

    def region(self, name: str) -> Region | None:
        """The data of the file `name`, links followed; None when it is not there.

        Raises InvalidArchive for what is no file, links in a circle or to nothing.
        """
        entry = self._resolve(name)
        if entry is None:
            return None
        if entry.sparse is not None:
            raise Unsupported(f"{self.path}: {name} is stored as a sparse file")
        with storage_errors(self.path):
            return Region(os.dup(self._fd), entry.data_offset, entry.size, self.path)

    def read(self, name: str, limit: int) -> bytes | None:
        """The content of the file `name`, None when it is not there; raises LimitExceeded."""
        region = self.region(name)
        if region is None:
            return None
        with region:
            return region.read_whole(limit, f"{self.path}: {name}")

    def close(self) -> None:
        """Close the archive; regions stay readable. Safe to call twice."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def _resolve(self, name: str) -> Entry | None:
        at = normalised(name)
        for step in range(_LINKS):
            entry = self._members.get(at)
            if entry is None:
                if step:
                    raise InvalidArchive(
                        f"{self.path}: {name} is a link to {at!r}, which is missing"
                    )
                return None
            if entry.type is EntryType.FILE:
                return entry
            if entry.type is EntryType.HARDLINK:
                at = normalised(entry.linkname)
            elif entry.type is EntryType.SYMLINK:
                at = normalised(os.path.join(os.path.dirname(at), entry.linkname))
            else:
                raise InvalidArchive(f"{self.path}: {name} is not a file")
        raise InvalidArchive(f"{self.path}: {name} is a link that leads in a circle")


class ArchiveLayout:
    """The files of an OCI layout in an archive; see LayoutFiles."""

    def __init__(self, archive: Archive) -> None:
        self.path = archive.path
        self._archive = archive

    def document(self, name: str, limit: int) -> bytes | None:
        """See LayoutFiles."""
        return self._archive.read(name, limit)

    def blob(self, digest: object) -> Region | None:
        """See LayoutFiles."""
        return self._archive.region("blobs/" + str(digest).replace(":", "/", 1))

    def close(self) -> None:
        """See LayoutFiles."""
        self._archive.close()


def normalised(name: str) -> str:
    """A member's name relative to the archive's root, which `..` does not leave."""
    parts: list[str] = []
    for part in name.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)


def open_input(path: str) -> int:
    """A descriptor of the file at `path` ("-" is standard input); raises ImageNotFound."""
    try:
        with storage_errors(path):
            fd = os.dup(0) if path == "-" else os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except NotFound as e:
        raise ImageNotFound(e.message) from e
    if stat.S_ISDIR(os.fstat(fd).st_mode):
        os.close(fd)
        raise StorageError(f"{path} is a directory, not an archive", path=path)
    return fd


def can_read_in_place(fd: int, path: str) -> bool:
    """Whether this is a file that is not compressed."""
    from imgtools.blob.compression import Compression, sniff
    from imgtools.blob.compression.formats import SNIFF_BYTES

    if not stat.S_ISREG(os.fstat(fd).st_mode):
        return False
    with storage_errors(path):
        return sniff(os.pread(fd, SNIFF_BYTES, 0)) is Compression.NONE


def spooled(fd: int, path: str, tmpdir: str | None) -> int:
    """A temporary file with the decompressed content of `fd`, which is closed on success."""
    from imgtools.blob.compression import Decompressor

    out = temporary_file(tmpdir)
    try:
        with Decompressor(Stream(fd, path), limit=_UNPACKED_LIMIT) as source:
            while data := source.read1(_CHUNK):
                with storage_errors(tmpdir or _SPOOL):
                    write_all(out, data)
    except BaseException as e:
        os.close(out)
        if isinstance(e, InvalidArchive):
            e.with_context(path)
        raise
    os.close(fd)
    return out


def temporary_file(tmpdir: str | None) -> int:
    """A new file without a name in `tmpdir` (or where large temporary files belong).

    It vanishes with its descriptor, however the process ends. Raises StorageError.
    """
    directory = tmpdir or (_SPOOL if os.path.isdir(_SPOOL) else "/tmp")
    with storage_errors(directory):
        try:
            return os.open(directory, os.O_RDWR | os.O_TMPFILE | os.O_CLOEXEC, 0o600)
        except OSError:
            # Not every file system has nameless files.
            path = os.path.join(directory, f".imgtools-{os.urandom(8).hex()}")
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            os.unlink(path)
            return fd


class Stream:
    """Reads a descriptor from where it stands, its errors typed."""

    def __init__(self, fd: int, path: str) -> None:
        self._fd = fd
        self._path = path

    def read(self, size: int, /) -> bytes:
        with storage_errors(self._path):
            return os.read(self._fd, size)


class _File:
    """A positioned view of a descriptor for `index_tar`."""

    def __init__(self, fd: int, size: int, name: str) -> None:
        self._fd = fd
        self._size = size
        self._at = 0
        self.name = name

    def read(self, size: int, /) -> bytes:
        data = os.pread(self._fd, size, self._at)
        self._at += len(data)
        return data

    def seek(self, offset: int, whence: int = 0, /) -> int:
        self._at = offset + (0, self._at, self._size)[whence]
        return self._at

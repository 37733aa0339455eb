"""A tar archive that several threads write at once and that appears whole at the end.

Every member has its place reserved from its announced size, so that blobs stream to their
own places side by side. Nothing has the final name before `commit`, which is one rename;
what is no file (a pipe, `/dev/stdout`) gets the finished archive instead.
"""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from imgtools.blob.compression.formats import Compression, sniff
from imgtools.blob.files import storage_errors
from imgtools.blob.pump import chunks
from imgtools.blob.reader import BlobReader
from imgtools.blob.tar import BLOCK, Entry
from imgtools.blob.tar.header import encode
from imgtools.errors import Conflict, SizeMismatch
from imgtools.spec.descriptor import Descriptor
from imgtools.task import Task
from imgtools.transport.archive_index import temporary_file
from imgtools.transport.folder import Folder, check_reader, check_size, resolve_target, write_all
from imgtools.transport.lock import begin_file, clear_unfinished

_CHUNK = 1024 * 1024
_END = 2 * BLOCK


@dataclass(slots=True)
class _Place:
    """A stretch of the archive: whole blocks, free again when its member failed."""

    offset: int
    size: int
    free: bool = False


@dataclass(slots=True)
class _Output:
    """The unfinished file; `folder` and `name` are None when it has no name."""

    fd: int
    folder: Folder | None = None
    name: str = ""


class ArchiveWriter:
    """Collects members for the archive at `path`; begins to write with the first of them."""

    def __init__(self, path: str, *, tmpdir: str | None = None) -> None:
        """`tmpdir` is only for what is no file. Raises NotFound for a missing directory."""
        self.streams = is_stream(path)
        self.path = path if self.streams else resolve_target(path)
        self._tmpdir = tmpdir
        self._lock = threading.Lock()
        self._output: _Output | None = None
        self._places: list[_Place] = []
        self._end = 0

    def add(self, entry: Entry, content: bytes = b"") -> None:
        """Append a member with all its data; raises StorageError."""
        with self._member(entry) as (fd, at):
            _write_at(fd, content, at, self.path)

    def add_blob(
        self, entry: Entry, descriptor: Descriptor, reader: BlobReader, *, task: Task
    ) -> None:
        """Append a member whose data is the blob; it is not there if this raises.

        Raises DigestMismatch, SizeMismatch, StorageError and what the reader raises.
        """
        check_reader(reader, descriptor)
        with self._member(entry) as (fd, at):
            done = 0
            for data in chunks(reader, task=task, item=str(descriptor.digest)):
                if done + len(data) > entry.size:
                    raise SizeMismatch(
                        f"blob {descriptor.digest}",
                        expected=descriptor.size,
                        actual=done + len(data),
                    )
                _write_at(fd, data, at + done, self.path)
                done += len(data)
            check_size(descriptor, done)

    def commit(self) -> None:
        """End the archive, make it durable and give it its name."""
        output = self._begin()
        self._close_gaps(output)
        with storage_errors(self.path):
            # A new stretch of a file is zeros, and zeros are how a tar archive ends.
            os.ftruncate(output.fd, self._end + _END)
            if output.folder is not None:
                os.fsync(output.fd)
                os.rename(
                    output.name,
                    os.path.basename(self.path),
                    src_dir_fd=output.folder.fd,
                    dst_dir_fd=output.folder.fd,
                )
                output.folder.sync()
                output.name = ""
            else:
                _send(output.fd, self.path)
        self.close()

    def close(self) -> None:
        """Without commit, remove the unfinished file; safe to call twice."""
        output, self._output = self._output, None
        if output is None:
            return
        try:
            if output.folder is not None and output.name:
                output.folder.remove(output.name)
        finally:
            os.close(output.fd)
            if output.folder is not None:
                output.folder.close()

    def _begin(self) -> _Output:
        with self._lock:
            if self._output is None:
                self._output = self._open_output()
            return self._output

    def _open_output(self) -> _Output:
        if self.streams:
            return _Output(temporary_file(self._tmpdir))
        folder = Folder.open(os.path.dirname(self.path))
        try:
            target = os.path.basename(self.path)
            clear_unfinished(folder, target)
            name, fd = begin_file(folder, target)
        except BaseException:
            folder.close()
            raise
        return _Output(fd, folder, name)

    @contextmanager
    def _member(self, entry: Entry) -> Iterator[tuple[int, int]]:
        """Reserve a place and write the header: the file and where the data goes."""
        fd = self._begin().fd
        header = encode(entry)
        size = len(header) + entry.size
        place = self._reserve(size + -size % BLOCK)
        try:
            _write_at(fd, header, place.offset, self.path)
            yield fd, place.offset + len(header)
            # What a failed member left here before must not show through as padding.
            _write_at(fd, bytes(-size % BLOCK), place.offset + size, self.path)
        except BaseException:
            with self._lock:
                place.free = True
            raise

    def _reserve(self, size: int) -> _Place:
        with self._lock:
            for place in self._places:
                if place.free and place.size == size:
                    place.free = False
                    return place
            place = _Place(self._end, size)
            self._places.append(place)
            self._end += size
            return place

    def _close_gaps(self, output: _Output) -> None:
        """Move members down over the places of failed ones."""
        end = 0
        for place in self._places:
            if place.free:
                continue
            if place.offset != end:
                with storage_errors(self.path):
                    _move(output.fd, place.offset, end, place.size)
            end += place.size
        self._end = end
        with storage_errors(self.path):
            # Cut first, so that what follows the end is zeros.
            os.ftruncate(output.fd, end)


def is_stream(path: str) -> bool:
    """Whether `path` takes an archive without keeping it: "-", a pipe or a device."""
    if path == "-" or path.startswith(("/dev/std", "/dev/fd/", "/proc/self/fd/")):
        return True
    try:
        return not stat.S_ISREG(os.stat(path).st_mode) and not os.path.isdir(path)
    except OSError:
        return False


def check_replaceable(path: str) -> None:
    """Raise Conflict for an existing file that is no archive, compressed or not: a mistyped
    name must not cost somebody their data."""
    with storage_errors(path):
        try:
            with open(path, "rb", buffering=0) as file:
                head = file.read(BLOCK)
        except FileNotFoundError:
            return
    if head and head[257:262] != b"ustar" and sniff(head) is Compression.NONE:
        raise Conflict(
            f"{path} exists and is not a tar archive", hint="remove it, or choose another name"
        )


def _write_at(fd: int, data: bytes, offset: int, path: str) -> None:
    view = memoryview(data)
    with storage_errors(path):
        while view:
            done = os.pwrite(fd, view, offset)
            view = view[done:]
            offset += done


def _move(fd: int, source: int, target: int, size: int) -> None:
    """Copy `size` bytes towards the start of the file; raises OSError."""
    while size:
        data = os.pread(fd, min(_CHUNK, size), source)
        if not data:
            return  # the rest was never written, which reads as zeros
        os.pwrite(fd, data, target)
        source += len(data)
        target += len(data)
        size -= len(data)


def _send(fd: int, path: str) -> None:
    """Copy the file to what is no file; raises OSError."""
    out = os.dup(1) if path == "-" else os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.lseek(fd, 0, os.SEEK_SET)
        while data := os.read(fd, _CHUNK):
            write_all(out, data)
    finally:
        os.close(out)

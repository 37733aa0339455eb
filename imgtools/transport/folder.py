"""A directory held open: every name is looked up beneath it, one component at a time.

What is inside may be hostile, so no symbolic link is followed and only regular files are
opened; the path that leads to the directory itself is the user's word and is followed.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable

from imgtools.blob.files import TEMPORARY_PREFIX, storage_error, storage_errors
from imgtools.blob.pump import pump
from imgtools.blob.reader import BlobReader
from imgtools.errors import DigestMismatch, LimitExceeded, NotFound, SizeMismatch, UnsafePath
from imgtools.spec.descriptor import Descriptor
from imgtools.task import Task
from imgtools.transport.closing import Closing

NEW_PREFIX = f"{TEMPORARY_PREFIX}new-"
"""How the names of files begin that `Folder` has not finished writing."""

PARTIAL_PREFIX = f"{TEMPORARY_PREFIX}partial-"
"""How the names of files begin that hold the first bytes of a blob, for a later run."""

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW


class Region(Closing):
    """Part of an open file, read from its start; owns `fd` and closes it.

    `path` names the file in errors. Safe for one reader at a time.
    """

    def __init__(self, fd: int, offset: int, size: int, path: str) -> None:
        self._fd = fd
        self._offset = offset
        self._at = 0
        self._path = path
        self.size = size

    def read(self, size: int = -1, /) -> bytes:
        """At most `size` bytes (all that is left when negative), b"" at the end."""
        left = self.size - self._at
        data = self.pread(left if size < 0 else min(size, left), self._at)
        self._at += len(data)
        return data

    def skip(self, count: int, /) -> None:
        """Leave out the next `count` bytes, or what there is of them."""
        self._at = min(self.size, self._at + count)

    def pread(self, size: int, offset: int) -> bytes:
        """`size` bytes at `offset` of the region, fewer only at the end of the file."""
        size = max(0, min(size, self.size - offset))
        parts: list[bytes] = []
        with storage_errors(self._path):
            while size:
                data = os.pread(self._fd, size, self._offset + offset)
                if not data:
                    break
                parts.append(data)
                size -= len(data)
                offset += len(data)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def read_whole(self, limit: int, what: str) -> bytes:
        """All bytes; raises LimitExceeded when there are more than `limit`."""
        if self.size > limit:
            raise LimitExceeded(what, limit)
        return self.pread(self.size, 0)

    def close(self) -> None:
        """Close the file; safe to call twice."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def blob_reader(region: Region, descriptor: Descriptor) -> BlobReader:
    """A verifying reader over `region`, which it closes.

    Raises SizeMismatch at once when the size alone tells that it is not the blob.
    """
    if region.size != descriptor.size and descriptor.size >= 0:
        region.close()
        raise SizeMismatch(
            f"blob {descriptor.digest}", expected=descriptor.size, actual=region.size
        )
    return BlobReader(region, descriptor.digest, descriptor.size, close=region.close)


class Folder(Closing):
    """An open directory; `path` names it in errors. Names are single components."""

    def __init__(self, fd: int, path: str) -> None:
        self.fd = fd
        self.path = path

    @classmethod
    def open(cls, path: str) -> Folder:
        """The directory at `path`; raises NotFound or StorageError."""
        with storage_errors(path):
            return cls(os.open(path or ".", _DIRECTORY), path)

    def folder(self, name: str) -> Folder:
        """The directory `name`; raises NotFound, UnsafePath or StorageError."""
        path = self._path(name)
        try:
            return Folder(os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=self.fd), path)
        except OSError as e:
            if e.errno in (errno.ENOTDIR, errno.ELOOP):
                raise UnsafePath(path, "it is not a directory (links are not followed)") from e
            raise storage_error(e, path) from e

    def make(self, name: str) -> tuple[Folder, bool]:
        """The directory `name` and whether it was made now."""
        with storage_errors(self._path(name)):
            try:
                os.mkdir(name, 0o755, dir_fd=self.fd)
                made = True
            except FileExistsError:
                made = False
        return self.folder(name), made

    def file(self, name: str) -> Region:
        """The regular file `name`; raises NotFound, UnsafePath or StorageError."""
        path = self._path(name)
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
        try:
            fd = os.open(name, flags, dir_fd=self.fd)
        except OSError as e:
            if e.errno in (errno.ELOOP, errno.ENXIO):
                raise UnsafePath(path, "it is not a regular file (links are not followed)") from e
            raise storage_error(e, path) from e
        info = os.fstat(fd)
        if not stat.S_ISREG(info.st_mode):
            os.close(fd)
            raise UnsafePath(path, "it is not a regular file")
        return Region(fd, 0, info.st_size, path)

    def read(self, name: str, limit: int) -> bytes:
        """The content of the regular file `name`; raises as `file` does, and LimitExceeded."""
        with self.file(name) as region:
            return region.read_whole(limit, self._path(name))

    def read_if_there(self, name: str, limit: int) -> bytes | None:
        """Like `read`, None when there is no such file."""
        try:
            return self.read(name, limit)
        except NotFound:
            return None

    def size(self, name: str) -> int | None:
        """Bytes of the regular file `name`, None when there is none."""
        with storage_errors(self._path(name)):
            try:
                info = os.stat(name, dir_fd=self.fd, follow_symlinks=False)
            except (FileNotFoundError, NotADirectoryError):
                return None
        return info.st_size if stat.S_ISREG(info.st_mode) else None

    def names(self) -> list[str]:
        """The names in the directory, in no order."""
        with storage_errors(self.path):
            return os.listdir(self.fd)

    def write(self, name: str, content: bytes) -> None:
        """Make `name` hold `content`, atomically and durably but for `sync`."""
        self._store(name, lambda fd: write_all(fd, content))

    def write_blob(
        self, name: str, descriptor: Descriptor, reader: BlobReader, *, task: Task
    ) -> None:
        """Give the blob that `reader` yields the name `name`, once it is verified.

        Durable but for `sync`. Raises DigestMismatch, SizeMismatch, StorageError and what
        the reader raises; nothing is left then.
        """
        check_reader(reader, descriptor)

        def copy(fd: int) -> None:
            done = pump(
                reader, lambda data: write_all(fd, data), task=task, item=str(descriptor.digest)
            )
            check_size(descriptor, done)

        self._store(name, copy)

    def _store(self, name: str, fill: Callable[[int], object]) -> None:
        temporary = f"{NEW_PREFIX}{os.urandom(8).hex()}"
        with storage_errors(self._path(name)):
            fd = os.open(temporary, _NEW_FILE, 0o644, dir_fd=self.fd)
            try:
                try:
                    fill(fd)
                    os.fsync(fd)
                finally:
                    os.close(fd)
                os.rename(temporary, name, src_dir_fd=self.fd, dst_dir_fd=self.fd)
            except BaseException:
                self.remove(temporary)
                raise

    def move(self, name: str, to: Folder, new_name: str) -> None:
        """Rename `name` to `new_name` in `to`, replacing what is there."""
        with storage_errors(to._path(new_name)):
            os.rename(name, new_name, src_dir_fd=self.fd, dst_dir_fd=to.fd)

    def remove(self, name: str) -> None:
        """Remove the file `name`; one that is not there is fine."""
        with storage_errors(self._path(name)):
            try:
                os.unlink(name, dir_fd=self.fd)
            except FileNotFoundError:
                return

    def remove_folder(self, name: str) -> bool:
        """Remove the directory `name` if it is empty; whether it is gone now."""
        with storage_errors(self._path(name)):
            try:
                os.rmdir(name, dir_fd=self.fd)
            except FileNotFoundError:
                return True
            except OSError as e:
                if e.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.EBUSY):
                    return False
                raise
        return True

    def sync(self) -> None:
        """Make the names in this directory durable."""
        with storage_errors(self.path):
            try:
                os.fsync(self.fd)
            except OSError as e:
                # Some file systems (FUSE, overlay on old kernels) cannot sync a directory.
                if e.errno not in (errno.EINVAL, errno.ENOSYS, errno.EBADF):
                    raise

    @property
    def removed(self) -> bool:
        """Whether the directory was removed since it was opened."""
        return os.fstat(self.fd).st_nlink == 0

    def close(self) -> None:
        """Close the directory, which ends its locks; safe to call twice."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def _path(self, name: str) -> str:
        return os.path.join(self.path, name)


def write_all(fd: int, data: bytes | memoryview) -> None:
    """Write all of `data` at the file's position; raises OSError."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def check_reader(reader: BlobReader, descriptor: Descriptor) -> None:
    """Raise DigestMismatch when `reader` verifies another digest than was asked for."""
    if reader.digest != descriptor.digest:
        reader.abandon()
        raise DigestMismatch("blob", expected=str(descriptor.digest), actual=str(reader.digest))


def check_size(descriptor: Descriptor, done: int) -> None:
    """Raise SizeMismatch when a blob of verified digest has another size than announced."""
    if done != descriptor.size:
        raise SizeMismatch(f"blob {descriptor.digest}", expected=descriptor.size, actual=done)


def resolve_target(path: str) -> str:
    """The path of a directory or file to be written, links resolved.

    Raises NotFound when the directory it shall be in does not exist, as skopeo does: a
    mistyped path must not make directories.
    """
    resolved = os.path.realpath(path)
    parent = os.path.dirname(resolved)
    if not os.path.isdir(parent):
        raise NotFound(f"directory {parent} does not exist", hint=f"make it with mkdir -p {parent}")
    return resolved

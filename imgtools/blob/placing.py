"""How files and trees that a user names are written: by this process, or by one that may.

Whoever enters a user namespace may lose the right to write where its caller has it. What writes
results is given one of these instead of opening files itself: `Here`, or the client of a process
that stayed outside.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import BinaryIO, Protocol

from imgtools.blob.files import atomic_file, storage_errors

LOG_MODE = 0o600


class Placing(Protocol):
    """Writes what a user named. All methods raise StorageError and NotFound."""

    @property
    def near(self) -> bool:
        """Whether it is this process that writes, so that it could as well by other means."""
        ...

    def replacing(self, path: str) -> AbstractContextManager[BinaryIO]:
        """An unbuffered file for the block that gets its name, in place of what is there, only
        when the block ends without error. A link is followed: it is the user's way to say
        where the file is. What is no regular file (/dev/stdout, a pipe) is written directly."""
        ...

    def opened(self, path: str) -> BinaryIO:
        """A file for its owner alone that is written as it comes, such as a log; emptied."""
        ...

    def unpack(self, archive: Iterable[bytes], directory: str) -> int:
        """Unpack a tar of a whole tree, in chunks, into a directory, made if it is not there;
        the number of device nodes that were left out for want of privilege."""
        ...


class Here:
    """This process writes itself."""

    near = True

    @contextmanager
    def replacing(self, path: str) -> Iterator[BinaryIO]:
        """See Placing."""
        if is_special(path):
            with storage_errors(path), open(path, "wb", buffering=0) as file:
                yield file
            return
        with atomic_file(os.path.realpath(path)) as file:
            yield file

    def opened(self, path: str) -> BinaryIO:
        """See Placing."""
        with storage_errors(path):
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
            return os.fdopen(os.open(path, flags, LOG_MODE), "wb")

    def unpack(self, archive: Iterable[bytes], directory: str) -> int:
        """See Placing."""
        from imgtools.blob.tar import Devices, UnpackOptions, Whiteouts, unpack_tree

        devices = Devices.ALLOW if os.geteuid() == 0 else Devices.SKIP
        options = UnpackOptions(whiteouts=Whiteouts.REFUSE, devices=devices)
        with storage_errors(directory):
            os.makedirs(directory, exist_ok=True)
        return unpack_tree(ChunkReader(archive), directory, options).devices_skipped


HERE = Here()


def is_special(path: str) -> bool:
    """Whether something is there that is no regular file, and no name to be replaced. Raises
    StorageError."""
    with storage_errors(path):
        try:
            return not stat.S_ISREG(os.stat(path).st_mode)
        except FileNotFoundError:
            return False


class ChunkReader:
    """Reads what an iterable yields, for those that want a stream."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._rest = memoryview(b"")

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes, b"" at the end; raises what the iterable does."""
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                return b""
            self._rest = memoryview(chunk)
        data, self._rest = self._rest[:size], self._rest[size:]
        return bytes(data)

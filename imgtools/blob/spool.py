"""Keeps a source going while its consumer is slow.

A server that cannot send for a minute hangs up, however willing its client is. So when nobody
has read for some seconds, a thread reads on into memory, then into a file without a name,
then waits. As long as the consumer keeps up, the thread sleeps and every read goes straight
through.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import BinaryIO, cast

from imgtools.blob.files import storage_errors
from imgtools.blob.reader import CHUNK, Readable, Skippable

log = logging.getLogger(__name__)

PATIENCE = 5.0
"""Seconds without a read after which the consumer counts as slow."""
MEMORY = 2 * 1024 * 1024
DISK = 1024 * 1024 * 1024
"""Bytes of each blob: several are read at a time, and the disk of a container may be small. Who
has to wait beyond that may hang up, which is gone on after."""


class Spool:
    """The bytes of a carrier, read ahead when whoever reads this is slow.

    For one reading thread; `close` ends the other one.
    """

    def __init__(
        self,
        carrier: Readable,
        *,
        abort: Callable[[], object],
        tmpdir: str | None = None,
        patience: float = PATIENCE,
        memory: int = MEMORY,
        disk: int = DISK,
    ) -> None:
        """`abort` ends a read of the carrier that another thread is in, for good.

        Up to `memory` bytes are held in memory and `disk` in a file in `tmpdir` (None: the
        system's directory for such files).
        """
        self._carrier = carrier
        self._abort = abort
        self._patience = patience
        self._buffer = _Buffer(memory, disk, tmpdir)
        # Held for every use of the carrier before the thread takes it over.
        self._direct = threading.Lock()
        self._spooling = False
        self._last = time.monotonic()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="imgtools-spool", daemon=True)
        self._thread.start()

    @property
    def spooling(self) -> bool:
        """Whether the consumer was found slow."""
        return self._spooling

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes, b"" at the end; raises what the carrier raises."""
        with self._direct:
            if not self._spooling:
                data = self._carrier.read(size)
                self._last = time.monotonic()
                return data
        return self._buffer.take(size)

    def skip(self, count: int, /) -> None:
        """Leave out the next `count` bytes; raises what the carrier raises."""
        with self._direct:
            if not self._spooling and isinstance(self._carrier, Skippable):
                self._carrier.skip(count)
                return
        while count and (data := self.read(min(count, CHUNK))):
            count -= len(data)

    def close(self) -> None:
        """End the thread, and the read it is in; the carrier stays the caller's to close."""
        self._closing.set()
        if self._spooling:
            self._abort()
        self._buffer.abandon()
        self._thread.join()
        self._buffer.close()

    def _run(self) -> None:
        while not self._closing.wait(self._patience):
            # Who holds the lock is reading, and waits for the source rather than we for it.
            if self._direct.acquire(blocking=False):
                try:
                    self._spooling = time.monotonic() - self._last >= self._patience
                finally:
                    self._direct.release()
            if self._spooling:
                log.debug("nobody reads, reading ahead")
                self._drain()
                return

    def _drain(self) -> None:
        error: BaseException | None = None
        try:
            while not self._closing.is_set() and (data := self._carrier.read(CHUNK)):
                if not self._buffer.put(data):
                    return
        except BaseException as e:  # noqa: BLE001 - it is raised where the bytes are awaited
            error = e
        self._buffer.end(error)


class _Buffer:
    """A queue of bytes between two threads: the head in memory, the rest in a file.

    Bytes go into memory only while the file is empty, so that they keep their order.
    """

    def __init__(self, memory: int, disk: int, tmpdir: str | None) -> None:
        self._memory, self._disk, self._tmpdir = memory, disk, tmpdir
        self._changed = threading.Condition()
        self._chunks: deque[bytes] = deque()
        self._held = 0
        self._file: BinaryIO | None = None
        self._read_at = self._write_at = 0
        self._ended = False
        self._abandoned = False
        self._error: BaseException | None = None

    def put(self, data: bytes) -> bool:
        """Append `data`, waiting for room; False once nobody wants it."""
        view = memoryview(data)
        while view:
            with self._changed:
                while not self._abandoned and not self._has_room():
                    self._changed.wait()
                if self._abandoned:
                    return False
                if self._write_at == 0 and self._held < self._memory:
                    self._chunks.append(bytes(view))
                    self._held += len(view)
                    view = view[len(view) :]
                else:
                    view = view[self._spill(view) :]
                self._changed.notify_all()
        return True

    def take(self, size: int) -> bytes:
        """The next bytes, at most `size`, waiting for them; b"" at the end.

        Raises the error that ended them, once they are all taken.
        """
        with self._changed:
            while not (self._chunks or self._write_at or self._ended or self._abandoned):
                self._changed.wait()
            data = self._from_memory(size) if self._chunks else self._from_file(size)
            self._changed.notify_all()
            if not data and size and self._error is not None:
                raise self._error
            return data

    def end(self, error: BaseException | None) -> None:
        """Say that nothing more comes, and why if it is an error."""
        with self._changed:
            self._ended, self._error = True, error
            self._changed.notify_all()

    def abandon(self) -> None:
        """Say that nothing more is wanted."""
        with self._changed:
            self._abandoned = True
            self._changed.notify_all()

    def close(self) -> None:
        """Free memory and file; both threads are done."""
        self._chunks.clear()
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def _has_room(self) -> bool:
        if self._write_at == 0 and self._held < self._memory:
            return True
        return self._write_at < self._disk

    def _from_memory(self, size: int) -> bytes:
        chunk = self._chunks.popleft()
        data = chunk[:size]
        if len(data) < len(chunk):
            self._chunks.appendleft(chunk[size:])
        self._held -= len(data)
        return data

    def _from_file(self, size: int) -> bytes:
        if self._file is None or not self._write_at:
            return b""
        size = min(size, self._write_at - self._read_at)
        with storage_errors(self._tmpdir or "the directory of temporary files"):
            data = os.pread(self._file.fileno(), size, self._read_at)
            self._read_at += len(data)
            if self._read_at == self._write_at:
                self._read_at = self._write_at = 0
                os.ftruncate(self._file.fileno(), 0)
        return data

    def _spill(self, data: memoryview) -> int:
        """Bytes of `data` that went into the file; 0 when it can take no more."""
        try:
            if self._file is None:
                from tempfile import TemporaryFile

                file = TemporaryFile(dir=self._tmpdir, buffering=0)  # noqa: SIM115 - see close
                self._file = cast("BinaryIO", file)
            count = os.pwrite(self._file.fileno(), data, self._write_at)
        except OSError as e:
            log.warning(
                "cannot read ahead of a slow destination in %s: %s; TMPDIR or --tmpdir names"
                " another directory",
                self._tmpdir or "the directory of temporary files",
                e.strerror,
            )
            # What is there is used up; from now on the source has to wait.
            self._disk = 0
            return 0
        self._write_at += count
        return count

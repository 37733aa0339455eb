"""A stream that a thread reads, decompresses and hashes while what came before is unpacked.

Both sides mostly wait for system calls and for code that holds no lock of the interpreter, so
two processors work at once. A few chunks are held, whatever the size of the layer.
"""

from __future__ import annotations

import queue
import threading
from types import TracebackType

from imgtools.blob.reader import Readable
from imgtools.spec.digest import Digest

CHUNK = 256 * 1024
"""What `TarReader` asks for, so that most chunks are passed on as they are."""
AHEAD = 16
WAIT = 0.1
"""Seconds after which the thread looks whether anybody still wants what it has read."""


class ReadAhead:
    """Reads `source` to its end in a thread, from the start of a `with` block to its end.

    `digest` gives the algorithm; `hexdigest` is that of all that was read. An error of
    `source` is raised by the read that would have had its bytes. The source is not used any
    more when the block is left.
    """

    def __init__(self, source: Readable, digest: Digest) -> None:
        self._source = source
        self._hasher = digest.hasher()
        self._queue: queue.Queue[bytes | BaseException] = queue.Queue(AHEAD)
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._run, name="layer-reader")
        self._chunk = b""
        self._end: bytes | BaseException | None = None

    def __enter__(self) -> ReadAhead:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._left.set()
        self._thread.join()

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes, b"" at the end."""
        if not self._chunk:
            if self._end is None:
                item = self._queue.get()
                if isinstance(item, bytes) and item:
                    self._chunk = item
                else:
                    self._end = item
            if isinstance(self._end, BaseException):
                raise self._end
        data, self._chunk = self._chunk, b""
        if len(data) > size:
            data, self._chunk = data[:size], data[size:]
        return data

    def hexdigest(self) -> str:
        """The digest of everything, once the end was read."""
        return self._hasher.hexdigest()

    def _run(self) -> None:
        try:
            while data := self._source.read(CHUNK):
                self._hasher.update(data)
                if not self._put(data):
                    return
            self._put(b"")
        except BaseException as e:  # noqa: BLE001 (raised where the bytes are wanted)
            self._put(e)

    def _put(self, item: bytes | BaseException) -> bool:
        while not self._left.is_set():
            try:
                self._queue.put(item, timeout=WAIT)
                return True
            except queue.Full:
                continue
        return False

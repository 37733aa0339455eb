"""A stream that is read, decompressed and hashed by threads while what came before is unpacked.

All of them mostly wait for system calls and for code that holds no lock of the interpreter, so
several processors work at once. Chunks are large, because handing one over costs every thread
a wait for that lock; a few are held, whatever the size of the layer.
"""

from __future__ import annotations

import threading
from queue import SimpleQueue
from types import TracebackType

from imgtools.blob.compression import Compression, Decompressor, sniff
from imgtools.blob.compression.formats import SNIFF_BYTES
from imgtools.blob.reader import Readable
from imgtools.errors import LimitExceeded
from imgtools.spec.digest import Digest

CHUNK = 1024 * 1024
"""What is best asked for at a time: chunks of this size are passed on as they are."""
AHEAD = 8


class Plain:
    """What is in `source`, compressed or not; `limit` bounds the bytes read.

    What is not compressed is passed on without a copy. Raises LimitExceeded, InvalidArchive
    and what `source` raises.
    """

    def __init__(self, source: Readable, *, limit: int) -> None:
        """Reads the first bytes of `source`."""
        head = source.read(CHUNK)
        while len(head) < SNIFF_BYTES and (more := source.read(CHUNK)):
            head += more
        self._source = _Behind(head, source)
        self._limit = limit
        self._count = 0
        self._decompressor: Decompressor | None = None
        compression = sniff(head)
        if compression is not Compression.NONE:
            self._decompressor = Decompressor(self._source, compression, limit=limit, chunk=CHUNK)

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes, b"" at the end."""
        if self._decompressor is not None:
            return self._decompressor.read1(size)
        data = self._source.read(size)
        self._count += len(data)
        if self._count > self._limit:
            raise LimitExceeded("decompressed data", self._limit)
        return data


class _Behind:
    """A stream of which `head` was read already."""

    def __init__(self, head: bytes, source: Readable) -> None:
        self._head = head
        self._source = source

    def read(self, size: int, /) -> bytes:
        if not self._head:
            return self._source.read(size)
        data, self._head = self._head[:size], self._head[size:]
        return data


class ReadAhead:
    """Reads `source` to its end in a thread, from the start of a `with` block to its end, and
    hashes it in another.

    `digest` gives the algorithm; `hexdigest` is that of all that was read. An error of
    `source` is raised by the read that would have had its bytes. The source is not used any
    more when the block is left.
    """

    def __init__(self, source: Readable, digest: Digest) -> None:
        self._source = source
        self._hasher = digest.hasher()
        self._ready: SimpleQueue[bytes | BaseException] = SimpleQueue()
        self._to_hash: SimpleQueue[bytes] = SimpleQueue()
        self._room: SimpleQueue[None] = SimpleQueue()
        """One item for each chunk that may still be read: given back when it is used up."""
        self._hashed: SimpleQueue[None] = SimpleQueue()
        for _ in range(AHEAD):
            self._room.put(None)
            self._hashed.put(None)
        self._left = False
        self._reading = threading.Thread(target=self._read, name="layer-reader")
        self._hashing = threading.Thread(target=self._hash, name="layer-hasher")
        self._chunk = b""
        self._end: bytes | BaseException | None = None

    def __enter__(self) -> ReadAhead:
        self._hashing.start()
        try:
            self._reading.start()
        except BaseException:
            self._to_hash.put(b"")
            self._hashing.join()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._left = True
        self._room.put(None)
        self._reading.join()
        self._hashing.join()

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes, b"" at the end."""
        if not self._chunk:
            if self._end is None:
                item = self._ready.get()
                if isinstance(item, bytes) and item:
                    self._chunk = item
                    self._room.put(None)
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
        self._hashing.join()
        return self._hasher.hexdigest()

    def _read(self) -> None:
        read, chunk = self._source.read, CHUNK
        try:
            while True:
                self._room.get()
                self._hashed.get()
                data = b"" if self._left else read(chunk)
                self._to_hash.put(data)
                self._ready.put(data)
                if not data:
                    return
        except BaseException as e:  # noqa: BLE001 (raised where the bytes are wanted)
            self._to_hash.put(b"")
            self._ready.put(e)

    def _hash(self) -> None:
        while data := self._to_hash.get():
            self._hasher.update(data)
            self._hashed.put(None)

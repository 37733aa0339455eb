"""What a layer's tar has besides the contents of its files, so that its bytes can be made again.

Only unpacked layers are stored, and yet a layer has to come back byte for byte, or its
diff_id would be another. While a layer streams into a tree, `Recorder` writes down all of
the stream but the contents of regular files, for which it keeps path and length; `Replay`
(in `tar_replay`) puts both together again. A layer of which a tree cannot give everything
back (a file twice, one replaced later in the same archive) is recorded whole.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from typing import BinaryIO

from imgtools.blob import whiteout
from imgtools.blob.files import storage_errors, write_all
from imgtools.blob.tar import BLOCK, EntryType, fields, member, pax
from imgtools.blob.tar.data import Readable
from imgtools.errors import Error

MAGIC = b"imgtools layer record 1\n"
SIZE = struct.Struct(">Q")
HEAD = struct.Struct(">cQ")
RAW, FILE, END = b"R", b"F", b"E"
PATH = struct.Struct(">H")
_FLUSH = 64 * 1024
_LEVEL = 3
_SPECIAL_LIMIT = 1024 * 1024


class Recorder:
    """Passes a tar stream on and writes its record; reads are `source.read`'s."""

    def __init__(self, source: Readable, out: BinaryIO, *, whole: bool = False) -> None:
        """As `RecordWriter`."""
        self._source = source
        self._record = RecordWriter(out, whole=whole)

    @property
    def size(self) -> int:
        """The bytes read so far."""
        return self._record.size

    def read(self, size: int, /) -> bytes:
        """The next bytes of the source, recorded."""
        data = self._source.read(size)
        if data:
            self._record.take(data)
        return data

    def finish(self) -> None:
        """Complete the record; the source has been read to its end. Raises StorageError."""
        self._record.finish()


class RecordWriter:
    """Writes the record of a tar that is handed over in pieces.

    `size` is the bytes taken so far. With `whole` all bytes are recorded, for a layer that
    `comes_back` refuses.
    """

    def __init__(self, out: BinaryIO, *, whole: bool = False) -> None:
        """`out` is an unbuffered file; `finish` completes what is written to it."""
        self._out = out
        self._packer = zlib.compressobj(_LEVEL)
        self._raw = bytearray()
        self._parser = None if whole else _Parser(self._keep, self._file)
        self.size = 0
        with storage_errors("layer record"):
            write_all(out, MAGIC + SIZE.pack(0))

    def take(self, data: bytes) -> None:
        """Record the next bytes. Raises StorageError."""
        self.size += len(data)
        if self._parser is None:
            self._keep(data)
        else:
            self._parser.feed(data)

    def finish(self) -> None:
        """Complete the record; all has been taken. Raises StorageError."""
        self._flush()
        self._write(HEAD.pack(END, self.size))
        with storage_errors("layer record"):
            write_all(self._out, self._packer.flush())
            self._out.seek(len(MAGIC))
            write_all(self._out, SIZE.pack(self.size))

    def _keep(self, data: bytes) -> None:
        self._raw += data
        if len(self._raw) >= _FLUSH:
            self._flush()

    def _file(self, path: bytes, size: int) -> None:
        self._flush()
        self._write(HEAD.pack(FILE, size) + PATH.pack(len(path)) + path)

    def _flush(self) -> None:
        if self._raw:
            self._write(HEAD.pack(RAW, len(self._raw)) + bytes(self._raw))
            self._raw.clear()

    def _write(self, data: bytes) -> None:
        packed = self._packer.compress(data)
        if packed:
            with storage_errors("layer record"):
                write_all(self._out, packed)


class _Parser:
    """Finds the contents of regular files in a tar that comes in pieces of any size.

    It has to agree with `TarReader` on where they are. Where it cannot be sure it keeps all
    that follows, so that what is rare costs space and never bytes.
    """

    def __init__(
        self, keep: Callable[[bytes], object], file: Callable[[bytes, int], object]
    ) -> None:
        self._keep = keep
        self._file = file
        self._decoder = member.MemberDecoder()
        self._block = b""
        self._literal = 0
        self._data = 0
        self._special: bytearray | None = None
        self._special_left = 0
        self._sparse = False
        self._flag = b""
        self._path = b""
        self._records: pax.Records = {}
        self._done = False

    def feed(self, chunk: bytes) -> None:
        """Take the next piece of the archive."""
        at, end = 0, len(chunk)
        while at < end:
            if self._data:
                step = min(self._data, end - at)
                self._data -= step
            elif self._done:
                step = end - at
                self._keep(chunk[at:])
            elif self._literal:
                step = min(self._literal, end - at)
                self._literal -= step
                self._take(chunk[at : at + step])
            else:
                step = min(BLOCK - len(self._block), end - at)
                piece = chunk[at : at + step]
                self._keep(piece)
                self._block += piece
                if len(self._block) == BLOCK:
                    block, self._block = self._block, b""
                    self._header(block)
            at += step

    def _take(self, data: bytes) -> None:
        self._keep(data)
        if self._special is None:
            return
        part = data[: self._special_left]
        self._special_left -= len(part)
        self._special += part
        if not self._special_left:
            content, self._special = bytes(self._special), None
            self._extended(content)

    def _extended(self, content: bytes) -> None:
        """The data of an extended header is complete."""
        if self._flag == b"L":
            self._path = content.partition(b"\0")[0]
        elif self._flag == b"x":
            try:
                self._records = pax.parse_records(content)
            except Error:
                self._give_up()

    def _header(self, block: bytes) -> None:
        if self._sparse:
            self._sparse = block[504] != 0
            return
        if block == fields.ZERO_BLOCK:
            self._done = True
            return
        try:
            entry = self._decoder.decode(block, 0) if block[156:157] not in b"xgLKV" else None
            size = fields.parse_number(block[124:136]) if entry is None else entry.size
        except Error:
            self._give_up()
            return
        if entry is None:
            self._begin_special(block[156:157], size)
            return
        path = self._path or entry.path.encode("utf-8", "surrogateescape")
        records, self._path, self._records = self._records, b"", {}
        if records:
            path = records.get(b"path") or path
            if value := records.get(b"size"):
                size = int(value) if value.isdigit() else -1
        if entry.type is EntryType.FILE:
            self._content(block, path, size, records)
        elif entry.type is EntryType.HARDLINK and size:
            self._give_up()
        elif block[156:157] == b"D":
            self._literal = size + -size % BLOCK

    def _content(self, block: bytes, path: bytes, size: int, records: pax.Records) -> None:
        if size < 0:
            self._give_up()
            return
        sparse = block[156:157] == b"S"
        if sparse or any(key.startswith(b"GNU.sparse.") for key in records):
            self._sparse = sparse and block[482] != 0
            if self._sparse:
                self._give_up()
            self._literal = size + -size % BLOCK
            return
        name = path.rpartition(b"/")[2]
        if not size or name.startswith(whiteout.PREFIX.encode()) or len(path) > 0xFFFF:
            self._literal = size + -size % BLOCK
            return
        self._file(path, size)
        self._data = size
        self._literal = -size % BLOCK

    def _begin_special(self, flag: bytes, size: int) -> None:
        self._literal = size + -size % BLOCK
        self._flag = flag
        if flag not in (b"x", b"L") or not size:
            return
        if size > _SPECIAL_LIMIT:
            self._give_up()
            return
        self._special, self._special_left = bytearray(), size

    def _give_up(self) -> None:
        """Keep everything from here on, content or not."""
        self._done = True

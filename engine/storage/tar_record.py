"""What a layer's tar has besides the contents of its files, so that its bytes can be made again.

Only unpacked layers are stored, and yet a layer has to come back byte for byte, or its
diff_id would be another. While a layer streams into a tree, `Recorder` writes down all of
the stream but the contents of regular files, for which it keeps path and length; `Replay`
puts both together again. A layer of which a tree cannot give everything back (a file twice,
one replaced later in the same archive) is recorded whole.
"""

from __future__ import annotations

import os
import stat
import struct
import zlib
from collections.abc import Callable, Generator, Iterator
from typing import BinaryIO

from imgtools.blob import whiteout
from imgtools.blob.files import storage_errors, write_all
from imgtools.blob.tar import BLOCK, EntryType, TarLimits, fields, member, pax
from imgtools.blob.tar.data import CHUNK, Readable
from imgtools.blob.tar.root import Root
from imgtools.errors import Error, StorageError
from imgtools.spec.digest import Digest, new_hasher

MAGIC = b"imgtools layer record 1\n"
_SIZE = struct.Struct(">Q")
_HEAD = struct.Struct(">cQ")
_RAW, _FILE, _END = b"R", b"F", b"E"
_PATH = struct.Struct(">H")
_FLUSH = 64 * 1024
_LEVEL = 3
_SPECIAL_LIMIT = 1024 * 1024


class Recorder:
    """Passes a tar stream on and writes its record; reads are `source.read`'s.

    `diff_id` and `size` are about what was read so far. With `whole` all bytes are recorded,
    for a layer that `comes_back` refuses.
    """

    def __init__(self, source: Readable, out: BinaryIO, *, whole: bool = False) -> None:
        """`out` is an unbuffered file; `finish` completes what is written to it."""
        self._source = source
        self._out = out
        self._hasher = new_hasher("sha256")
        self._packer = zlib.compressobj(_LEVEL)
        self._raw = bytearray()
        self._parser = None if whole else _Parser(self._keep, self._file)
        self.size = 0
        with storage_errors("layer record"):
            write_all(out, MAGIC + _SIZE.pack(0))

    @property
    def diff_id(self) -> Digest:
        """The digest of the bytes so far."""
        return Digest("sha256", self._hasher.hexdigest())

    def read(self, size: int, /) -> bytes:
        """The next bytes of the source, recorded."""
        data = self._source.read(size)
        if data:
            self._hasher.update(data)
            self.size += len(data)
            if self._parser is None:
                self._keep(data)
            else:
                self._parser.feed(data)
        return data

    def finish(self) -> None:
        """Complete the record; the source has been read to its end. Raises StorageError."""
        self._flush()
        self._write(_HEAD.pack(_END, self.size))
        with storage_errors("layer record"):
            write_all(self._out, self._packer.flush())
            self._out.seek(len(MAGIC))
            write_all(self._out, _SIZE.pack(self.size))

    def _keep(self, data: bytes) -> None:
        self._raw += data
        if len(self._raw) >= _FLUSH:
            self._flush()

    def _file(self, path: bytes, size: int) -> None:
        self._flush()
        self._write(_HEAD.pack(_FILE, size) + _PATH.pack(len(path)) + path)

    def _flush(self) -> None:
        if self._raw:
            self._write(_HEAD.pack(_RAW, len(self._raw)) + bytes(self._raw))
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


def _operations(file: BinaryIO, where: str) -> Iterator[tuple[bytes, bytes, int]]:
    """(kind, raw bytes or path, number) of a record; raises StorageError when it is damaged."""
    source = _Unpacked(file, where)
    while True:
        kind, number = _HEAD.unpack(source.exactly(_HEAD.size))
        if kind == _RAW:
            left = number
            while left:
                data = source.exactly(min(left, CHUNK))
                left -= len(data)
                yield kind, data, len(data)
        elif kind == _FILE:
            (length,) = _PATH.unpack(source.exactly(_PATH.size))
            yield kind, source.exactly(length), number
        elif kind == _END:
            yield kind, b"", number
            return
        else:
            raise _damaged(where)


class _Unpacked:
    def __init__(self, file: BinaryIO, where: str) -> None:
        self._file = file
        self._where = where
        self._unpacker = zlib.decompressobj()
        self._rest = b""
        size_of(file, where)

    def exactly(self, size: int) -> bytes:
        parts, have = [self._rest], len(self._rest)
        while have < size:
            packed = self._unpacker.unconsumed_tail
            if not packed:
                with storage_errors(self._where):
                    packed = self._file.read(CHUNK)
            try:
                data = self._unpacker.decompress(packed, CHUNK)
            except zlib.error as e:
                raise _damaged(self._where) from e
            if not data and not packed:
                raise _damaged(self._where)
            parts.append(data)
            have += len(data)
        whole = b"".join(parts)
        self._rest = whole[size:]
        return whole[:size]


def size_of(record: BinaryIO, where: str) -> int:
    """The length in bytes of the tar of an open record, which is read past that; raises
    StorageError naming `where`."""
    with storage_errors(where):
        head = record.read(len(MAGIC) + _SIZE.size)
    if len(head) != len(MAGIC) + _SIZE.size or not head.startswith(MAGIC):
        raise _damaged(where)
    size: int = _SIZE.unpack_from(head, len(MAGIC))[0]
    return size


def _damaged(where: str) -> StorageError:
    return StorageError(f"{where}: the record of a layer is damaged", path=where)


class Replay:
    """The tar of a record, read as it was; `size` is its length.

    `tree` is the directory that the layer was unpacked into, of which nothing is believed:
    names are looked up beneath it, and only regular files of the recorded length are read.
    Whoever reads verifies the digest. Raises StorageError when the tree has changed.
    """

    def __init__(self, record: str, tree: str) -> None:
        with storage_errors(record):
            self._file = open(record, "rb", buffering=0)  # noqa: SIM115 - see close
        self.size = size_of(self._file, record)
        self._file.seek(0)
        self._where = record
        self._tree = tree
        self._root: Root | None = None
        self._pieces = self._bytes()
        self._piece = b""

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes, b"" at the end."""
        while not self._piece:
            piece = next(self._pieces, None)
            if piece is None:
                return b""
            self._piece = piece
        data, self._piece = self._piece[:size], self._piece[size:]
        return data

    def close(self) -> None:
        """Release the files; safe to call twice."""
        self._pieces.close()
        self._file.close()
        root, self._root = self._root, None
        if root is not None:
            root.close()

    def _bytes(self) -> Generator[bytes, None, None]:
        for kind, data, number in _operations(self._file, self._where):
            if kind == _RAW:
                yield data
            elif kind == _FILE:
                yield from self._content(data, number)

    def _content(self, path: bytes, size: int) -> Iterator[bytes]:
        fd = self._open(path, size)
        try:
            left = size
            while left:
                with storage_errors(self._tree):
                    data = os.read(fd, min(left, CHUNK))
                if not data:
                    raise self._changed(path)
                left -= len(data)
                yield data
        finally:
            os.close(fd)

    def _open(self, path: bytes, size: int) -> int:
        if self._root is None:
            self._root = open_root(self._tree)
        found = look_up(self._root, path)
        if found is None or not stat.S_ISREG(found[0].st_mode) or found[0].st_size != size:
            raise self._changed(path)
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        with storage_errors(self._tree):
            return os.open(found[2], flags, dir_fd=found[1])

    def _changed(self, path: bytes) -> StorageError:
        return StorageError(
            f"{os.fsdecode(path)!r} in {self._tree} is not what was unpacked there",
            path=self._tree,
            hint="the store was changed by others; pull the image again",
        )


def open_root(tree: str) -> Root:
    """The root of an unpacked tree; raises StorageError."""
    with storage_errors(tree):
        fd = os.open(tree, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    return Root(fd, TarLimits(), lambda path, mode: None)


def look_up(root: Root, path: bytes) -> tuple[os.stat_result, int, bytes] | None:
    """What an archive path names below `root`, with the descriptor of its directory and its
    name there; None where it is not."""
    parent, _, name = path.rpartition(b"/")
    try:
        directory = root.find(parent)
        if directory is None or name in (b"", b".", b".."):
            return None
        return os.lstat(name, dir_fd=directory.fd), directory.fd, name
    except (Error, OSError):
        return None


def comes_back(record: BinaryIO, tree: str) -> bool:
    """Whether every file of a record (an open file, read from its start) is in `tree`, with
    its length and as a file of its own.

    Two names of one inode are a file that was written twice, of which the first content is
    gone. Raises StorageError for a damaged record.
    """
    seen: set[int] = set()
    root = open_root(tree)
    try:
        record.seek(0)
        for kind, path, size in _operations(record, tree):
            if kind != _FILE:
                continue
            found = look_up(root, path)
            if found is None or not stat.S_ISREG(found[0].st_mode):
                return False
            if found[0].st_size != size or found[0].st_ino in seen:
                return False
            seen.add(found[0].st_ino)
    finally:
        root.close()
    return True

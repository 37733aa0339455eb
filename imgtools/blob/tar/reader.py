"""Streaming reader of tar archives in every format that layers come in.

`TarReader` turns any object with `read(n)` into entries and their data, without seeking and
with a bounded buffer. End of archive and tolerance of damage are those of Go's archive/tar,
which container runtimes use.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from imgtools.blob.tar import fields, member, pax, sparse
from imgtools.blob.tar.data import CHUNK, EntryData, Readable
from imgtools.blob.tar.entry import BLOCK, Entry, EntryType, TarLimits
from imgtools.errors import InvalidArchive, LimitExceeded


class TarReader:
    """Iterates over the members of an archive: `for entry, data in TarReader(source)`.

    `data` reads the logical content (holes of sparse files as zeros) and is valid until the
    next step. All errors are InvalidArchive (malformed, cut), LimitExceeded, Unsupported, or
    whatever `source.read` raises.
    """

    def __init__(
        self,
        source: Readable,
        *,
        limits: TarLimits | None = None,
        chunk: int = CHUNK,
        seek: Callable[[int], object] | None = None,
    ) -> None:
        """`seek`, if given, moves `source` to an absolute offset of the archive instead of
        reading over data that nobody asked for."""
        self._read = source.read
        self._seek = seek
        self._chunk = chunk
        self._limits = limits or TarLimits()
        self._decoder = member.MemberDecoder()
        self._globals: pax.Records = {}
        self._buf = b""
        self._pos = 0
        self._base = 0
        self._left = 0
        self._pad = 0
        self.count = 0
        """Members begun so far."""
        self._done = False

    def __iter__(self) -> Iterator[tuple[Entry, EntryData]]:
        while (entry := self.next()) is not None:
            yield entry, EntryData(self, entry)

    @property
    def offset(self) -> int:
        """Bytes of the archive consumed so far."""
        return self._base + self._pos

    def next(self) -> Entry | None:
        """Go on to the next member, skipping what is left of this one; None at the end."""
        rest = self._left + self._pad
        if rest:
            if len(self._buf) - self._pos >= rest:
                self._pos += rest
            else:
                self._skip(self._left, self._pad)
            self._left = self._pad = 0
        start = self._base + self._pos
        block = self._header()
        if block is None:
            return None
        self.count += 1
        if self.count > self._limits.entries:
            raise LimitExceeded("number of tar entries", self._limits.entries, unit="entries")
        if block[156] in b"xgLKV":
            return self._extended(block, start)
        entry = self._decoder.decode(block, start)
        if self._globals:
            member.apply_records(entry, self._globals, self._limits)
        self._open(entry, block, None)
        return entry

    def _extended(self, block: bytes, start: int) -> Entry | None:
        """The member behind the extended headers that `block` begins; their data is read here."""
        records: pax.Records | None = None
        name = link = b""
        following: bytes | None = block
        for _ in range(self._limits.headers + 1):
            if following is None:
                if records is None and not name and not link:
                    return None
                raise InvalidArchive("tar archive ends after an extended header")
            block = following
            flag = block[156:157]
            if flag == b"x":
                records = pax.parse_records(self._special(block))
            elif flag == b"g":
                member.merge_global(self._globals, pax.parse_records(self._special(block)))
                if len(self._globals) > self._limits.xattrs:
                    raise LimitExceeded("global pax header", self._limits.xattrs, unit="records")
            elif flag == b"L":
                name = self._special(block).partition(b"\0")[0]
            elif flag == b"K":
                link = self._special(block).partition(b"\0")[0]
            elif flag == b"V":
                self._special(block)  # volume label: names the archive, is no member
            else:
                return self._complete(block, start, records, name, link)
            following = self._header()
        raise LimitExceeded("extended headers of one member", self._limits.headers, unit="headers")

    def _complete(
        self, block: bytes, start: int, records: pax.Records | None, name: bytes, link: bytes
    ) -> Entry:
        entry = self._decoder.decode(block, start)
        if self._globals:
            records = {**self._globals, **(records or {})}
        if records:
            member.apply_records(entry, records, self._limits)
        if name:
            entry.path = name.decode("utf-8", "surrogateescape")
        if link:
            entry.linkname = link.decode("utf-8", "surrogateescape")
        self._open(entry, block, records)
        if max(len(entry.path), len(entry.linkname)) > self._limits.path_bytes:
            raise LimitExceeded("path of a tar entry", self._limits.path_bytes)
        return entry

    def _open(self, entry: Entry, block: bytes, records: pax.Records | None) -> None:
        """Work out where the data of `entry` is, and read its sparse map if it has one."""
        stored = entry.size
        kind = entry.type
        if stored > fields.INT64_MAX - BLOCK:
            raise InvalidArchive("tar entry has an impossible size")
        if kind is EntryType.FILE:
            self._left = entry.stored_size = stored
            self._pad = -stored % BLOCK
            if block[156] == 0x53:
                self._old_sparse(entry, block)
            elif records is not None and (version := sparse.pax_version(records)):
                self._pax_sparse(entry, records, version)
        elif stored:
            entry.size = 0
            if block[156] == 0x44 or (kind is EntryType.HARDLINK and not self._at_header()):
                self._pad = stored + -stored % BLOCK
        entry.data_offset = self._base + self._pos

    def _at_header(self) -> bool:
        """Whether a header or the end follows.

        Writers disagree on whether a hard link with a size has data (pax -o linkdata does, Go
        and GNU tar never do); what follows decides.
        """
        if self._fill(BLOCK) < BLOCK:
            return True
        block = self._buf[self._pos : self._pos + BLOCK]
        if block == fields.ZERO_BLOCK:
            return True
        try:
            return fields.checksum_matches(block, fields.parse_number(block[148:156]))
        except InvalidArchive:
            return False

    def _old_sparse(self, entry: Entry, block: bytes) -> None:
        if not member.is_gnu(block):
            raise InvalidArchive("sparse tar entry without GNU header")
        runs = sparse.parse_entries(block, 386, 4)
        entry.size = fields.parse_number(block[483:495])
        more, room = block[482] != 0, self._limits.header_bytes // BLOCK
        while more:
            room -= 1
            if room < 0:
                raise LimitExceeded("sparse map", self._limits.header_bytes)
            found, more = sparse.parse_extension(self._block())
            runs += found
        entry.sparse = tuple(runs)
        sparse.check_runs(entry.sparse, size=entry.size, stored=entry.stored_size)

    def _pax_sparse(self, entry: Entry, records: pax.Records, version: tuple[int, int]) -> None:
        if name := records.get(b"GNU.sparse.name"):
            entry.path = name.decode("utf-8", "surrogateescape")
        for key in (b"GNU.sparse.size", b"GNU.sparse.realsize"):
            if size := records.get(key):
                entry.size = pax.parse_int(size, key.decode())
                break
        if version[0] == 1:
            entry.sparse = self._map_1_0()
            entry.stored_size = self._left
        else:
            entry.sparse = sparse.parse_map_0(records)
        sparse.check_runs(entry.sparse, size=entry.size, stored=entry.stored_size)

    def _map_1_0(self) -> sparse.Runs:
        """The map at the start of the data: decimal lines, padded to a whole block."""
        text, wanted = b"", 1
        lines: list[bytes] = []
        while True:
            if self._left < BLOCK:
                raise InvalidArchive("sparse map is cut")
            block = self._block()
            self._left -= BLOCK
            *whole, text = (text + block).split(b"\n")
            lines += whole
            if len(lines) * 2 > self._limits.header_bytes or len(text) > BLOCK:
                raise LimitExceeded("sparse map", self._limits.header_bytes)
            if wanted == 1 and lines:
                wanted = 1 + 2 * pax.parse_int(lines[0], "sparse map")
                if wanted < 1 or wanted > self._limits.header_bytes:
                    raise LimitExceeded("sparse map", self._limits.header_bytes)
            if lines and len(lines) >= wanted:
                break
        numbers = [pax.parse_int(line, "sparse map") for line in lines[1:wanted]]
        return tuple(zip(numbers[::2], numbers[1::2], strict=True))

    def _header(self) -> bytes | None:
        """The next header block, its checksum verified; None at the end of the archive.

        Two zero blocks end it, so does the end of the stream at a block boundary or after one
        zero block; a zero block in front of anything else is an error.
        """
        if self._done:
            return None
        pos = self._pos
        block = self._buf[pos : pos + BLOCK]
        self._pos = pos + BLOCK
        if len(block) < BLOCK:
            block = self._straddling(block)
            if not block:
                self._done = True
                return None
        if block[0] == 0 and block == fields.ZERO_BLOCK:
            self._done = True
            if self._fill(BLOCK):
                block = self._buf[self._pos : self._pos + BLOCK]
                if block != fields.ZERO_BLOCK:
                    raise InvalidArchive("tar archive has a zero block amid its entries")
                self._pos += BLOCK
            return None
        raw = block[148:154]
        try:
            if raw.isdigit() and not block[154]:
                stored = int(raw, 8)
            else:
                stored = fields.parse_number(block[148:156])
        except ValueError as e:
            raise InvalidArchive("tar header has a malformed checksum") from e
        if not fields.checksum_matches(block, stored):
            raise InvalidArchive(
                f"tar header at offset {self.offset - BLOCK} has a wrong checksum",
                hint="the file is damaged, or is not a tar archive",
            )
        return block

    def _straddling(self, block: bytes) -> bytes:
        """A block of which the buffer has the first bytes; b"" if the stream ends before it.

        Takes the rest from the next chunk, without moving all of that behind what was left.
        """
        self._base += len(self._buf)
        self._buf = b""
        while len(block) < BLOCK:
            missing = BLOCK - len(block)
            self._base += len(self._buf)
            self._buf = self._read(self._chunk)
            if not self._buf:
                if block:
                    raise InvalidArchive("tar archive is cut within a header")
                self._pos = 0
                return b""
            block += self._buf[:missing]
            self._pos = min(missing, len(self._buf))
        return block

    def _block(self) -> bytes:
        if self._fill(BLOCK) < BLOCK:
            raise InvalidArchive("tar archive is cut")
        block = self._buf[self._pos : self._pos + BLOCK]
        self._pos += BLOCK
        return block

    def _special(self, block: bytes) -> bytes:
        """Data of an extended header, consumed with its padding."""
        size = fields.parse_number(block[124:136])
        if size < 0:
            raise InvalidArchive("tar header has a negative size")
        if size > self._limits.header_bytes:
            raise LimitExceeded("extended tar header", self._limits.header_bytes)
        padded = size + -size % BLOCK
        have = self._fill(padded)
        if have < size:
            raise InvalidArchive("tar archive is cut within an extended header")
        data = self._buf[self._pos : self._pos + size]
        self._pos += min(padded, have)
        return data

    def _fill(self, want: int) -> int:
        """Have `want` bytes in the buffer if the stream has them; returns how many there are."""
        have = len(self._buf) - self._pos
        if have >= want:
            return have
        parts = [self._buf[self._pos :]] if have else []  # joining a single one copies nothing
        while have < want:
            data = self._read(max(self._chunk, want - have))
            if not data:
                break
            parts.append(data)
            have += len(data)
        self._base += self._pos
        self._buf = b"".join(parts)
        self._pos = 0
        return have

    def _skip(self, data: int, padding: int) -> None:
        """Move over data and padding that the buffer does not have whole; the padding may be
        missing at the end of the stream."""
        count = data + padding
        have = len(self._buf) - self._pos
        if self._seek is not None:
            self._base += self._pos + count
            self._buf, self._pos = b"", 0
            self._seek(self._base)
            return
        self._base += len(self._buf)
        self._buf, self._pos = b"", 0
        count -= have
        while count:
            got = len(self._read(min(self._chunk, count)))
            if not got:
                if count > padding:
                    raise InvalidArchive("tar archive is cut within the data of an entry")
                return
            self._base += got
            count -= got

    def read_stored(self, n: int) -> bytes:
        """At most `n` of the stored bytes left of this member's data; b"" when none are."""
        if n > self._left:
            n = self._left
        if n <= 0:
            return b""
        pos = self._pos
        data = self._buf[pos : pos + n]
        if data:
            self._pos = pos + len(data)
        else:
            self._base += len(self._buf)
            self._buf, self._pos = b"", 0
            if n < self._chunk:
                if not self._fill(1):
                    raise InvalidArchive("tar archive is cut within the data of an entry")
                data = self._buf[:n]
                self._pos = len(data)
            else:
                data = self._read(n)
                if not data:
                    raise InvalidArchive("tar archive is cut within the data of an entry")
                self._base += len(data)
        self._left -= len(data)
        return data

    def view_stored(self, n: int) -> bytes | memoryview:
        """Like `read_stored`, without copying what is in the buffer."""
        if n > self._left:
            n = self._left
        if n <= 0:
            return b""
        pos = self._pos
        have = len(self._buf) - pos
        if have <= 0:
            pos, have = 0, self._fill(1)
            if not have:
                raise InvalidArchive("tar archive is cut within the data of an entry")
        if n > have:
            n = have
        self._pos = pos + n
        self._left -= n
        return memoryview(self._buf)[pos : pos + n]

    def drain(self, limit: int | None = None) -> int:
        """Read the stream to its end and return how many bytes followed the archive.

        A verified stream needs this: only its end proves the digest. Raises LimitExceeded once
        more than `limit` bytes follow.
        """
        while self.next() is not None:
            pass
        trailing = len(self._buf) - self._pos
        self._base += len(self._buf)
        self._buf, self._pos = b"", 0
        while data := self._read(self._chunk):
            trailing += len(data)
            self._base += len(data)
            if limit is not None and trailing > limit:
                raise LimitExceeded("data after the end of a tar archive", limit)
        return trailing

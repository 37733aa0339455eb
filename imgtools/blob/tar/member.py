"""From header block and extended header records to an `Entry`; no I/O.

Knows the v7, ustar, star and GNU layouts of a header block and which records override which
field (POSIX.1-2024 pax; GNU tar manual "Tar Internals").
"""

from __future__ import annotations

from imgtools.blob.tar import fields, pax
from imgtools.blob.tar.entry import Entry, EntryType, TarLimits
from imgtools.errors import InvalidArchive, LimitExceeded, Unsupported

TYPES = {
    0x00: EntryType.FILE,
    0x30: EntryType.FILE,
    0x31: EntryType.HARDLINK,
    0x32: EntryType.SYMLINK,
    0x33: EntryType.CHAR,
    0x34: EntryType.BLOCK,
    0x35: EntryType.DIR,
    0x36: EntryType.FIFO,
    0x37: EntryType.FILE,  # contiguous
    0x44: EntryType.DIR,  # GNU 'D': directory with a list of names as its data
    0x53: EntryType.FILE,  # GNU 'S': sparse
}
GLOBAL_REFUSED = (b"path", b"linkpath", b"size")
CACHE_SIZE = 4096

_SPECIAL_BITS = 0o7777


class MemberDecoder:
    """Decodes header blocks; remembers the owner and name fields seen, which hardly vary."""

    __slots__ = ("_names", "_owners")

    def __init__(self) -> None:
        self._owners: dict[bytes, tuple[int, int, int]] = {}
        self._names: dict[bytes, tuple[bytes, str, str]] = {}

    def decode(self, block: bytes, header_offset: int) -> Entry:
        """Entry of a block whose checksum is known to match; `size` as in the block.

        Raises InvalidArchive for malformed fields or an unknown type, Unsupported for a type
        only GNU tar's multi-volume and rename records use.
        """
        flag = block[156]
        kind = TYPES.get(flag)
        if kind is None:
            raise _unknown_type(flag)
        owner = self._owners.get(block[100:124])
        if owner is None:
            owner = self._owner(block)
        names = self._names.get(block[257:345])
        if names is None:
            names = self._name(block)
        path = block[: block.find(0, 0, 100)] if not block[99] else block[:100].partition(b"\0")[0]
        if block[345] and names[0] != b"v7":
            prefix = _prefix(block, names[0])
            if prefix:
                path = prefix + b"/" + path
        size_text, mtime_text = block[124:135], block[136:147]
        try:
            # int() takes blanks, signs and underscores as well: only plain digits go this way
            if size_text.isdigit() and not block[135]:
                size = int(size_text, 8)
            else:
                size = fields.parse_number(block[124:136])
            if mtime_text.isdigit() and not block[147]:
                mtime = int(mtime_text, 8)
            else:
                mtime = fields.parse_number(block[136:148])
        except ValueError as e:
            raise InvalidArchive("tar header has a number that is not octal") from e
        if size < 0:
            raise InvalidArchive("tar header has a negative size")
        entry = Entry(
            path=path.decode("utf-8", "surrogateescape"),
            type=kind,
            mode=owner[0],
            uid=owner[1],
            gid=owner[2],
            uname=names[1],
            gname=names[2],
            size=size,
            mtime_ns=mtime * 1_000_000_000,
            header_offset=header_offset,
        )
        if block[157]:
            entry.linkname = fields.parse_text(block[157:257])
        if flag == 0 and path[-1:] == b"/":
            entry.type = EntryType.DIR  # before ustar a trailing slash was all that told
        elif kind is EntryType.CHAR or kind is EntryType.BLOCK:
            entry.devmajor = fields.parse_number(block[329:337])
            entry.devminor = fields.parse_number(block[337:345])
        return entry

    def _owner(self, block: bytes) -> tuple[int, int, int]:
        owner = (
            fields.parse_number(block[100:108]) & _SPECIAL_BITS,
            fields.parse_number(block[108:116]),
            fields.parse_number(block[116:124]),
        )
        if len(self._owners) >= CACHE_SIZE:
            self._owners.clear()
        self._owners[block[100:124]] = owner
        return owner

    def _name(self, block: bytes) -> tuple[bytes, str, str]:
        layout = _layout(block)
        if layout == b"v7":
            names = (layout, "", "")
        else:
            names = (
                layout,
                fields.parse_text(block[265:297]),
                fields.parse_text(block[297:329]),
            )
        if len(self._names) >= CACHE_SIZE:
            self._names.clear()
        self._names[block[257:345]] = names
        return names


def _layout(block: bytes) -> bytes:
    if block[257:263] == fields.USTAR_MAGIC[:6]:
        return b"ustar"
    return b"gnu" if block[257:265] == fields.GNU_MAGIC else b"v7"


def is_gnu(block: bytes) -> bool:
    """Whether a header block has GNU tar's old magic."""
    return block[257:265] == fields.GNU_MAGIC


def _prefix(block: bytes, layout: bytes) -> bytes:
    if layout == b"ustar":
        end = 476 if block[508:512] == b"tar\0" else 500  # star keeps times behind it
        return block[345:end].partition(b"\0")[0]
    # GNU keeps times here. Go before 1.8 wrote a prefix nevertheless: what is no number is one.
    try:
        fields.parse_number(block[345:357])
        if block[357]:
            fields.parse_number(block[357:369])
    except InvalidArchive:
        prefix = block[345:500].partition(b"\0")[0]
        return prefix if prefix.isascii() else b""
    return b""


def _unknown_type(flag: int) -> InvalidArchive | Unsupported:
    if 0x41 <= flag <= 0x5A:
        return Unsupported(f"tar entry of vendor type {chr(flag)!r}")
    return InvalidArchive(f"tar entry of unknown type {chr(flag)!r}")


def merge_global(merged: pax.Records, records: pax.Records) -> None:
    """Fold a global extended header into `merged`; an empty value deletes.

    Raises InvalidArchive for a record that cannot hold for every member.
    """
    for key, value in records.items():
        if key in GLOBAL_REFUSED or key.startswith(b"GNU.sparse."):
            raise InvalidArchive(f"global pax header sets {key.decode()!r} for every member")
        if value:
            merged[key] = value
        else:
            merged.pop(key, None)


def apply_records(entry: Entry, records: pax.Records, limits: TarLimits) -> None:
    """Let extended header `records` override the fields of `entry`.

    An empty value leaves the field of the header block in force, as in Go. GNU.sparse.*
    records stay for the reader. Raises InvalidArchive or LimitExceeded.
    """
    xattrs = False
    for key, value in records.items():
        if key.startswith((pax.SCHILY, pax.LIBARCHIVE)):
            xattrs = True
        elif key.startswith(b"GNU.sparse.") or not value:
            continue
        elif key == b"path":
            entry.path = value.decode("utf-8", "surrogateescape")
        elif key == b"linkpath":
            entry.linkname = value.decode("utf-8", "surrogateescape")
        elif key == b"uname":
            entry.uname = value.decode("utf-8", "surrogateescape")
        elif key == b"gname":
            entry.gname = value.decode("utf-8", "surrogateescape")
        elif key == b"uid":
            entry.uid = pax.parse_int(value, "uid")
        elif key == b"gid":
            entry.gid = pax.parse_int(value, "gid")
        elif key == b"mtime":
            entry.mtime_ns = pax.parse_time(value, "mtime")
        elif key == b"size":
            entry.size = pax.parse_int(value, "size")
            if entry.size < 0:
                raise InvalidArchive("pax record size is negative")
        elif key != b"hdrcharset":
            # every text is kept as bytes that may or may not be UTF-8: the charset says nothing new
            name = key.decode("utf-8", "surrogateescape")
            entry.pax[name] = value.decode("utf-8", "surrogateescape")
    if xattrs:
        entry.xattrs = pax.parse_xattrs(records)
        if len(entry.xattrs) > limits.xattrs:
            raise LimitExceeded(
                f"number of extended attributes of {entry.path!r}", limits.xattrs, unit="attributes"
            )

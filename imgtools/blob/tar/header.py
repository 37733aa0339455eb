"""From an `Entry` to its header bytes: ustar when that holds everything, pax otherwise.

The same entry always gives the same bytes. Choices that POSIX leaves open (when a name is
split, that text other than ASCII goes into a record, zeroed metadata of the extended header)
are those of Go's archive/tar. So is that names which are not UTF-8 go into a record as they
are, without POSIX's hdrcharset: every reader takes them, and GNU tar warns of that keyword.
"""

from __future__ import annotations

from imgtools.blob.tar import fields, pax
from imgtools.blob.tar.entry import BLOCK, Entry, EntryType
from imgtools.errors import InvalidArchive

NAME_MAX = 100
PREFIX_MAX = 155
TEXT_MAX = 32
SIZE_MAX = 0o77777777777
ID_MAX = 0o7777777

Record = tuple[bytes, bytes]


def split_name(path: bytes) -> tuple[bytes, bytes] | None:
    """(prefix, name) of `path` as the ustar fields hold it; None if they cannot."""
    if len(path) <= NAME_MAX:
        return b"", path
    slash = path.rfind(b"/", 0, min(PREFIX_MAX + 1, len(path) - 1))
    if slash <= 0 or len(path) - slash - 1 > NAME_MAX:
        return None
    return path[:slash], path[slash + 1 :]


def block(
    name: bytes,
    flag: bytes,
    *,
    mode: int = 0,
    uid: int = 0,
    gid: int = 0,
    size: int = 0,
    mtime: int = 0,
    link: bytes = b"",
    uname: bytes = b"",
    gname: bytes = b"",
    devmajor: int = 0,
    devminor: int = 0,
    prefix: bytes = b"",
) -> bytes:
    """One ustar header block; every value must fit its field."""
    octal = fields.octal
    raw = fields.HEADER.pack(
        name,
        octal(mode, 8),
        octal(uid, 8),
        octal(gid, 8),
        octal(size, 12),
        octal(mtime, 12),
        b"        ",
        flag,
        link,
        fields.USTAR_MAGIC,
        uname,
        gname,
        octal(devmajor, 8),
        octal(devminor, 8),
        prefix,
        b"",
    )
    return b"%b%06o\0 %b" % (raw[:148], fields.byte_sum(raw), raw[156:])


def encode(entry: Entry, *, subsecond: bool = False) -> bytes:
    """All header blocks of `entry`, an extended header in front if one is needed.

    `size` is written for files only; `sparse` and the offsets are ignored: holes are written
    out. `subsecond` keeps fractions of `mtime_ns` (they cost an extended header), otherwise
    they are cut off. Raises InvalidArchive for what no tar can hold.
    """
    records = [(pax.SCHILY + fields.to_bytes(name), value) for name, value in entry.xattrs.items()]
    records += [(fields.to_bytes(k), fields.to_bytes(v)) for k, v in entry.pax.items()]
    _check(entry, records)
    is_file = entry.type is EntryType.FILE
    path = fields.to_bytes(entry.path)
    if entry.type is EntryType.DIR and not path.endswith(b"/"):
        path += b"/"
    prefix, name = _name_fields(path, records)
    mtime, nanos = divmod(entry.mtime_ns, pax.SECOND)
    if not 0 <= mtime <= SIZE_MAX or (subsecond and nanos):
        exact = entry.mtime_ns if subsecond else mtime * pax.SECOND
        records.append((b"mtime", pax.format_time(exact)))
        mtime = min(max(mtime, 0), SIZE_MAX)
    numbers = {
        b"uid": (entry.uid, ID_MAX),
        b"gid": (entry.gid, ID_MAX),
        b"size": (entry.size if is_file else 0, SIZE_MAX),
    }
    fitting = {}
    for key, (value, limit) in numbers.items():
        fitting[key] = value
        if value > limit:
            records.append((key, b"%d" % value))
            fitting[key] = 0
    main = block(
        name,
        entry.type.value.encode(),
        mode=entry.mode & 0o7777,
        uid=fitting[b"uid"],
        gid=fitting[b"gid"],
        size=fitting[b"size"],
        mtime=mtime,
        link=_text(b"linkpath", entry.linkname, NAME_MAX, records),
        uname=_text(b"uname", entry.uname, TEXT_MAX, records),
        gname=_text(b"gname", entry.gname, TEXT_MAX, records),
        devmajor=entry.devmajor,
        devminor=entry.devminor,
        prefix=prefix,
    )
    return _extended(path, records) + main if records else main


def _check(entry: Entry, records: list[Record]) -> None:
    if not entry.path:
        raise InvalidArchive("tar entry without a name")
    if any("\0" in text for text in (entry.path, entry.linkname, entry.uname, entry.gname)):
        raise InvalidArchive(f"tar entry {entry.path!r} has a NUL byte in a name")
    if entry.type is EntryType.FILE and entry.path.endswith("/"):
        raise InvalidArchive(f"file {entry.path!r} has the name of a directory")
    if not all(0 <= dev <= ID_MAX for dev in (entry.devmajor, entry.devminor)):
        raise InvalidArchive(f"device numbers of {entry.path!r} do not fit a tar header")
    if entry.uid < 0 or entry.gid < 0 or entry.size < 0:
        raise InvalidArchive(f"tar entry {entry.path!r} has a negative owner or size")
    reserved = pax.NO_NUL | {b"uid", b"gid", b"size", b"mtime"}
    for key, value in records:
        if not key or b"\0" in key or b"=" in key or key in reserved or key == pax.SCHILY:
            raise InvalidArchive(f"tar entry {entry.path!r} cannot have a record {key!r}")
        if key.startswith(b"GNU.sparse.") or (not value and not key.startswith(pax.SCHILY)):
            raise InvalidArchive(f"tar entry {entry.path!r} cannot have a record {key!r}")


def _name_fields(path: bytes, records: list[Record]) -> tuple[bytes, bytes]:
    split = split_name(path) if path.isascii() else None
    if split is not None:
        return split
    records.append((b"path", path))
    return b"", _ascii(path)[:NAME_MAX].rstrip(b"/") or b"_"


def _text(key: bytes, text: str, limit: int, records: list[Record]) -> bytes:
    raw = fields.to_bytes(text)
    if raw.isascii() and len(raw) <= limit:
        return raw
    records.append((key, raw))
    return _ascii(raw)[:limit]


def _ascii(raw: bytes) -> bytes:
    return bytes(byte for byte in raw if byte < 128)


def _extended(path: bytes, records: list[Record]) -> bytes:
    body = pax.format_records(records)
    base = _ascii(path.rstrip(b"/").rpartition(b"/")[2])
    name = (b"PaxHeaders.0/" + base)[:NAME_MAX]
    return block(name, b"x", size=len(body)) + body + bytes(-len(body) % BLOCK)

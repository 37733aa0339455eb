"""Extended header records: "LENGTH KEY=VALUE\\n" text, parsed strictly and written sorted.

POSIX.1-2024 pax "Extended Header"; SCHILY.xattr.* and LIBARCHIVE.xattr.* carry extended
attributes, GNU.sparse.* sparse maps. Rules beyond POSIX (which keys may not hold NUL, what a
fraction of a second may look like) are those of Go's archive/tar.
"""

from __future__ import annotations

from binascii import Error as Base64Error
from binascii import a2b_base64
from collections.abc import Iterable

from imgtools.blob.tar.fields import INT64_MAX
from imgtools.errors import InvalidArchive

SCHILY = b"SCHILY.xattr."
LIBARCHIVE = b"LIBARCHIVE.xattr."
SPARSE_MAP = b"GNU.sparse.map"
NO_NUL = frozenset((b"path", b"linkpath", b"uname", b"gname", b"GNU.sparse.name"))
SECOND = 1_000_000_000
MAX_DIGITS = 19
MAX_TEXT = 64

Records = dict[bytes, bytes]


def parse_records(data: bytes) -> Records:
    """Records of one extended header, in order; a repeated key keeps its last value.

    The repeated GNU.sparse.offset and GNU.sparse.numbytes of sparse format 0.0 are joined
    into the GNU.sparse.map of format 0.1. Raises InvalidArchive for anything malformed.
    """
    records: Records = {}
    sparse: list[bytes] = []
    pos, end = 0, len(data)
    while pos < end:
        space = data.find(b" ", pos, pos + MAX_DIGITS)
        digits = data[pos:space] if space > 0 else b""
        if not digits.isdigit():
            raise InvalidArchive("pax record has no length")
        stop = pos + int(digits)
        equals = data.find(b"=", space, stop)
        if stop > end or stop <= space + 1 or data[stop - 1] != 0x0A or equals < 0:
            raise InvalidArchive("pax record is cut or malformed")
        key, value = data[space + 1 : equals], data[equals + 1 : stop - 1]
        pos = stop
        if not key or b"\0" in key or (key in NO_NUL and b"\0" in value):
            raise InvalidArchive(f"pax record {key[:80]!r} is empty or holds a NUL byte")
        if key == b"GNU.sparse.offset" or key == b"GNU.sparse.numbytes":
            wanted = b"GNU.sparse.numbytes" if len(sparse) % 2 else b"GNU.sparse.offset"
            if key != wanted or b"," in value:
                raise InvalidArchive("pax sparse map is out of order")
            sparse.append(value)
        else:
            records[key] = value
    if sparse:
        records[SPARSE_MAP] = b",".join(sparse)
    return records


def parse_int(text: bytes, what: str) -> int:
    """A decimal of at most 64 bits, possibly negative; raises InvalidArchive naming `what`."""
    digits = text[1:] if text[:1] == b"-" else text
    if not digits.isdigit() or len(digits.lstrip(b"0")) > MAX_DIGITS or len(digits) > MAX_TEXT:
        raise InvalidArchive(f"pax record {what} has {text[:40]!r} where a number belongs")
    value = int(text)
    if abs(value) > INT64_MAX:
        raise InvalidArchive(f"pax record {what} does not fit 64 bits")
    return value


def parse_time(text: bytes, what: str) -> int:
    """Nanoseconds of a decimal number of seconds; digits past the ninth are cut off."""
    whole, _, fraction = text.partition(b".")
    if fraction and not fraction.isdigit():
        raise InvalidArchive(f"pax record {what} has {text[:40]!r} where a time belongs")
    seconds = parse_int(whole, what)
    nanos = int(fraction[:9].ljust(9, b"0")) if fraction else 0
    if whole[:1] == b"-":
        nanos = -nanos
    return seconds * SECOND + nanos


def format_time(ns: int) -> bytes:
    """Shortest decimal number of seconds for `ns` nanoseconds."""
    sign, (seconds, nanos) = "-" if ns < 0 else "", divmod(abs(ns), SECOND)
    fraction = f".{nanos:09d}".rstrip("0") if nanos else ""
    return f"{sign}{seconds}{fraction}".encode()


def parse_xattrs(records: Records) -> dict[str, bytes]:
    """Extended attributes among `records`; SCHILY's raw form wins over LIBARCHIVE's base64."""
    found: dict[str, bytes] = {}
    for key, value in records.items():
        if key.startswith(LIBARCHIVE):
            name = _percent_decode(key[len(LIBARCHIVE) :])
            try:
                found[name] = a2b_base64(value + b"=" * (-len(value) % 4), strict_mode=True)
            except (Base64Error, ValueError) as e:
                raise InvalidArchive(f"pax record {key[:80]!r} is not base64") from e
    for key, value in records.items():
        if key.startswith(SCHILY):
            found[key[len(SCHILY) :].decode("utf-8", "surrogateescape")] = value
    if "" in found:
        raise InvalidArchive("pax record of an extended attribute without a name")
    return found


def _percent_decode(name: bytes) -> str:
    head, *rest = name.split(b"%")
    out = [head]
    for part in rest:
        try:
            byte = bytes.fromhex(part[:2].decode("ascii"))
        except ValueError as e:
            raise InvalidArchive(f"extended attribute name {name[:80]!r} is malformed") from e
        if len(byte) != 1 or byte == b"\0":
            raise InvalidArchive(f"extended attribute name {name[:80]!r} is malformed")
        out.append(byte + part[2:])
    return b"".join(out).decode("utf-8", "surrogateescape")


def format_records(records: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Body of an extended header with `records` sorted by key.

    The length that opens a record counts its own digits.
    """
    out = []
    for key, value in sorted(records):
        body = b" %b=%b\n" % (key, value)
        length = len(body) + 1
        while len(str(length)) + len(body) != length:
            length = len(str(length)) + len(body)
        out.append(b"%d%b" % (length, body))
    return b"".join(out)

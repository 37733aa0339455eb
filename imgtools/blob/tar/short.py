"""Headers of ordinary members as one formatting of cached pieces.

A member whose name is short and ASCII, whose numbers fit and which has nothing special needs
one plain header block; `header.encode` gives the same bytes, several times slower.
"""

from __future__ import annotations

from zlib import adler32

from imgtools.blob.tar import fields, header
from imgtools.blob.tar.entry import BLOCK
from imgtools.blob.tar.header import ID_MAX, NAME_MAX, SIZE_MAX

PADDING = [bytes(-size % BLOCK) for size in range(BLOCK)]
"""What follows data whose size has this remainder."""

_REST = header.block(b"", b"0")[156:]
TAIL = b"\0 " + _REST
"""What follows the checksum digits in the header of an ordinary file."""
TAIL_SUM = sum(_REST) + 8 * 0x20 - 1
"""Checksum share of `TAIL`, the field itself counted as spaces, less the 1 of Adler-32."""
MAGIC_ON = _REST[101:]
MAGIC_SUM = sum(MAGIC_ON) + 8 * 0x20 - 2
"""The header from the magic on, and its share with that of the two halves in front."""


def owner_fields(mode: int, uid: int, gid: int) -> bytes:
    """The mode, uid and gid fields of a header; b"" when the owner does not fit them."""
    if min(uid, gid) < 0 or max(uid, gid) > ID_MAX:
        return b""
    return b"".join(fields.octal(value, 8) for value in (mode & 0o7777, uid, gid))


def is_short(path: bytes, link: bytes, size: int, seconds: int) -> bool:
    """Whether a name, link and numbers fit a plain header (whose owner `owner_fields` gives)."""
    return (
        max(len(path), len(link)) <= NAME_MAX
        and path.isascii()
        and link.isascii()
        and 0 <= seconds <= SIZE_MAX
        and size <= SIZE_MAX
    )


def file_block(path: bytes, owner: bytes, size: int, seconds: int) -> bytes:
    """The header of an ordinary file that `is_short`; `owner` are its fields."""
    head = b"%b%b%011o\0%011o\0" % (path.ljust(NAME_MAX, b"\0"), owner, size, seconds)
    return b"%b%06o%b" % (head, (adler32(head) & 0xFFFF) + TAIL_SUM, TAIL)


def bare_block(path: bytes, flag: bytes, owner: bytes, seconds: int, link: bytes) -> bytes:
    """The header of a member without data (of type `flag`) that `is_short`."""
    head = b"%b%b00000000000\0%011o\0" % (path.ljust(NAME_MAX, b"\0"), owner, seconds)
    target = flag + link.ljust(NAME_MAX, b"\0")
    total = (adler32(head) & 0xFFFF) + (adler32(target) & 0xFFFF) + MAGIC_SUM
    return b"%b%06o\0 %b%b" % (head, total, target, MAGIC_ON)

"""Numbers and strings in a 512-byte tar header block, read and written.

Octal text is POSIX ustar; the base-256 form for large or negative values is GNU's. What is
accepted follows Go's archive/tar, because that is what every container runtime reads with.
"""

from __future__ import annotations

import struct
from zlib import adler32

from imgtools.errors import InvalidArchive

HEADER = struct.Struct("100s8s8s8s12s12s8sc100s8s32s32s8s8s155s12s")
"""name mode uid gid size mtime chksum typeflag linkname magic+version uname gname devmajor
devminor prefix padding (POSIX.1-2024, "ustar Header Block")."""

USTAR_MAGIC = b"ustar\x0000"
GNU_MAGIC = b"ustar  \x00"
ZERO_BLOCK = bytes(512)
BLOCK_ENTRIES = 21
"""Slots for (offset, length) in an old GNU sparse extension block."""
INT64_MAX = (1 << 63) - 1


def byte_sum(block: bytes) -> int:
    """Sum of the bytes of a 512-byte block.

    The low half of Adler-32 is 1 plus the sum modulo 65521; 256 bytes stay below the modulus,
    so two halves give the exact sum many times faster than a loop over the bytes.
    """
    return (adler32(block[:256]) & 0xFFFF) + (adler32(block[256:]) & 0xFFFF) - 2


def checksum_matches(block: bytes, stored: int) -> bool:
    """Whether `stored` is the checksum of a header block.

    The checksum field itself counts as eight spaces. Old writers summed signed characters;
    both sums are accepted, as POSIX "chksum" history and all readers do.
    """
    unsigned = byte_sum(block) - (adler32(block[148:156]) & 0xFFFF) + 257
    if unsigned == stored:
        return True
    high = sum(1 for byte in block[:148] + block[156:] if byte > 127)
    return unsigned - 256 * high == stored


def parse_number(raw: bytes) -> int:
    """Value of a numeric header field: octal text or base-256; blank is 0.

    Raises InvalidArchive when it is neither or does not fit 64 signed bits.
    """
    if raw[0] & 0x80:
        value = int.from_bytes(raw, "big")
        bits = 8 * len(raw)
        if raw[0] & 0x40:
            value -= 1 << bits
        else:
            value -= 1 << (bits - 1)
        if not -INT64_MAX - 1 <= value <= INT64_MAX:
            raise InvalidArchive("tar header has a number of more than 64 bits")
        return value
    text = raw.strip(b" \0").partition(b"\0")[0]
    if not text:
        return 0
    if not text.isdigit():
        raise InvalidArchive(f"tar header has {text!r} where an octal number belongs")
    try:
        return int(text, 8)
    except ValueError as e:
        raise InvalidArchive(f"tar header has {text!r} where an octal number belongs") from e


def parse_text(raw: bytes) -> str:
    """A NUL-terminated (or full) text field; bytes that are not UTF-8 become surrogates."""
    return raw.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def to_bytes(text: str) -> bytes:
    """The bytes that `text` stands for; raises InvalidArchive for text without a byte form."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as e:
        raise InvalidArchive(f"{text!r} has no byte form") from e


def octal(value: int, width: int) -> bytes:
    """`value` as a zero-padded octal field of `width` bytes, the last one NUL."""
    return b"%0*o\0" % (width - 1, value)

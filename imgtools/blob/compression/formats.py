"""The names of the compressions and how a blob is recognised by its first bytes.

Media types of layers are often wrong, so whoever decompresses trusts the magic number and
nothing else. This file knows magic numbers only; it reads no stream.
"""

from __future__ import annotations

from enum import StrEnum

SNIFF_BYTES = 6

GZIP_MAGIC = b"\x1f\x8b\x08"  # RFC 1952 section 2.3.1; 8 is deflate, the only method there is
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"  # RFC 8878 section 3.1.1
BZIP2_MAGIC = b"BZh"
XZ_MAGIC = b"\xfd7zXZ\x00"

# The footer of zstd:chunked is the content of the last skippable frame and ends in this
# magic number (containers/storage, pkg/chunked).
_CHUNKED_FOOTER_BYTES = 64
_CHUNKED_FOOTER_MAGIC = b"GNUlInUx"


class Compression(StrEnum):
    """A compression by the name that command lines and blob caches use for it."""

    NONE = "none"
    GZIP = "gzip"
    ZSTD = "zstd"
    ZSTD_CHUNKED = "zstd:chunked"
    BZIP2 = "bzip2"
    XZ = "xz"


def is_skippable_magic(magic: bytes) -> bool:
    """Whether four bytes open a zstd skippable frame (RFC 8878 section 3.1.2)."""
    return len(magic) == 4 and magic[0] & 0xF0 == 0x50 and magic[1:] == b"\x2a\x4d\x18"


def sniff(prefix: bytes) -> Compression:
    """The compression of a blob that begins with `prefix` (at least `SNIFF_BYTES` of it).

    Anything unknown, and a blob too short to tell, is `NONE`. `ZSTD_CHUNKED` is never the
    answer: it is zstd with a table of contents at the end (see `has_chunked_footer`).
    """
    if prefix.startswith(GZIP_MAGIC):
        return Compression.GZIP
    if prefix.startswith(ZSTD_MAGIC) or is_skippable_magic(prefix[:4]):
        return Compression.ZSTD
    if prefix.startswith(BZIP2_MAGIC) and prefix[3:4] in b"123456789" and len(prefix) > 3:
        return Compression.BZIP2
    if prefix.startswith(XZ_MAGIC):
        return Compression.XZ
    return Compression.NONE


def has_chunked_footer(tail: bytes) -> bool:
    """Whether `tail`, the last 72 bytes or more of a zstd blob, is the end of zstd:chunked."""
    footer = tail[-_CHUNKED_FOOTER_BYTES:]
    header = tail[-_CHUNKED_FOOTER_BYTES - 8 : -_CHUNKED_FOOTER_BYTES]
    return (
        is_skippable_magic(header[:4])
        and int.from_bytes(header[4:], "little") == _CHUNKED_FOOTER_BYTES
        and footer.endswith(_CHUNKED_FOOTER_MAGIC)
    )

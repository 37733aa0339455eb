"""Compression of layers: recognising, reading and writing gzip, zstd, bzip2 and xz.

Reading streams with flat memory and treats its input as hostile; writing gives the same
bytes whatever the sizes of the caller's writes and the number of threads. The codecs
themselves (isal, zstandard, bz2, lzma) are imported when first used, not with this package.
"""

from __future__ import annotations

from imgtools.blob.compression.compress import (
    DEFAULT_GZIP_LEVEL,
    DEFAULT_ZSTD_LEVEL,
    CompressingReader,
    Compressor,
    compress_stream,
)
from imgtools.blob.compression.decompress import DEFAULT_MAX_WINDOW, Decompressor
from imgtools.blob.compression.formats import Compression, has_chunked_footer, sniff

__all__ = [
    "DEFAULT_GZIP_LEVEL",
    "DEFAULT_MAX_WINDOW",
    "DEFAULT_ZSTD_LEVEL",
    "CompressingReader",
    "Compression",
    "Compressor",
    "Decompressor",
    "compress_stream",
    "has_chunked_footer",
    "sniff",
]

"""bzip2 and xz decoding over the standard library; both are read and never written.

Concatenated streams are read as one, as the command line tools do. xz may be padded with
zeros between and after streams; any other trailing byte is an error in both.
"""

from __future__ import annotations

from collections.abc import Iterator

from imgtools.blob.compression.formats import BZIP2_MAGIC, XZ_MAGIC
from imgtools.blob.compression.source import ByteSource
from imgtools.errors import InvalidArchive, LimitExceeded

# The dictionary of `xz -9` is 64 MiB; the container and filters need little beside it.
_XZ_OVERHEAD = 1024 * 1024


def bunzip2(source: ByteSource, chunk: int) -> Iterator[bytes]:
    """The content of all bzip2 streams, in pieces of at most `chunk` bytes.

    Raises InvalidArchive for malformed or cut data.
    """
    import bz2

    while True:
        if not source.peek(3).startswith(BZIP2_MAGIC):
            raise InvalidArchive("bzip2: invalid header")
        decoder = bz2.BZ2Decompressor()
        while not decoder.eof:
            data = _input(source, decoder.needs_input, "bzip2")
            try:
                out = decoder.decompress(data, chunk)
            except (OSError, EOFError) as e:
                raise InvalidArchive("bzip2: invalid compressed data") from e
            if out:
                yield out
        source.push_back(decoder.unused_data)
        if not source.peek(1):
            return


def unxz(source: ByteSource, chunk: int, max_window: int) -> Iterator[bytes]:
    """The content of all xz streams, in pieces of at most `chunk` bytes.

    Raises InvalidArchive for malformed or cut data and LimitExceeded for a dictionary
    above `max_window` bytes.
    """
    import lzma

    while True:
        if source.peek(6) != XZ_MAGIC:
            raise InvalidArchive("xz: invalid header")
        decoder = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=max_window + _XZ_OVERHEAD)
        while not decoder.eof:
            data = _input(source, decoder.needs_input, "xz")
            try:
                out = decoder.decompress(data, chunk)
            except lzma.LZMAError as e:
                # liblzma's LZMA_MEMLIMIT_ERROR has no exception of its own.
                if "usage limit" in str(e):
                    raise LimitExceeded("xz dictionary", max_window) from e
                raise InvalidArchive("xz: invalid compressed data") from e
            except EOFError as e:
                raise InvalidArchive("xz: invalid compressed data") from e
            if out:
                yield out
        source.push_back(decoder.unused_data)
        if source.skip_zeros() % 4:  # .xz file format section 2.2
            raise InvalidArchive("xz: stream padding is not a multiple of four bytes")
        if not source.peek(1):
            return


def _input(source: ByteSource, needs_input: bool, what: str) -> bytes:
    if not needs_input:
        return b""
    data = source.chunk()
    if not data:
        raise InvalidArchive(f"{what}: unexpected end of data")
    return data

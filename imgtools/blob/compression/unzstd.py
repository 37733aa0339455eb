"""zstd decoding (RFC 8878): several frames, skippable frames, bounded windows.

The frame structure is walked here and libzstd is fed one block at a time, so that one
call yields at most one block of output (128 KiB), a cut stream is noticed wherever it is
cut, and the window is checked before libzstd allocates it.
"""

from __future__ import annotations

from collections.abc import Iterator

from imgtools.blob.compression.formats import ZSTD_MAGIC, is_skippable_magic
from imgtools.blob.compression.source import ByteSource
from imgtools.errors import InvalidArchive, LimitExceeded, Unsupported

_MAX_BLOCK = 128 * 1024  # RFC 8878 section 3.1.1.2.4
_RLE, _RESERVED_TYPE = 1, 3


def unzstd(source: ByteSource, max_window: int) -> Iterator[bytes]:
    """The content of all frames, in pieces of at most 128 KiB.

    Raises InvalidArchive for malformed or cut data, LimitExceeded for a window above
    `max_window` bytes and Unsupported for a frame that needs a dictionary.
    """
    first = True
    while first or source.peek(1):
        first = False
        magic = source.exactly(4, "zstd")
        if is_skippable_magic(magic):
            source.skip(int.from_bytes(source.exactly(4, "zstd"), "little"), "zstd")
        elif magic == ZSTD_MAGIC:
            yield from _frame(source, max_window)
        else:
            raise InvalidArchive("zstd: invalid magic number")


def _frame(source: ByteSource, max_window: int) -> Iterator[bytes]:
    import zstandard

    header, checksum, announced = _read_frame_header(source, max_window)
    size = 0
    # libzstd wants at least 1 KiB; a smaller bound has been enforced above.
    decoder = zstandard.ZstdDecompressor(max_window_size=max(max_window, 1024)).decompressobj()
    try:
        decoder.decompress(ZSTD_MAGIC + header)
        last = False
        while not last:
            block, last = _read_block(source)
            if last and checksum:
                block += source.exactly(4, "zstd")
            if out := decoder.decompress(block):
                size += len(out)
                yield out
    except zstandard.ZstdError as e:
        raise InvalidArchive("zstd: invalid compressed data") from e
    if not decoder.eof:
        raise InvalidArchive("zstd: frame does not end where its last block does")
    # libzstd lets an empty last block pass with any announced size.
    if announced is not None and size != announced:
        raise InvalidArchive(f"zstd: frame announces {announced} bytes and has {size}")


def _read_frame_header(source: ByteSource, max_window: int) -> tuple[bytes, bool, int | None]:
    """The frame header (section 3.1.1.1) without magic number, and what it says.

    That is whether a checksum follows the last block, and the content's size if known.
    """
    header = source.exactly(1, "zstd")
    descriptor = header[0]
    single_segment = bool(descriptor & 0x20)
    if descriptor & 0x08:
        raise InvalidArchive("zstd: reserved bit is set")
    dictionary_bytes = (0, 1, 2, 4)[descriptor & 3]
    size_bytes = (1 if single_segment else 0, 2, 4, 8)[descriptor >> 6]
    window = 0
    if not single_segment:
        byte = source.exactly(1, "zstd")
        base = 1 << (10 + (byte[0] >> 3))
        window = base + base // 8 * (byte[0] & 7)
        header += byte
    dictionary = source.exactly(dictionary_bytes, "zstd")
    size = source.exactly(size_bytes, "zstd")
    if any(dictionary):
        raise Unsupported("zstd: frame needs a dictionary")
    announced = None
    if size_bytes:
        announced = int.from_bytes(size, "little") + (256 if size_bytes == 2 else 0)
    if single_segment and announced is not None:
        window = announced
    if window > max_window:
        raise LimitExceeded("zstd window", max_window)
    return header + dictionary + size, bool(descriptor & 0x04), announced


def _read_block(source: ByteSource) -> tuple[bytes, bool]:
    """One block with its header (section 3.1.1.2), and whether it is the frame's last."""
    header = source.exactly(3, "zstd")
    fields = int.from_bytes(header, "little")
    kind, size = fields >> 1 & 3, fields >> 3
    if kind == _RESERVED_TYPE or size > _MAX_BLOCK:
        raise InvalidArchive("zstd: invalid block header")
    return header + source.exactly(1 if kind == _RLE else size, "zstd"), bool(fields & 1)

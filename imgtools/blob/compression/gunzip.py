"""gzip decoding (RFC 1952) over isal's inflate.

Members may follow each other. Zero bytes after the last member are skipped, as gzip(1) and
Python do because tapes and block devices pad; any other trailing byte is an error, as in
Go's compress/gzip and pgzip, which refuse both: a layer must not mean different things to
different readers.
"""

from __future__ import annotations

from collections.abc import Iterator

from imgtools.blob.compression.source import ByteSource
from imgtools.errors import InvalidArchive

_FHCRC, _FEXTRA, _FNAME, _FCOMMENT, _RESERVED = 0x02, 0x04, 0x08, 0x10, 0xE0
# RFC 1952 sets no bound for name and comment; nothing that packs layers writes long ones.
_MAX_TEXT = 64 * 1024


def gunzip(source: ByteSource, chunk: int) -> Iterator[bytes]:
    """The content of all members, in pieces of at most `chunk` bytes.

    Raises InvalidArchive for a bad header, bad deflate data, a wrong checksum or length,
    a cut stream, and for anything but zeros after the last member.
    """
    while True:
        _read_header(source)
        yield from _member(source, chunk)
        source.skip_zeros()
        if not source.peek(1):
            return


def _member(source: ByteSource, chunk: int) -> Iterator[bytes]:
    from isal import igzip_lib, isal_zlib

    inflater = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_DEFLATE)
    crc = size = 0
    while not inflater.eof:
        data = source.chunk() if inflater.needs_input else b""
        ended = inflater.needs_input and not data
        try:
            out = inflater.decompress(data, chunk)
        except (igzip_lib.IsalError, EOFError) as e:  # type: ignore[misc]  # stub says instance
            raise InvalidArchive("gzip: invalid compressed data") from e
        if out:
            crc = isal_zlib.crc32(out, crc)
            size += len(out)
            yield out
        elif ended and not inflater.eof:
            # Only now: the decoder may hold the last input bytes in its bit buffer.
            raise InvalidArchive("gzip: unexpected end of data")
    source.push_back(inflater.unused_data)
    trailer = source.exactly(8, "gzip")
    if int.from_bytes(trailer[:4], "little") != crc:
        raise InvalidArchive("gzip: wrong checksum")
    if int.from_bytes(trailer[4:], "little") != size & 0xFFFFFFFF:
        raise InvalidArchive("gzip: wrong length")


def _read_header(source: ByteSource) -> None:
    fixed = source.exactly(10, "gzip")
    if fixed[:2] != b"\x1f\x8b":
        raise InvalidArchive("gzip: invalid header")
    if fixed[2] != 8:
        raise InvalidArchive(f"gzip: unknown compression method {fixed[2]}")
    flags = fixed[3]
    if flags & _RESERVED:
        raise InvalidArchive("gzip: reserved header flags are set")
    header = bytearray(fixed)
    if flags & _FEXTRA:
        length = source.exactly(2, "gzip")
        header += length + source.exactly(int.from_bytes(length, "little"), "gzip")
    for flag in (_FNAME, _FCOMMENT):
        if flags & flag:
            header += _text(source)
    if flags & _FHCRC:
        from isal import isal_zlib

        stored = int.from_bytes(source.exactly(2, "gzip"), "little")
        if stored != isal_zlib.crc32(header) & 0xFFFF:
            raise InvalidArchive("gzip: wrong header checksum")


def _text(source: ByteSource) -> bytes:
    window = source.peek(_MAX_TEXT)
    end = window.find(b"\0")
    if end < 0:
        reason = "header text is too long" if len(window) == _MAX_TEXT else "unexpected end of data"
        raise InvalidArchive(f"gzip: {reason}")
    return source.up_to(end + 1)

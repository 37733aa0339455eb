"""Reading compressed streams: round trips with other tools, and every kind of bad input."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import random
import shutil
import subprocess
import tracemalloc
import zlib

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from imgtools.blob.compression import (
    Compression,
    Decompressor,
    compress_stream,
    has_chunked_footer,
    sniff,
)
from imgtools.errors import Error, InvalidArchive, LimitExceeded, Unsupported

RANDOM = random.Random(1)
TEXT = b"".join(b"line %d of a layer\n" % RANDOM.randrange(500) for _ in range(4000))
MIXED = TEXT + RANDOM.randbytes(40_000) + bytes(300_000) + TEXT


def zstd(data: bytes, **kwargs: bool) -> bytes:
    return zstandard.ZstdCompressor(**kwargs).compress(data)


def zstd_stream(data: bytes) -> bytes:
    """A frame without its content size, so it has a window descriptor."""
    encoder = zstandard.ZstdCompressor(write_checksum=True).compressobj()
    return encoder.compress(data) + encoder.flush()


ENCODERS = {
    Compression.NONE: bytes,
    Compression.GZIP: gzip.compress,
    Compression.ZSTD: zstd_stream,
    Compression.ZSTD_CHUNKED: zstd_stream,
    Compression.BZIP2: bz2.compress,
    Compression.XZ: lzma.compress,
}
PACKED = [c for c in Compression if c is not Compression.NONE]
JOINABLE = [*PACKED, Compression.NONE]


class Trickle:
    """A reader that gives a few bytes at a time, like a slow socket."""

    def __init__(self, data: bytes, step: int) -> None:
        self.file = io.BytesIO(data)
        self.step = step

    def read(self, n: int, /) -> bytes:
        return self.file.read(min(n, self.step))


class Repeated:
    """A long input that is never in memory as a whole."""

    def __init__(self, piece: bytes, times: int) -> None:
        self.piece, self.left = piece, times

    def read(self, n: int, /) -> bytes:
        if not self.left:
            return b""
        self.left -= 1
        return self.piece


def decompress(data: bytes, compression: Compression | None = None, **kwargs: int) -> bytes:
    return Decompressor(io.BytesIO(data), compression, **kwargs).read()


@pytest.mark.parametrize(
    ("prefix", "expected"),
    [
        (b"", Compression.NONE),
        (b"\x1f\x8b", Compression.NONE),
        (b"\x1f\x8b\x08\x00", Compression.GZIP),
        (b"\x28\xb5\x2f\xfd\x04", Compression.ZSTD),
        (b"\x50\x2a\x4d\x18", Compression.ZSTD),
        (b"\x5f\x2a\x4d\x18", Compression.ZSTD),
        (b"\x60\x2a\x4d\x18", Compression.NONE),
        (b"BZh9", Compression.BZIP2),
        (b"BZh0", Compression.NONE),
        (b"BZh", Compression.NONE),
        (b"\xfd7zXZ\x00", Compression.XZ),
        (b"etc/passwd\0\0\0", Compression.NONE),
    ],
)
def test_sniff(prefix: bytes, expected: Compression) -> None:
    assert sniff(prefix) is expected


def test_chunked_footer() -> None:
    footer = b"\x50\x2a\x4d\x18" + (64).to_bytes(4, "little") + bytes(56) + b"GNUlInUx"
    assert has_chunked_footer(zstd(TEXT) + footer)
    assert not has_chunked_footer(zstd(TEXT))
    assert not has_chunked_footer(footer[1:])
    assert not has_chunked_footer(footer[:-1] + b"y")


@pytest.mark.parametrize("compression", Compression)
@pytest.mark.parametrize("content", [b"", b"x", TEXT, MIXED], ids=["empty", "one", "text", "mixed"])
def test_reads_what_others_write(compression: Compression, content: bytes) -> None:
    packed = ENCODERS[compression](content)
    assert decompress(packed, compression) == content
    recognised = Decompressor(io.BytesIO(packed))
    assert recognised.read() == content
    assert recognised.tell() == len(content)
    if compression is not Compression.ZSTD_CHUNKED:
        assert recognised.compression is compression


@pytest.mark.parametrize(
    ("program", "compression"),
    [("gzip", Compression.GZIP), ("bzip2", Compression.BZIP2), ("xz", Compression.XZ)],
)
def test_reads_the_command_line_tools(
    program: str, compression: Compression, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = shutil.which(program)
    if path is None:  # the library's own encoder stands in on a machine without the tool
        packed = ENCODERS[compression](MIXED)
    else:
        file = tmp_path_factory.mktemp("tool") / "a name with spaces"
        file.write_bytes(MIXED)
        packed = subprocess.run([path, "-c", str(file)], check=True, capture_output=True).stdout
    assert decompress(packed) == MIXED


@settings(max_examples=60, deadline=None)
@given(
    compression=st.sampled_from(PACKED),
    step=st.integers(1, 5000),
    chunk=st.sampled_from([1, 7, 100, 4096, 262144]),
    reads=st.lists(st.integers(1, 9000), min_size=1, max_size=5),
    parts=st.lists(st.binary(max_size=300) | st.just(TEXT[:3000]), min_size=1, max_size=4),
)
def test_pieces_of_any_size(
    compression: Compression, step: int, chunk: int, reads: list[int], parts: list[bytes]
) -> None:
    packed = b"".join(ENCODERS[compression](part) for part in parts)
    stream = Decompressor(Trickle(packed, step), compression, chunk=chunk)
    content, got, turn = b"".join(parts), b"", 0
    while True:
        n = reads[turn % len(reads)]
        data = stream.read(n)
        got += data
        if len(data) < n:
            break
        turn += 1
    assert got == content
    assert stream.read(1) == b""


def test_readinto_fills_the_buffer() -> None:
    stream = Decompressor(Trickle(gzip.compress(MIXED), 1000), chunk=777)
    buffer = bytearray(200_000)
    assert stream.readinto(buffer) == len(buffer)
    assert bytes(buffer) == MIXED[: len(buffer)]
    rest = bytearray(len(MIXED))
    assert stream.readinto(rest) == len(MIXED) - len(buffer)
    assert stream.readinto(rest) == 0


def test_read1_gives_what_is_decoded() -> None:
    stream = Decompressor(io.BytesIO(gzip.compress(MIXED)), chunk=1000)
    assert stream.read1() == MIXED[:1000]
    assert stream.read1(5) == MIXED[1000:1005]
    assert stream.read1(5000) == MIXED[1005:2000]
    assert stream.tell() == 2000


def test_closed_stream_is_refused_and_its_reader_left_open() -> None:
    file = io.BytesIO(gzip.compress(TEXT))
    with Decompressor(file) as stream:
        stream.read(10)
    assert not file.closed
    with pytest.raises(InvalidArchive):
        stream.read(1)


@pytest.mark.parametrize("compression", PACKED)
def test_cut_anywhere_is_an_error(compression: Compression) -> None:
    packed = ENCODERS[compression](MIXED)
    for cut in {0, 1, 3, 5, 9, 11, len(packed) - 1, len(packed) - 5} | {
        len(packed) * i // 20 for i in range(20)
    }:
        with pytest.raises(InvalidArchive):
            decompress(packed[:cut], compression)


@pytest.mark.parametrize("compression", PACKED)
def test_corruption_is_never_silent(compression: Compression) -> None:
    packed = ENCODERS[compression](MIXED)
    for i in range(20):
        at = (len(packed) - 1) * i // 19
        broken = bytearray(packed)
        broken[at] ^= 0xFF
        try:
            content = decompress(bytes(broken), compression)
        except Error:
            continue
        # Header fields that carry no content (time stamp, file name) may change freely.
        assert content == MIXED


@settings(max_examples=80, deadline=None)
@given(
    compression=st.sampled_from(PACKED),
    at=st.integers(0, 10**6),
    noise=st.binary(min_size=1, max_size=40),
    step=st.integers(1, 3000),
)
def test_noise_raises_only_errors_of_the_tree(
    compression: Compression, at: int, noise: bytes, step: int
) -> None:
    packed = ENCODERS[compression](TEXT[:5000])
    at %= len(packed)
    broken = packed[:at] + noise + packed[at + len(noise) :]
    try:
        Decompressor(Trickle(broken, step), compression, limit=10**7).read()
    except Error:
        pass


@given(data=st.binary(max_size=200), compression=st.sampled_from(PACKED))
def test_arbitrary_bytes_are_refused(data: bytes, compression: Compression) -> None:
    magic = {Compression.GZIP: b"\x1f\x8b\x08", Compression.BZIP2: b"BZh9"}.get(compression, b"")
    with pytest.raises(Error):
        decompress(magic + data + b"\xff", compression)


def test_an_error_does_not_turn_into_the_end() -> None:
    stream = Decompressor(io.BytesIO(gzip.compress(MIXED)[:-3]))
    for _ in range(3):
        with pytest.raises(InvalidArchive):
            stream.read()


def test_gzip_trailing_bytes() -> None:
    packed = gzip.compress(TEXT)
    assert decompress(packed + bytes(600)) == TEXT
    assert decompress(packed + bytes(70) + packed) == TEXT + TEXT
    for tail in (b"x", b"garbage garbage", bytes(10) + b"x", b"\x1f", b"\x1f\x8b\x08"):
        with pytest.raises(InvalidArchive):
            decompress(packed + tail)


def gzip_with(flags: int, fields: bytes) -> bytes:
    body = zlib.compressobj(6, zlib.DEFLATED, -15)
    data = body.compress(TEXT) + body.flush()
    trailer = zlib.crc32(TEXT).to_bytes(4, "little") + len(TEXT).to_bytes(4, "little")
    header = b"\x1f\x8b\x08" + bytes([flags]) + b"\x01\x02\x03\x04\x02\x03" + fields
    if flags & 2:
        header += (zlib.crc32(header) & 0xFFFF).to_bytes(2, "little")
    return header + data + trailer


def test_gzip_header_fields() -> None:
    fields = b"\x05\x00extra" + b"name\0" + b"comment\0"
    assert decompress(gzip_with(0x1F, fields)) == TEXT
    assert decompress(gzip_with(0x04, b"\xff\xff" + bytes(65535))) == TEXT
    assert Decompressor(Trickle(gzip_with(0x1F, fields), 1)).read() == TEXT
    broken = bytearray(gzip_with(0x02, b""))
    broken[10] ^= 1
    for bad in (bytes(broken), gzip_with(0x20, b""), gzip_with(0x08, b"n" * 100_000 + b"\0")):
        with pytest.raises(InvalidArchive):
            decompress(bad)
    with pytest.raises(InvalidArchive, match="method 7"):
        decompress(b"\x1f\x8b\x07" + bytes(20), Compression.GZIP)


def test_gzip_trailer_is_checked() -> None:
    packed = bytearray(gzip.compress(TEXT))
    for offset, message in ((-8, "checksum"), (-1, "length")):
        broken = packed.copy()
        broken[offset] ^= 1
        with pytest.raises(InvalidArchive, match=message):
            decompress(bytes(broken))


def test_zstd_frames() -> None:
    skippable = b"\x53\x2a\x4d\x18" + (5).to_bytes(4, "little") + b"table"
    long = b"\x50\x2a\x4d\x18" + (600_000).to_bytes(4, "little") + bytes(600_000)
    assert decompress(skippable) == b""
    frames = skippable + zstd(TEXT) + long + zstd_stream(MIXED) + zstd(b"", write_checksum=True)
    assert decompress(frames) == TEXT + MIXED
    assert decompress(zstd(b"x" * 300) + zstd(b"y" * 70_000)) == b"x" * 300 + b"y" * 70_000
    for bad in (zstd(TEXT) + b"tail", zstd(TEXT) + skippable[:-1], zstd(TEXT) + bytes(4)):
        with pytest.raises(InvalidArchive):
            decompress(bad)


def test_zstd_window_is_bounded() -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=24)
    encoder = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    packed = encoder.compress(TEXT) + encoder.flush()
    assert decompress(packed) == TEXT
    assert decompress(packed, max_window=1 << 24) == TEXT
    with pytest.raises(LimitExceeded) as caught:
        decompress(packed, max_window=(1 << 24) - 1)
    assert caught.value.limit == (1 << 24) - 1
    huge = b"\x28\xb5\x2f\xfd" + bytes([0x00, 31 << 3]) + b"\x01\x00\x00"
    with pytest.raises(LimitExceeded):
        decompress(huge)
    single = zstd(bytes(200_000))
    with pytest.raises(LimitExceeded):
        decompress(single, max_window=199_999)
    assert decompress(single, max_window=200_000) == bytes(200_000)


@pytest.mark.parametrize(
    ("frame", "error"),
    [
        (b"\x08\x00\x01\x00\x00", InvalidArchive),  # reserved bit
        (b"\x00\x00\x07\x00\x00", InvalidArchive),  # reserved block type
        (b"\x00\x00\x01\x00\xff" + bytes(200_000), InvalidArchive),  # a block of 2 MiB
        (b"\x01\x00\x09\x01\x00\x00", Unsupported),  # dictionary 9
        (b"\x20\x05\x01\x00\x00", InvalidArchive),  # announces 5 bytes, has none
    ],
)
def test_zstd_malformed_frames(frame: bytes, error: type[Error]) -> None:
    with pytest.raises(error):
        decompress(b"\x28\xb5\x2f\xfd" + frame)


def test_xz_dictionary_is_bounded_and_padding_checked() -> None:
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 32 << 20}]
    packed = lzma.compress(TEXT, filters=filters)
    assert decompress(packed) == TEXT
    with pytest.raises(LimitExceeded):
        decompress(packed, max_window=8 << 20)
    assert decompress(packed + bytes(8) + packed) == TEXT + TEXT
    for tail in (bytes(6), b"tail", bytes(4) + b"tail"):
        with pytest.raises(InvalidArchive):
            decompress(packed + tail)


@pytest.mark.parametrize("tail", [b"x", bytes(4), b"BZ"])
def test_bzip2_trailing_bytes(tail: bytes) -> None:
    with pytest.raises(InvalidArchive):
        decompress(bz2.compress(TEXT) + tail)


@pytest.mark.parametrize("compression", JOINABLE)
def test_limit(compression: Compression) -> None:
    packed = ENCODERS[compression](MIXED)
    assert decompress(packed, compression, limit=len(MIXED)) == MIXED
    stream = Decompressor(io.BytesIO(packed), compression, limit=len(MIXED) - 1)
    with pytest.raises(LimitExceeded):
        stream.read()
    with pytest.raises(LimitExceeded):
        stream.read(1)


def drain(stream: Decompressor) -> None:
    while stream.read(1 << 16):
        pass


@pytest.mark.parametrize("compression", PACKED)
def test_bomb_is_stopped_in_flat_memory(compression: Compression) -> None:
    if compression is Compression.GZIP:
        out = bytearray()
        compress_stream(Repeated(bytes(1 << 20), 100), out.extend)
        bomb = bytes(out)
    else:
        bomb = ENCODERS[compression](bytes(20 << 20)) * 5
    tracemalloc.start()
    try:
        stream = Decompressor(io.BytesIO(bomb), compression, limit=80 << 20)
        with pytest.raises(LimitExceeded):
            drain(stream)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (80 << 20) - (1 << 19) <= stream.tell() <= 80 << 20
    assert peak < 12 << 20

"""Writing compressed streams: valid for every reader, and the same bytes every time."""

from __future__ import annotations

import gzip
import hashlib
import io
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
    CompressingReader,
    Compression,
    Compressor,
    Decompressor,
    compress_stream,
)
from imgtools.errors import ConnectionFailed, InvalidInput, Unsupported

RANDOM = random.Random(2)
TEXT = b"".join(b"usr/lib/file%d.py\0 %d\n" % (i, RANDOM.getrandbits(60)) for i in range(40_000))
BIG = TEXT + RANDOM.randbytes(1_200_000) + bytes(1_500_000) + TEXT
WRITTEN = [Compression.GZIP, Compression.ZSTD]
EDGES = [0, 1, 262_143, 262_144, 262_145, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 2 << 20]


def pack(
    content: bytes,
    compression: Compression = Compression.GZIP,
    *,
    level: int | None = None,
    threads: int = 1,
    sizes: tuple[int, ...] = (),
) -> bytes:
    """Compress in writes of `sizes`, then the rest in one."""
    out = bytearray()
    with Compressor(out.extend, compression, level=level, threads=threads) as compressor:
        view = memoryview(content)
        for size in sizes:
            compressor.write(view[:size])
            view = view[size:]
        compressor.write(view)
    assert (compressor.bytes_in, compressor.bytes_out) == (len(content), len(out))
    return bytes(out)


def unzstd(data: bytes) -> bytes:
    return zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=False).read()


@pytest.mark.parametrize("size", EDGES)
@pytest.mark.parametrize("threads", [1, 3])
def test_others_read_it(size: int, threads: int) -> None:
    content = BIG[:size]
    packed = pack(content, threads=threads)
    assert gzip.decompress(packed) == content
    member = zlib.decompressobj(wbits=31)
    assert member.decompress(packed) == content
    assert member.eof
    assert not member.unused_data
    assert unzstd(pack(content, Compression.ZSTD, threads=threads)) == content


def test_command_line_tools_read_it() -> None:
    for program, compression in (("gzip", Compression.GZIP), ("zstd", Compression.ZSTD)):
        packed = pack(BIG, compression)
        path = shutil.which(program)
        if path is None:  # then at least our own reader, whose checks are as strict
            content = Decompressor(io.BytesIO(packed)).read()
        else:
            content = subprocess.run(
                [path, "-dc"], input=packed, check=True, capture_output=True
            ).stdout
        assert content == BIG


@pytest.mark.parametrize("level", range(1, 10))
def test_gzip_levels(level: int) -> None:
    content = TEXT[:300_000] + BIG[-400_000:]
    assert gzip.decompress(pack(content, level=level)) == content


@pytest.mark.parametrize("level", range(1, 23))
def test_zstd_levels(level: int) -> None:
    content = TEXT[:150_000]
    packed = pack(content, Compression.ZSTD, level=level)
    assert unzstd(packed) == content
    assert zstandard.get_frame_parameters(packed).window_size <= 8 << 20
    assert zstandard.get_frame_parameters(packed).has_checksum


@settings(max_examples=25, deadline=None)
@given(
    content=st.lists(
        st.binary(max_size=200) | st.sampled_from([TEXT[:2000], BIG[1_800_000:1_803_000]]),
        max_size=6,
    ).map(b"".join)
)
def test_a_higher_gzip_level_is_never_larger(content: bytes) -> None:
    sizes = [len(pack(content, level=level)) for level in range(1, 10)]
    assert sizes == sorted(sizes, reverse=True)


def test_levels_differ() -> None:
    content = TEXT[:400_000]
    assert len(pack(content, level=9)) < len(pack(content, level=1)) * 0.98
    prose = b"".join(b"%d bottles on %d walls; " % (i * i % 997, i % 13) for i in range(20_000))
    large, small = (pack(prose, Compression.ZSTD, level=level) for level in (1, 19))
    assert len(small) < len(large)


def test_incompressible_data_grows_by_a_stored_block_at_most() -> None:
    content = RANDOM.randbytes(1 << 20)
    assert len(pack(content)) <= len(content) + 17 * 5 + 20
    assert gzip.decompress(pack(content)) == content


@settings(max_examples=40, deadline=None)
@given(
    compression=st.sampled_from(WRITTEN),
    threads=st.integers(1, 4),
    length=st.sampled_from(EDGES) | st.integers(0, 3 << 20),
    sizes=st.lists(st.sampled_from(EDGES) | st.integers(0, 400_000), max_size=12),
)
def test_bytes_depend_on_content_only(
    compression: Compression, threads: int, length: int, sizes: list[int]
) -> None:
    content = BIG[:length]
    reference = pack(content, compression)
    assert pack(content, compression, threads=threads, sizes=tuple(sizes)) == reference
    out = bytearray()
    counts = compress_stream(io.BytesIO(content), out.extend, compression, threads=threads)
    assert bytes(out) == reference
    assert counts == (len(content), len(reference))


@pytest.mark.parametrize("compression", WRITTEN)
def test_tiny_writes_give_the_same_bytes(compression: Compression) -> None:
    content = BIG[2_000_000:2_080_000]
    tiny = pack(content, compression, sizes=(1,) * 20_000 + (3,) * 20_000)
    assert tiny == pack(content, compression)


def test_zstd_jobs_give_the_same_bytes() -> None:
    """Beyond libzstd's job size, where its worker threads begin to matter."""
    content = BIG * 5
    digests = {
        hashlib.sha256(pack(content, Compression.ZSTD, threads=n, sizes=sizes)).digest()
        for n, sizes in ((1, ()), (2, (9_000_001,)), (3, (77_777,) * 100), (4, (1, 8 << 20)))
    }
    assert len(digests) == 1


def test_gzip_header_is_fixed() -> None:
    packed = pack(b"")
    assert packed[:10] == bytes.fromhex("1f8b08000000000000ff")
    assert packed[10:] == b"\x03\x00" + bytes(8)


def test_none_passes_through() -> None:
    assert pack(TEXT, Compression.NONE, sizes=(5, 0, 7)) == TEXT
    with CompressingReader(io.BytesIO(TEXT), Compression.NONE) as reader:
        assert reader.read() == TEXT


@settings(max_examples=12, deadline=None)
@given(
    compression=st.sampled_from([*WRITTEN, Compression.NONE]),
    threads=st.integers(1, 2),
    reads=st.lists(st.integers(1, 300_000) | st.just(1 << 20), min_size=1, max_size=4),
)
def test_reader_gives_the_same_bytes(
    compression: Compression, threads: int, reads: list[int]
) -> None:
    expected = pack(BIG, compression)
    got, turn = bytearray(), 0
    with CompressingReader(io.BytesIO(BIG), compression, threads=threads) as reader:
        while True:
            n = reads[turn % len(reads)]
            data = reader.read(n)
            got += data
            turn += 1
            if len(data) < n:
                break
        assert reader.read(1) == b""
        assert reader.bytes_in == len(BIG)
    assert bytes(got) == expected


class Breaking:
    """A source that fails once half-way and then goes on."""

    def __init__(self) -> None:
        self.file = io.BytesIO(BIG)
        self.calls = 0

    def read(self, n: int, /) -> bytes:
        self.calls += 1
        if self.calls == 6:
            raise ConnectionFailed("reset", host="a.example")
        return self.file.read(n)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_failing_source_does_not_look_like_the_end(threads: int) -> None:
    with CompressingReader(Breaking(), threads=threads) as reader:
        with pytest.raises(ConnectionFailed):
            reader.read()
        assert gzip.decompress(reader.read()) == BIG


@pytest.mark.parametrize("threads", [1, 2])
def test_a_reader_may_be_left(threads: int) -> None:
    with CompressingReader(io.BytesIO(BIG), threads=threads) as reader:
        assert len(reader.read(1000)) == 1000
    assert reader.read(10) == b""


@pytest.mark.parametrize("compression", WRITTEN)
def test_an_exception_leaves_a_cut_stream(compression: Compression) -> None:
    out = bytearray()

    def work() -> None:
        with Compressor(out.extend, compression, threads=2) as compressor:
            compressor.write(BIG)
            raise ConnectionFailed("reset", host="a.example")

    with pytest.raises(ConnectionFailed):
        work()
    assert len(out) < len(pack(BIG, compression))


def test_a_failing_sink_stops_the_work() -> None:
    def full(_: bytes) -> None:
        raise ConnectionFailed("reset", host="a.example")

    compressor = Compressor(full, threads=2)
    with pytest.raises(ConnectionFailed):
        compressor.write(BIG * 2)
    with pytest.raises(InvalidInput):
        compressor.write(b"more")


def test_finish_twice_and_write_after() -> None:
    out = bytearray()
    compressor = Compressor(out.extend)
    assert compressor.write(TEXT) == len(TEXT)
    compressor.finish()
    compressor.finish()
    assert gzip.decompress(out) == TEXT
    with pytest.raises(InvalidInput):
        compressor.write(b"x")


@pytest.mark.parametrize(
    ("compression", "level", "threads", "error"),
    [
        (Compression.GZIP, 0, 1, InvalidInput),
        (Compression.GZIP, 10, 1, InvalidInput),
        (Compression.ZSTD, 0, 1, InvalidInput),
        (Compression.ZSTD, 23, 1, InvalidInput),
        (Compression.NONE, 3, 1, InvalidInput),
        (Compression.GZIP, None, 0, InvalidInput),
        (Compression.ZSTD_CHUNKED, None, 1, Unsupported),
        (Compression.BZIP2, None, 1, Unsupported),
        (Compression.XZ, None, 1, Unsupported),
    ],
)
def test_refusals(
    compression: Compression, level: int | None, threads: int, error: type[Exception]
) -> None:
    with pytest.raises(error):
        Compressor(bytearray().extend, compression, level=level, threads=threads)


class Zeros:
    """100 MiB of zeros that are never in memory as a whole."""

    def __init__(self) -> None:
        self.left = 100

    def read(self, n: int, /) -> bytes:
        self.left -= 1
        return bytes(1 << 20) if self.left >= 0 else b""


@pytest.mark.parametrize("compression", WRITTEN)
@pytest.mark.parametrize("threads", [1, 2])
def test_memory_is_flat(compression: Compression, threads: int) -> None:
    tracemalloc.start()
    try:
        total = 0
        with CompressingReader(Zeros(), compression, threads=threads) as reader:
            stream = Decompressor(reader)
            while data := stream.read(1 << 18):
                total += len(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert total == 100 << 20
    assert peak < 20 << 20

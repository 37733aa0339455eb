"""The stream that feeds a layer: what compression it has, its digest, its errors, its end."""

from __future__ import annotations

import gzip
import hashlib
import io
import threading
import time
from collections.abc import Iterator

import pytest

from engine.storage.layers_ahead import AHEAD, CHUNK, Plain, ReadAhead
from imgtools.errors import InvalidArchive, LimitExceeded
from imgtools.spec.digest import Digest

CONTENT = bytes(range(256)) * 5000


class Pieces:
    """A source that gives pieces of one size, and counts them."""

    def __init__(self, content: bytes, size: int) -> None:
        self._file = io.BytesIO(content)
        self._size = size
        self.count = 0

    def read(self, n: int, /) -> bytes:
        self.count += 1
        return self._file.read(min(n, self._size))


def pieces(source: Plain | ReadAhead, size: int) -> Iterator[bytes]:
    while data := source.read(size):
        assert len(data) <= size
        yield data


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("size", [1, 4096, CHUNK])
def test_plain_is_what_is_in_it(packed: bool, size: int) -> None:
    content = CONTENT[: 2000 * min(size, 600)]
    source = Pieces(gzip.compress(content) if packed else content, size)
    assert b"".join(pieces(Plain(source, limit=len(content)), 1000)) == content


@pytest.mark.parametrize("content", [b"", b"\x1f", b"\x1f\x8b"])
def test_too_short_to_be_compressed(content: bytes) -> None:
    assert b"".join(pieces(Plain(Pieces(content, 1), limit=9), 5)) == content


@pytest.mark.parametrize("packed", [False, True])
def test_plain_has_a_limit(packed: bool) -> None:
    content = gzip.compress(CONTENT) if packed else CONTENT
    source = Plain(io.BytesIO(content), limit=len(CONTENT) - 1)
    with pytest.raises(LimitExceeded):
        list(pieces(source, 4096))


def test_cut_stream_is_an_error_and_stays_one() -> None:
    source = Plain(io.BytesIO(gzip.compress(CONTENT)[:-9]), limit=1 << 30)
    for _ in range(2):
        with pytest.raises(InvalidArchive):
            list(pieces(source, 4096))


@pytest.mark.parametrize("size", [1000, CHUNK, 3 * CHUNK])
def test_all_is_passed_on_and_hashed(size: int) -> None:
    content = CONTENT * 20
    with ReadAhead(io.BytesIO(content), Digest.of(b"")) as source:
        assert b"".join(pieces(source, size)) == content
        assert source.read(1) == b""
        assert source.hexdigest() == hashlib.sha256(content).hexdigest()


def test_little_is_read_ahead_and_nothing_after_leaving() -> None:
    below = Pieces(bytes(100 * 4096), 4096)
    with ReadAhead(below, Digest.of(b"")) as source:
        assert source.read(1)
        time.sleep(0.05)
        assert below.count <= AHEAD + 1
    count = below.count
    assert count <= AHEAD + 2
    assert not [t for t in threading.enumerate() if t.name.startswith("layer-")]
    time.sleep(0.02)
    assert below.count == count


def test_error_comes_where_its_bytes_would_have_been() -> None:
    class Cut(Pieces):
        def read(self, n: int, /) -> bytes:
            data = super().read(n)
            if not data:
                raise OSError("no more")
            return data

    with ReadAhead(Cut(b"abc", 1), Digest.of(b"")) as source:
        assert [source.read(9) for _ in range(3)] == [b"a", b"b", b"c"]
        for _ in range(2):
            with pytest.raises(OSError, match="no more"):
                source.read(9)
